//! The content of artifacts in a working tree, hashing only what may have changed.
//!
//! What a file was is remembered with its stamp: device, inode, size, and the times of its last write
//! and its last change of any kind. While that is the same the file is not read again, unless the stamp
//! was so fresh that a later write could have left the same one. Programs can set a file's `mtime` back;
//! its `ctime` they cannot.

mod clock;
mod record;
mod snapshot;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::content::Content;
use crate::error::CacheError;
use crate::link::CheckoutMode;
use crate::manifest::EntryKind;
use crate::object_id::ObjectId;
use crate::restore::{Place, Restored};
use crate::source::{self, At, Links, SeenFile, unsupported};
use crate::stamp::{Instant, Stamp, file_type};
use crate::state::{State, Table};
use crate::store::{Cache, file_content};
use crate::tree::{Found, FoundKind, HashedTree, Listing};

use clock::Clock;
use record::{DirectoryWriter, KnownFiles};

/// A directory tree whose files' hashes are remembered in a [`State`].
///
/// Any number of threads may use one at the same time. Paths are relative to its root.
///
/// ```
/// use pivot_cache::{State, Workspace};
///
/// let dir = tempfile::tempdir()?;
/// let state = State::open(&dir.path().join(".pivot/state.lmdb"));
/// let workspace = Workspace::new(dir.path(), &state);
/// assert_eq!(workspace.content("data.csv")?, None);
///
/// std::fs::write(dir.path().join("data.csv"), "id\n1\n")?;
/// assert_eq!(workspace.content("data.csv")?.map(|content| content.size_bytes), Some(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Workspace<'s> {
    root: PathBuf,
    /// Opened once: resolving a path from here is cheaper than from `/`.
    top: Result<OwnedFd, Errno>,
    state: &'s State,
    clock: Clock,
}

impl<'s> Workspace<'s> {
    /// The tree below `root`, remembered in `state`.
    pub fn new(root: &Path, state: &'s State) -> Workspace<'s> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(root, flags, Mode::empty());
        Workspace { root: root.to_path_buf(), top, state, clock: Clock::default() }
    }

    /// The directory that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What lies at `path`; `None` if nothing does. A symbolic link stands for what it leads to.
    ///
    /// Looking and storing is possible outside of the root as well, [restoring](Workspace::restore)
    /// is not.
    ///
    /// # Errors
    ///
    /// If it has to be read and cannot be, if it changes while it is read, or if it is neither a file
    /// nor a directory.
    pub fn content(&self, path: &str) -> Result<Option<Content>, CacheError> {
        let at = self.at(path)?;
        let Some((kind, stamp)) = look(at)? else { return Ok(None) };
        let content = if kind == FileType::Directory {
            self.directory_content(path, at)
        } else if let Some(content) = self.remembered_file(path, &stamp) {
            return Ok(Some(content));
        } else {
            source::hash_file(at, Links::Follow).map(|seen| self.remember_file(path, &seen))
        };
        match content {
            // Removed since it was looked at.
            Err(error) if error.is_not_found() && look(at)?.is_none() => Ok(None),
            result => result.map(Some),
        }
    }

    /// What the file at `path` holds, if that is known without reading it.
    pub fn remembered(&self, path: &str) -> Option<Content> {
        let (_, stamp) = look(self.at(path).ok()?).ok()??;
        self.remembered_file(path, &stamp)
    }

    /// Reads the file at `path` whole, and remembers it; `None` if nothing is there, or more than
    /// `max_bytes`.
    ///
    /// # Errors
    ///
    /// If it cannot be read, if it changes while it is read, or if it is not a file.
    pub fn read(
        &self,
        path: &str,
        max_bytes: u64,
    ) -> Result<Option<(Content, Vec<u8>)>, CacheError> {
        match source::read_file(self.at(path)?, max_bytes) {
            Err(error) if error.is_not_found() => Ok(None),
            read => Ok(read?.map(|(seen, bytes)| (self.remember_file(path, &seen), bytes))),
        }
    }

    /// Stores what lies at `path`, and remembers it. Files that are known to be in the cache are not
    /// read.
    ///
    /// # Errors
    ///
    /// Like [`Cache::put`].
    pub fn store(&self, cache: &Cache, path: &str) -> Result<Content, CacheError> {
        let keep = |at: At<'_>, links| cache.store_file(at, links);
        self.store_with(cache, path, keep, |_, id, size| cache.size_bytes(id) == Some(size))
    }

