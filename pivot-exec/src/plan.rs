//! Decides, for every stage, what a run would do and why. Nothing here reads or writes a file.
//!
//! `pivot run`, `run -n`, `--explain` and `status` all render the same [`Plan`], so they cannot
//! disagree. While a run goes on, [`decide`] is asked again for each stage whose upstream
//! stages have ended, with what they really wrote.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use pivot_cache::Content;
use pivot_dag::{Graph, TaskId};
use pivot_fingerprint::Manifest;
use pivot_lock::{Artifact, ArtifactState, DepChange, Facts, Found, Observed, Reason, Verdict};
use pivot_pipeline::{OutKind, Stage};

use crate::extras::Extras;
use crate::load::StageCode;
use crate::run_cache::RunKey;

/// One cause for which a stage runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// Something differs from the stage's lock.
    Differs(Reason),
    /// A stage that it reads from will run, and may write something else than before.
    UpstreamRuns {
        /// The upstream stage.
        stage: String,
    },
}

/// What a run would do with a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Execute it.
    Run,
    /// Execute it, unless the upstream stages that run write the same as before.
    MayRun,
    /// Bring the outputs of an earlier run with the same code, params and dependencies.
    FromRunCache(Vec<Artifact>),
    /// Bring back these outputs, which the lock names and the cache holds.
    Restore(Vec<Artifact>),
    /// Nothing: outputs that are missing are on the remote, and nobody needs them here.
    Leave,
    /// Nothing: everything is as the lock says.
    Keep,
}

impl Decision {
    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        matches!(self, Self::Keep | Self::Leave)
    }
}

/// The decision about one stage.
#[derive(Clone, Debug)]
pub struct StagePlan {
    /// The stage, by its number in the pipeline.
    pub task: TaskId,
    /// What is to be done.
    pub decision: Decision,
    /// Why, in order of weight; empty for a stage that is kept.
    pub causes: Vec<Cause>,
}

/// What a run would do with the selected stages, in the graph's order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// One entry a stage.
    pub stages: Vec<StagePlan>,
    /// Outputs and tracked data, by their paths, that stay in the cache or on the remote until a
    /// stage needs them here; without a content those of stages of which it is not known yet whether
    /// they run.
    pub away: HashMap<String, Option<Content>>,
    /// Dependencies that are parts of these: the whole, and what would be there.
    pub parts: HashMap<String, (String, Content)>,
}

impl Plan {
    /// Whether there is nothing to do at all.
    pub fn is_idle(&self) -> bool {
        self.stages.iter().all(|stage| stage.decision.is_idle())
    }
}

/// What is at one of a stage's dependencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DepState {
    Known(Content),
    Missing,
    /// The stage that writes it will run.
    Pending(TaskId),
}

/// What is known of one stage when it is decided about.
#[derive(Debug)]
pub(crate) struct StageFacts<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) code: Cow<'a, Manifest>,
    pub(crate) params: &'a serde_json::Value,
    pub(crate) lock: &'a Found,
    pub(crate) is_forced: bool,
    /// For each of the stage's dependencies.
    pub(crate) deps: Vec<DepState>,
    /// For each of the stage's outputs, what is on disk.
    pub(crate) outs: Vec<Option<Content>>,
}

/// What the cache can give.
pub(crate) trait Memory {
    /// Whether the bytes can be restored.
    fn holds(&self, content: &Content) -> bool;
    /// The outputs of an earlier run with this key.
    fn known_run(&self, key: &RunKey) -> Option<Vec<Artifact>>;
    /// What lies at `inner` below a directory that can be restored.
    fn part(&self, directory: &Content, inner: &Path) -> Option<Content>;
}

/// What the facts about a whole pipeline are looked up in.
pub(crate) struct PlanInput<'a> {
    pub(crate) stages: &'a [Stage],
    pub(crate) graph: &'a Graph,
    pub(crate) codes: &'a [StageCode],
    pub(crate) params: &'a [serde_json::Value],
    pub(crate) locks: &'a [Found],
    pub(crate) extras: &'a Extras,
    /// The selected stages in the graph's order.
    pub(crate) selected: &'a [TaskId],
    pub(crate) is_forced: &'a dyn Fn(TaskId) -> bool,
    pub(crate) on_disk: &'a dyn Fn(&str) -> Option<Content>,
}

