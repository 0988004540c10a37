//! What a lock holds, and the rules that every lock keeps.
//!
//! A [`Lock`] can only be made by [`Lock::new`], which sorts and checks; so whoever holds one,
//! read from a foreign repository or not, may use its paths without checking them again.

use std::collections::BTreeMap;

use pivot_cache::Content;
use pivot_fingerprint::CodeHash;
use serde_json::Value;
use thiserror::Error;

/// The version of the lock format that this crate writes, and the only one that it reads.
///
/// Fields that are unknown are ignored, so that a later program may add some; it raises the
/// version when an older program would misread the file.
pub const SCHEMA_VERSION: u64 = 1;

/// How deep lists and mappings may be nested in params; the mapping of all params counts.
pub const MAX_PARAMS_DEPTH: usize = 64;

/// A file or directory and what was in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Artifact {
    /// Relative to the project root, with `/` between its parts.
    pub path: String,
    /// The bytes, by their name in the cache.
    pub content: Content,
}

impl Artifact {
    /// The artifact at `path` with this content.
    pub fn new(path: impl Into<String>, content: Content) -> Self {
        Self { path: path.into(), content }
    }
}

/// What was true when a stage last ran.
///
/// Code is sorted by name, dependencies and outputs by path; no path is there twice, leaves the
/// project or, for outputs, enters `.git` or `.pivot`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lock {
    code: Vec<(String, CodeHash)>,
    params: Value,
    deps: Vec<Artifact>,
    outs: Vec<Artifact>,
}

/// Why something cannot be in a lock.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LockContentError {
    /// A path that could lead out of the project, or that is not in its normal form.
    #[error("the path `{path}` {problem}")]
    Path {
        /// The path, shortened and escaped for reading.
        path: String,
        /// Completes "the path …".
        problem: &'static str,
    },
    /// One path with two different contents, or one component with two hashes.
    #[error("`{name}` is there twice")]
    Duplicate {
        /// The path or the component, shortened and escaped for reading.
        name: String,
    },
    /// The params are not a mapping from names to values.
    #[error("the params are not a mapping")]
    ParamsNotAMapping,
    /// The params are nested deeper than [`MAX_PARAMS_DEPTH`].
    #[error("the params are nested more than {MAX_PARAMS_DEPTH} levels deep")]
    ParamsTooDeep,
}

impl Lock {
    /// A lock of these parts, in any order; `params` is a mapping, or null for none.
    ///
    /// Params are JSON: there is no NaN and no infinity, and integers have 64 bits.
    ///
    /// # Errors
    ///
    /// Fails if a path is not a plain path inside the project, if one path or component name has
    /// two different values, or if the params are not a mapping or nested too deep.
    pub fn new(
        code: impl IntoIterator<Item = (String, CodeHash)>,
        params: Value,
        mut deps: Vec<Artifact>,
        mut outs: Vec<Artifact>,
    ) -> Result<Self, LockContentError> {
        let mut code: Vec<_> = code.into_iter().collect();
        // All locks of a pipeline are in memory at the same time.
        code.shrink_to_fit();
        deps.shrink_to_fit();
        outs.shrink_to_fit();
        sort_unique(&mut code, |(name, _)| name)?;
        sort_unique(&mut deps, |dep| &dep.path)?;
        sort_unique(&mut outs, |out| &out.path)?;
        for dep in &deps {
            check_path(&dep.path)?;
        }
        for out in &outs {
            check_out_path(&out.path)?;
        }
        let params = match params {
            Value::Null => Value::Object(serde_json::Map::new()),
            Value::Object(map) => Value::Object(map),
            _ => return Err(LockContentError::ParamsNotAMapping),
        };
        check_depth(&params)?;
        Ok(Self { code, params, deps, outs })
    }

    /// The components of the stage's code, sorted by name.
    pub fn code(&self) -> &[(String, CodeHash)] {
        &self.code
    }

    /// The effective params: always a mapping.
    pub fn params(&self) -> &Value {
        &self.params
    }

    /// What the stage read, sorted by path.
    pub fn deps(&self) -> &[Artifact] {
        &self.deps
    }

    /// What the stage wrote, sorted by path.
    pub fn outs(&self) -> &[Artifact] {
        &self.outs
    }

    /// What the output at `path` held.
    pub fn out(&self, path: &str) -> Option<Content> {
        let index = self.outs.binary_search_by(|out| out.path.as_str().cmp(path)).ok()?;
        Some(self.outs[index].content)
    }
}

/// Sorts by name and drops exact repetitions; one name with two values is an error.
fn sort_unique<T: PartialEq>(
    items: &mut Vec<T>,
    name: impl Fn(&T) -> &String,
) -> Result<(), LockContentError> {
    // Byte order, which no locale changes. Manifests and written locks come sorted already.
    if !items.is_sorted_by(|a, b| name(a) < name(b)) {
        items.sort_by(|a, b| name(a).cmp(name(b)));
        items.dedup();
        if let Some(pair) = items.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
            return Err(LockContentError::Duplicate { name: shown(name(&pair[0])) });
        }
    }
    Ok(())
}

