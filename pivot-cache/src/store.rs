//! The store itself: which bytes had this hash?
//!
//! An object appears under its name only when all of its bytes are there, is never replaced, and is
//! hashed again before anything is made of it. One whose bytes no longer fit its name is moved aside.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use rustix::fs::{FileType, Mode, OFlags};

use crate::content::{Content, ContentKind};
use crate::error::CacheError;
use crate::manifest::DirectoryManifest;
use crate::object_id::ObjectId;
use crate::source::{self, ATTEMPTS, At, BUFFER_BYTES, Links, SeenFile};
use crate::stamp::{Instant, Stamp, file_type, is_executable, size};
use crate::temporary::{self, TemporaryFile};
use crate::tree::HashedTree;
use crate::writer::ObjectWriter;

/// A content-addressed store in one directory.
///
/// Any number of threads and processes may use one at the same time.
///
/// ```
/// use pivot_cache::{Cache, CheckoutMode};
///
/// let dir = tempfile::tempdir()?;
/// let cache = Cache::open(&dir.path().join("cache"));
/// std::fs::write(dir.path().join("data.txt"), "hello")?;
///
/// let content = cache.put(&dir.path().join("data.txt"))?;
/// cache.restore(&content, &dir.path().join("copy.txt"), CheckoutMode::Auto)?;
/// assert_eq!(std::fs::read(dir.path().join("copy.txt"))?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    tmp: PathBuf,
    /// Whether an object waits for the disk before it gets its name, and its name as well.
    is_synced: bool,
    /// Set once the file system has said that it cannot share blocks between files.
    pub(crate) no_reflinks: AtomicBool,
    /// Directories outside the cache that have been searched for old temporaries.
    pub(crate) swept: Mutex<HashSet<PathBuf>>,
}

impl Cache {
    /// The cache in `dir`. Nothing is read or made until it is needed.
    pub fn open(dir: &Path) -> Cache {
        Cache {
            dir: dir.to_path_buf(),
            tmp: dir.join("tmp"),
            is_synced: false,
            no_reflinks: AtomicBool::new(false),
            swept: Mutex::default(),
        }
    }

    /// Makes each object wait until the disk has it, so that a loss of power undoes none that was
    /// stored. [`Cache::sync`] does the same for many at once, and costs far less.
    pub fn synced(self) -> Cache {
        Cache { is_synced: true, ..self }
    }

    /// The directory that it was opened with.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where objects and trees lie while they are being made.
    pub(crate) fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// Where the object lies, or would lie.
    pub fn object_path(&self, id: ObjectId) -> PathBuf {
        self.dir.join(id.relative_path())
    }

    /// Whether an object of this name is there. Its bytes are not looked at.
    pub fn contains(&self, id: ObjectId) -> bool {
        self.size_bytes(id).is_some()
    }

    /// The object's size; `None` if it is not there.
    pub fn size_bytes(&self, id: ObjectId) -> Option<u64> {
        let stat = rustix::fs::lstat(self.object_path(id)).ok()?;
        (file_type(&stat) == FileType::RegularFile).then(|| size(&stat))
    }

    /// Whether everything that it takes to restore `content` is there with the right sizes. Cheap;
    /// [`Cache::verify`] is thorough.
    pub fn holds(&self, content: &Content) -> bool {
        match content.kind {
            ContentKind::File { .. } => self.size_bytes(content.id) == Some(content.size_bytes),
            ContentKind::Directory { .. } => {
                let Ok(manifest) = self.directory(content) else { return false };
                let files: Vec<_> = manifest.files().collect();
                files
                    .par_iter()
                    .with_min_len(256)
                    .all(|&(id, bytes)| self.size_bytes(id) == Some(bytes))
            }
        }
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    ///
    /// If they cannot be written, or if a different object has the same hash.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<ObjectId, CacheError> {
        self.publish_bytes(bytes, Path::new("(bytes in memory)"))
    }

