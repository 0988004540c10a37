//! What an artifact on disk is: enough to know it again and to restore it.
//!
//! A [`Content`] is small and cheap to compare; two artifacts are the same exactly if their contents
//! are equal.

use serde::{Deserialize, Serialize};

use crate::object_id::ObjectId;

/// The identity of a file or directory: what its bytes are and what it takes to restore it.
///
/// To keep one for later, write it down with serde. Of a directory the `id` is enough:
/// [`Cache::manifest`](crate::Cache::manifest) has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Content {
    /// The hash of a file's bytes, or of the bytes of a directory's manifest.
    pub id: ObjectId,
    /// The size of the file, or the sum over all files of the directory.
    pub size_bytes: u64,
    /// What the artifact is.
    pub kind: ContentKind,
}

/// Whether an artifact is a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentKind {
    /// One file.
    File {
        /// Whether anyone may execute it.
        executable: bool,
    },
    /// A directory with everything in it.
    Directory {
        /// How many regular files it holds, at any depth.
        files: u64,
    },
}

impl Content {
    /// The content of a file that is not executable.
    pub fn file(id: ObjectId, size_bytes: u64) -> Content {
        Content { id, size_bytes, kind: ContentKind::File { executable: false } }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, ContentKind::Directory { .. })
    }
}
