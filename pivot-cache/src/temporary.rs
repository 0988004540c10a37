//! Files and directories on their way to their final name.
//!
//! They lie in the cache's own `tmp`, where no reader, count or transfer looks, and they are locked
//! while their maker lives. Whatever a killed process leaves there is swept later.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::process::Pid;

use crate::error::CacheError;
use crate::source::At;
use crate::stamp::file_type;

/// Leftovers of processes that seem to live are swept after this time: a pid may be in use again.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A name that no other process and no other call uses: `<pid>-<time>-<number>`.
pub(crate) fn fresh_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{}-{:x}-{number}", std::process::id(), nanoseconds as u64)
}

/// Runs `make` on fresh names until one is free, and makes the missing directory once.
fn with_fresh_name<T>(
    dir: &Path,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T), CacheError> {
    let mut made_dir = false;
    loop {
        let path = dir.join(fresh_name());
        match make(&path) {
            Ok(made) => return Ok((path, made)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !made_dir => {
                fs::create_dir_all(dir).map_err(CacheError::io("create", dir))?;
                made_dir = true;
            }
            Err(error) => return Err(CacheError::io("create a file in", dir)(error)),
        }
    }
}

/// A file in `tmp` that goes away unless it is published.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    path: PathBuf,
    pub(crate) file: File,
    published: bool,
}

impl TemporaryFile {
    pub(crate) fn create(tmp: &Path) -> Result<TemporaryFile, CacheError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let (path, fd) = with_fresh_name(tmp, |path| Ok(rustix::fs::open(path, flags, mode)?))?;
        hold(&fd);
        Ok(TemporaryFile { path, file: File::from(fd), published: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its final name, if nothing has it yet. `false`: something has.
    pub(crate) fn publish(&mut self, to: &Path) -> Result<bool, CacheError> {
        let read_only = Mode::RUSR | Mode::RGRP | Mode::ROTH;
        rustix::fs::fchmod(&self.file, read_only)
            .map_err(CacheError::io("make read-only", &self.path))?;
        self.published = rename_new(&self.path, to)?;
        Ok(self.published)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.published {
            // Nothing better to do if this fails: the sweep will try again.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames without replacing; makes the target's parent if that is missing.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<bool, CacheError> {
    let mut made_parent = false;
    loop {
        match rename_without_replacing(from, to) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::EXIST) => return Ok(false),
            Err(rustix::io::Errno::NOENT) if !made_parent => {
                let parent = to.parent().expect("objects lie below the cache directory");
                fs::create_dir_all(parent).map_err(CacheError::io("create", parent))?;
                made_parent = true;
            }
            Err(error) => return Err(CacheError::io("create", to)(error)),
        }
    }
}

fn rename_without_replacing(from: &Path, to: &Path) -> rustix::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags};
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system cannot; some network file systems cannot.
            Err(
                rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP,
            ) => {}
            result => return result,
        }
    }
    rustix::fs::link(from, to)?;
    rustix::fs::unlink(from)
}

/// A directory in `tmp`, or beside its target when `tmp` is on another file system.
#[derive(Debug)]
pub(crate) struct TemporaryDirectory {
    path: PathBuf,
    fd: OwnedFd,
}

impl TemporaryDirectory {
    pub(crate) fn create(parent: &Path) -> Result<TemporaryDirectory, CacheError> {
        let (path, ()) = with_fresh_name(parent, |path| fs::create_dir(path))?;
        Self::opened(path)
    }

    /// One with a given name in an existing directory.
    pub(crate) fn create_named(path: PathBuf) -> Result<TemporaryDirectory, CacheError> {
        fs::create_dir(&path).map_err(CacheError::io("create", &path))?;
        Self::opened(path)
    }

