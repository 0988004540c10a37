//! Why a stage runs: in one line, and as JSON.

use std::fmt::Write as _;

use pivot_exec::{Cause, Decision, Loaded, Planned, StagePlan};
use pivot_lock::{ArtifactState, Reason, words};
use serde_json::{Value, json};

use crate::show::explain;

/// All causes of a planned stage in one line.
pub(crate) fn sentence(plan: &StagePlan) -> String {
    match plan.decision {
        Decision::Keep => words::UNCHANGED.to_owned(),
        Decision::Leave => words::UNCHANGED_REMOTE.to_owned(),
        Decision::FromRunCache(_) => words::UNCHANGED_RUN_CACHE.to_owned(),
        _ => list(&plan.causes),
    }
}

/// Causes in one line; of many upstream stages only the first few are named.
pub(crate) fn list(causes: &[Cause]) -> String {
    const MOST: usize = 3;
    let mut texts = Vec::new();
    let mut upstream = Vec::new();
    for cause in causes {
        match cause {
            Cause::Differs(reason) => texts.push(reason.words().to_owned()),
            Cause::UpstreamRuns { stage } => upstream.push(format!("'{stage}'")),
        }
    }
    if !upstream.is_empty() {
        let named = upstream[..upstream.len().min(MOST)].join(", ");
        let more = match upstream.len().saturating_sub(MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        texts.push(format!("upstream {named}{more} may change"));
    }
    texts.join(", ")
}

/// A line a stage: what a run would do with it, and why.
pub(crate) fn table(loaded: &Loaded, planned: &Planned) -> String {
    let names = planned
        .plan
        .stages
        .iter()
        .map(|plan| (loaded.pipeline.stage(plan.task).name.as_str(), plan));
    let width = names.clone().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(40);
    let mut text = String::new();
    for (name, plan) in names {
        let status = explain::status(&plan.decision);
        writeln!(text, "{name:width$}  {status:12}  {}", sentence(plan))
            .expect("a string takes any text");
    }
    text
}

/// A whole plan as the JSON that `run -n --json`, `run --explain --json` and `status --json` print.
pub(crate) fn plan_json(loaded: &Loaded, planned: &Planned) -> Value {
    let stages = planned.plan.stages.iter().map(|plan| {
        let stage = loaded.pipeline.stage(plan.task);
        let notes = loaded.codes[plan.task.index()].notes.iter().map(|note| {
            json!({
                "text": note.text,
                "file": note.place.as_ref().map(|place| &place.file),
                "line": note.place.as_ref().map(|place| place.line),
            })
        });
        json!({
            "stage": stage.name.as_str(),
            "status": explain::status(&plan.decision),
            "reason": sentence(plan),
            "reasons": plan.causes.iter().map(cause_json).collect::<Vec<_>>(),
            "widened": notes.collect::<Vec<_>>(),
        })
    });
    json!({ "schema_version": 1, "stages": stages.collect::<Vec<_>>() })
}

/// One cause with everything that is known about it, with full hashes.
pub(crate) fn cause_json(cause: &Cause) -> Value {
    let reason = match cause {
        Cause::UpstreamRuns { stage } => {
            let reason = format!("upstream '{stage}' may change");
            return json!({ "reason": reason, "upstream": stage });
        }
        Cause::Differs(reason) => reason,
    };
    let changes: Vec<Value> = match reason {
        Reason::CodeChanged(changes) => changes
            .iter()
            .map(|change| {
                json!({
                    "name": change.name,
                    "old": change.old.map(|hash| hash.to_string()),
                    "new": change.new.map(|hash| hash.to_string()),
                    "file": change.place.as_ref().map(|place| &place.file),
                    "line": change.place.as_ref().map(|place| place.line),
                })
            })
            .collect(),
        Reason::ParamsChanged(changes) => changes
            .iter()
            .map(|change| json!({ "key": change.key, "old": change.old, "new": change.new }))
            .collect(),
        Reason::DepsChanged(changes) => changes
            .iter()
            .map(|change| {
                json!({
                    "path": change.path,
                    "old": change.old.map(|content| content.id.to_string()),
                    "new": change.new.and_then(ArtifactState::content).map(|c| c.id.to_string()),
                })
            })
            .collect(),
        Reason::DeclaredOutputsChanged { added, removed } => {
            let added = added.iter().map(|path| json!({ "path": path, "change": "added" }));
            let removed = removed.iter().map(|path| json!({ "path": path, "change": "removed" }));
            added.chain(removed).collect()
        }
        Reason::OutputsMissing(paths) | Reason::OutputsChanged(paths) => {
            paths.iter().map(|path| json!({ "path": path })).collect()
        }
        Reason::LockUnusable { why } => vec![json!({ "why": why })],
        Reason::NoPreviousRun | Reason::Forced => Vec::new(),
    };
    json!({ "reason": reason.words(), "changes": changes })
}
