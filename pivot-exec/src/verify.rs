//! Is everything that the locks record still there, byte for byte? Reads it all; trusts no memory.

use std::collections::HashMap;

use pivot_cache::{CacheError, Content, hash_artifact};
use pivot_lock::Lock;
use pivot_remote::Interrupt;
use rayon::prelude::*;

use crate::locked::{Locked, LockedOut};
use crate::project::OpenProject;
use crate::remotes::open_remote;

/// What was found about the outputs that were looked at.
#[derive(Debug)]
pub struct Verified {
    /// One entry for each output, in the order of the locks.
    pub outs: Vec<Finding>,
    /// Dependencies that a lock records with another content than the lock of the stage that
    /// writes them: the stage, the path and the writer.
    pub inconsistent: Vec<(String, String, String)>,
}

impl Verified {
    /// Whether everything is there, byte for byte. Locks that do not fit together are no damage:
    /// one of the stages is stale.
    pub fn is_well(&self) -> bool {
        self.outs.iter().all(|finding| finding.wrong.is_empty())
    }
}

/// What was found about one output.
#[derive(Debug)]
pub struct Finding {
    /// The output.
    pub out: LockedOut,
    /// What is wrong with it; nothing, usually.
    pub wrong: Vec<Wrong>,
    /// Whether it is neither in the workspace nor in the cache, and the default remote has confirmed
    /// that it holds it: a run left it there.
    pub is_away: bool,
}

/// One thing that is wrong with an output.
#[derive(Debug)]
pub enum Wrong {
    /// It is not in the workspace.
    Missing,
    /// The workspace has another content.
    Differs {
        /// What is there.
        found: Content,
    },
    /// It cannot be read.
    Unreadable(CacheError),
    /// The cache lacks it, or held it damaged.
    Cache {
        /// What is wrong with the cache.
        error: CacheError,
        /// Whether it could be stored again from the workspace.
        is_healed: bool,
    },
}

/// Hashes every output of `locked` in the workspace and in the cache. Damaged objects are moved to
/// quarantine; where the workspace has the right bytes, they are stored again.
pub fn verify(project: &OpenProject, locked: &Locked) -> Verified {
    let _guard = project.cache.share(|| {});
    let mut outs: Vec<Finding> = locked.outs.par_iter().map(|out| look_at(project, out)).collect();
    let mut absent = outs.iter_mut().filter(|finding| is_absent(&finding.wrong)).peekable();
    if absent.peek().is_some()
        && let Ok((_, remote)) = open_remote(project, None, None, Interrupt::default())
    {
        for finding in absent.filter(|f| remote.has_confirmed(f.out.artifact.content.id)) {
            finding.is_away = true;
            finding.wrong.clear();
        }
    }
    let inconsistent = inconsistent(&locked.locks);
    Verified { outs, inconsistent }
}

fn look_at(project: &OpenProject, out: &LockedOut) -> Finding {
    let path = project.root().join(&out.artifact.path);
    let recorded = out.artifact.content;
    let mut wrong = Vec::new();
    match hash_artifact(&path) {
        Ok(found) if found == recorded => {}
        Ok(found) => wrong.push(Wrong::Differs { found }),
        Err(error) if error.is_not_found() => wrong.push(Wrong::Missing),
        Err(error) => wrong.push(Wrong::Unreadable(error)),
    }
    if !out.is_uncached
        && let Err(error) = project.cache.verify(&recorded)
    {
        let is_right = wrong.is_empty();
        let stored = || project.cache.put(&path).is_ok_and(|stored| stored == recorded);
        let is_healed = is_right && stored() && project.cache.verify(&recorded).is_ok();
        wrong.push(Wrong::Cache { error, is_healed });
    }
    Finding { out: out.clone(), wrong, is_away: false }
}

/// Whether nothing is left of an output here, and nothing else is wrong with it.
fn is_absent(wrong: &[Wrong]) -> bool {
    matches!(wrong, [Wrong::Missing, Wrong::Cache { error: CacheError::Missing { .. }, .. }])
}

fn inconsistent(locks: &[(String, Lock)]) -> Vec<(String, String, String)> {
    let mut writers: HashMap<&str, (&str, Content)> = HashMap::new();
    for (stage, lock) in locks {
        writers.extend(
            lock.outs().iter().map(|out| (out.path.as_str(), (stage.as_str(), out.content))),
        );
    }
    let mut found = Vec::new();
    for (stage, lock) in locks {
        for dep in lock.deps() {
            if let Some((writer, content)) = writers.get(dep.path.as_str())
                && *content != dep.content
            {
                found.push((stage.clone(), dep.path.clone(), (*writer).to_owned()));
            }
        }
    }
    found
}
