//! Data that no stage makes and the cache keeps all the same: `pivot track`.
//!
//! What is tracked is recorded like a stage's outputs, in a lock of its own with one output and
//! nothing else: `.pivot/tracked/<name>-<digits>.lock`, in git. The name is for people; the path is
//! what the lock says.

use std::fs;
use std::io;
use std::path::Path;

use pivot_cache::{CheckoutMode, Content};
use pivot_lock::{Artifact, Found, Lock, LockError, LockFiles};
use pivot_pipeline::{ProjectPath, Stage};

use crate::config::CheckoutSetting;
use crate::load::{LoadOptions, stages_without_python};
use crate::outcome::StageFailure;
use crate::outputs::check_inside;
use crate::plain_file;
use crate::project::OpenProject;
use crate::roots::{git_command, is_below_git};

/// Where the locks of tracked data are, relative to the project.
pub(crate) const TRACKED_DIR: &str = ".pivot/tracked";

/// A file or directory that is tracked.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracked {
    /// The name of its lock file, without `.lock`.
    pub name: String,
    /// Its path and content.
    pub artifact: Artifact,
}

/// Why something cannot be tracked.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// The path is not one in the project.
    #[error("cannot track `{path}`: it {problem}")]
    Path {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing is there.
    #[error("cannot track `{path}`: there is nothing")]
    Missing {
        /// The path.
        path: String,
    },
    /// A stage writes it.
    #[error("cannot track `{path}`: stage `{stage}` writes `{out}`")]
    Output {
        /// The path.
        path: String,
        /// The stage.
        stage: String,
        /// The output that is the same, or that one lies in the other of.
        out: String,
    },
    /// It overlaps with something that is tracked already.
    #[error("cannot track `{path}`: `{other}` is tracked already")]
    Overlap {
        /// The path.
        path: String,
        /// What is tracked.
        other: String,
    },
    /// git keeps it already.
    #[error("cannot track `{path}`: git keeps it")]
    InGit {
        /// The path.
        path: String,
    },
    /// It is not tracked.
    #[error("`{path}` is not tracked")]
    NotTracked {
        /// The path.
        path: String,
    },
    /// It could not be stored.
    #[error(transparent)]
    Failure(#[from] StageFailure),
    /// A `.gitignore` could not be changed.
    #[error("cannot write `{path}`")]
    Ignore {
        /// The `.gitignore`.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl From<LockError> for TrackError {
    fn from(error: LockError) -> Self {
        Self::Failure(error.into())
    }
}

pub(crate) fn tracked_locks(project: &OpenProject) -> LockFiles {
    LockFiles::new(project.root().join(TRACKED_DIR))
}

/// Everything that is tracked, sorted by the names of the lock files, and a notice for each lock
/// that cannot be used. Its contents belong to the project as outputs do: they are sent to and
/// fetched from remotes, checked out, verified and never collected.
///
/// # Errors
/// When a lock cannot be read.
pub fn tracked(project: &OpenProject) -> Result<(Vec<Tracked>, Vec<String>), LockError> {
    let locks = tracked_locks(project);
    let (mut all, mut notices) = (Vec::new(), Vec::new());
    for name in locks.list()? {
        match locks.read(&name)? {
            Found::Usable(lock) => {
                let outs = lock.outs().iter();
                all.extend(outs.map(|out| Tracked { name: name.clone(), artifact: out.clone() }));
            }
            Found::Unusable { why } => {
                notices.push(format!("{TRACKED_DIR}/{name}.lock is not used: {why}"));
            }
            Found::Absent => {}
        }
    }
    Ok((all, notices))
}

/// Stores what lies at `path`, records it, and has git ignore it. What is tracked already is recorded
/// as it is now. Returns the content, and whether it is another one than before.
///
/// # Errors
/// When the path is not in the project, is a stage's or git's, or cannot be stored or recorded.
pub fn track(
    project: &OpenProject,
    options: &LoadOptions,
    path: &str,
) -> Result<(Tracked, bool), TrackError> {
    let shown = || path.to_owned();
    let problem = |problem: String| TrackError::Path { path: shown(), problem };
    let plain = ProjectPath::new(path).map_err(|error| problem(error.to_string()))?;
    if let Some(why) = plain.forbidden_as_output() {
        return Err(problem(why.to_owned()));
    }
    let path = plain.as_str().to_owned();
    check_inside(project.root(), &path)?;
    for stage in stages_without_python(project, options).iter().flatten() {
        if let Some(out) = overlapping_out(stage, &path) {
            return Err(TrackError::Output { path, stage: stage.name.to_string(), out });
        }
    }
    let (all, _) = tracked(project)?;
    let overlaps =
        |other: &&Tracked| other.artifact.path != path && overlap(&path, &other.artifact.path);
    if let Some(other) = all.iter().find(overlaps) {
        return Err(TrackError::Overlap { path, other: other.artifact.path.clone() });
    }
    if is_in_git(project.root(), &path) {
        return Err(TrackError::InGit { path });
    }
    let guard = project.cache.share(|| {});
    let workspace = project.workspace();
    let content = match workspace.content(&path).map_err(StageFailure::from)? {
        None => return Err(TrackError::Missing { path }),
        // People edit their data: unless they have chosen links, it stays a file of its own.
        Some(_) => match tracked_mode(project) {
            CheckoutMode::Copy => workspace.store(&project.cache, &path),
            mode => workspace.adopt(&project.cache, &path, mode),
        }
        .map_err(StageFailure::from)?,
    };
    let name = lock_name(&path);
    let unlockable =
        |error: pivot_lock::LockContentError| StageFailure::Unlockable(error.to_string());
    let artifact = Artifact::new(path.clone(), content);
    let lock = Lock::new([], serde_json::Value::Null, Vec::new(), vec![artifact.clone()])
        .map_err(unlockable)?;
    let written = tracked_locks(project).write(&name, &lock)?;
    drop(guard);
    ignore(project.root(), &path)?;
    project.state.flush();
    Ok((Tracked { name, artifact }, written == pivot_lock::Written::Changed))
}

/// Forgets that `path` is tracked, and has git see it again. The data stays where it is.
///
/// # Errors
/// When it is not tracked, or its lock or the line in `.gitignore` cannot be removed.
pub fn untrack(project: &OpenProject, path: &str) -> Result<Content, TrackError> {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let (all, _) = tracked(project)?;
    let found = all.into_iter().find(|tracked| tracked.artifact.path == path);
    let found = found.ok_or_else(|| TrackError::NotTracked { path: path.to_owned() })?;
    tracked_locks(project).remove(&found.name)?;
    unignore(project.root(), path)?;
    Ok(found.artifact.content)
}

/// How tracked data lies in the workspace.
pub(crate) fn tracked_mode(project: &OpenProject) -> CheckoutMode {
    match project.config.cache.checkout_mode {
        CheckoutSetting::Auto => CheckoutMode::Copy,
        setting => setting.into(),
    }
}

fn overlapping_out(stage: &Stage, path: &str) -> Option<String> {
    let outs = stage.outs.iter().map(|out| out.path.as_str());
    outs.filter(|out| overlap(out, path)).map(str::to_owned).next()
}

/// Whether two paths are the same or one lies in the other.
fn overlap(a: &str, b: &str) -> bool {
    let inside = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    inside(a, b) || inside(b, a)
}

/// A name that people know again, and digits that tell two of the same name apart.
fn lock_name(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or(path);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.".contains(c) { c } else { '_' };
    let name: String = last.trim_start_matches('.').chars().map(plain).take(100).collect();
    let name = if name.is_empty() { "data".to_owned() } else { name };
    format!("{name}-{:08x}", xxhash_rust::xxh64::xxh64(path.as_bytes(), 0) >> 32)
}

fn is_in_git(root: &Path, path: &str) -> bool {
    let mut command = git_command(root);
    command.args(["--literal-pathspecs", "ls-files", "--", path]);
    command.output().is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}

/// The `.gitignore` beside the data, relative to the project, and the line in it that means the data.
fn ignore_line(path: &str) -> (String, String) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let file =
        if parent.is_empty() { ".gitignore".to_owned() } else { format!("{parent}/.gitignore") };
    let escaped: String = name
        .chars()
        .flat_map(|c| "\\*?[] ".contains(c).then_some('\\').into_iter().chain([c]))
        .collect();
    (file, format!("/{escaped}"))
}

/// Has git ignore the data, if the project is in git.
fn ignore(root: &Path, path: &str) -> Result<(), TrackError> {
    if !is_below_git(root) {
        return Ok(());
    }
    let (file, line) = ignore_line(path);
    let failed = |source| TrackError::Ignore { path: file.clone(), source };
    let full = root.join(&file);
    let mut text = plain_file::read(&full).map_err(failed)?.unwrap_or_default();
    if lines(&text).any(|known| known == line.as_bytes()) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend(line.as_bytes());
    text.push(b'\n');
    plain_file::replace(&full, &text).map_err(failed)
}

/// Takes back what [`ignore`] wrote.
fn unignore(root: &Path, path: &str) -> Result<(), TrackError> {
    let (file, line) = ignore_line(path);
    let failed = |source| TrackError::Ignore { path: file.clone(), source };
    let full = root.join(&file);
    let Some(text) = plain_file::read(&full).map_err(failed)? else { return Ok(()) };
    let others = text.split_inclusive(|&byte| byte == b'\n');
    let others: Vec<u8> = others
        .filter(|other| lines(other).all(|l| l != line.as_bytes()))
        .flatten()
        .copied()
        .collect();
    if others.len() == text.len() {
        Ok(())
    } else if others.is_empty() {
        fs::remove_file(&full).map_err(failed)
    } else {
        plain_file::replace(&full, &others).map_err(failed)
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_names_are_names_of_files() {
        for path in ["data.csv", "a/b c/ü.csv", ".hidden", "x/--", &"n".repeat(300)] {
            let name = lock_name(path);
            assert!(pivot_lock::LockFiles::new("x").path(&name).is_ok(), "{name}");
        }
        assert_ne!(lock_name("a/data.csv"), lock_name("b/data.csv"));
    }

    #[test]
    fn paths_overlap_by_whole_names() {
        assert!(overlap("a", "a/b") && overlap("a/b", "a") && overlap("a", "a"));
        assert!(!overlap("a", "ab") && !overlap("a/b", "a/c"));
    }
}
