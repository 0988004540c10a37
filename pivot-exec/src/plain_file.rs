//! Reading the small files that people write, without ever waiting for one.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The bytes of a file; `None` if there is none.
///
/// # Errors
/// When it cannot be read or is no regular file: opening a named pipe would wait for a writer.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(u64::MAX).read_to_end(&mut bytes)?;
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
