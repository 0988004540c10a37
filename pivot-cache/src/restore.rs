//! Bringing artifacts back into a workspace.
//!
//! A file or a whole directory is built where nobody looks, checked against its hashes on the way,
//! and put in place by one rename. What was there before goes only after that.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::content::{Content, ContentKind};
use crate::error::CacheError;
use crate::link::{CheckoutMode, Wanted};
use crate::manifest::{DirectoryManifest, EntryKind};
use crate::source::{At, Links, SeenFile};
use crate::stamp::{Instant, Stamp};
use crate::store::Cache;
use crate::temporary::{TemporaryDirectory, fresh_name, pid_of_name, sweep};

/// Names of temporaries that have to lie beside their target.
const SIBLING_PREFIX: &str = ".pivot-tmp-";

/// What was put in place, and the evidence for it.
pub(crate) enum Restored {
    File(SeenFile),
    /// The files are in the order of the manifest's entries.
    Directory(DirectoryManifest, Vec<Option<SeenFile>>),
}

impl Cache {
    /// Puts an artifact at `dest`, in place of whatever is there. Missing parents are made.
    ///
    /// All bytes are hashed on the way. Until everything is ready, `dest` stays as it is; then it
    /// changes in one step. Files that are copied get the modes that the umask leaves of 0666, or
    /// 0777 if they are executable; [`CheckoutMode`] says which files are copied.
    ///
    /// What lay at `dest` is gone afterwards: who cannot get it back from elsewhere must save it first.
    ///
    /// # Errors
    ///
    /// If an object is missing or damaged (see [`CacheError::Corrupt`]), or has another size than
    /// `content` says; if anything cannot be written. `dest` is unchanged then.
    pub fn restore(
        &self,
        content: &Content,
        dest: &Path,
        mode: CheckoutMode,
    ) -> Result<(), CacheError> {
        self.restore_at(content, &Place::of(dest)?, mode).map(|_| ())
    }

    pub(crate) fn restore_at(
        &self,
        content: &Content,
        place: &Place,
        mode: CheckoutMode,
    ) -> Result<Restored, CacheError> {
        // In the cache's own `tmp` a killed process leaves nothing in the workspace, where it could
        // end up in somebody's dependency. But a rename must stay on one file system.
        let staging = TemporaryDirectory::create(self.tmp())?;
        if same_device(staging.at(Path::new(".")), place)
            && let Some(restored) = self.restore_through(&staging, content, place, mode)?
        {
            return Ok(restored);
        }
        drop(staging);
        self.sweep_siblings(&place.shown);
        let name = format!("{SIBLING_PREFIX}{}", fresh_name());
        let staging = TemporaryDirectory::create_named(place.shown.join(name))?;
        self.restore_through(&staging, content, place, mode)?.ok_or_else(|| {
            CacheError::io("rename to", place.at().to_path())(std::io::Error::from(Errno::XDEV))
        })
    }

    /// `None`: the staging directory is on another file system.
    fn restore_through(
        &self,
        staging: &TemporaryDirectory,
        content: &Content,
        place: &Place,
        mode: CheckoutMode,
    ) -> Result<Option<Restored>, CacheError> {
        let made = staging.at(Path::new("new"));
        match content.kind {
            ContentKind::File { executable } => {
                let wanted = Wanted { id: content.id, size_bytes: content.size_bytes, executable };
                let seen = self.materialize(wanted, mode, made, &place.shown)?;
                if !install(staging, place)? {
                    return Ok(None);
                }
                // The renaming, and the linking before it, moved `ctime`.
                let stat = place
                    .at()
                    .stat(Links::Follow)
                    .map_err(CacheError::io("stat", place.at().to_path()))?;
                let stamp = Stamp::of(&stat);
                if !stamp.same_but_ctime(&seen.stamp) {
                    return Err(CacheError::Changing { path: place.at().to_path() });
                }
                Ok(Some(Restored::File(SeenFile { stamp, seen: Instant::now(), ..seen })))
            }
            ContentKind::Directory { .. } => {
                let manifest = self.directory(content)?;
                let files = self.build(&manifest, made, mode.inside_directory())?;
                let installed = install(staging, place)?;
                Ok(installed.then_some(Restored::Directory(manifest, files)))
            }
        }
    }