/// Refuses everything but a relative path in its normal form that stays inside the project.
pub(crate) fn check_path(path: &str) -> Result<(), LockContentError> {
    let problem = if path.is_empty() {
        "is empty"
    } else if path.starts_with('/') {
        "is absolute"
    } else if path.bytes().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) {
        "holds a NUL or a line break"
    } else if path.split('/').any(|part| part == "..") {
        "leads out of its folder with `..`"
    } else if path.split('/').any(|part| part.is_empty() || part == ".") {
        "is not in its normal form"
    } else {
        return Ok(());
    };
    Err(LockContentError::Path { path: shown(path), problem })
}

/// Refuses also outputs where writing them would change git's or Pivot's own files.
pub(crate) fn check_out_path(path: &str) -> Result<(), LockContentError> {
    check_path(path)?;
    // Some file systems ignore case, and a nested repository's hooks run programs too.
    let problem = if path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
        "lies in `.git`"
    } else if path.split('/').next().is_some_and(|part| part.eq_ignore_ascii_case(".pivot")) {
        "lies in `.pivot`"
    } else {
        return Ok(());
    };
    Err(LockContentError::Path { path: shown(path), problem })
}

/// Walks with a stack of its own, so that no depth of nesting can overflow the thread's.
fn check_depth(params: &Value) -> Result<(), LockContentError> {
    let mut waiting = vec![(params, 1)];
    while let Some((value, depth)) = waiting.pop() {
        if depth > MAX_PARAMS_DEPTH && (value.is_object() || value.is_array()) {
            return Err(LockContentError::ParamsTooDeep);
        }
        match value {
            Value::Object(map) => waiting.extend(map.values().map(|inner| (inner, depth + 1))),
            Value::Array(list) => waiting.extend(list.iter().map(|inner| (inner, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// Foreign text as it may appear in a message: on one line, and not endless.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// The entries of a mapping in the order in which they are written and compared.
pub(crate) fn sorted(map: &serde_json::Map<String, Value>) -> BTreeMap<&str, &Value> {
    map.iter().map(|(key, value)| (key.as_str(), value)).collect()
}

#[cfg(test)]
mod tests {
    use pivot_cache::{ContentKind, ObjectId};
    use serde_json::json;

    use super::*;

    fn artifact(path: &str) -> Artifact {
        artifact_of(path, 1)
    }

    fn artifact_of(path: &str, size_bytes: u64) -> Artifact {
        let kind = ContentKind::File { executable: false };
        Artifact::new(path, Content { id: ObjectId::from_u64(7), size_bytes, kind })
    }

    #[test]
    fn a_lock_names_only_plain_paths_inside_the_project() {
        for path in [
            "",
            "/etc/passwd",
            "../victim",
            "a/../../victim",
            "a/..",
            "..",
            ".",
            "./a",
            "a/.",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "a\rb",
        ] {
            let dep = Lock::new([], json!({}), vec![artifact(path)], vec![]);
            let out = Lock::new([], json!({}), vec![], vec![artifact(path)]);
            assert!(dep.is_err(), "accepted {path:?} as a dependency");
            assert!(out.is_err(), "accepted {path:?} as an output");
        }
        for path in ["a", "a/b.csv", "..a", "a..b/c...", ".hidden", "with space", "é/ñ", "a\\b"] {
            assert!(Lock::new([], json!({}), vec![], vec![artifact(path)]).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn outputs_stay_out_of_git_and_pivot() {
        for path in [".git", ".git/hooks/post-checkout", ".GIT/config", "sub/.git/x", ".pivot/x"] {
            assert!(Lock::new([], json!({}), vec![], vec![artifact(path)]).is_err(), "{path:?}");
            assert!(Lock::new([], json!({}), vec![artifact(path)], vec![]).is_ok(), "{path:?}");
        }
        for path in [".github/x", ".gitignore", "x/.pivot", "git", "pivot"] {
            assert!(Lock::new([], json!({}), vec![], vec![artifact(path)]).is_ok(), "{path:?}");
        }
    }

    #[test]
    fn lists_are_sorted_and_repetitions_dropped_unless_they_disagree() {
        let deps = vec![artifact("b"), artifact("a"), artifact("b")];
        let lock = Lock::new([], Value::Null, deps, vec![]).unwrap();
        assert_eq!(lock.deps(), [artifact("a"), artifact("b")]);
        assert_eq!(lock.params(), &json!({}));

        let deps = vec![artifact("b"), artifact_of("b", 2)];
        let error = Lock::new([], Value::Null, deps, vec![]).unwrap_err();
        assert_eq!(error, LockContentError::Duplicate { name: "b".into() });
    }

    #[test]
    fn params_are_a_mapping_of_bounded_depth() {
        let nested = |depth| (1..depth).fold(json!({}), |inner, _| json!({ "x": inner }));
        let new = |params| Lock::new([], params, vec![], vec![]);
        assert!(new(nested(MAX_PARAMS_DEPTH)).is_ok());
        assert_eq!(new(nested(MAX_PARAMS_DEPTH + 1)), Err(LockContentError::ParamsTooDeep));
        assert_eq!(new(json!([1])), Err(LockContentError::ParamsNotAMapping));
        assert_eq!(new(json!("x")), Err(LockContentError::ParamsNotAMapping));
    }

    #[test]
    fn a_message_shows_foreign_text_on_one_short_line() {
        assert_eq!(shown("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert!(shown(&"x".repeat(1_000_000)).chars().count() < 100);
    }
}
