//! What a stage's code consists of: named parts with hashes.
//!
//! A manifest is flat: each function, class or constant that a stage can reach is a part of
//! its own, so comparing two manifests names exactly what changed.

use std::fmt;

use blake2::digest::consts::U8;
use blake2::{Blake2b, Digest};
use serde::{Deserialize, Serialize};

use crate::inspect::EditedFunction;

/// The digest of one component, written as 16 lowercase hexadecimal digits.
///
/// It is the 64-bit BLAKE2b digest of a canonical encoding of the component. It detects
/// change, not tampering.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CodeHash(u64);

impl CodeHash {
    /// The hash with this number as its value.
    pub fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The digest of some parts, each with its length before it, as the helper computes it.
    pub fn of_parts<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut hasher = Blake2b::<U8>::new();
        for part in parts {
            hasher.update(format!("{}:", part.len()).as_bytes());
            hasher.update(part);
        }
        Self(u64::from_be_bytes(hasher.finalize().into()))
    }

    /// The hash as a number.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeHash({self})")
    }
}

impl std::str::FromStr for CodeHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != 16 || !text.bytes().all(digits) {
            return Err(format!("`{text}` is not a hash of 16 hexadecimal digits"));
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<String> for CodeHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CodeHash> for String {
    fn from(hash: CodeHash) -> Self {
        hash.to_string()
    }
}

/// A line of a source file; `file` is relative to the project, with `/` between its parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourcePlace {
    /// The file, relative to the project root where it lies below it.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One named part of a stage's code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Kind and qualified name, such as `self:train`, `func:helper_a` or `package:numpy`.
    pub name: String,
    /// The digest of this part alone.
    pub hash: CodeHash,
    /// Where it is defined, if it has a place in a source file.
    pub place: Option<SourcePlace>,
}

/// Something that the fingerprint covers more coarsely than usual, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// A sentence such as "depends on all of features.py, because …".
    pub text: String,
    /// The place of the construct that made it necessary.
    pub place: Option<SourcePlace>,
}

/// The code that a stage depends on, sorted by component name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(deserialize_with = "without_slack")]
    components: Vec<Component>,
}

/// The manifests of all stages are in memory at the same time.
fn without_slack<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Component>, D::Error> {
    let mut components = Vec::deserialize(from)?;
    components.shrink_to_fit();
    Ok(components)
}

impl Manifest {
    /// A manifest of these components; of several with one name the first counts.
    pub fn new(mut components: Vec<Component>) -> Self {
        components.sort_by(|a, b| a.name.cmp(&b.name));
        components.dedup_by(|later, earlier| later.name == earlier.name);
        Self { components }
    }

    /// The manifest after an edit of a function's body; `None` where a component of that function
    /// has a hash that the edit does not speak of.
    pub fn after(mut self, edit: &EditedFunction) -> Option<Self> {
        for component in &mut self.components {
            let place = component.place.as_ref();
            if place.is_some_and(|place| place.file == edit.file && place.line == edit.line) {
                component.hash = *edit.hashes.get(&component.hash)?;
            }
        }
        Some(self)
    }

    /// All components, sorted by name.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The component called `name`.
    pub fn get(&self, name: &str) -> Option<&Component> {
        let index = self.components.binary_search_by(|c| c.name.as_str().cmp(name)).ok()?;
        Some(&self.components[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(name: &str, value: u64) -> Component {
        Component { name: name.into(), hash: CodeHash::from_u64(value), place: None }
    }

    #[test]
    fn a_hash_is_exactly_sixteen_lowercase_digits() {
        for text in ["", "abc", "0123456789abcdeg", "0123456789ABCDEF", "+123456789abcdef"] {
            assert!(text.parse::<CodeHash>().is_err(), "accepted {text:?}");
        }
        let hash: CodeHash = "00c0ffee00c0ffee".parse().unwrap();
        assert_eq!(hash.to_string(), "00c0ffee00c0ffee");
    }

    #[test]
    fn digests_of_parts_are_those_of_the_helper() {
        // hashlib.blake2b(b"2:ab1:c", digest_size=8).hexdigest()
        let hash = CodeHash::of_parts([b"ab".as_slice(), b"c"]);
        assert_eq!(hash.to_string(), "4024ad5048d711de");
    }

    #[test]
    fn components_are_sorted_and_found_by_name() {
        let manifest = Manifest::new(vec![component("self:b", 2), component("func:a", 1)]);
        let names: Vec<_> = manifest.components().iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["func:a", "self:b"]);
        assert_eq!(manifest.get("self:b").unwrap().hash.as_u64(), 2);
        assert_eq!(manifest.get("self:c"), None);
    }
}
