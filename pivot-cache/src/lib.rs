//! A content-addressed file store, and a stat-hash cache that is safe against racy edits.
//!
//! Three things that can be used apart from one another:
//!
//! - [`Cache`] keeps files and directories by the hash of their bytes, and brings them back as
//!   reflinks, hard links or copies. An object is whole or absent, never replaced, and hashed again
//!   before it is used.
//! - [`State`] is a key-value store (LMDB) that may be lost at any time: whatever befalls its files,
//!   it opens, at worst empty.
//! - [`Workspace`] knows the hashes of files in a working tree, and reads only those that may have
//!   changed since it last did. It puts the other two together.
//!
//! ```
//! use pivot_cache::{Cache, CheckoutMode, State, Workspace};
//!
//! let dir = tempfile::tempdir()?;
//! let cache = Cache::open(&dir.path().join(".pivot/cache"));
//! let state = State::open(&dir.path().join(".pivot/state.lmdb"));
//! let workspace = Workspace::new(dir.path(), &state);
//!
//! std::fs::create_dir(dir.path().join("model"))?;
//! std::fs::write(dir.path().join("model/weights"), [1, 2, 3])?;
//! let content = workspace.store(&cache, "model")?;
//!
//! std::fs::remove_dir_all(dir.path().join("model"))?;
//! workspace.restore(&cache, "model", &content, CheckoutMode::Auto)?;
//! assert_eq!(workspace.content("model")?, Some(content));
//! state.flush();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is kept of a directory
//!
//! The bytes and the "executable" bit of files, the text of symbolic links, empty directories, and
//! names of any bytes. Not kept: times, owners, other mode bits, extended attributes, hard links
//! between files, holes. FIFOs, sockets and devices are refused by name.
//!
//! # Names of objects
//!
//! Objects are named by xxHash64: it finds accidents, not attacks. Two contents with one hash are
//! noticed when the second is stored, by comparing bytes, and reported as
//! [`CacheError::Collision`].

mod adopt;
mod content;
mod error;
mod filesystem;
mod fsck;
mod garbage;
mod guard;
mod link;
mod manifest;
mod object_id;
mod publish;
mod restore;
mod source;
mod stamp;
mod state;
mod store;
mod temporary;
mod tree;
mod workspace;
mod writer;

pub use content::{Content, ContentKind};
pub use error::{CacheError, UnsupportedKind};
pub use fsck::{FsckReport, Problem};
pub use garbage::Garbage;
pub use guard::CacheGuard;
pub use link::{AUTO_COPY_BYTES, CheckoutMode};
pub use manifest::{DirectoryManifest, EntryKind, ManifestEntry, ManifestError};
pub use object_id::{ObjectId, ParseObjectIdError};
pub use state::{State, Table};
pub use store::{Cache, hash_artifact};
pub use workspace::Workspace;
pub use writer::ObjectWriter;

/// Has the README's example compiled with the other examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
