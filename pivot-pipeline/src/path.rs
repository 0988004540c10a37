//! A path inside the project.
//!
//! A [`ProjectPath`] is normalized when it is made: equal paths are equal texts, and none
//! leaves the project by its spelling. Symlinks are the only other way out, and
//! [`ProjectPath::leaves_project`] looks for those.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longer paths cannot be opened on Linux.
const MAX_BYTES: usize = 4095;
/// Longer file names cannot be created on any common file system.
const MAX_PART_BYTES: usize = 255;

/// A path of a file or folder below the project root, with `/` between its parts.
///
/// ```
/// use pivot_pipeline::ProjectPath;
///
/// assert_eq!(ProjectPath::new("./data//raw/")?.as_str(), "data/raw");
/// assert!(ProjectPath::new("../secret").is_err());
/// # Ok::<(), pivot_pipeline::PathError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectPath(String);

impl ProjectPath {
    /// Normalizes and checks `text`.
    ///
    /// # Errors
    ///
    /// When the path is absolute, a URL, too long, the project itself or outside of it, belongs
    /// to Pivot (`.pivot`), or has a character that no lock file could hold in one line.
    pub fn new(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        if let Some(character) = text.chars().find(|c| matches!(c, '\0' | '\n' | '\r')) {
            return Err(PathError::Character { character });
        }
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        if has_scheme(text) {
            return Err(PathError::Url);
        }
        let path = normalize(text)?;
        if path.is_empty() {
            return Err(PathError::ProjectItself);
        }
        if path.len() > MAX_BYTES || path.split('/').any(|part| part.len() > MAX_PART_BYTES) {
            return Err(PathError::TooLong);
        }
        if first_part_is(&path, ".pivot") {
            return Err(PathError::PivotsOwn);
        }
        Ok(Self(path))
    }

    /// The normalized text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the path lies when the project is at `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }

    /// Why no stage may write here: the path is, or contains, something that defines the project.
    ///
    /// Names are compared without regard to case, since some file systems do the same.
    pub fn forbidden_as_output(&self) -> Option<&'static str> {
        if first_part_is(&self.0, ".git") {
            return Some("it belongs to Git");
        }
        let is = |name: &&str| self.0.eq_ignore_ascii_case(name);
        if ["pivot.yaml", "pivot.yml", "pipeline.py"].iter().any(is) {
            return Some("it defines the pipeline");
        }
        is(&"params.yaml").then_some("it holds the params")
    }

    /// The part of this path that is a symlink to a place outside of the project at `root`.
    ///
    /// Only links in folders above the last part are followed unless the path itself exists.
    ///
    /// # Errors
    ///
    /// When `root` itself or an existing part of the path cannot be resolved.
    pub fn leaves_project(&self, root: &Path) -> io::Result<Option<String>> {
        let mut checked = root.to_path_buf();
        let mut real_root = None;
        for (end, part) in part_ends(&self.0) {
            checked.push(part);
            match checked.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
                Err(error) => return Err(error),
            }
            let real_root = match &real_root {
                Some(known) => known,
                None => real_root.insert(root.canonicalize()?),
            };
            let inside = match checked.canonicalize() {
                Ok(target) => target.starts_with(real_root),
                // A dangling link: judge it by its text, as writing through it would create it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let target = std::fs::read_link(&checked)?;
                    !target.is_absolute() && !target.components().any(|c| c.as_os_str() == "..")
                }
                Err(error) => return Err(error),
            };
            if !inside {
                return Ok(Some(self.0[..end].to_owned()));
            }
        }
        Ok(None)
    }
}

/// `text` without empty and `.` parts.
fn normalize(text: &str) -> Result<String, PathError> {
    let mut path = String::with_capacity(text.len());
    for part in text.split('/') {
        match part {
            "" | "." => continue,
            ".." => return Err(PathError::Parent),
            _ => {}
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    Ok(path)
}

/// Whether `text` begins like `s3://`.
fn has_scheme(text: &str) -> bool {
    let scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.split_once("://").is_some_and(|(head, _)| !head.is_empty() && head.chars().all(scheme))
}

fn first_part_is(path: &str, name: &str) -> bool {
    path.split('/').next().is_some_and(|part| part.eq_ignore_ascii_case(name))
}

/// Each part of `path` with the byte position at which it ends.
fn part_ends(path: &str) -> impl Iterator<Item = (usize, &str)> {
    path.split('/').scan(0, |start, part| {
        let end = *start + part.len();
        *start = end + 1;
        Some((end, part))
    })
}

impl fmt::Display for ProjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProjectPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::new(text)
    }
}

