//! Making a workspace file out of an object: reflink, copy, hard link or symbolic link.
//!
//! Whichever way is taken, the bytes were hashed before the file is put in place.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::CacheError;
use crate::object_id::ObjectId;
use crate::source::{self, At, Links, SeenFile};
use crate::stamp::{Instant, Stamp};
use crate::store::Cache;

/// Up to this size [`CheckoutMode::Auto`] copies where it cannot reflink.
///
/// A copy is the safer thing to have: it is writable, and nothing that happens to it reaches the
/// cache. Up to this size it costs about 1 ms (512 MiB take 0.14 s on a 2-core virtual machine, with
/// everything in memory).
pub const AUTO_COPY_BYTES: u64 = 4 * 1024 * 1024;

/// How files in the workspace share bytes with the cache.
///
/// A way that the file system does not offer is replaced by a copy. Files that are executable are
/// never linked to the object, since objects are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckoutMode {
    /// Reflink, or else a copy of small files (up to [`AUTO_COPY_BYTES`]) and a hard link of large ones.
    #[default]
    Auto,
    /// A copy of its own, which may be written to. It may share blocks until then.
    Copy,
    /// A copy that shares blocks with the object until one is written to, if the file system can.
    Reflink,
    /// A hard link, read-only.
    Hardlink,
    /// A symbolic link to the object, relative to where it lies. Inside a directory artifact, hard
    /// links are made instead: a symbolic link there would be part of the artifact.
    Symlink,
}

/// What to make of an object at last resort, after a reflink was tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Copy,
    Hardlink,
    Symlink,
}

/// A file to be made of an object.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) id: ObjectId,
    pub(crate) size_bytes: u64,
    pub(crate) executable: bool,
}

impl CheckoutMode {
    fn way(self, wanted: Wanted) -> Way {
        match self {
            _ if wanted.executable => Way::Copy,
            CheckoutMode::Auto if wanted.size_bytes > AUTO_COPY_BYTES => Way::Hardlink,
            CheckoutMode::Auto | CheckoutMode::Copy | CheckoutMode::Reflink => Way::Copy,
            CheckoutMode::Hardlink => Way::Hardlink,
            CheckoutMode::Symlink => Way::Symlink,
        }
    }

    fn may_reflink(self, wanted: Wanted) -> bool {
        // A copy stands in for a link that an executable file cannot be.
        !matches!(self, CheckoutMode::Hardlink | CheckoutMode::Symlink) || wanted.executable
    }

    /// Whether a file like this ends as a hard link where nothing can be reflinked.
    pub(crate) fn hard_links(self, size_bytes: u64, executable: bool) -> bool {
        let wanted = Wanted { id: ObjectId::from_u64(0), size_bytes, executable };
        self.way(wanted) == Way::Hardlink
    }

    /// The mode for files inside a directory artifact.
    pub(crate) fn inside_directory(self) -> CheckoutMode {
        if self == CheckoutMode::Symlink { CheckoutMode::Hardlink } else { self }
    }
}

impl Cache {
    /// Makes a new file of an object and says what it is. `final_dir` is where it will lie in the
    /// end, if that is not where it is made.
    pub(crate) fn materialize(
        &self,
        wanted: Wanted,
        mode: CheckoutMode,
        at: At<'_>,
        final_dir: &Path,
    ) -> Result<SeenFile, CacheError> {
        let seen = Instant::now();
        let done = |stamp| SeenFile { id: wanted.id, executable: wanted.executable, stamp, seen };
        let way = mode.way(wanted);
        let may_reflink = mode.may_reflink(wanted) && !self.no_reflinks.load(Ordering::Relaxed);
        if (way == Way::Copy || may_reflink)
            && let Some(stamp) = self.copy_object(wanted, at, way == Way::Copy)?
        {
            return Ok(done(stamp));
        }
        if way == Way::Symlink {
            let (_, stamp) = self.hash_object(wanted.id, wanted.size_bytes)?;
            let target = relative_target(final_dir, &self.object_path(wanted.id))
                .map_err(CacheError::io("resolve", final_dir))?;
            rustix::fs::symlinkat(target, at.dir, at.name)
                .map_err(CacheError::io("create", at.to_path()))?;
            return Ok(done(stamp));
        }
        if let Some(stamp) = self.hard_link(wanted, at)? {
            return Ok(done(stamp));
        }
        let stamp = self.copy_object(wanted, at, true)?;
        Ok(done(stamp.expect("a copy that may copy bytes is made")))
    }