    /// Stores what lies at `path` like [`Cache::adopt`], and remembers it.
    ///
    /// # Errors
    ///
    /// Like [`Cache::adopt`].
    pub fn adopt(
        &self,
        cache: &Cache,
        path: &str,
        mode: CheckoutMode,
    ) -> Result<Content, CacheError> {
        let mut file_mode = mode;
        if look(self.at(path)?)?.is_some_and(|(kind, _)| kind == FileType::Directory) {
            file_mode = mode.inside_directory();
        }
        let keep = |at: At<'_>, links| cache.adopt_file(at, links, file_mode);
        let is_kept = |stamp: &Stamp, id, size| {
            // An executable file is never linked; asking as if it were not costs a look at most.
            let object = rustix::fs::lstat(cache.object_path(id)).map(|stat| Stamp::of(&stat));
            object.is_ok_and(|object| {
                let same_file = (object.dev, object.ino) == (stamp.dev, stamp.ino);
                object.size == size && (same_file || !file_mode.hard_links(size, false))
            })
        };
        let content = self.store_with(cache, path, keep, is_kept)?;
        if file_mode == CheckoutMode::Symlink {
            self.restore(cache, path, &content, mode)?;
        }
        Ok(content)
    }

    /// Puts an artifact at `path` like [`Cache::restore`], and remembers it. No symbolic link on the
    /// way leads out of the workspace.
    ///
    /// # Errors
    ///
    /// Like [`Cache::restore`]; [`CacheError::Outside`] if `path` leads out of the workspace.
    pub fn restore(
        &self,
        cache: &Cache,
        path: &str,
        content: &Content,
        mode: CheckoutMode,
    ) -> Result<(), CacheError> {
        let place = Place::beneath(self.top()?, &self.root, Path::new(path))?;
        match cache.restore_at(content, &place, mode)? {
            Restored::File(seen) => drop(self.remember_file(path, &seen)),
            Restored::Directory(manifest, files) => {
                let mut writer = DirectoryWriter::new();
                for (entry, seen) in manifest.entries().iter().zip(&files) {
                    if let (EntryKind::File { executable, .. }, Some(seen)) = (&entry.kind, seen) {
                        let name = entry.path.as_os_str().as_encoded_bytes();
                        let kind = FoundKind::File { executable: *executable };
                        let racy = self.is_racy(seen);
                        writer.add(name, kind, &seen.stamp, Some(seen.id), racy);
                    }
                }
                // In another order than a walk's: the next look sorts it out without reading files.
                self.state.put(Table::Directories, path.as_bytes(), &writer.finish(content));
            }
        }
        Ok(())
    }

    /// Forgets what was at `path`: it is read again next time.
    pub fn forget(&self, path: &str) {
        self.state.delete(Table::Files, path.as_bytes());
        self.state.delete(Table::Directories, path.as_bytes());
    }

    fn store_with(
        &self,
        cache: &Cache,
        path: &str,
        keep: impl Fn(At<'_>, Links) -> Result<SeenFile, CacheError> + Sync,
        is_kept: impl Fn(&Stamp, ObjectId, u64) -> bool + Sync,
    ) -> Result<Content, CacheError> {
        let at = self.at(path)?;
        let missing = || CacheError::io("read", at.to_path())(Errno::NOENT);
        let (kind, stamp) = look(at)?.ok_or_else(missing)?;
        if kind != FileType::Directory {
            if let Some(content) = self.remembered_file(path, &stamp)
                && is_kept(&stamp, content.id, stamp.size)
            {
                return Ok(content);
            }
            return keep(at, Links::Follow).map(|seen| self.remember_file(path, &seen));
        }
        let known = self.known_files(path);
        let tree = HashedTree::read(at, |at, found| match known_file(&known, at, found) {
            Some(seen) if is_kept(&found.stamp, seen.id, found.stamp.size) => Ok(seen),
            _ => keep(at, Links::Keep),
        })?;
        let content = cache.store_tree(&tree)?;
        self.remember_tree(path, &tree, &content);
        Ok(content)
    }

    fn directory_content(&self, path: &str, at: At<'_>) -> Result<Content, CacheError> {
        let listing = Listing::read(at)?;
        let key = path.as_bytes();
        let same = |record: &[u8]| record::match_directory(record, &listing);
        if let Some(content) = self.state.get_with(Table::Directories, key, same).flatten() {
            return Ok(content);
        }
        let known = self.known_files(path);
        let tree = HashedTree::of(listing, |at, found| match known_file(&known, at, found) {
            Some(seen) => Ok(seen),
            None => source::hash_file(at, Links::Keep),
        })?;
        let content = tree.manifest()?.content();
        self.remember_tree(path, &tree, &content);
        Ok(content)
    }

    fn known_files(&self, path: &str) -> KnownFiles {
        let key = path.as_bytes();
        self.state.get_with(Table::Directories, key, KnownFiles::read).unwrap_or_default()
    }

    fn remembered_file(&self, path: &str, stamp: &Stamp) -> Option<Content> {
        let same = |record: &[u8]| record::match_file(record, stamp);
        self.state.get_with(Table::Files, path.as_bytes(), same).flatten()
    }

    fn remember_file(&self, path: &str, seen: &SeenFile) -> Content {
        // A record that proves nothing is not worth its place.
        if !self.is_racy(seen) {
            let record = record::encode_file(seen.id, seen.executable, seen.stamp);
            self.state.put(Table::Files, path.as_bytes(), &record);
        }
        file_content(seen)
    }

    fn remember_tree(&self, path: &str, tree: &HashedTree, content: &Content) {
        let listing = &tree.listing;
        let mut writer = DirectoryWriter::new();
        for (found, file) in listing.found().iter().zip(&tree.files) {
            let name = listing.name(found);
            match file {
                Some(seen) => {
                    let kind = FoundKind::File { executable: seen.executable };
                    writer.add(name, kind, &seen.stamp, Some(seen.id), self.is_racy(seen));
                }
                None => {
                    // A link's text was read after its stamp, just like a file's bytes.
                    let id = ObjectId::from_u64(0);
                    let stamp = found.stamp;
                    let seen = SeenFile { id, executable: false, stamp, seen: listing.seen };
                    let racy = found.kind == FoundKind::Symlink && self.is_racy(&seen);
                    writer.add(name, found.kind, &stamp, None, racy);
                }
            }
        }
        self.state.put(Table::Directories, path.as_bytes(), &writer.finish(content));
    }

    fn is_racy(&self, seen: &SeenFile) -> bool {
        self.top.as_ref().is_ok_and(|top| self.clock.is_racy(top.as_fd(), seen))
    }

    fn top(&self) -> Result<BorrowedFd<'_>, CacheError> {
        match &self.top {
            Ok(top) => Ok(top.as_fd()),
            Err(errno) => Err(CacheError::io("open", &self.root)(*errno)),
        }
    }

