//! What every remote can do, and what can go wrong there.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pivot_cache::{Cache, CacheError, ObjectId};
use thiserror::Error;

use crate::directory::DirectoryRemote;
use crate::transfer::in_threads;
use crate::url::RemoteUrl;

/// A cache elsewhere.
///
/// A back end implements the four methods for single objects. One that can do many at once better
/// than [`jobs`](Remote::jobs) threads, such as one with asynchronous requests, also replaces
/// [`send_all`](Remote::send_all) and [`fetch_all`](Remote::fetch_all).
///
/// Whoever implements it promises: bytes are hashed before they count as sent or fetched; an
/// object appears under its name whole or not at all; only names that are an [`ObjectId`] exist.
pub trait Remote: Send + Sync + fmt::Debug {
    /// Where it is; without credentials.
    fn url(&self) -> RemoteUrl;

    /// Whether an object of this name is there. Its bytes are not looked at.
    ///
    /// # Errors
    ///
    /// Fails if the remote cannot say.
    fn contains(&self, id: ObjectId) -> Result<bool, RemoteError>;

    /// The names of all objects, sorted. Whatever else lies there is passed over.
    ///
    /// # Errors
    ///
    /// Fails if the remote cannot say.
    fn list(&self) -> Result<Vec<ObjectId>, RemoteError>;

    /// Sends one object, unless it is there already.
    ///
    /// # Errors
    ///
    /// Fails if the object is missing here or damaged, in which case nothing is sent, or if the
    /// remote cannot take it.
    fn send(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError>;

    /// Brings one object into the cache, even if one of its name is there.
    ///
    /// # Errors
    ///
    /// Fails if the remote has no such object or a damaged one, in which case nothing is kept, or
    /// if the cache cannot take it.
    fn fetch(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError>;

    /// How many objects the batch methods transfer at once.
    fn jobs(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// Sends many objects and tells of each, in any order, when it is done.
    fn send_all(&self, cache: &Cache, ids: &[ObjectId], done: &mut Done<'_>) {
        in_threads(self.jobs(), ids, |id| self.send(cache, id), done);
    }

    /// Brings many objects and tells of each, in any order, when it is done.
    fn fetch_all(&self, cache: &Cache, ids: &[ObjectId], done: &mut Done<'_>) {
        in_threads(self.jobs(), ids, |id| self.fetch(cache, id), done);
    }
}

/// Is told how the transfer of an object ended. It is always called from the thread that asked for
/// the transfers.
pub type Done<'a> = dyn FnMut(ObjectId, Result<Transfer, RemoteError>) + 'a;

/// What it took to have an object on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Its bytes were transferred.
    Moved {
        /// How many.
        size_bytes: u64,
    },
    /// It was there already.
    AlreadyThere,
}

/// Why a remote could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// No back end for this kind of remote is built in.
    #[error("this build of Pivot cannot open `{scheme}://` remotes yet")]
    Unsupported {
        /// Such as `s3`.
        scheme: &'static str,
    },
    /// The remote does not have the object.
    #[error("the remote has no object {id}")]
    Missing {
        /// The object that was asked for.
        id: ObjectId,
    },
    /// The remote's bytes do not have the hash that they are filed under. Nothing was kept.
    #[error("the remote's object {id} is damaged")]
    Corrupt {
        /// The object that was asked for.
        id: ObjectId,
    },
    /// The remote has a different object with the same 64-bit hash. It was not replaced.
    #[error("the remote has a different object with the same hash {id}")]
    Collision {
        /// The hash that both share.
        id: ObjectId,
    },
    /// The manifest of a directory was not sent, since files of the directory could not be.
    #[error("directory {id} is incomplete on the remote")]
    Incomplete {
        /// The object that describes the directory.
        id: ObjectId,
    },
    /// The cache on this side could not give or take the object.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A system call on a file of a directory remote failed; `action` completes "cannot …".
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Opens the remote at `url`; a relative path begins at `base`, the project's root.
///
/// Nothing is read or made before the first transfer.
///
/// # Errors
///
/// Fails if no back end for this kind of remote is built in: [`RemoteError::Unsupported`].
pub fn open(url: &RemoteUrl, base: &Path) -> Result<Box<dyn Remote>, RemoteError> {
    match url.relative_to(base) {
        RemoteUrl::Directory(path) => Ok(Box::new(DirectoryRemote::new(path))),
        RemoteUrl::S3 { .. } => Err(RemoteError::Unsupported { scheme: "s3" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_is_refused_honestly() {
        let url = RemoteUrl::parse("s3://bucket/prefix").unwrap();
        let error = open(&url, Path::new("/")).unwrap_err();
        assert_eq!(error.to_string(), "this build of Pivot cannot open `s3://` remotes yet");
    }

    #[test]
    fn a_relative_directory_is_in_the_project() {
        let url = RemoteUrl::parse("shared").unwrap();
        let remote = open(&url, Path::new("/project")).unwrap();
        assert_eq!(remote.url().to_string(), "/project/shared");
    }
}
