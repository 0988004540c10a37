//! Dependencies that are not here although somebody has them: data that is tracked, and outputs of
//! stages that were not selected.
//!
//! Their locks tell their hashes, and as long as no stage is executed that reads them, that is all
//! it takes. They are brought when one is.

use std::collections::HashMap;
use std::path::Path;

use pivot_cache::{Content, Workspace};
use pivot_lock::{Artifact, Found, LockError};

use crate::load::Loaded;
use crate::locks::{lock_path, read_lock};
use crate::plan::{Memory, Plan};
use crate::project::OpenProject;
use crate::supply::Supply;
use crate::tracked::{TRACKED_DIR, tracked};

/// What is known of dependencies that are not here.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    by_path: HashMap<String, Known>,
    /// The locks that say so, with their contents.
    locks: Vec<(String, Option<Content>)>,
    /// Dependencies that cannot be had, with what the locks name that has them.
    lost: HashMap<String, String>,
}

#[derive(Debug)]
struct Known {
    /// What has to be brought to have the dependency: itself, or a directory around it.
    whole: Artifact,
    content: Content,
}

impl Absent {
    /// What locks say about `paths`, of what the cache or the remote can give.
    ///
    /// # Errors
    /// When a lock cannot be read.
    pub(crate) fn look_for(
        project: &OpenProject,
        loaded: &Loaded,
        workspace: &Workspace<'_>,
        paths: &[&str],
        supply: &Supply<'_>,
    ) -> Result<Self, LockError> {
        let mut absent = Self::default();
        if paths.is_empty() {
            return Ok(absent);
        }
        let mut known: Vec<(String, Artifact)> = Vec::new();
        let (all, _) = tracked(project)?;
        known.extend(
            all.into_iter()
                .map(|data| (format!("{TRACKED_DIR}/{}.lock", data.name), data.artifact)),
        );
        for path in paths {
            let Some(writer) = loaded.pipeline.graph().writer_of(path) else { continue };
            let name = loaded.pipeline.stage(writer).name.as_str();
            if let Found::Usable(lock) = read_lock(project, workspace, name)?.found {
                known.extend(lock.outs().iter().map(|out| (lock_path(name), out.clone())));
            }
        }
        let known: HashMap<String, (String, Artifact)> =
            known.into_iter().map(|(lock, whole)| (whole.path.clone(), (lock, whole))).collect();
        let around = |path: &str| {
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            ends.filter_map(|end| known.get(&path[..end])).next()
        };
        // Of a directory that is there, somebody has removed the part.
        let is_absent =
            |whole: &Artifact| project.root().join(&whole.path).symlink_metadata().is_err();
        let named = paths.iter().filter_map(|path| Some((*path, around(path)?)));
        let named: Vec<_> = named.filter(|(_, (_, whole))| is_absent(whole)).collect();
        supply.want(named.iter().map(|(_, (_, whole))| whole.content));
        supply.ask_wanted();
        for (path, (lock, whole)) in named {
            let inner = path[whole.path.len()..].trim_start_matches('/');
            let content = match inner {
                "" => supply.holds(&whole.content).then_some(whole.content),
                inner if supply.holds(&whole.content) => {
                    supply.part(&whole.content, Path::new(inner))
                }
                _ => None,
            };
            match content {
                Some(content) => {
                    let known = Known { whole: whole.clone(), content };
                    absent.by_path.insert(path.to_owned(), known);
                    let of_lock = workspace.content(lock).ok().flatten();
                    absent.locks.push((lock.clone(), of_lock));
                }
                None => drop(absent.lost.insert(path.to_owned(), whole.path.clone())),
            }
        }
        Ok(absent)
    }

    /// What would be at `path`.
    pub(crate) fn content(&self, path: &str) -> Option<Content> {
        Some(self.by_path.get(path)?.content)
    }

    /// What a lock names that has `path`, if its bytes cannot be had.
    pub(crate) fn lost(&self, path: &str) -> Option<&str> {
        self.lost.get(path).map(String::as_str)
    }

    pub(crate) fn locks(&self) -> &[(String, Option<Content>)] {
        &self.locks
    }

    /// Takes down in `plan` what a stage that is executed has to bring.
    pub(crate) fn leave(&self, plan: &mut Plan) {
        for (path, known) in &self.by_path {
            let Artifact { path: whole, content, .. } = &known.whole;
            plan.away.insert(whole.clone(), Some(*content));
            if path != whole {
                plan.parts.insert(path.clone(), (whole.clone(), known.content));
            }
        }
    }
}
