//! A lock as bytes that are quicker to read than YAML, for this machine's own memory.
//!
//! Reading YAML costs more than ten times as much as reading these. They are no interchange
//! format: a program that does not know them reads the lock file again.

use pivot_cache::{Content, ContentKind, ObjectId};
use pivot_fingerprint::CodeHash;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lock::{Artifact, Lock};

/// Raised with every change of [`Stored`].
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored<Name, Params> {
    version: u32,
    code: Vec<(Name, u64)>,
    params: Params,
    deps: Vec<StoredArtifact<Name>>,
    outs: Vec<StoredArtifact<Name>>,
}

#[derive(Serialize, Deserialize)]
struct StoredArtifact<Name>(Name, u64, u64, StoredKind);

#[derive(Serialize, Deserialize)]
enum StoredKind {
    #[serde(rename = "f")]
    File,
    #[serde(rename = "x")]
    Executable,
    #[serde(rename = "d")]
    Directory(u64),
}

impl Lock {
    /// The lock as bytes for [`Lock::from_cache_bytes`].
    pub fn to_cache_bytes(&self) -> Vec<u8> {
        let stored = Stored {
            version: VERSION,
            code: self.code().iter().map(|(name, hash)| (name.as_str(), hash.as_u64())).collect(),
            params: self.params(),
            deps: self.deps().iter().map(to_stored).collect(),
            outs: self.outs().iter().map(to_stored).collect(),
        };
        serde_json::to_vec(&stored).expect("names are strings and writing to memory succeeds")
    }

    /// The lock that these bytes were made from, or `None` if they are of another version of this
    /// crate, damaged, or not a lock at all.
    pub fn from_cache_bytes(bytes: &[u8]) -> Option<Self> {
        let stored: Stored<String, Value> = serde_json::from_slice(bytes).ok()?;
        if stored.version != VERSION {
            return None;
        }
        let code = stored.code.into_iter().map(|(name, hash)| (name, CodeHash::from_u64(hash)));
        let artifacts = |stored: Vec<_>| stored.into_iter().map(from_stored).collect();
        Lock::new(code, stored.params, artifacts(stored.deps), artifacts(stored.outs)).ok()
    }
}

fn to_stored(artifact: &Artifact) -> StoredArtifact<&str> {
    let kind = match artifact.content.kind {
        ContentKind::File { executable: false } => StoredKind::File,
        ContentKind::File { executable: true } => StoredKind::Executable,
        ContentKind::Directory { files } => StoredKind::Directory(files),
    };
    StoredArtifact(&artifact.path, artifact.content.id.as_u64(), artifact.content.size_bytes, kind)
}

fn from_stored(StoredArtifact(path, id, size_bytes, kind): StoredArtifact<String>) -> Artifact {
    let kind = match kind {
        StoredKind::File => ContentKind::File { executable: false },
        StoredKind::Executable => ContentKind::File { executable: true },
        StoredKind::Directory(files) => ContentKind::Directory { files },
    };
    Artifact { path, content: Content { id: ObjectId::from_u64(id), size_bytes, kind } }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stored_bytes_are_read_back_or_not_at_all() {
        let content = |kind| Content { id: ObjectId::from_u64(u64::MAX), size_bytes: 3, kind };
        let lock = Lock::new(
            [("self:train".to_owned(), CodeHash::from_u64(u64::MAX))],
            json!({"lr": 0.1, "float": 1.0, "int": 1, "big": u64::MAX}),
            vec![Artifact::new("raw", content(ContentKind::Directory { files: 3 }))],
            vec![
                Artifact::new("tool", content(ContentKind::File { executable: true })),
                Artifact::new("a", content(ContentKind::File { executable: false })),
            ],
        )
        .unwrap();
        let bytes = lock.to_cache_bytes();
        assert_eq!(Lock::from_cache_bytes(&bytes), Some(lock));
        for end in 0..bytes.len() {
            assert_eq!(Lock::from_cache_bytes(&bytes[..end]), None);
        }
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [("\"version\":1", "\"version\":2"), ("\"raw\"", "\"../raw\"")] {
            assert!(text.contains(from), "{text}");
            assert_eq!(Lock::from_cache_bytes(text.replace(from, to).as_bytes()), None);
        }
    }
}
