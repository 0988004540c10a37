//! Storing a file by making it the object.
//!
//! Where nothing can be reflinked, a large output is neither copied into the cache nor back: the file
//! itself gets a second name there. That is only right if nobody can still write to it, which is
//! checked rather than assumed.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat};

use crate::content::Content;
use crate::error::CacheError;
use crate::link::CheckoutMode;
use crate::source::{self, At, Links, SeenFile};
use crate::stamp::{Instant, Stamp, file_type, is_executable, size};
use crate::store::{Cache, file_content, kind_of};
use crate::temporary::{TemporaryFile, fresh_name, hold, rename_new};
use crate::tree::HashedTree;

impl Cache {
    /// Stores a file or directory like [`Cache::put`], and leaves its files in the form in which
    /// [`Cache::restore`] would have made them, as far as that saves work: those that `mode` links
    /// become the objects themselves, read-only and without being copied.
    ///
    /// A file that someone has open for writing, or that has other names, is copied.
    ///
    /// # Errors
    ///
    /// Like [`Cache::put`].
    pub fn adopt(&self, path: &Path, mode: CheckoutMode) -> Result<Content, CacheError> {
        let at = At::path(path);
        if kind_of(at)? == FileType::Directory {
            let mode = mode.inside_directory();
            let tree = HashedTree::read(at, |at, _| self.adopt_file(at, Links::Keep, mode))?;
            return self.store_tree(&tree);
        }
        let content = file_content(&self.adopt_file(at, Links::Follow, mode)?);
        if mode == CheckoutMode::Symlink {
            self.restore(&content, path, mode)?;
        }
        Ok(content)
    }

    /// [`Cache::store_file`], by linking if `mode` says so and nothing speaks against it.
    pub(crate) fn adopt_file(
        &self,
        at: At<'_>,
        links: Links,
        mode: CheckoutMode,
    ) -> Result<SeenFile, CacheError> {
        if let Ok(stat) = at.stat(Links::Keep) {
            let may_link = file_type(&stat) == FileType::RegularFile
                && mode.hard_links(size(&stat), is_executable(&stat))
                && (mode == CheckoutMode::Hardlink || !self.can_reflink(at));
            if may_link && let Some(seen) = self.link_in(at)? {
                return Ok(seen);
            }
        }
        self.store_file(at, links)
    }

    fn can_reflink(&self, at: At<'_>) -> bool {
        let Ok((file, _)) = at.open(Links::Keep) else { return false };
        let Ok(temporary) = TemporaryFile::create(self.tmp()) else { return false };
        self.reflink(&file, &temporary.file)
    }

    /// Gives the file its object name as a second name. `None`: it has to be copied.
    fn link_in(&self, at: At<'_>) -> Result<Option<SeenFile>, CacheError> {
        let (file, stat) = at.open(Links::Keep)?;
        if stat.st_nlink > 1 {
            return self.already_linked(at);
        }
        fs::create_dir_all(self.tmp()).map_err(CacheError::io("create", self.tmp()))?;
        let tmp = rustix::fs::stat(self.tmp()).map_err(CacheError::io("stat", self.tmp()))?;
        if tmp.st_dev != stat.st_dev {
            return Ok(None);
        }
        // From here on nobody can open it for writing, and then: has anybody done so before?
        if rustix::fs::fchmod(&file, Mode::RUSR | Mode::RGRP | Mode::ROTH).is_err() {
            return Ok(None);
        }
        let linked = if has_no_writers(&file) { self.link_read_only(&file, at) } else { Ok(None) };
        if !matches!(linked, Ok(Some(_))) {
            // It stays a file of its own, as writable as it was.
            let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(stat.st_mode));
        }
        linked
    }

    fn link_read_only(&self, file: &File, at: At<'_>) -> Result<Option<SeenFile>, CacheError> {
        let fstat = || rustix::fs::fstat(file).map_err(CacheError::io("stat", at.to_path()));
        let seen = Instant::now();
        let before = fstat()?;
        let (id, bytes) = source::hash_all(file).map_err(CacheError::io("read", at.to_path()))?;
        if source::unchanged(file, &before, bytes, at)?.is_none() {
            return Ok(None);
        }
        hold(file);
        self.sync_bytes(file, &at.to_path())?;
        let temporary = self.tmp().join(fresh_name());
        if rustix::fs::linkat(at.dir, at.name, CWD, &temporary, AtFlags::empty()).is_err() {
            return Ok(None);
        }
        let removed = Removed(&temporary);
        // The name may have come to mean another file since it was opened.
        let is_ours = |stat: &Stat| Stamp::of(stat).same_but_ctime(&Stamp::of(&before));
        if !rustix::fs::lstat(&temporary).is_ok_and(|stat| is_ours(&stat)) {
            return Ok(None);
        }
        let object = self.object_path(id);
        if !rename_new(&temporary, &object)? {
            let Ok(object_before) = rustix::fs::lstat(&object) else { return Ok(None) };
            if !self.same_as_object(file, id, &at.to_path())? {
                return Ok(None);
            }
            // The same bytes are there already: the workspace gets a link to that object.
            drop(removed);
            let _removed = Removed(&temporary);
            if rustix::fs::link(&object, &temporary).is_err()
                || rustix::fs::renameat(CWD, &temporary, at.dir, at.name).is_err()
            {
                return Ok(None);
            }
            let after = at.stat(Links::Keep).map_err(CacheError::io("stat", at.to_path()))?;
            let (stamp, was) = (Stamp::of(&after), Stamp::of(&object_before));
            if !stamp.same_but_ctime(&was) {
                return Err(CacheError::Changing { path: at.to_path() });
            }
            return Ok(Some(SeenFile { id, executable: false, stamp, seen }));
        }
        self.sync_name(&object)?;
        let after = fstat()?;
        if !is_ours(&after) {
            return Err(CacheError::Changing { path: at.to_path() });
        }
        // The second name moved `ctime`.
        Ok(Some(SeenFile { id, executable: false, stamp: Stamp::of(&after), seen: Instant::now() }))
    }

    /// A file with other names is fine if one of them is its object.
    fn already_linked(&self, at: At<'_>) -> Result<Option<SeenFile>, CacheError> {
        let seen = source::hash_file(at, Links::Keep)?;
        let object = rustix::fs::lstat(self.object_path(seen.id));
        let same = object.is_ok_and(|object| Stamp::of(&object) == seen.stamp);
        Ok((same && !seen.executable).then_some(seen))
    }
}

/// Removes a name when dropped; that it may be gone already is fine.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// Whether no process has the file open for writing, or mapped so.
///
/// The kernel grants a read lease on exactly these files. It is given back at once.
#[cfg(target_os = "linux")]
fn has_no_writers(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    /// Which signal tells of a broken lease; not in the `libc` crate for all targets.
    const F_SETSIG: libc::c_int = 10;
    let fd = file.as_raw_fd();
    // SAFETY: plain calls on a descriptor that `file` keeps open; no memory is passed.
    unsafe {
        // Somebody may try to write before the lease is given back. The signal for that would end
        // this process if it were the default one; this one is ignored by default.
        if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0 {
            return false;
        }
        let granted = libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0;
        if granted {
            libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
        }
        granted
    }
}

#[cfg(not(target_os = "linux"))]
fn has_no_writers(_: &File) -> bool {
    false
}
