//! The name of a stage.
//!
//! A [`StageName`] becomes part of a file name (`.pivot/stages/train@bert.lock`), so whoever
//! holds one may build paths from it without checking it again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name in bytes: with a suffix it still fits into one file name everywhere.
pub(crate) const MAX_NAME_BYTES: usize = 200;

/// A valid stage name: letters, digits, `_`, `-`, `.` and `@`, at most 200 of them.
///
/// The part before the first `@` is the [base](Self::base) that the variants of one
/// definition share, the part after it names the [variant](Self::variant).
///
/// ```
/// use pivot_pipeline::StageName;
///
/// let name: StageName = "train@bert_swe".parse()?;
/// assert_eq!((name.base(), name.variant()), ("train", Some("bert_swe")));
/// assert!("../train".parse::<StageName>().is_err());
/// # Ok::<(), pivot_pipeline::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StageName(String);

impl StageName {
    /// Checks `name` and wraps it.
    ///
    /// # Errors
    ///
    /// When the name is empty or too long, or has a character or a shape that is not allowed.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(character) = name.chars().find(|&c| !allowed(c)) {
            return Err(NameError::Character { character });
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong { length: name.len() });
        }
        if name.starts_with(['.', '-', '@']) {
            return Err(NameError::Start { character: char::from(name.as_bytes()[0]) });
        }
        if name.ends_with('@') {
            return Err(NameError::NoVariant);
        }
        Ok(Self(name))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `@`, or the whole name when it has none.
    pub fn base(&self) -> &str {
        self.0.split_once('@').map_or(&self.0, |(base, _)| base)
    }

    /// The part after the first `@`.
    pub fn variant(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, variant)| variant)
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StageName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for StageName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<StageName> for String {
    fn from(name: StageName) -> Self {
        name.0
    }
}

impl AsRef<str> for StageName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a stage name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// There is no text.
    #[error("it is empty")]
    Empty,
    /// A character outside the allowed set.
    #[error("`{}` is not a letter, a digit or one of `_-.@`", .character.escape_default())]
    Character {
        /// The first such character.
        character: char,
    },
    /// More than 200 characters.
    #[error("it has {length} characters, and at most 200 fit into a file name")]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// A first character that is only allowed later.
    #[error("it starts with `{character}`")]
    Start {
        /// That character.
        character: char,
    },
    /// Nothing after the `@`.
    #[error("nothing follows the `@`")]
    NoVariant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_file_names() {
        for name in ["train", "train@bert_swe", "a.b-c_1", "A", "1", "x@-1", &"n".repeat(200)] {
            assert!(StageName::new(name).is_ok(), "refused {name:?}");
        }
        let long = "n".repeat(201);
        for name in
            ["", ".", "..", ".x", "-x", "@x", "x@", "a/b", "a b", "a\nb", "é", "a\\b", "a\0", &long]
        {
            assert!(StageName::new(name).is_err(), "accepted {name:?}");
        }
    }

    #[test]
    fn splits_at_the_first_at_sign() {
        let name = StageName::new("train@a@b").unwrap();
        assert_eq!((name.base(), name.variant()), ("train", Some("a@b")));
        let name = StageName::new("train").unwrap();
        assert_eq!((name.base(), name.variant()), ("train", None));
    }

    #[test]
    fn is_checked_when_read_back() {
        assert!(serde_json::from_str::<StageName>("\"../x\"").is_err());
        let name: StageName = serde_json::from_str("\"train\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"train\"");
    }
}
