//! What the locks name: the outputs that are to be there, without asking Python for the stages.
//!
//! Sending outputs and bringing them back only takes their hashes, and those are in the locks.
//! So it also works in a fresh clone, and while the pipeline cannot be imported.

use std::collections::{HashMap, HashSet};

use pivot_lock::{Artifact, Found, Lock, LockError};
use pivot_pipeline::{Out, OutKind, closest, fits_pattern};
use thiserror::Error;

use crate::load::{LoadOptions, stages_without_python};
use crate::project::OpenProject;
use crate::tracked::{Tracked, tracked};

/// An output of a stage as its lock has it.
#[derive(Clone, Debug, PartialEq)]
pub struct LockedOut {
    /// The stage.
    pub stage: String,
    /// The path and the content.
    pub artifact: Artifact,
    /// Whether its declaration is known.
    pub is_declared: bool,
    /// Whether the declaration says that the cache does not keep it.
    pub is_uncached: bool,
    /// Whether it is data that no stage makes; then `stage` is the name of its lock file.
    pub is_tracked: bool,
    /// Whether it is given to people or stages that write to it: a metric, an incremental output.
    pub(crate) is_theirs: bool,
}

/// The locks that were asked for.
#[derive(Clone, Debug, Default)]
pub struct Locked {
    /// The stages with their locks, in the order of their names.
    pub locks: Vec<(String, Lock)>,
    /// Their outputs, those of one stage together; those that were asked for.
    pub outs: Vec<LockedOut>,
    /// Things that the user should know, such as a lock that cannot be read.
    pub notices: Vec<String>,
    /// How many locks cannot be used.
    pub unusable: usize,
}

/// Why it is not clear which outputs are meant.
#[derive(Debug, Error)]
pub enum LockedError {
    /// A word names neither a stage with a lock nor an output of one.
    #[error("no lock of a stage and no output in one is called `{word}`")]
    NoSuch {
        /// The word.
        word: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The stage has a lock that cannot be used.
    #[error("the lock of stage `{stage}` cannot be used: {why}")]
    Unusable {
        /// The stage.
        stage: String,
        /// What is wrong with it.
        why: String,
    },
    /// A lock cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl LockedError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuch { suggestion: Some(word), .. } => Some(format!("did you mean `{word}`?")),
            Self::NoSuch { .. } => Some(
                "locks come from `pivot run` or from git: run the stage first, or pull its \
                      lock"
                    .to_owned(),
            ),
            Self::Unusable { .. } => {
                Some("take one version of it, or delete it and run the stage".to_owned())
            }
            Self::Lock(_) => None,
        }
    }
}

/// The outputs that `words` mean; those of all stages when there are no words.
///
/// A word is a stage, the base name of variants, a pattern, the path of an output or of a
/// directory around outputs. Locks of stages that are not declared any more only count when they
/// are named.
///
/// # Errors
/// When a word means nothing, or a lock that is named cannot be used.
pub fn locked_outs(
    project: &OpenProject,
    options: &LoadOptions,
    words: &[String],
) -> Result<Locked, LockedError> {
    let declared = stages_without_python(project, options);
    let known: Option<HashSet<&str>> =
        declared.as_ref().map(|stages| stages.iter().map(|stage| stage.name.as_str()).collect());
    let mut declared_outs: HashMap<(&str, &str), &Out> = HashMap::new();
    for stage in declared.iter().flatten() {
        for out in &stage.outs {
            declared_outs.insert((stage.name.as_str(), out.path.as_str()), out);
        }
    }

    let mut all: Vec<(String, Lock)> = Vec::new();
    let mut unusable: Vec<(String, String)> = Vec::new();
    for name in project.locks.list()? {
        match project.locks.read(&name)? {
            Found::Usable(lock) => all.push((name, lock)),
            Found::Unusable { why } => unusable.push((name, why.to_string())),
            Found::Absent => {}
        }
    }
    let stages = all.len();
    let (tracked, notices) = tracked(project)?;
    for Tracked { name, artifact } in tracked {
        let lock = Lock::new([], serde_json::Value::Null, Vec::new(), vec![artifact]);
        all.push((name, lock.expect("it was an output of a lock")));
    }
    let mut chosen: Vec<Chosen> = vec![Chosen::No; all.len()];
    let mut locked = Locked { unusable: notices.len(), notices, ..Locked::default() };
    if words.is_empty() {
        for (index, ((name, _), chosen)) in all.iter().zip(&mut chosen).enumerate() {
            if index >= stages || known.as_ref().is_none_or(|known| known.contains(name.as_str())) {
                *chosen = Chosen::All;
            }
        }
        let is_known =
            |name: &String| known.as_ref().is_none_or(|known| known.contains(name.as_str()));
        let unusable: Vec<_> = unusable.into_iter().filter(|(name, _)| is_known(name)).collect();
        locked.unusable += unusable.len();
        locked.notices.extend(
            unusable
                .into_iter()
                .map(|(name, why)| format!(".pivot/stages/{name}.lock is not used: {why}")),
        );
    } else {
        for word in words {
            choose(word, &all, &unusable, &mut chosen)?;
        }
    }
    for (index, ((stage, lock), chosen)) in all.into_iter().zip(chosen).enumerate() {
        let is_tracked = index >= stages;
        for artifact in lock.outs() {
            if !chosen.has(&artifact.path) {
                continue;
            }
            let out = declared_outs.get(&(stage.as_str(), artifact.path.as_str()));
            let is_metric = out.is_some_and(|out| out.kind == OutKind::Metric);
            let is_incremental = out.is_some_and(|out| out.kind == OutKind::Incremental);
            locked.outs.push(LockedOut {
                stage: stage.clone(),
                artifact: artifact.clone(),
                is_declared: out.is_some(),
                // The cache holds a copy of metrics in any case.
                is_uncached: out.is_some_and(|out| !out.cache) && !is_metric,
                is_tracked,
                is_theirs: is_metric || is_incremental || out.is_some_and(|out| !out.cache),
            });
        }
        if !matches!(chosen, Chosen::No) {
            locked.locks.push((stage, lock));
        }
    }
    Ok(locked)
}

