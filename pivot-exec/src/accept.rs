//! Takes the workspace as it is for the result of a stage, without running it: `pivot commit`.

use std::collections::HashMap;

use pivot_dag::TaskId;

use crate::away::Away;
use crate::facts::Planned;
use crate::load::Loaded;
use crate::outcome::StageFailure;
use crate::outputs::Site;
use crate::plan::{Cause, Decision};
use crate::project::OpenProject;
use crate::stage_run::StageRunner;
use crate::supply::Supply;

/// What became of one stage.
#[derive(Debug)]
pub struct Accepted {
    /// The stage.
    pub task: TaskId,
    /// Why it would have run; empty if there was nothing to record.
    pub causes: Vec<Cause>,
    /// Whether its lock was written; why it could not be.
    pub result: Result<bool, StageFailure>,
}

/// Records, for each planned stage that a run would do something about, its outputs, code, params
/// and dependencies as they are now. The run cache learns nothing: it holds what was executed.
pub fn accept(project: &OpenProject, loaded: &Loaded, planned: Planned) -> Vec<Accepted> {
    let Planned { plan, extras, .. } = planned;
    let workspace = project.workspace();
    let site = Site::new(project, &workspace);
    // Only what is here counts: no remote is asked.
    let supply = Supply::local(project);
    let (lacks, away) = (HashMap::new(), Away::default());
    let (extras, supply, lacks, away) = (&extras, &supply, &lacks, &away);
    let runner = StageRunner { project, loaded, site, extras, supply, lacks, away };
    let _guard = project.cache.share(|| {});
    let stages = plan.stages.into_iter().map(|stage| {
        let result = match stage.decision {
            Decision::Keep => Ok(false),
            _ => runner.accept(stage.task),
        };
        Accepted { task: stage.task, causes: stage.causes, result }
    });
    let accepted = stages.collect();
    project.state.flush();
    accepted
}