/// A dependency that no stage writes and that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingDep {
    /// The stage that needs it.
    pub task: TaskId,
    /// The dependency's path.
    pub path: String,
    /// What a lock names that has it, though its bytes cannot be had.
    pub recorded: Option<String>,
}

/// Plans all selected stages.
///
/// # Errors
/// When dependencies are missing that no selected stage will write.
pub(crate) fn plan(input: &PlanInput<'_>, memory: &dyn Memory) -> Result<Plan, Vec<MissingDep>> {
    let mut decisions: Vec<Option<Decision>> = vec![None; input.graph.len()];
    let mut plan = Plan::default();
    let mut missing = Vec::new();
    for &task in input.selected {
        let stage = &input.stages[task.index()];
        let mut deps = Vec::with_capacity(stage.deps.len());
        for dep in &stage.deps {
            deps.push(planned_dep(input, memory, &decisions, dep.as_str(), &mut plan.parts));
        }
        for (dep, state) in stage.deps.iter().zip(&deps) {
            if *state == DepState::Missing {
                let path = dep.as_str().to_owned();
                missing.push(MissingDep { task, path, recorded: None });
            }
        }
        let lock = &input.locks[task.index()];
        let facts = StageFacts {
            stage,
            code: input.extras.extend(&input.codes[task.index()].manifest, lock),
            params: &input.params[task.index()],
            lock,
            is_forced: (input.is_forced)(task),
            deps,
            outs: stage.outs.iter().map(|out| (input.on_disk)(out.path.as_str())).collect(),
        };
        let name = |task: TaskId| input.stages[task.index()].name.to_string();
        let (decision, causes) = decide(&facts, memory, &name);
        decisions[task.index()] = Some(decision.clone());
        plan.stages.push(StagePlan { task, decision, causes });
    }
    if missing.is_empty() { Ok(plan) } else { Err(missing) }
}

/// What will be at `path` when its reader starts, as far as it can be known before the run. What is
/// part of an output that is to be brought is taken down in `parts`.
fn planned_dep(
    input: &PlanInput<'_>,
    memory: &dyn Memory,
    decisions: &[Option<Decision>],
    path: &str,
    parts: &mut HashMap<String, (String, Content)>,
) -> DepState {
    let mut restores = None;
    for writer in writers(input.graph, path) {
        match &decisions[writer.index()] {
            Some(Decision::Run | Decision::MayRun) => return DepState::Pending(writer),
            Some(Decision::Restore(outs) | Decision::FromRunCache(outs)) => {
                if let Some(out) = outs.iter().find(|out| out.path == path) {
                    return DepState::Known(out.content);
                }
                if let Some((whole, content)) = part_of(outs, path, memory) {
                    parts.insert(path.to_owned(), (whole.to_owned(), content));
                    return DepState::Known(content);
                }
                // An output of its own that is as it should be stays so. But where a directory
                // around the path is restored, or outputs in it, what will be there is known only
                // then.
                if input.stages[writer.index()].out(path).is_none() {
                    restores = Some(writer);
                }
            }
            _ => {}
        }
    }
    match restores {
        Some(writer) => DepState::Pending(writer),
        None => (input.on_disk)(path).map_or(DepState::Missing, DepState::Known),
    }
}

/// What will be at `path` below one of `outs`, with the path of that.
fn part_of<'o>(
    outs: &'o [Artifact],
    path: &str,
    memory: &dyn Memory,
) -> Option<(&'o str, Content)> {
    outs.iter().find_map(|out| {
        let inner = path.strip_prefix(&out.path)?.strip_prefix('/')?;
        Some((out.path.as_str(), memory.part(&out.content, Path::new(inner))?))
    })
}

/// The stages that write the dependency `path`, something above it or something below it.
pub(crate) fn writers(graph: &Graph, path: &str) -> impl Iterator<Item = TaskId> {
    let above = graph.writer_of(path);
    let below = graph.outputs_within(path).map(|(writer, _)| writer);
    above.into_iter().chain(below.filter(move |writer| Some(*writer) != above))
}