/// Which outputs of a lock are meant.
#[derive(Clone, Debug)]
enum Chosen {
    No,
    Some(Vec<String>),
    All,
}

impl Chosen {
    fn has(&self, path: &str) -> bool {
        match self {
            Self::No => false,
            Self::Some(paths) => paths.iter().any(|chosen| chosen == path),
            Self::All => true,
        }
    }
}

fn choose(
    word: &str,
    all: &[(String, Lock)],
    unusable: &[(String, String)],
    chosen: &mut [Chosen],
) -> Result<(), LockedError> {
    let is_pattern = word.contains(['*', '?']);
    let has_exact = all.iter().any(|(name, _)| name == word);
    let means = |name: &str| match (has_exact, is_pattern) {
        (true, _) => name == word,
        (false, true) => fits_pattern(word, name),
        (false, false) => name == word || base(name) == word,
    };
    // A stage that is meant and whose lock is broken is not passed over in silence.
    if let Some((stage, why)) = unusable.iter().find(|(name, _)| means(name)) {
        return Err(LockedError::Unusable { stage: stage.clone(), why: why.clone() });
    }
    let mut found = false;
    for ((name, _), chosen) in all.iter().zip(&mut *chosen) {
        if means(name) {
            *chosen = Chosen::All;
            found = true;
        }
    }
    if found {
        return Ok(());
    }
    let path = word.trim_start_matches("./").trim_end_matches('/');
    for ((_, lock), chosen) in all.iter().zip(chosen) {
        for out in lock.outs() {
            if !(contains(path, &out.path) || contains(&out.path, path)) {
                continue;
            }
            found = true;
            match chosen {
                Chosen::All => {}
                Chosen::Some(paths) => paths.push(out.path.clone()),
                Chosen::No => *chosen = Chosen::Some(vec![out.path.clone()]),
            }
        }
    }
    if found {
        return Ok(());
    }
    let names = all.iter().flat_map(|(name, _)| [name.as_str(), base(name)]);
    let paths = all.iter().flat_map(|(_, lock)| lock.outs()).map(|out| out.path.as_str());
    let suggestion = closest(word, names.chain(paths)).map(str::to_owned);
    Err(LockedError::NoSuch { word: word.to_owned(), suggestion })
}

fn base(name: &str) -> &str {
    name.split_once('@').map_or(name, |(base, _)| base)
}

/// Whether `inner` is `outer` or lies inside of it.
fn contains(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use pivot_cache::{Content, ObjectId};
    use serde_json::Value;

    use super::*;

    fn lock(outs: &[&str]) -> Lock {
        let content = Content::file(ObjectId::of_bytes(b"x"), 1);
        let outs = outs.iter().map(|path| Artifact::new(*path, content)).collect();
        Lock::new([], Value::Null, Vec::new(), outs).unwrap()
    }

    fn chosen(word: &str) -> Result<Vec<String>, LockedError> {
        let all = [
            ("prepare".to_owned(), lock(&["data/clean.csv", "data/index"])),
            ("train@a".to_owned(), lock(&["models/a.pkl"])),
            ("train@b".to_owned(), lock(&["models/b.pkl"])),
        ];
        let unusable = [("x".to_owned(), "conflict".to_owned())];
        let mut chosen = vec![Chosen::No; all.len()];
        choose(word, &all, &unusable, &mut chosen)?;
        let outs = all.iter().zip(&chosen).flat_map(|((_, lock), chosen)| {
            lock.outs().iter().map(|out| out.path.clone()).filter(|path| chosen.has(path))
        });
        Ok(outs.collect())
    }

    #[test]
    fn a_word_names_stages_or_outputs() {
        for (word, expected) in [
            ("prepare", &["data/clean.csv", "data/index"][..]),
            ("train", &["models/a.pkl", "models/b.pkl"]),
            ("train@b", &["models/b.pkl"]),
            ("train@?", &["models/a.pkl", "models/b.pkl"]),
            ("*r*a*", &["data/clean.csv", "data/index", "models/a.pkl", "models/b.pkl"]),
            ("data/clean.csv", &["data/clean.csv"]),
            ("./models/", &["models/a.pkl", "models/b.pkl"]),
            ("data/index/part-1", &["data/index"]),
        ] {
            assert_eq!(chosen(word).unwrap(), expected, "{word}");
        }
        for (word, hint) in [
            ("prepar", "did you mean `prepare`?"),
            ("model", "run the stage first"),
            ("x", "take one version"),
            ("*", "take one version"),
        ] {
            let error = chosen(word).unwrap_err();
            assert!(error.hint().unwrap().contains(hint), "{word}: {error:?}");
        }
    }
}
