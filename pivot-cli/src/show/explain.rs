//! Why each stage runs, as a block of text a stage.

use std::fmt::Write as _;

use pivot_exec::{Cause, Decision, Loaded, Planned, StagePlan};
use pivot_lock::{ArtifactState, CodeChange, DepChange, Reason};

use crate::show::causes;
use crate::show::source_diff::History;

/// The blocks of all planned stages, an empty line between two.
pub(crate) fn blocks(loaded: &Loaded, planned: &Planned) -> String {
    let mut history = History::new(&loaded.pipeline.project().root);
    let blocks = planned.plan.stages.iter().map(|stage| block(loaded, stage, &mut history));
    blocks.collect::<Vec<_>>().join("\n")
}

/// The words for what a run would do with a stage.
pub(crate) fn status(decision: &Decision) -> &'static str {
    match decision {
        Decision::Run => "WILL RUN",
        Decision::MayRun => "MAY RUN",
        Decision::FromRunCache(_) | Decision::Restore(_) => "WILL RESTORE",
        Decision::Leave | Decision::Keep => "UNCHANGED",
    }
}

fn block(loaded: &Loaded, plan: &StagePlan, history: &mut History) -> String {
    let name = &loaded.pipeline.stage(plan.task).name;
    let mut text = Lines::default();
    text.line(0, format_args!("Stage: {name}"));
    text.line(1, format_args!("Status: {}", status(&plan.decision)));
    text.line(1, format_args!("Reason: {}", causes::sentence(plan)));
    for cause in &plan.causes {
        if let Cause::Differs(reason) = cause {
            details(&mut text, reason, name.as_str(), history);
        }
    }
    let notes = &loaded.codes[plan.task.index()].notes;
    if !notes.is_empty() {
        text.section("Widened:");
        for note in notes {
            match &note.place {
                Some(place) => text.line(2, format_args!("{} ({place})", note.text)),
                None => text.line(2, format_args!("{}", note.text)),
            }
        }
    }
    text.0
}

fn details(text: &mut Lines, reason: &Reason, stage: &str, history: &mut History) {
    match reason {
        Reason::CodeChanged(changes) => {
            text.section("Changes:");
            let commit = history.commit_of_lock(stage);
            for change in changes {
                code_change(text, change);
                if let (Some(commit), Some(place), Some(_)) = (&commit, &change.place, change.old) {
                    source_change(text, commit, &history.changes(commit, place));
                }
            }
        }
        Reason::ParamsChanged(changes) => {
            text.section("Params:");
            for change in changes {
                let value = |value: &Option<serde_json::Value>| {
                    value.as_ref().map_or("(none)".to_owned(), ToString::to_string)
                };
                let (old, new) = (value(&change.old), value(&change.new));
                text.line(2, format_args!("{}: {old} → {new}", change.key));
            }
        }
        Reason::DepsChanged(changes) => {
            text.section("Dependencies:");
            for change in changes {
                let (old, new) = dep_change(change);
                text.line(2, format_args!("{}: {old} → {new}", change.path));
            }
        }
        Reason::DeclaredOutputsChanged { added, removed } => {
            text.section("Outputs:");
            for path in added {
                text.line(2, format_args!("{path}: declared since"));
            }
            for path in removed {
                text.line(2, format_args!("{path}: no longer declared"));
            }
        }
        Reason::OutputsMissing(paths) => outputs(text, paths, "missing"),
        Reason::OutputsChanged(paths) => outputs(text, paths, "changed by something else"),
        Reason::LockUnusable { why } => {
            text.section("Lock:");
            text.line(2, format_args!("{why}"));
        }
        Reason::NoPreviousRun | Reason::Forced => {}
    }
}

fn code_change(text: &mut Lines, change: &CodeChange) {
    text.line(2, format_args!("{}", change.name));
    match change.old {
        Some(hash) => text.line(3, format_args!("Old: {}", short(hash))),
        None => text.line(3, format_args!("Old: (not used)")),
    }
    match change.new {
        Some(hash) => text.line(3, format_args!("New: {}", short(hash))),
        None => text.line(3, format_args!("New: (not used any more)")),
    }
    if let Some(place) = &change.place {
        text.line(3, format_args!("File: {place}"));
    }
}

fn source_change(text: &mut Lines, commit: &str, lines: &[String]) {
    if !lines.is_empty() {
        text.line(3, format_args!("Diff to {commit}:"));
        for line in lines {
            text.line(4, format_args!("{line}"));
        }
    }
}

/// Old and new content of a dependency, in a few characters each.
fn dep_change(change: &DepChange) -> (String, String) {
    let old = change.old.map_or("(not declared)".to_owned(), |content| short(content.id));
    let new = match change.new {
        None => "(no longer declared)".to_owned(),
        Some(ArtifactState::Missing) => "(missing)".to_owned(),
        Some(ArtifactState::Pending) => "(not known yet)".to_owned(),
        Some(ArtifactState::Present(content)) => short(content.id),
    };
    (old, new)
}

fn outputs(text: &mut Lines, paths: &[String], what: &str) {
    text.section("Outputs:");
    for path in paths {
        text.line(2, format_args!("{path}: {what}"));
    }
}

/// The first half of a hash: enough to tell two apart by eye.
fn short(hash: impl ToString) -> String {
    let mut text = hash.to_string();
    text.truncate(8);
    text
}

/// Text in lines, two spaces a level.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, level: usize, words: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{:1$}{words}", "", level * 2).expect("a string takes any text");
    }

    fn section(&mut self, title: &str) {
        self.0.push('\n');
        self.line(1, format_args!("{title}"));
    }
}