    /// Makes a new directory with everything that the manifest lists.
    fn build(
        &self,
        manifest: &DirectoryManifest,
        made: At<'_>,
        mode: CheckoutMode,
    ) -> Result<Vec<Option<SeenFile>>, CacheError> {
        let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
        rustix::fs::mkdirat(made.dir, made.name, all)
            .map_err(CacheError::io("create", made.to_path()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = rustix::fs::openat(made.dir, made.name, flags, Mode::empty())
            .map_err(CacheError::io("open", made.to_path()))?;
        let shown = made.to_path();

        let mut dirs: HashSet<&Path> = HashSet::new();
        let mut missing: Vec<&Path> = Vec::new();
        for entry in manifest.entries() {
            let parents = match entry.kind {
                EntryKind::EmptyDirectory => Some(entry.path.as_path()),
                _ => entry.path.parent(),
            };
            let ancestors = parents.into_iter().flat_map(Path::ancestors);
            missing.extend(ancestors.take_while(|dir| *dir != Path::new("") && dirs.insert(dir)));
            for dir in missing.drain(..).rev() {
                rustix::fs::mkdirat(&top, dir, all)
                    .map_err(CacheError::io("create", shown.join(dir)))?;
            }
        }
        manifest
            .entries()
            .par_iter()
            .map(|entry| {
                let at = At { dir: top.as_fd(), shown: &shown, name: &entry.path };
                match entry.kind {
                    EntryKind::File { id, size_bytes, executable } => {
                        let wanted = Wanted { id, size_bytes, executable };
                        self.materialize(wanted, mode, at, Path::new("")).map(Some)
                    }
                    EntryKind::Symlink { ref target } => {
                        rustix::fs::symlinkat(target, at.dir, at.name)
                            .map_err(CacheError::io("create", at.to_path()))?;
                        Ok(None)
                    }
                    EntryKind::EmptyDirectory => Ok(None),
                }
            })
            .collect()
    }

    /// Removes what killed processes left beside their targets; once per directory.
    fn sweep_siblings(&self, dir: &Path) {
        let mut swept = self.swept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if swept.insert(dir.to_path_buf()) {
            sweep(dir, |name| pid_of_name(name.strip_prefix(SIBLING_PREFIX)?));
        }
    }
}

/// Where something is to be put: a name in an open directory.
pub(crate) struct Place {
    dir: OwnedFd,
    shown: PathBuf,
    name: PathBuf,
}

impl Place {
    /// A path that the caller answers for.
    fn of(path: &Path) -> Result<Place, CacheError> {
        let outside = || CacheError::Outside { path: path.to_path_buf() };
        let name = path.file_name().ok_or_else(outside)?;
        let shown = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(shown).map_err(CacheError::io("create", shown))?;
        let dir = open_dir(rustix::fs::CWD, shown).map_err(CacheError::io("open", shown))?;
        Ok(Place { dir, shown: shown.to_path_buf(), name: name.into() })
    }

    /// A path below `root` that may come from anywhere: it stays below, whatever it says and
    /// whatever symbolic links lie on its way. Missing parents are made.
    pub(crate) fn beneath(
        root: BorrowedFd<'_>,
        root_path: &Path,
        path: &Path,
    ) -> Result<Place, CacheError> {
        let outside = || CacheError::Outside { path: path.to_path_buf() };
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let name = path.file_name().filter(|_| plain).ok_or_else(outside)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let shown = root_path.join(parent);
        let dir = match open_beneath(root, parent) {
            Err(Errno::NOENT) => {
                let mut made = PathBuf::new();
                let mut dir = open_dir(root, Path::new("."));
                for part in parent.components() {
                    made.push(part);
                    dir = match open_beneath(root, &made) {
                        Err(Errno::NOENT) => {
                            make_dir(dir, part.as_os_str()).and_then(|()| open_beneath(root, &made))
                        }
                        opened => opened,
                    };
                }
                dir
            }
            opened => opened,
        };
        match dir {
            Ok(dir) => Ok(Place { dir, shown, name: name.into() }),
            Err(Errno::XDEV | Errno::LOOP) => Err(outside()),
            Err(error) => Err(CacheError::io("open", shown)(error)),
        }
    }

    pub(crate) fn at(&self) -> At<'_> {
        At { dir: self.dir.as_fd(), shown: &self.shown, name: &self.name }
    }
}

fn make_dir(parent: rustix::io::Result<OwnedFd>, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(parent?, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
        // Someone else made it just now, or it is a link that leads nowhere: opening it will tell.
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

fn open_dir(at: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Opens a directory that must lie below `root`.
fn open_beneath(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    if path == Path::new("") {
        return open_dir(root, Path::new("."));
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::ResolveFlags;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // An old kernel, or a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => {}
            // A rename somewhere got in the way of the check; it asks to be called again.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    // Part by part, and through no symbolic link at all.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut dir = open_dir(root, Path::new("."))?;
    for part in path.components() {
        dir = rustix::fs::openat(dir, part.as_os_str(), flags, Mode::empty())?;
    }
    Ok(dir)
}

fn same_device(staging: At<'_>, place: &Place) -> bool {
    match (staging.stat(Links::Keep), rustix::fs::fstat(&place.dir)) {
        (Ok(ours), Ok(its)) => ours.st_dev == its.st_dev,
        _ => false,
    }
}

/// Gives `new` in the staging directory its final name. What had that name is in the staging
/// directory afterwards, and is removed with it. `false`: not on the same file system.
fn install(staging: &TemporaryDirectory, place: &Place) -> Result<bool, CacheError> {
    let (new, old, at) = (staging.at(Path::new("new")), staging.at(Path::new("old")), place.at());
    let error = CacheError::io("rename to", at.to_path());
    match rustix::fs::renameat(new.dir, new.name, at.dir, at.name) {
        Ok(()) => return Ok(true),
        Err(Errno::XDEV) => return Ok(false),
        // A file takes the place of a directory, or a directory that of anything.
        Err(Errno::ISDIR | Errno::NOTDIR | Errno::EXIST | Errno::NOTEMPTY) => {}
        Err(errno) => return Err(error(errno)),
    }
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(new.dir, new.name, at.dir, at.name, flags) {
            Ok(()) => return Ok(true),
            // The file system cannot do both at once.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(errno) => return Err(error(errno)),
        }
    }
    let moved = rustix::fs::renameat(at.dir, at.name, old.dir, old.name).and_then(|()| {
        rustix::fs::renameat(new.dir, new.name, at.dir, at.name).inspect_err(|_| {
            let _ = rustix::fs::renameat(old.dir, old.name, at.dir, at.name);
        })
    });
    moved.map(|()| true).map_err(error)
}
