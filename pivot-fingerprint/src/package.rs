//! The Python package that travels inside the program.
//!
//! It is unpacked once into the user's cache directory, under the digest of its contents, so
//! the program and its Python half always match and nothing needs to be installed.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

/// The files to unpack: path below the directory, contents.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/python_files.rs"));

/// How often a directory in use is marked as such, and others are looked at.
const MARKED_EVERY: Duration = Duration::from_secs(24 * 3600);
/// After how long without use a directory of another version goes.
const KEPT_UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The Python package could not be placed on disk.
#[derive(Debug, Error)]
#[error("cannot unpack Pivot's Python package to `{}`", .dir.display())]
pub struct PackageError {
    dir: PathBuf,
    source: io::Error,
}

/// The digest of the package's contents: 32 hexadecimal digits of BLAKE2b-128.
pub fn package_digest() -> &'static str {
    env!("PIVOT_PYTHON_DIGEST")
}

/// The directory to start Python with; unpacks the package where it is not there yet.
///
/// It lies in `$XDG_CACHE_HOME/pivot` or `~/.cache/pivot`, or in the system's temporary
/// directory when the user has no such place.
///
/// # Errors
/// When no directory can be written.
pub fn unpack() -> Result<PathBuf, PackageError> {
    if let Some(dir) = cache_parent().and_then(|parent| unpack_below(&parent).ok()) {
        return Ok(dir);
    }
    // No home, or one that cannot be written (a read-only container).
    let user = rustix::process::getuid().as_raw();
    let private = std::env::temp_dir().join(format!("pivot-{user}"));
    let unpacked = make_private(&private, user).and_then(|()| unpack_below(&private));
    unpacked.map_err(|source| PackageError { dir: private, source })
}

fn cache_parent() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let cache =
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("pivot"))
}

/// Makes `dir` in a place where anybody may write, unless it is there: what others could have put
/// there is not trusted.
fn make_private(dir: &Path, user: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(dir)?;
    if found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write there"))
}

fn unpack_below(parent: &Path) -> io::Result<PathBuf> {
    let target = parent.join(format!("python-{}", package_digest()));
    // Marked first: whoever sweeps then leaves it alone.
    let is_due = age(&target).is_none_or(|age| age > MARKED_EVERY);
    if is_due {
        let _ = fs::File::open(&target).and_then(|dir| dir.set_modified(SystemTime::now()));
        sweep(parent, &target);
    }
    if is_whole(&target) {
        return Ok(target);
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let staging = tempfile::Builder::new().prefix(".python-").tempdir_in(parent)?;
    for &(name, content) in FILES {
        let path = staging.path().join(name);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?
            .write_all(content)?;
    }
    let staging = staging.keep();
    let mut placed = fs::rename(&staging, &target);
    if placed.is_err() && !is_whole(&target) {
        // A damaged copy is in the way.
        let _ = fs::remove_dir_all(&target);
        placed = fs::rename(&staging, &target);
    }
    if placed.is_err() {
        let _ = fs::remove_dir_all(&staging);
        // Not an error if another process was first.
        if !is_whole(&target) {
            placed?;
        }
    }
    Ok(target)
}

/// Removes what other versions have unpacked and not used for long, and what was left half-made.
fn sweep(parent: &Path, target: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let limit = match () {
            () if path == target => continue,
            () if name.starts_with("python-") => KEPT_UNUSED,
            () if name.starts_with(".python-") => MARKED_EVERY,
            () => continue,
        };
        if age(&path).is_some_and(|age| age > limit) {
            // Out of the way in one step: nobody shall find half of it.
            let away = parent.join(format!(".python-swept-{}", name.trim_start_matches('.')));
            if fs::rename(&path, &away).is_ok() {
                let _ = fs::remove_dir_all(&away);
            }
        }
    }
}

/// How long ago a directory was modified; `None` where there is none.
fn age(dir: &Path) -> Option<Duration> {
    let found = fs::symlink_metadata(dir).ok().filter(fs::Metadata::is_dir)?;
    // A time that is still to come is no age.
    Some(found.modified().ok()?.elapsed().unwrap_or_default())
}

/// Whether every file is there with the right bytes: a cleaner may have removed some.
fn is_whole(dir: &Path) -> bool {
    FILES
        .iter()
        .all(|&(name, content)| fs::read(dir.join(name)).is_ok_and(|found| found == content))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_folder_of_our_own_is_trusted() {
        let tmp = tempfile::tempdir().unwrap();
        let user = rustix::process::getuid().as_raw();
        let own = tmp.path().join("own");
        make_private(&own, user).unwrap();
        make_private(&own, user).unwrap();
        assert!(make_private(&own, user + 1).is_err(), "somebody else's");

        let link = tmp.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert!(make_private(&link, user).is_err(), "a link");

        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(make_private(&own, user).is_err(), "anybody may write there");
    }

    #[test]
    fn copies_of_other_versions_go_when_they_are_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let days = |days: u64| SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        for (name, unused) in [("python-a", 31), ("python-b", 29), (".python-c", 2), ("other", 99)]
        {
            let dir = parent.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("file"), "").unwrap();
            fs::File::open(&dir).unwrap().set_modified(days(unused)).unwrap();
        }
        let own = unpack_below(parent.path()).unwrap();
        let is_there = |name: &str| parent.path().join(name).exists();
        let found = ["python-a", "python-b", ".python-c", "other"].map(is_there);
        assert_eq!(found, [false, true, false, true]);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 3, "nothing half-removed");

        fs::File::open(&own).unwrap().set_modified(days(40)).unwrap();
        unpack_below(parent.path()).unwrap();
        assert!(is_whole(&own), "a copy in use stays");
        assert!(age(&own).unwrap() < MARKED_EVERY, "and is marked as used");
    }

    #[test]
    fn a_damaged_copy_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let dir = unpack_below(parent.path()).unwrap();
        fs::write(dir.join("__main__.py"), "print('not ours')").unwrap();
        assert!(!is_whole(&dir));
        assert_eq!(unpack_below(parent.path()).unwrap(), dir);
        assert!(is_whole(&dir));
        let left = fs::read_dir(parent.path()).unwrap().count();
        assert_eq!(left, 1, "no staging directory stays behind");
    }
}
