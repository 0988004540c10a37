//! The name of a cache object: the hash of its bytes.
//!
//! An [`ObjectId`] is only made from contents or parsed from 16 hexadecimal digits, so whoever holds
//! one may build paths from it without checking it again.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use xxhash_rust::xxh64::{Xxh64, xxh64};

/// The xxHash64 (seed 0) of some contents, written as 16 lowercase hexadecimal digits.
///
/// It detects change, not tampering: 64 bits are far too few against an adversary.
///
/// ```
/// use pivot_cache::ObjectId;
///
/// let id = ObjectId::of_bytes(b"hello\n");
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(u64);

impl ObjectId {
    /// The name of these contents.
    pub fn of_bytes(bytes: &[u8]) -> ObjectId {
        ObjectId(xxh64(bytes, 0))
    }

    /// The name whose hash value is `hash`.
    pub const fn from_u64(hash: u64) -> ObjectId {
        ObjectId(hash)
    }

    /// The hash value.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Where the object lies below the cache directory: `files/ab/cdef0123456789`.
    pub fn relative_path(self) -> PathBuf {
        // Two digits of fan-out keep a million objects at about 4,000 to a directory.
        let digits = self.to_string();
        let mut path = String::with_capacity(24);
        for part in ["files/", &digits[..2], "/", &digits[2..]] {
            path.push_str(part);
        }
        PathBuf::from(path)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// A text that is not the name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an object id is 16 lowercase hexadecimal digits")]
pub struct ParseObjectIdError;

impl FromStr for ObjectId {
    type Err = ParseObjectIdError;

    fn from_str(text: &str) -> Result<ObjectId, ParseObjectIdError> {
        if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ParseObjectIdError);
        }
        u64::from_str_radix(text, 16).map(ObjectId).map_err(|_| ParseObjectIdError)
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ObjectId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The running hash of contents that arrive in pieces.
pub(crate) struct Hasher(Xxh64);

impl Hasher {
    pub(crate) fn new() -> Hasher {
        Hasher(Xxh64::new(0))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn id(&self) -> ObjectId {
        ObjectId(self.0.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_cannot_name_a_path() {
        for text in [
            "",
            "abc",
            "0123456789abcdeg",
            "0123456789ABCDEF",
            "../../etc/passwd",
            "+123456789abcdef",
            "0123456789abcdef0",
            " 123456789abcdef",
        ] {
            assert!(text.parse::<ObjectId>().is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn the_hash_is_xxhash64_with_seed_0() {
        // Published test vectors of xxHash.
        assert_eq!(ObjectId::of_bytes(b"").to_string(), "ef46db3751d8e999");
        assert_eq!(ObjectId::of_bytes(b"a").to_string(), "d24ec4f1a98c6e5b");
        let mut hasher = Hasher::new();
        hasher.update(b"hello ");
        hasher.update(b"world");
        assert_eq!(hasher.id(), ObjectId::of_bytes(b"hello world"));
    }

    #[test]
    fn small_hashes_keep_their_zeros() {
        let id = ObjectId::from_u64(0xab);
        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!(id.relative_path(), PathBuf::from("files/00/000000000000ab"));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"00000000000000ab\"");
        assert_eq!(serde_json::from_str::<ObjectId>("\"00000000000000ab\"").unwrap(), id);
    }
}