    fn at<'a>(&'a self, path: &'a str) -> Result<At<'a>, CacheError> {
        Ok(At { dir: self.top()?, shown: &self.root, name: Path::new(path) })
    }
}

/// What lies there, links followed; `None` if nothing does.
fn look(at: At<'_>) -> Result<Option<(FileType, Stamp)>, CacheError> {
    match at.stat(Links::Follow) {
        Ok(stat) => match file_type(&stat) {
            kind @ (FileType::RegularFile | FileType::Directory) => {
                Ok(Some((kind, Stamp::of(&stat))))
            }
            other => Err(unsupported(other, at)),
        },
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(CacheError::io("read", at.to_path())(io::Error::from(errno))),
    }
}

/// The file as it is known, if its stamp is the one from then.
fn known_file(known: &KnownFiles, at: At<'_>, found: &Found) -> Option<SeenFile> {
    let FoundKind::File { executable } = found.kind else { return None };
    let id = known.id(at.name.as_os_str().as_encoded_bytes(), found)?;
    // Its stamp was good enough when it was recorded, and so it still is.
    let seen = Instant { seconds: i64::MAX, nanoseconds: 0 };
    Some(SeenFile { id, executable, stamp: found.stamp, seen })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// On kernels where each change has a time of its own nothing is racy; this is the rule for others.
    #[test]
    fn fresh_files_are_read_again_where_clocks_tick() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state"));
        let mut workspace = Workspace::new(dir.path(), &state);
        workspace.clock = Clock::with_local_ticks(fs::metadata(dir.path()).unwrap().dev());
        let path = dir.path().join("d/data");
        fs::create_dir(dir.path().join("d")).unwrap();

        for round in 0..200 {
            fs::write(&path, format!("{round:04}")).unwrap();
            let content = workspace.content("d/data").unwrap().unwrap();
            assert_eq!(content.id, ObjectId::of_bytes(format!("{round:04}").as_bytes()));
            let changed = fs::metadata(&path).unwrap();
            let changed =
                Instant { seconds: changed.ctime(), nanoseconds: changed.ctime_nsec() as u32 };
            let remembered = state.get(Table::Files, b"d/data").is_some();
            assert!(!remembered || Instant::now() > changed.plus_ms(20), "remembered too soon");
        }
        // A directory remembers the files that have settled, and marks the others.
        let before = workspace.content("d").unwrap();
        loop {
            assert_eq!(workspace.content("d").unwrap(), before);
            let record = state.get(Table::Directories, b"d").unwrap();
            if !KnownFiles::read(&record).is_empty() {
                break;
            }
        }
        assert_eq!(workspace.content("d").unwrap(), before);
    }
}