    /// Stores one file; a symbolic link is followed.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not a file, if it changes while it is read, if the cache cannot be
    /// written, or if a different object has the same hash.
    pub fn put_file(&self, path: &Path) -> Result<Content, CacheError> {
        Ok(file_content(&self.store_file(At::path(path), Links::Follow)?))
    }

    /// Stores a file, or a directory with everything in it.
    ///
    /// If `path` itself is a symbolic link, what it leads to is stored. Links inside a directory are
    /// stored as links.
    ///
    /// # Errors
    ///
    /// Like [`Cache::put_file`]; also if something in the directory is neither a file, a directory
    /// nor a symbolic link.
    pub fn put(&self, path: &Path) -> Result<Content, CacheError> {
        match kind_of(At::path(path))? {
            FileType::Directory => {
                let tree =
                    HashedTree::read(At::path(path), |at, _| self.store_file(at, Links::Keep))?;
                self.store_tree(&tree)
            }
            _ => self.put_file(path),
        }
    }

    /// A file to write an object to that is not on this disk yet, such as a download.
    ///
    /// # Errors
    ///
    /// If the cache cannot be written.
    pub fn writer(&self) -> Result<ObjectWriter<'_>, CacheError> {
        ObjectWriter::new(self)
    }

    /// Reads a small object whole, and checks it.
    ///
    /// # Errors
    ///
    /// If the object is missing or damaged, or cannot be read.
    pub fn read(&self, id: ObjectId) -> Result<Vec<u8>, CacheError> {
        let mut file = self.open_object(id)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(CacheError::io("read", self.object_path(id)))?;
        if ObjectId::of_bytes(&bytes) != id {
            return Err(self.corrupt(id));
        }
        Ok(bytes)
    }

    /// Opens an object without checking its bytes; for readers that hash what they read.
    ///
    /// # Errors
    ///
    /// If the object is missing or cannot be opened.
    pub fn open_object(&self, id: ObjectId) -> Result<File, CacheError> {
        let path = self.object_path(id);
        match At::path(&path).open(Links::Keep) {
            Ok((file, _)) => Ok(file),
            Err(error) if error.is_not_found() => Err(CacheError::Missing { id }),
            // A directory, a link or a device is in the object's place.
            Err(CacheError::Unsupported { .. }) => Err(self.corrupt(id)),
            Err(CacheError::Io { source, .. })
                if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) =>
            {
                Err(self.corrupt(id))
            }
            Err(error) => Err(error),
        }
    }

    /// The manifest of a stored directory.
    ///
    /// # Errors
    ///
    /// If the object is missing, damaged or no manifest.
    pub fn manifest(&self, id: ObjectId) -> Result<DirectoryManifest, CacheError> {
        DirectoryManifest::parse(&self.read(id)?)
            .map_err(|reason| CacheError::Manifest { id, reason })
    }

    /// The manifest, if it agrees with everything that `content` says.
    pub(crate) fn directory(&self, content: &Content) -> Result<DirectoryManifest, CacheError> {
        let manifest = self.manifest(content.id)?;
        let found = manifest.content();
        if found != *content {
            return Err(CacheError::WrongSize {
                id: content.id,
                expected: content.size_bytes,
                found: found.size_bytes,
            });
        }
        Ok(manifest)
    }

    /// Reads everything that belongs to `content` and compares it with its hashes. Damaged objects
    /// are moved to `quarantine`, so that they can be made again or fetched.
    ///
    /// # Errors
    ///
    /// If any object is missing, damaged or cannot be read.
    pub fn verify(&self, content: &Content) -> Result<(), CacheError> {
        match content.kind {
            ContentKind::File { .. } => self.verify_object(content.id, content.size_bytes),
            ContentKind::Directory { .. } => {
                let mut files: Vec<_> = self.directory(content)?.files().collect();
                files.sort_unstable();
                files.dedup();
                files.par_iter().try_for_each(|&(id, bytes)| self.verify_object(id, bytes))
            }
        }
    }

    fn verify_object(&self, id: ObjectId, expected: u64) -> Result<(), CacheError> {
        self.hash_object(id, expected).map(|_| ())
    }

    /// Hashes an object, and gives it back opened, with its stamp from before.
    pub(crate) fn hash_object(
        &self,
        id: ObjectId,
        expected: u64,
    ) -> Result<(File, Stamp), CacheError> {
        let path = self.object_path(id);
        let file = self.open_object(id)?;
        let stat = rustix::fs::fstat(&file).map_err(CacheError::io("stat", &path))?;
        let (found_id, found) = source::hash_all(&file).map_err(CacheError::io("read", &path))?;
        self.check(id, expected, found_id, found)?;
        if stat.st_mode & 0o222 != 0 {
            // Someone made the object writable. Best effort: the owner may be another user.
            let _ = rustix::fs::fchmod(&file, Mode::RUSR | Mode::RGRP | Mode::ROTH);
        }
        Ok((file, Stamp::of(&stat)))
    }

    /// Compares what was read of an object with what it should be.
    pub(crate) fn check(
        &self,
        id: ObjectId,
        expected: u64,
        found_id: ObjectId,
        found: u64,
    ) -> Result<(), CacheError> {
        if found_id != id {
            Err(self.corrupt(id))
        } else if found != expected {
            Err(CacheError::WrongSize { id, expected, found })
        } else {
            Ok(())
        }
    }

    /// Moves a damaged object aside and makes the error that says so.
    pub(crate) fn corrupt(&self, id: ObjectId) -> CacheError {
        let dir = self.dir.join("quarantine");
        let to = dir.join(format!("{id}-{}", temporary::fresh_name()));
        let moved = fs::create_dir_all(&dir).and_then(|()| fs::rename(self.object_path(id), &to));
        CacheError::Corrupt { id, quarantined: moved.is_ok().then_some(to) }
    }

    /// Removes one object, as garbage collection does. Removing one that is not there is no error.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be removed.
    pub fn remove(&self, id: ObjectId) -> Result<(), CacheError> {
        let path = self.object_path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CacheError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The names of all objects, in no particular order. Other files are passed over.
    pub fn objects(&self) -> impl Iterator<Item = Result<ObjectId, CacheError>> {
        let files = self.dir.join("files");
        let fan_outs = list(&files);
        fan_outs.into_iter().flat_map(move |fan_out| -> Vec<Result<ObjectId, CacheError>> {
            let fan_out = match fan_out {
                Ok(name) if name.len() == 2 => name,
                Ok(_) => return Vec::new(),
                Err(error) => return vec![Err(error)],
            };
            let names = list(&files.join(&fan_out)).into_iter();
            let id = |name: String| format!("{fan_out}{name}").parse().ok();
            names.filter_map(|name| name.map(id).transpose()).collect()
        })
    }

    /// Removes what killed processes left half-written. For the start of a run.
    pub fn sweep_temporary(&self) {
        temporary::sweep(&self.tmp, temporary::pid_of_name);
    }

    /// Makes everything that was stored so far survive a loss of power.
    ///
    /// # Errors
    ///
    /// If the disk reports that something could not be written.
    pub fn sync(&self) -> Result<(), CacheError> {
        let dir = match rustix::fs::open(
            &self.dir,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(dir) => dir,
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(CacheError::io("open", &self.dir)(error)),
        };
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(dir).map_err(CacheError::io("sync", &self.dir))?;
        #[cfg(not(target_os = "linux"))]
        drop((dir, rustix::fs::sync()));
        Ok(())
    }

    /// Waits until the disk has the bytes of a file that is about to become an object.
    pub(crate) fn sync_bytes(&self, file: &File, path: &Path) -> Result<(), CacheError> {
        if self.is_synced { file.sync_all().map_err(CacheError::io("sync", path)) } else { Ok(()) }
    }

    /// Waits until the disk has the name of an object, and that of the directory around it.
    pub(crate) fn sync_name(&self, object: &Path) -> Result<(), CacheError> {
        if self.is_synced {
            for dir in object.ancestors().skip(1).take(2) {
                let synced = File::open(dir).and_then(|dir| dir.sync_all());
                synced.map_err(CacheError::io("sync", dir))?;
            }
        }
        Ok(())
    }

    /// Stores one file and says what it was.
    pub(crate) fn store_file(&self, at: At<'_>, links: Links) -> Result<SeenFile, CacheError> {
        for _ in 0..ATTEMPTS {
            let seen = Instant::now();
            let (file, before) = at.open(links)?;
            let done = |id, stamp| SeenFile { id, executable: is_executable(&before), stamp, seen };
            if size(&before) < BUFFER_BYTES as u64 {
                let stored = source::with_buffer(|buffer| {
                    let count = source::fill(&mut &file, buffer)
                        .map_err(CacheError::io("read", at.to_path()))?;
                    let Some(stamp) = source::unchanged(&file, &before, count as u64, at)? else {
                        return Ok(None);
                    };
                    let id = self.publish_bytes(&buffer[..count], &at.to_path())?;
                    Ok(Some(done(id, stamp)))
                })?;
                if let Some(seen_file) = stored {
                    return Ok(seen_file);
                }
                continue;
            }
            let temporary = TemporaryFile::create(&self.tmp)?;
            let (id, bytes) = self.fill(&temporary, &file, size(&before), at)?;
            if let Some(stamp) = source::unchanged(&file, &before, bytes, at)? {
                self.publish(id, temporary, &at.to_path())?;
                return Ok(done(id, stamp));
            }
        }
        Err(CacheError::Changing { path: at.to_path() })
    }

    /// Brings a file's bytes into a temporary and hashes what arrived.
    fn fill(
        &self,
        temporary: &TemporaryFile,
        file: &File,
        expected: u64,
        at: At<'_>,
    ) -> Result<(ObjectId, u64), CacheError> {
        if self.reflink(file, &temporary.file) {
            return source::hash_all(&temporary.file)
                .map_err(CacheError::io("read", temporary.path()));
        }
        source::copy_hashing(file, &temporary.file, expected)
            .map_err(|error| error.at(&at.to_path(), temporary.path()))
    }

    /// Stores the manifest of a directory whose files are stored.
    pub(crate) fn store_tree(&self, tree: &HashedTree) -> Result<Content, CacheError> {
        let manifest = tree.manifest()?;
        let text = manifest.to_bytes();
        self.publish_bytes(&text, tree.path())?;
        Ok(manifest.content_of_text(&text))
    }
}

