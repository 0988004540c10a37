//! Why the cache could not do what it was asked, as data.
//!
//! Every variant names the path or the object that it is about, so that a caller can build its own
//! words; the `Display` text is one lowercase line for callers that do not.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::manifest::ManifestError;
use crate::object_id::ObjectId;

/// Why the cache could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The cache does not hold this object.
    #[error("cache object {id} is missing")]
    Missing {
        /// The object that was asked for.
        id: ObjectId,
    },
    /// The object's bytes do not have the hash that they are filed under. The object was moved away,
    /// so that it can be made again or fetched.
    #[error("cache object {id} is damaged")]
    Corrupt {
        /// The object that was asked for.
        id: ObjectId,
        /// Where its bytes lie now; `None` if they could not be moved.
        quarantined: Option<PathBuf>,
    },
    /// The object is sound but has another size than the caller recorded for it.
    #[error("cache object {id} has {found} bytes where {expected} were recorded")]
    WrongSize {
        /// The object that was asked for.
        id: ObjectId,
        /// The size that the caller gave, in bytes.
        expected: u64,
        /// The size of what the cache holds, in bytes.
        found: u64,
    },
    /// Bytes that were received under a name do not have that hash; nothing was kept.
    #[error("received {found} where {expected} was expected")]
    Mismatch {
        /// The object that should have come.
        expected: ObjectId,
        /// The hash of the bytes that came.
        found: ObjectId,
    },
    /// Two different contents have the same 64-bit hash. Neither was replaced.
    #[error("different contents with the same hash {id}: `{}` and `{}`", .path.display(), .object.display())]
    Collision {
        /// The hash that both share.
        id: ObjectId,
        /// What was to be stored.
        path: PathBuf,
        /// The object that is in the cache already.
        object: PathBuf,
    },
    /// An object that should describe a directory does not.
    #[error("cache object {id} is no directory manifest: {reason}")]
    Manifest {
        /// The object that was asked for.
        id: ObjectId,
        /// What is wrong with its text.
        #[source]
        reason: ManifestError,
    },
    /// Something that is neither a file, a directory nor a symbolic link.
    #[error("cannot track `{}`: it is {kind}", .path.display())]
    Unsupported {
        /// Where it lies.
        path: PathBuf,
        /// What it is.
        kind: UnsupportedKind,
    },
    /// A file did not hold still while it was read.
    #[error("`{}` changes while it is read", .path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// A path leads out of the directory that it must stay in.
    #[error("`{}` leads out of the project", .path.display())]
    Outside {
        /// The path as it was given, below the root.
        path: PathBuf,
    },
    /// A system call on `path` failed; `action` completes "cannot …".
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was being done, such as `read`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CacheError {
    /// Whether the path that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, CacheError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the cache does not hold what it should, as opposed to a system that refuses something.
    /// Then the content has to come from elsewhere, or to be made again.
    pub fn is_loss(&self) -> bool {
        use CacheError::{Corrupt, Manifest, Missing, WrongSize};
        matches!(self, Missing { .. } | Corrupt { .. } | WrongSize { .. } | Manifest { .. })
    }

    /// Wraps a failed system call; made for `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> CacheError {
        move |source| CacheError::Io {
            action,
            path: path.as_ref().to_path_buf(),
            source: source.into(),
        }
    }
}

/// The kinds of directory entries that have no contents to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsupportedKind {
    /// A FIFO.
    NamedPipe,
    /// A Unix domain socket.
    Socket,
    /// A block or character device.
    Device,
    /// Anything else, or a kind that the caller did not ask for.
    Other,
}

impl std::fmt::Display for UnsupportedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            UnsupportedKind::NamedPipe => "a named pipe",
            UnsupportedKind::Socket => "a socket",
            UnsupportedKind::Device => "a device",
            UnsupportedKind::Other => "neither a file nor a directory",
        })
    }
}
