//! Cache objects to and from another place.
//!
//! A *remote* is a cache elsewhere: a directory on a shared disk, or a bucket. [`push`] sends the
//! objects that it lacks and [`fetch`] brings those that are missing here; what an object is has
//! its name in [`pivot_cache`].
//!
//! ```
//! use pivot_cache::Cache;
//! use pivot_remote::{RemoteUrl, fetch, open, push};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let mine = Cache::open(&dir.join("mine"));
//! let id = mine.put_bytes(b"model")?;
//! let remote = open(&RemoteUrl::parse("shared")?, dir)?;
//! let sent = push(&mine, remote.as_ref(), &[id], &mut |_| {});
//! assert_eq!((sent.moved, sent.failed.len()), (1, 0));
//!
//! let yours = Cache::open(&dir.join("yours"));
//! fetch(&yours, remote.as_ref(), &[id], &mut |_| {});
//! assert_eq!(yours.read(id)?, b"model");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every object is hashed before it is sent and again before it is kept, so neither a damaged
//! cache nor a damaged remote spreads. One object that fails does not stop the others: it is in
//! [`Summary::failed`], and a caller that asked for all of them has failed too.
//!
//! [`DirectoryRemote`] and [`S3Remote`] are the back ends; [`open`] chooses by the URL. Another fits
//! behind [`Remote`], whose batch methods it may replace by concurrent requests of its own.

mod credentials;
mod diagnosis;
mod directory;
mod indexed;
mod options;
mod record;
mod remote;
mod s3;
mod threads;
mod transfer;
mod url;

pub use diagnosis::{CredentialAttempt, CredentialOutcome, Diagnosis};
pub use directory::DirectoryRemote;
pub use indexed::Indexed;
pub use options::{Addressing, Interrupt, RemoteOptions};
pub use record::{MAX_RECORD_BYTES, ParseRecordKeyError, RecordKey};
pub use remote::{Remote, RemoteError, Report, Step, Transfer, open, open_with};
pub use s3::S3Remote;
pub use transfer::{Progress, Summary, fetch, fetch_contents, push, push_contents};
pub use url::{RemoteUrl, UrlError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
