//! What every remote can do, and what can go wrong there.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pivot_cache::{Cache, CacheError, ObjectId};
use thiserror::Error;

use crate::diagnosis::Diagnosis;
use crate::directory::DirectoryRemote;
use crate::options::{Interrupt, RemoteOptions};
use crate::record::RecordKey;
use crate::s3::S3Remote;
use crate::threads::in_threads;
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

    /// What tells it from every other remote: the same objects are there only if this is equal.
    fn place(&self) -> String {
        self.url().to_string()
    }

    /// Whether an object of this name is there. Its bytes are not looked at.
    ///
    /// # Errors
    ///
    /// Fails if the remote cannot say.
    fn contains(&self, id: ObjectId) -> Result<bool, RemoteError>;

    /// Which of these objects are there, sorted. Their bytes are not looked at.
    ///
    /// # Errors
    ///
    /// Fails if the remote cannot say.
    fn present(&self, ids: &[ObjectId]) -> Result<Vec<ObjectId>, RemoteError> {
        let mut present = Vec::new();
        for &id in ids {
            if self.contains(id)? {
                present.push(id);
            }
        }
        present.sort_unstable();
        present.dedup();
        Ok(present)
    }

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

    /// Asks transfers to end once it is set.
    fn interrupt(&self) -> Interrupt {
        Interrupt::default()
    }

    /// Sends many objects and tells of each, in any order, when it is done.
    fn send_all(&self, cache: &Cache, ids: &[ObjectId], report: &mut Report<'_>) {
        in_threads(self.jobs(), &self.interrupt(), ids, |id| self.send(cache, id), report);
    }

    /// Brings many objects and tells of each, in any order, when it is done.
    fn fetch_all(&self, cache: &Cache, ids: &[ObjectId], report: &mut Report<'_>) {
        in_threads(self.jobs(), &self.interrupt(), ids, |id| self.fetch(cache, id), report);
    }

    /// Writes small records, over what was there under their keys, and says which could not be
    /// written. A record holds up to [`MAX_RECORD_BYTES`](crate::MAX_RECORD_BYTES).
    fn put_records(&self, records: &[(RecordKey, Vec<u8>)]) -> Vec<(RecordKey, RemoteError)>;

    /// Reads the records of these keys. Those that are not there are left out of the answer; one
    /// that is damaged is [`RemoteError::CorruptRecord`].
    fn get_records(&self, keys: &[RecordKey]) -> Vec<(RecordKey, Result<Vec<u8>, RemoteError>)>;

    /// The keys of all records, sorted. Whatever else lies there is passed over.
    ///
    /// # Errors
    ///
    /// Fails if the remote cannot say.
    fn list_records(&self) -> Result<Vec<RecordKey>, RemoteError>;

    /// Tries to reach the remote and tells how that went.
    fn diagnose(&self) -> Diagnosis {
        Diagnosis {
            place: self.place(),
            region: None,
            credentials: Vec::new(),
            answer: self.contains(ObjectId::of_bytes(b"")).map(|_| ()),
        }
    }
}

/// Is told how transfers go. It is always called from the thread that asked for them.
pub type Report<'a> = dyn FnMut(Step) + 'a;

/// What a batch of transfers has to tell.
#[derive(Debug)]
pub enum Step {
    /// So many bytes more went over the wire. What had to be sent twice is told twice.
    Bytes {
        /// How many.
        count: u64,
    },
    /// An object is done with.
    Ended {
        /// Its name.
        id: ObjectId,
        /// How it went.
        result: Result<Transfer, RemoteError>,
    },
}

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
    /// A record is damaged, or was filed under another key.
    #[error("the remote's record {key} is damaged")]
    CorruptRecord {
        /// The key that was asked for.
        key: RecordKey,
    },
    /// A record is larger than records may be.
    #[error("record {key} is larger than {} bytes", crate::MAX_RECORD_BYTES)]
    LargeRecord {
        /// The record's key.
        key: RecordKey,
    },
    /// The transfer was asked to end.
    #[error("interrupted")]
    Interrupted,
    /// Something about the remote's settings or credentials keeps it from being used at all.
    #[error("cannot use the remote: {problem}")]
    Setup {
        /// What is wrong and, where that is known, what to do.
        problem: String,
    },
    /// The remote's server did not do what it was asked.
    #[error("cannot {action}: {problem}")]
    Request {
        /// What was attempted, such as ``send `files/ab/cdef0123456789` ``.
        action: String,
        /// What the server or the network said, without secrets.
        problem: String,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
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

/// Opens the remote at `url` with the usual options; a relative path begins at `base`, the
/// project's root.
///
/// # Errors
///
/// Like [`open_with`].
pub fn open(url: &RemoteUrl, base: &Path) -> Result<Box<dyn Remote>, RemoteError> {
    open_with(url, &RemoteOptions::default(), base)
}

/// Opens the remote at `url`; a relative path begins at `base`, the project's root.
///
/// Nothing is read or made before the first transfer.
///
/// # Errors
///
/// [`RemoteError::Setup`] if the options cannot be.
pub fn open_with(
    url: &RemoteUrl,
    options: &RemoteOptions,
    base: &Path,
) -> Result<Box<dyn Remote>, RemoteError> {
    match url.relative_to(base) {
        RemoteUrl::Directory(path) => {
            let mut remote = DirectoryRemote::new(path).with_interrupt(options.interrupt.clone());
            if let Some(jobs) = options.jobs {
                remote = remote.with_jobs(jobs);
            }
            Ok(Box::new(remote))
        }
        url => Ok(Box::new(S3Remote::new(&url, options)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_directory_is_in_the_project() {
        let url = RemoteUrl::parse("shared").unwrap();
        let remote = open(&url, Path::new("/project")).unwrap();
        assert_eq!(remote.url().to_string(), "/project/shared");
    }
}
