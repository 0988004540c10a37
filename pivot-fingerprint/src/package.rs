//! The Python package that travels inside the program.
//!
//! It is unpacked once into the user's cache directory, under the digest of its contents, so
//! the program and its Python half always match and nothing needs to be installed.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The files to unpack: path below the directory, contents.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/python_files.rs"));

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