    /// A file of its own with the object's bytes; `None` if they cannot be shared and `may_copy` is
    /// not set.
    fn copy_object(
        &self,
        wanted: Wanted,
        at: At<'_>,
        may_copy: bool,
    ) -> Result<Option<Stamp>, CacheError> {
        let object = self.open_object(wanted.id)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if wanted.executable { 0o777 } else { 0o666 });
        // What the umask takes away from these modes is the user's wish.
        let file = rustix::fs::openat(at.dir, at.name, flags, mode)
            .map_err(CacheError::io("create", at.to_path()))?;
        let file = File::from(file);
        let removed = |result: Result<Option<Stamp>, CacheError>| {
            if !matches!(result, Ok(Some(_))) {
                let _ = rustix::fs::unlinkat(at.dir, at.name, AtFlags::empty());
            }
            result
        };
        removed((|| {
            let (found_id, found) = if self.reflink(&object, &file) {
                source::hash_all(&file).map_err(CacheError::io("read", at.to_path()))?
            } else if may_copy {
                source::copy_hashing(&object, &file, wanted.size_bytes)
                    .map_err(|error| error.at(&self.object_path(wanted.id), &at.to_path()))?
            } else {
                return Ok(None);
            };
            if found_id != wanted.id {
                // The object's own bytes decide whether it is damaged.
                self.hash_object(wanted.id, wanted.size_bytes)?;
                return Err(CacheError::Changing { path: self.object_path(wanted.id) });
            }
            self.check(wanted.id, wanted.size_bytes, found_id, found)?;
            let stat = rustix::fs::fstat(&file).map_err(CacheError::io("stat", at.to_path()))?;
            Ok(Some(Stamp::of(&stat)))
        })())
    }

    /// A hard link to the object; `None` if there cannot be one.
    fn hard_link(&self, wanted: Wanted, at: At<'_>) -> Result<Option<Stamp>, CacheError> {
        let (_object, before) = self.hash_object(wanted.id, wanted.size_bytes)?;
        let path = self.object_path(wanted.id);
        match rustix::fs::linkat(CWD, &path, at.dir, at.name, AtFlags::empty()) {
            Ok(()) => {}
            // Another file system, too many links, or no such thing as links.
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::NOTSUP | Errno::NOSYS) => {
                return Ok(None);
            }
            Err(error) => return Err(CacheError::io("create", at.to_path())(error)),
        }
        let stat = at.stat(Links::Keep).map_err(CacheError::io("stat", at.to_path()))?;
        let stamp = Stamp::of(&stat);
        if stamp.same_but_ctime(&before) {
            return Ok(Some(stamp));
        }
        // The object was written to, or replaced, after it had been hashed.
        let _ = rustix::fs::unlinkat(at.dir, at.name, AtFlags::empty());
        Err(CacheError::Changing { path })
    }

    /// Makes `to`, which is empty, share all blocks of `from`. `false`: nothing was done.
    pub(crate) fn reflink(&self, from: &File, to: &File) -> bool {
        if self.no_reflinks.load(Ordering::Relaxed) {
            return false;
        }
        #[cfg(target_os = "linux")]
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => return true,
            Err(Errno::NOTSUP | Errno::NOTTY | Errno::NOSYS) => {
                // It cannot, so it need not be asked for every file.
                self.no_reflinks.store(true, Ordering::Relaxed);
            }
            // For these two files it cannot; for others it may.
            Err(_) => {}
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (from, to);
        false
    }
}

/// The text of a symbolic link in `dir` that leads to `object`.
fn relative_target(dir: &Path, object: &Path) -> std::io::Result<PathBuf> {
    let dir = std::fs::canonicalize(if dir == Path::new("") { Path::new(".") } else { dir })?;
    let object = std::fs::canonicalize(object)?;
    let shared =
        dir.components().zip(object.components()).take_while(|(ours, its)| ours == its).count();
    let mut target: PathBuf = dir.components().skip(shared).map(|_| "..").collect();
    target.extend(object.components().skip(shared));
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_copied_and_large_ones_linked() {
        let file =
            |size_bytes, executable| Wanted { id: ObjectId::from_u64(0), size_bytes, executable };
        use CheckoutMode::*;
        for (mode, wanted, expected) in [
            (Auto, file(AUTO_COPY_BYTES, false), Way::Copy),
            (Auto, file(AUTO_COPY_BYTES + 1, false), Way::Hardlink),
            (Auto, file(AUTO_COPY_BYTES + 1, true), Way::Copy),
            (Copy, file(u64::MAX, false), Way::Copy),
            (Reflink, file(u64::MAX, false), Way::Copy),
            (Hardlink, file(1, false), Way::Hardlink),
            (Hardlink, file(1, true), Way::Copy),
            (Symlink, file(1, false), Way::Symlink),
            (Symlink, file(1, true), Way::Copy),
        ] {
            assert!(mode.way(wanted) == expected, "{mode:?} {}", wanted.size_bytes);
        }
    }

    #[test]
    fn link_targets_are_relative() {
        let top = tempfile::tempdir().unwrap();
        let (dir, cache) = (top.path().join("a/b"), top.path().join("cache"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join("o"), "").unwrap();
        let target = relative_target(&dir, &cache.join("o")).unwrap();
        assert_eq!(target, Path::new("../../cache/o"));
    }
}
