//! Makes the workspace match the locks: brings outputs from the cache, and nothing is run.
//!
//! What a person changed is moved to `.pivot/saved/` first, as before a run.

use pivot_cache::CheckoutMode;
use rayon::prelude::*;

use crate::guard::{self, StageGuard};
use crate::locked::LockedOut;
use crate::outcome::StageFailure;
use crate::outputs::{Incident, Site, check_inside};
use crate::project::OpenProject;
use crate::tracked::tracked_mode;

/// What became of one output.
#[derive(Debug)]
pub struct CheckedOut {
    /// The stage that writes it.
    pub stage: String,
    /// Where it is, relative to the project.
    pub path: String,
    /// Whether it had to be brought; why it could not be.
    pub result: Result<Restored, StageFailure>,
    /// What was in the way, with where it is now; both relative to the project.
    pub set_aside: Vec<(String, String)>,
}

/// What it took to have an output in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It was there.
    AlreadyThere,
    /// It was brought from the cache.
    FromCache,
}

/// Brings each of `outs` to its place, if something else or nothing is there.
///
/// One that fails does not stop the others.
pub fn check_out(project: &OpenProject, outs: &[LockedOut]) -> Vec<CheckedOut> {
    let workspace = project.workspace();
    let site = Site::new(project, &workspace);
    project.cache.sweep_temporary();
    let _guard = project.cache.share(|| {});
    // The outputs of one stage lie together and share its guard.
    let stages: Vec<&[LockedOut]> = outs.chunk_by(|a, b| a.stage == b.stage).collect();
    stages.into_par_iter().flat_map_iter(|outs| check_out_stage(project, &site, outs)).collect()
}

fn check_out_stage(project: &OpenProject, site: &Site<'_>, outs: &[LockedOut]) -> Vec<CheckedOut> {
    let is_there = |out: &LockedOut| {
        let content = site.workspace.content(&out.artifact.path);
        content.ok().flatten() == Some(out.artifact.content)
    };
    let mut guard = None;
    outs.iter()
        .map(|out| {
            let mut set_aside: Vec<Incident> = Vec::new();
            let result = if is_there(out) {
                Ok(Restored::AlreadyThere)
            } else {
                restore(project, site, out, &mut guard, &mut set_aside)
                    .map(|()| Restored::FromCache)
            };
            let set_aside = set_aside.into_iter().filter_map(|incident| match incident {
                Incident::SetAside { path, saved } => Some((path, saved)),
                Incident::Lost { .. } => None,
            });
            CheckedOut {
                stage: out.stage.clone(),
                path: out.artifact.path.clone(),
                result,
                set_aside: set_aside.collect(),
            }
        })
        .collect()
}

fn restore(
    project: &OpenProject,
    site: &Site<'_>,
    out: &LockedOut,
    guard: &mut Option<StageGuard>,
    set_aside: &mut Vec<Incident>,
) -> Result<(), StageFailure> {
    if guard.is_none() {
        // No output is replaced while its stage runs.
        *guard = Some(guard::take_soon(site.root, &out.stage)?);
    }
    let path = &out.artifact.path;
    check_inside(site.root, path)?;
    let mode = match (out.is_theirs, out.is_tracked) {
        (true, _) => CheckoutMode::Copy,
        (false, true) => tracked_mode(project),
        (false, false) => site.mode,
    };
    site.restore(path, &out.artifact.content, mode, set_aside)
}