/// The content of a file or directory, without storing it. Links are treated as by [`Cache::put`].
///
/// # Errors
///
/// Like [`Cache::put`], as far as reading goes.
pub fn hash_artifact(path: &Path) -> Result<Content, CacheError> {
    match kind_of(At::path(path))? {
        FileType::Directory => {
            let tree =
                HashedTree::read(At::path(path), |at, _| source::hash_file(at, Links::Keep))?;
            Ok(tree.manifest()?.content())
        }
        _ => Ok(file_content(&source::hash_file(At::path(path), Links::Follow)?)),
    }
}

/// What lies at a path, links followed.
pub(crate) fn kind_of(at: At<'_>) -> Result<FileType, CacheError> {
    let stat = at.stat(Links::Follow).map_err(CacheError::io("read", at.to_path()))?;
    match file_type(&stat) {
        kind @ (FileType::RegularFile | FileType::Directory) => Ok(kind),
        other => Err(source::unsupported(other, at)),
    }
}

/// The content of a file that was read.
pub(crate) fn file_content(seen: &SeenFile) -> Content {
    let kind = ContentKind::File { executable: seen.executable };
    Content { id: seen.id, size_bytes: seen.stamp.size, kind }
}

/// The names in a directory that are UTF-8, as all names in the cache are; none if it is missing.
fn list(dir: &Path) -> Vec<Result<String, CacheError>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Vec::new();
        }
        Err(error) => return vec![Err(CacheError::io("list", dir)(error))],
    };
    entries
        .filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(CacheError::io("list", dir)(error))),
        })
        .collect()
}
