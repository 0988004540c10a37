//! Small records beside the objects: finished runs by their keys.
//!
//! What a record says is its owner's business. Here it has a key, which is the name of a file, and
//! a frame with a checksum, so that what comes back is what was sent under this key.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use xxhash_rust::xxh64::Xxh64;

/// The first line of every record; another version would have another.
const MAGIC: &[u8] = b"pivot-record 1\n";

/// Magic, checksum and line end.
const HEADER_BYTES: usize = MAGIC.len() + 17;

/// The largest record, in bytes.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// What a record is asked by: 16 to 64 lowercase hexadecimal digits, an even number of them.
///
/// ```
/// use pivot_remote::RecordKey;
///
/// let key = RecordKey::from_digest(&[0xab, 0, 0, 0, 0, 0, 0, 1]);
/// assert_eq!(key.as_str(), "ab00000000000001");
/// assert_eq!("ab00000000000001".parse(), Ok(key));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey(String);

/// A text that is not the key of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a record's key is 16 to 64 lowercase hexadecimal digits")]
pub struct ParseRecordKeyError;

impl RecordKey {
    /// The key that is the digits of a digest.
    ///
    /// # Panics
    ///
    /// If the digest has fewer than 8 or more than 32 bytes.
    pub fn from_digest(digest: &[u8]) -> Self {
        assert!((8..=32).contains(&digest.len()), "a record's digest has 8 to 32 bytes");
        let mut digits = String::with_capacity(2 * digest.len());
        for byte in digest {
            fmt::Write::write_fmt(&mut digits, format_args!("{byte:02x}"))
                .expect("writing to a string never fails");
        }
        Self(digits)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the record lies below the remote: `runs/ab/cdef…`.
    pub fn relative_path(&self) -> String {
        let (fan_out, rest) = self.0.split_at(2);
        format!("runs/{fan_out}/{rest}")
    }

    /// The key of what lies at `runs/ab/cdef…`; `None` if nothing of ours can lie there.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let (fan_out, rest) = path.strip_prefix("runs/")?.split_once('/')?;
        if fan_out.len() != 2 {
            return None;
        }
        format!("{fan_out}{rest}").parse().ok()
    }
}

impl FromStr for RecordKey {
    type Err = ParseRecordKeyError;

    fn from_str(text: &str) -> Result<Self, ParseRecordKeyError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_length = (16..=64).contains(&text.len()) && text.len().is_multiple_of(2);
        if is_length && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseRecordKeyError)
        }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is written for a record; `None` if it is too large.
pub(crate) fn sealed(key: &RecordKey, bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > MAX_RECORD_BYTES {
        return None;
    }
    let mut text = Vec::with_capacity(HEADER_BYTES + bytes.len());
    text.extend_from_slice(MAGIC);
    text.extend_from_slice(format!("{:016x}\n", checksum(key, bytes)).as_bytes());
    text.extend_from_slice(bytes);
    Some(text)
}

/// What a record holds; `None` if it is damaged or was filed under another key.
pub(crate) fn unsealed(key: &RecordKey, text: &[u8]) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(MAGIC)?;
    let (line, bytes) = rest.split_at_checked(17)?;
    let is_right = line == format!("{:016x}\n", checksum(key, bytes)).as_bytes();
    (is_right && bytes.len() <= MAX_RECORD_BYTES).then(|| bytes.to_vec())
}

/// The most bytes that are worth reading of a record.
pub(crate) const MAX_SEALED_BYTES: u64 = (HEADER_BYTES + MAX_RECORD_BYTES) as u64;

fn checksum(key: &RecordKey, bytes: &[u8]) -> u64 {
    let mut hasher = Xxh64::new(0);
    hasher.update(key.0.as_bytes());
    hasher.update(b"\n");
    hasher.update(bytes);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> RecordKey {
        "00112233445566778899aabbccddeeff".parse().unwrap()
    }

    #[test]
    fn a_key_is_no_path() {
        for text in ["", "ab", "../../etc/passwd", "ABCDEF0123456789", "0123456789abcde", "0/"] {
            assert!(text.parse::<RecordKey>().is_err(), "accepted {text:?}");
        }
        assert!("0".repeat(66).parse::<RecordKey>().is_err());
        let path = key().relative_path();
        assert_eq!(path, "runs/00/112233445566778899aabbccddeeff");
        assert_eq!(RecordKey::of_path(&path), Some(key()));
        for path in ["runs/00", "runs/001/12233445566778899aabbccddeeff", "files/00/11223344556677"]
        {
            assert_eq!(RecordKey::of_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_record_under_another_key_is_none() {
        let other = RecordKey::from_digest(&[1; 16]);
        let text = sealed(&key(), b"{}").unwrap();
        assert_eq!(unsealed(&key(), &text).as_deref(), Some(&b"{}"[..]));
        assert_eq!(unsealed(&other, &text), None);
        assert_eq!(sealed(&key(), &vec![0; MAX_RECORD_BYTES + 1]), None);
    }

    proptest! {
        #[test]
        fn what_is_changed_is_not_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..50),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut text = sealed(&key(), &bytes).unwrap();
            prop_assert_eq!(unsealed(&key(), &text), Some(bytes));
            let at = at.index(text.len());
            text[at] ^= 1_u8 << bit;
            prop_assert_eq!(unsealed(&key(), &text), None);
            text.truncate(at);
            prop_assert_eq!(unsealed(&key(), &text), None);
        }
    }
}