impl TryFrom<String> for ProjectPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        Self::new(&text)
    }
}

impl From<ProjectPath> for String {
    fn from(path: ProjectPath) -> Self {
        path.0
    }
}

impl AsRef<str> for ProjectPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a path inside the project.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// There is no text.
    #[error("it is empty")]
    Empty,
    /// It starts with `/`.
    #[error("it is absolute")]
    Absolute,
    /// It has a `..` part.
    #[error("it contains `..`")]
    Parent,
    /// It is `.`, spelled in whatever way.
    #[error("it is the project itself")]
    ProjectItself,
    /// It is `.pivot` or something below.
    #[error("it belongs to Pivot itself")]
    PivotsOwn,
    /// It looks like `s3://bucket/key`.
    #[error("it is a URL")]
    Url,
    /// The whole has more than 4095 bytes, or a part more than 255.
    #[error("it is too long for a file system")]
    TooLong,
    /// A NUL or a line break.
    #[error("it contains `{}`", .character.escape_default())]
    Character {
        /// The first such character.
        character: char,
    },
}

impl PathError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::ProjectItself => "name a file or a folder inside the project",
            Self::Absolute | Self::Parent => {
                "write it relative to the project's root, inside the project"
            }
            Self::PivotsOwn => "keep stages out of `.pivot`",
            Self::Url => "a stage that downloads it can keep it as an output",
            Self::TooLong | Self::Character { .. } => "rename the file",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_paths_are_equal_texts() {
        for text in ["data/raw.csv", "./data/raw.csv", "data//raw.csv", "data/./raw.csv/"] {
            assert_eq!(ProjectPath::new(text).unwrap().as_str(), "data/raw.csv", "{text}");
        }
        assert_eq!(ProjectPath::new("a b/ü#$ .txt").unwrap().as_str(), "a b/ü#$ .txt");
        assert_eq!(ProjectPath::new("..data/...").unwrap().as_str(), "..data/...");
        assert_eq!(ProjectPath::new("odd:name//x").unwrap().as_str(), "odd:name/x");
    }

    #[test]
    fn refuses_what_is_not_inside() {
        let long = "x/".repeat(3000);
        let long_part = "x".repeat(256);
        let cases = [
            ("", PathError::Empty),
            ("/etc/passwd", PathError::Absolute),
            ("../x", PathError::Parent),
            ("a/../b", PathError::Parent),
            (".", PathError::ProjectItself),
            ("././/", PathError::ProjectItself),
            (".pivot", PathError::PivotsOwn),
            ("./.PIVOT/cache", PathError::PivotsOwn),
            ("s3://bucket/key", PathError::Url),
            ("a\nb", PathError::Character { character: '\n' }),
            ("a\0b", PathError::Character { character: '\0' }),
            (&long, PathError::TooLong),
            (&long_part, PathError::TooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(ProjectPath::new(text).unwrap_err(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_definition_of_the_project_is_no_output() {
        for text in [".git", ".git/HEAD", ".GIT/x", "pivot.yaml", "./Pipeline.py", "params.yaml"] {
            let path = ProjectPath::new(text).unwrap();
            assert!(path.forbidden_as_output().is_some(), "allowed {text:?}");
        }
        for text in [".gitignore", "sub/pivot.yaml", "models", "git", "params.yaml.bak"] {
            let path = ProjectPath::new(text).unwrap();
            assert_eq!(path.forbidden_as_output(), None, "refused {text:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_symlink_may_not_leave_the_project() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("data/deep")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("data/out")).unwrap();
        std::os::unix::fs::symlink("data", root.path().join("inner")).unwrap();
        std::os::unix::fs::symlink("../gone", root.path().join("dangling")).unwrap();
        std::os::unix::fs::symlink("new", root.path().join("fresh")).unwrap();
        let leaves =
            |text: &str| ProjectPath::new(text).unwrap().leaves_project(root.path()).unwrap();
        assert_eq!(leaves("data/out/x.csv"), Some("data/out".to_owned()));
        assert_eq!(leaves("inner/out"), Some("inner/out".to_owned()));
        assert_eq!(leaves("dangling"), Some("dangling".to_owned()));
        assert_eq!(leaves("fresh"), None);
        assert_eq!(leaves("inner/deep/x"), None);
        assert_eq!(leaves("data/deep/not/there"), None);
    }
}