    fn opened(path: PathBuf) -> Result<TemporaryDirectory, CacheError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(CacheError::io("open", &path))?;
        hold(&fd);
        Ok(TemporaryDirectory { path, fd })
    }

    /// A name inside.
    pub(crate) fn at<'a>(&'a self, name: &'a Path) -> At<'a> {
        At { dir: self.fd.as_fd(), shown: &self.path, name }
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Nothing better to do if this fails: the sweep will try again.
        let _ = remove_tree(&self.path);
    }
}

/// Marks a temporary as in use until it is closed, at the latest when this process ends. Where the
/// file system has no locks, the pid in the name must do.
pub(crate) fn hold(fd: impl AsFd) {
    let _ = rustix::fs::flock(fd, FlockOperation::NonBlockingLockShared);
}

/// Removes what killed processes left in `tmp`; `is_temporary` picks the names.
pub(crate) fn sweep(tmp: &Path, pid_of_name: impl Fn(&str) -> Option<i32>) {
    let Ok(entries) = fs::read_dir(tmp) else { return };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(&pid_of_name) else { continue };
        let path = entry.path();
        if is_abandoned(&path, pid) {
            let _ = remove_tree(&path);
        }
    }
}

/// The pid in a name that [`fresh_name`] made.
pub(crate) fn pid_of_name(name: &str) -> Option<i32> {
    let mut parts = name.split('-');
    let pid = parts.next()?.parse().ok().filter(|&pid| pid > 0)?;
    u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next().is_none().then_some(pid)
}

fn is_abandoned(path: &Path, pid: i32) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            // Locked: its maker lives, even if in another pid namespace.
            Err(rustix::io::Errno::WOULDBLOCK) => return false,
            _ => drop(fd),
        },
        // A link that was on its way.
        Err(rustix::io::Errno::LOOP) => {}
        Err(_) => return false,
    }
    let dead = Pid::from_raw(pid)
        .is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH));
    let old = fs::symlink_metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LEFTOVER_AGE));
    dead || old
}

/// Removes a file or a whole directory, including directories that their maker made read-only.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let stat = rustix::fs::lstat(path)?;
    if file_type(&stat) != FileType::Directory {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

/// Gives us the right to empty every directory in the tree.
fn open_up(top: &Path) -> io::Result<()> {
    let mut waiting = vec![top.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        let fd = rustix::fs::open(
            &dir,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        match fd {
            Ok(fd) => rustix::fs::fchmod(fd, Mode::RWXU)?,
            Err(rustix::io::Errno::ACCESS) => {
                rustix::fs::chmodat(rustix::fs::CWD, &dir, Mode::RWXU, AtFlags::empty())?;
            }
            Err(error) => return Err(error.into()),
        }
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_other_names() {
        assert_eq!(pid_of_name(&fresh_name()), i32::try_from(std::process::id()).ok());
        for name in ["", "a", "12", "12-", "12-x-1", "0-a-1", "-1-a-1", "12-a-1-1", "12-a-b"] {
            assert_eq!(pid_of_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn only_abandoned_temporaries_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let held = TemporaryFile::create(dir.path()).unwrap();
        let held_dir = TemporaryDirectory::create(dir.path()).unwrap();
        // No process can have this pid: it is beyond the kernel's maximum.
        let dead = dir.path().join("999999999-abc-0");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("x"), "x").unwrap();
        let alive = dir.path().join(format!("{}-abc-0", std::process::id()));
        fs::write(&alive, "x").unwrap();
        let foreign = dir.path().join("notes.txt");
        fs::write(&foreign, "x").unwrap();

        sweep(dir.path(), pid_of_name);
        assert!(!dead.exists());
        assert!(held.path().exists() && held_dir.path.exists());
        assert!(alive.exists() && foreign.exists());

        let long_ago = SystemTime::now() - LEFTOVER_AGE * 2;
        File::options().write(true).open(&alive).unwrap().set_modified(long_ago).unwrap();
        sweep(dir.path(), pid_of_name);
        assert!(!alive.exists() && foreign.exists());
    }
}
