//! The small files that people write: read without ever waiting for one, and replaced as a whole.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The bytes of a file; `None` if there is none.
///
/// # Errors
/// When it cannot be read or is no regular file: opening a named pipe would wait for a writer.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The text of a file; `None` if there is none.
///
/// # Errors
/// Like [`read`], and when it is not UTF-8.
pub(crate) fn read_text(path: &Path) -> io::Result<Option<String>> {
    let not_text = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    read(path)?.map(|bytes| String::from_utf8(bytes).map_err(not_text)).transpose()
}

/// Puts a new file in the place of the one at `path`, or of the one that a link there leads to.
///
/// # Errors
/// When it cannot be written; then the old one is there as it was.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target: PathBuf = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let dir = target.parent().unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{}-", name.trim_start_matches('.'));
    let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(dir)?;
    file.write_all(bytes)?;
    let permissions = match fs::metadata(&target) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => Permissions::from_mode(0o644),
    };
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    file.persist(&target)?;
    Ok(())
}