/// Decides about one stage; `name` gives the name of another one for the causes.
pub(crate) fn decide(
    facts: &StageFacts<'_>,
    memory: &dyn Memory,
    name: &dyn Fn(TaskId) -> String,
) -> (Decision, Vec<Cause>) {
    let mut pending: Vec<TaskId> = Vec::new();
    let mut deps = Vec::with_capacity(facts.deps.len());
    for (dep, state) in facts.stage.deps.iter().zip(&facts.deps) {
        let path = dep.as_str();
        deps.push(match state {
            DepState::Known(content) => Observed::present(path, *content),
            DepState::Missing => Observed::missing(path),
            DepState::Pending(task) => {
                if !pending.contains(task) {
                    pending.push(*task);
                }
                Observed::pending(path)
            }
        });
    }
    let mut outs = Vec::with_capacity(facts.outs.len());
    for (out, content) in facts.stage.outs.iter().zip(&facts.outs) {
        let path = out.path.as_str();
        outs.push(content.map_or(Observed::missing(path), |c| Observed::present(path, c)));
    }
    let verdict = pivot_lock::verdict(
        facts.lock,
        &Facts {
            code: &facts.code,
            params: facts.params,
            deps: &deps,
            outs: &outs,
            force: facts.is_forced,
        },
    );
    let reasons = match verdict {
        Verdict::Unchanged => Vec::new(),
        Verdict::Run(reasons) => reasons.into_iter().filter_map(without_pending).collect(),
    };
    let (about_outs, real): (Vec<_>, Vec<_>) = reasons.into_iter().partition(is_about_outputs);
    let mut causes: Vec<Cause> = real.into_iter().map(Cause::Differs).collect();
    if !pending.is_empty() {
        let decision = if causes.is_empty() { Decision::MayRun } else { Decision::Run };
        causes.extend(pending.into_iter().map(|task| Cause::UpstreamRuns { stage: name(task) }));
        return (decision, causes);
    }
    if causes.is_empty() {
        causes.extend(about_outs.into_iter().map(Cause::Differs));
        return (decide_outputs(facts, memory), causes);
    }
    if !facts.is_forced && is_repeatable(facts.stage) {
        let key = run_key(facts);
        let known = key.and_then(|key| memory.known_run(&key));
        if let Some(outs) = known
            && outs.iter().all(|out| memory.holds(&out.content))
        {
            return (Decision::FromRunCache(outs), causes);
        }
    }
    (Decision::Run, causes)
}

/// The code, params and dependencies are right; are the outputs?
fn decide_outputs(facts: &StageFacts<'_>, memory: &dyn Memory) -> Decision {
    let Found::Usable(lock) = facts.lock else { return Decision::Run };
    let wrong = lock.outs().iter().filter(|out| {
        let index = facts.stage.outs.iter().position(|o| o.path.as_str() == out.path);
        index.is_none_or(|index| facts.outs[index] != Some(out.content))
    });
    let wrong: Vec<Artifact> = wrong.cloned().collect();
    if wrong.is_empty() {
        Decision::Keep
    } else if wrong.iter().all(|out| memory.holds(&out.content)) {
        Decision::Restore(wrong)
    } else {
        Decision::Run
    }
}

/// The reason without the dependencies that nobody knows yet.
fn without_pending(reason: Reason) -> Option<Reason> {
    let Reason::DepsChanged(changes) = reason else { return Some(reason) };
    let is_known = |change: &DepChange| change.new != Some(ArtifactState::Pending);
    let known: Vec<_> = changes.into_iter().filter(is_known).collect();
    (!known.is_empty()).then_some(Reason::DepsChanged(known))
}

fn is_about_outputs(reason: &Reason) -> bool {
    matches!(reason, Reason::OutputsMissing(_) | Reason::OutputsChanged(_))
}

/// Whether equal code, params and dependencies mean equal outputs. An incremental output also
/// depends on what was there before.
pub(crate) fn is_repeatable(stage: &Stage) -> bool {
    !stage.outs.iter().any(|out| matches!(out.kind, OutKind::Incremental))
}

/// The key of the run that these facts describe, if all dependencies are known.
pub(crate) fn run_key(facts: &StageFacts<'_>) -> Option<RunKey> {
    let deps = facts.stage.deps.iter().zip(&facts.deps).map(|(dep, state)| match state {
        DepState::Known(content) => Some((dep.as_str(), *content)),
        _ => None,
    });
    let deps: Vec<_> = deps.collect::<Option<_>>()?;
    Some(RunKey::new(&facts.code, facts.params, &deps, &facts.stage.outs))
}
