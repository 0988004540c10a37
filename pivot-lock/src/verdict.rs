//! Does a stage run, and why? The lock of the last run compared with what is true now.
//!
//! The comparison is pure and linear. It is the only one: explaining a decision is showing its
//! value.

use std::cmp::Ordering;
use std::fmt;

use pivot_cache::Content;
use pivot_fingerprint::{CodeHash, Component, Manifest, SourcePlace};
use serde_json::Value;

use crate::file::Found;
use crate::lock::{Artifact, Lock};
use crate::params::{ParamChange, is_same, param_changes};

/// What is true of a stage now.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The code that it would run.
    pub code: &'a Manifest,
    /// Its effective params: a mapping, or null for none.
    pub params: &'a Value,
    /// Its dependencies, in any order.
    pub deps: &'a [Observed<'a>],
    /// The outputs that it declares, in any order.
    pub outs: &'a [Observed<'a>],
    /// Whether it shall run in any case.
    pub force: bool,
}

/// A path of a stage and what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed<'a> {
    /// Relative to the project root, in the form that locks use.
    pub path: &'a str,
    /// What is there.
    pub state: ArtifactState,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactState {
    /// A file or directory with this content.
    Present(Content),
    /// Nothing.
    Missing,
    /// Not known until the stage that writes it has run, as in a dry run. Of an output: not
    /// looked at, and taken to be as recorded.
    Pending,
}

/// Whether a stage runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It runs, or its outputs are restored; see [`Verdict::asks_only_for_outputs`].
    Run(Vec<Reason>),
    /// Everything is as it was when the stage last succeeded.
    Unchanged,
}

/// A cause for running a stage. Causes are reported in the order of this enum.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// There is no lock.
    NoPreviousRun,
    /// There is a file, but it is not a lock.
    LockUnusable {
        /// What is wrong with it.
        why: String,
    },
    /// The user asked for it.
    Forced,
    /// Code that the stage reaches was changed, added or removed.
    CodeChanged(Vec<CodeChange>),
    /// Params have other values.
    ParamsChanged(Vec<ParamChange>),
    /// Dependencies have other contents, or there are others.
    DepsChanged(Vec<DepChange>),
    /// The stage declares other outputs than it wrote.
    DeclaredOutputsChanged {
        /// Outputs that the last run did not have, sorted.
        added: Vec<String>,
        /// Outputs of the last run that are not declared any more, sorted.
        removed: Vec<String>,
    },
    /// Outputs that the last run wrote are not there; they may be in the cache.
    OutputsMissing(Vec<String>),
    /// Outputs hold something else than the last run wrote.
    OutputsChanged(Vec<String>),
}

/// A component of a stage's code that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeChange {
    /// Such as `func:helper_a`.
    pub name: String,
    /// Its hash at the last run; `None` if it was not part of the code.
    pub old: Option<CodeHash>,
    /// Its hash now; `None` if it is no longer part of the code.
    pub new: Option<CodeHash>,
    /// Where it is defined now, if that is known.
    pub place: Option<SourcePlace>,
}

/// A dependency that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepChange {
    /// Relative to the project root.
    pub path: String,
    /// What the last run read; `None` if it was not a dependency.
    pub old: Option<Content>,
    /// What is there now; `None` if it is no longer a dependency.
    pub new: Option<ArtifactState>,
}

/// The words for verdicts and outcomes, which users and their scripts may rely on.
pub mod words {
    /// Nothing changed.
    pub const UNCHANGED: &str = "unchanged";
    /// The lock has moved on, but an earlier run had the same inputs and its outputs are back.
    pub const UNCHANGED_RUN_CACHE: &str = "unchanged (run cache)";
    /// Some of its outputs are on the remote only, and nobody needs them here.
    pub const UNCHANGED_REMOTE: &str = "unchanged (remote)";

    /// The stage did not start because the stage `upstream` failed.
    pub fn upstream_failed(upstream: &str) -> String {
        format!("upstream '{upstream}' failed")
    }
}

/// Compares what was true with what is.
///
/// Without a usable lock there is nothing to compare with, and the only reasons are that and
/// [`Reason::Forced`].
pub fn verdict(found: &Found, facts: &Facts<'_>) -> Verdict {
    let mut reasons = Vec::new();
    match found {
        Found::Absent => reasons.push(Reason::NoPreviousRun),
        Found::Unusable { why } => reasons.push(Reason::LockUnusable { why: why.clone() }),
        Found::Usable(_) => {}
    }
    if facts.force {
        reasons.push(Reason::Forced);
    }
    if let Found::Usable(lock) = found {
        compare(lock, facts, &mut reasons);
    }
    if reasons.is_empty() { Verdict::Unchanged } else { Verdict::Run(reasons) }
}

impl Verdict {
    /// The first reason in words, or that there is none.
    pub fn words(&self) -> &'static str {
        match self.reasons().first() {
            Some(reason) => reason.words(),
            None => words::UNCHANGED,
        }
    }

    /// All reasons, the most telling first.
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Verdict::Run(reasons) => reasons,
            Verdict::Unchanged => &[],
        }
    }

    /// Whether the stage needs no run if its outputs can be brought back as the lock has them.
    pub fn asks_only_for_outputs(&self) -> bool {
        let is_about_outputs =
            |reason| matches!(reason, &Reason::OutputsMissing(_) | &Reason::OutputsChanged(_));
        !self.reasons().is_empty() && self.reasons().iter().all(is_about_outputs)
    }
}

impl Reason {
    /// The reason in words that never change, such as `Code dependency changed`.
    pub fn words(&self) -> &'static str {
        match self {
            Reason::NoPreviousRun => "No previous run",
            Reason::LockUnusable { .. } => "Lock file unusable",
            Reason::Forced => "Forced",
            Reason::CodeChanged(_) => "Code dependency changed",
            Reason::ParamsChanged(_) => "Params changed",
            Reason::DepsChanged(_) => "Input dependencies changed",
            Reason::DeclaredOutputsChanged { .. } => "Declared outputs changed",
            Reason::OutputsMissing(_) => "Outputs missing",
            Reason::OutputsChanged(_) => "Outputs changed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl<'a> Observed<'a> {
    /// A path with this content.
    pub fn present(path: &'a str, content: Content) -> Self {
        Self { path, state: ArtifactState::Present(content) }
    }

    /// A path where there is nothing.
    pub fn missing(path: &'a str) -> Self {
        Self { path, state: ArtifactState::Missing }
    }

    /// A path whose content is not known yet.
    pub fn pending(path: &'a str) -> Self {
        Self { path, state: ArtifactState::Pending }
    }
}

impl ArtifactState {
    /// The content, if something is there and known.
    pub fn content(self) -> Option<Content> {
        match self {
            ArtifactState::Present(content) => Some(content),
            ArtifactState::Missing | ArtifactState::Pending => None,
        }
    }
}

fn compare(lock: &Lock, facts: &Facts<'_>, reasons: &mut Vec<Reason>) {
    let code = code_changes(lock.code(), facts.code.components());
    if !code.is_empty() {
        reasons.push(Reason::CodeChanged(code));
    }
    let empty = Value::Object(serde_json::Map::new());
    let params = if facts.params.is_null() { &empty } else { facts.params };
    if !is_same(lock.params(), params) {
        reasons.push(Reason::ParamsChanged(param_changes(lock.params(), params)));
    }
    let deps = dep_changes(lock.deps(), facts.deps);
    if !deps.is_empty() {
        reasons.push(Reason::DepsChanged(deps));
    }
    compare_outs(lock.outs(), facts.outs, reasons);
}

fn code_changes(old: &[(String, CodeHash)], new: &[Component]) -> Vec<CodeChange> {
    let mut changes = Vec::new();
    debug_assert!(new.is_sorted_by(|a, b| a.name < b.name), "a manifest is sorted");
    join(
        old,
        new,
        |(name, _)| name,
        |component| &component.name,
        |old, new| {
            let (old_hash, new_hash) = (old.map(|(_, hash)| *hash), new.map(|new| new.hash));
            if old_hash != new_hash {
                let name = old.map(|(name, _)| name).or(new.map(|new| &new.name));
                changes.push(CodeChange {
                    name: name.cloned().unwrap_or_default(),
                    old: old_hash,
                    new: new_hash,
                    place: new.and_then(|new| new.place.clone()),
                });
            }
        },
    );
    changes
}

fn dep_changes(old: &[Artifact], new: &[Observed<'_>]) -> Vec<DepChange> {
    let mut changes = Vec::new();
    with_sorted(new, |new| {
        join(
            old,
            new,
            |old| &old.path,
            |new| new.path,
            |old, new| {
                let old_content = old.map(|old| old.content);
                if old_content.is_none() || old_content != new.and_then(|new| new.state.content()) {
                    let path = old.map(|old| old.path.as_str()).or(new.map(|new| new.path));
                    changes.push(DepChange {
                        path: path.unwrap_or_default().to_owned(),
                        old: old_content,
                        new: new.map(|new| new.state),
                    });
                }
            },
        );
    });
    changes
}

fn compare_outs(old: &[Artifact], new: &[Observed<'_>], reasons: &mut Vec<Reason>) {
    let [mut added, mut removed, mut missing, mut changed] = [const { Vec::new() }; 4];
    with_sorted(new, |new| {
        join(
            old,
            new,
            |old| &old.path,
            |new| new.path,
            |old, new| match (old, new) {
                (None, Some(new)) => added.push(new.path.to_owned()),
                (Some(old), None) => removed.push(old.path.clone()),
                (Some(old), Some(new)) => match new.state {
                    ArtifactState::Missing => missing.push(old.path.clone()),
                    ArtifactState::Present(content) if content != old.content => {
                        changed.push(old.path.clone());
                    }
                    ArtifactState::Present(_) | ArtifactState::Pending => {}
                },
                (None, None) => {}
            },
        );
    });
    if !added.is_empty() || !removed.is_empty() {
        reasons.push(Reason::DeclaredOutputsChanged { added, removed });
    }
    if !missing.is_empty() {
        reasons.push(Reason::OutputsMissing(missing));
    }
    if !changed.is_empty() {
        reasons.push(Reason::OutputsChanged(changed));
    }
}

/// Calls `then` with the observations sorted by path and each path once.
fn with_sorted(observed: &[Observed<'_>], then: impl FnOnce(&[Observed<'_>])) {
    if observed.is_sorted_by(|a, b| a.path < b.path) {
        return then(observed);
    }
    let mut sorted = observed.to_vec();
    sorted.sort_by_key(|observed| observed.path);
    sorted.dedup_by_key(|observed| observed.path);
    then(&sorted);
}

/// Walks two lists, both sorted by key, and visits each key once with what either list has.
fn join<'k, A, B>(
    old: &'k [A],
    new: &'k [B],
    old_key: impl Fn(&'k A) -> &'k str,
    new_key: impl Fn(&'k B) -> &'k str,
    mut visit: impl FnMut(Option<&'k A>, Option<&'k B>),
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => old_key(a).cmp(new_key(b)),
        };
        let a = if order == Ordering::Greater { None } else { old.next() };
        let b = if order == Ordering::Less { None } else { new.next() };
        visit(a, b);
    }
}

#[cfg(test)]
mod tests {
    use pivot_cache::{ContentKind, ObjectId};
    use serde_json::json;

    use super::*;

    fn content(id: u64) -> Content {
        let kind = ContentKind::File { executable: false };
        Content { id: ObjectId::from_u64(id), size_bytes: 10, kind }
    }

    fn manifest(parts: &[(&str, u64)]) -> Manifest {
        let component = |&(name, hash): &(&str, u64)| Component {
            name: name.into(),
            hash: CodeHash::from_u64(hash),
            place: Some(SourcePlace { file: "src/utils.py".into(), line: 15 }),
        };
        Manifest::new(parts.iter().map(component).collect())
    }

    /// A stage that reads `a` and `b` and writes `x` and `y`, as it was when it last ran.
    struct Stage {
        found: Found,
        code: Manifest,
        params: Value,
        deps: Vec<Observed<'static>>,
        outs: Vec<Observed<'static>>,
        force: bool,
    }

    impl Stage {
        fn verdict(&self) -> Verdict {
            let Stage { found, code, params, deps, outs, force } = self;
            verdict(found, &Facts { code, params, deps, outs, force: *force })
        }

        fn reasons(&self) -> Vec<Reason> {
            self.verdict().reasons().to_vec()
        }
    }

    fn stage() -> Stage {
        let artifacts = |paths: [&str; 2]| {
            paths.iter().zip(1..).map(|(path, id)| Artifact::new(*path, content(id))).collect()
        };
        let code = [("func:helper_a", 2), ("self:train", 1)];
        let lock = Lock::new(
            code.map(|(name, hash)| (name.to_owned(), CodeHash::from_u64(hash))),
            json!({"lr": 0.1}),
            artifacts(["a", "b"]),
            artifacts(["x", "y"]),
        );
        Stage {
            found: Found::Usable(lock.unwrap()),
            code: manifest(&code),
            params: json!({"lr": 0.1}),
            // Declared in another order than the lock has them.
            deps: vec![Observed::present("b", content(2)), Observed::present("a", content(1))],
            outs: vec![Observed::present("x", content(1)), Observed::present("y", content(2))],
            force: false,
        }
    }

    #[test]
    fn nothing_changed() {
        assert_eq!(stage().verdict(), Verdict::Unchanged);
        assert_eq!(stage().verdict().words(), "unchanged");
        assert!(!stage().verdict().asks_only_for_outputs());
    }

    #[test]
    fn without_a_lock_there_is_one_reason() {
        let mut stage = stage();
        stage.params = json!({"lr": 0.2});
        stage.found = Found::Absent;
        assert_eq!(stage.reasons(), [Reason::NoPreviousRun]);
        assert_eq!(stage.verdict().words(), "No previous run");
        stage.found = Found::Unusable { why: "line 1: the file is empty".into() };
        stage.force = true;
        let why = "line 1: the file is empty".to_owned();
        assert_eq!(stage.reasons(), [Reason::LockUnusable { why }, Reason::Forced]);
    }

    #[test]
    fn changed_code_is_named_with_its_place() {
        let mut stage = stage();
        stage.code = manifest(&[("const:RATE", 7), ("self:train", 9)]);
        let change = |name: &str, old: Option<u64>, new: Option<u64>| CodeChange {
            name: name.into(),
            old: old.map(CodeHash::from_u64),
            new: new.map(CodeHash::from_u64),
            place: new.map(|_| SourcePlace { file: "src/utils.py".into(), line: 15 }),
        };
        assert_eq!(
            stage.reasons(),
            [Reason::CodeChanged(vec![
                change("const:RATE", None, Some(7)),
                change("func:helper_a", Some(2), None),
                change("self:train", Some(1), Some(9)),
            ])]
        );
        assert_eq!(stage.verdict().words(), "Code dependency changed");
    }

    #[test]
    fn changed_params_are_named_by_key() {
        let mut stage = stage();
        stage.params = Value::Null;
        let change = ParamChange { key: "lr".into(), old: Some(json!(0.1)), new: None };
        assert_eq!(stage.reasons(), [Reason::ParamsChanged(vec![change])]);
        stage.found = Found::Usable(Lock::new([], Value::Null, vec![], vec![]).unwrap());
        (stage.code, stage.deps, stage.outs) = (manifest(&[]), vec![], vec![]);
        assert_eq!(stage.verdict(), Verdict::Unchanged);
    }

    #[test]
    fn changed_dependencies_are_named_with_both_contents() {
        let present = ArtifactState::Present;
        let change = |path: &str, old: Option<u64>, new| DepChange {
            path: path.into(),
            old: old.map(content),
            new,
        };
        let (a, b) = (Observed::present("a", content(1)), Observed::present("b", content(2)));
        let executable = Content { kind: ContentKind::File { executable: true }, ..content(1) };
        let larger = Content { size_bytes: 11, ..content(1) };
        for (deps, expected) in [
            (vec![a, a, b], vec![]),
            (vec![a], vec![change("b", Some(2), None)]),
            (
                vec![b, Observed::present("c", content(3)), a],
                vec![change("c", None, Some(present(content(3))))],
            ),
            (
                vec![Observed::missing("a"), Observed::pending("b")],
                vec![
                    change("a", Some(1), Some(ArtifactState::Missing)),
                    change("b", Some(2), Some(ArtifactState::Pending)),
                ],
            ),
            (
                vec![a, b, Observed::missing("c")],
                vec![change("c", None, Some(ArtifactState::Missing))],
            ),
            // A collision of hashes shows in the size, and whether a file can be run matters.
            (
                vec![Observed::present("a", larger), b],
                vec![change("a", Some(1), Some(present(larger)))],
            ),
            (
                vec![Observed::present("a", executable), b],
                vec![change("a", Some(1), Some(present(executable)))],
            ),
        ] {
            let mut stage = stage();
            stage.deps = deps;
            match expected.is_empty() {
                true => assert_eq!(stage.verdict(), Verdict::Unchanged),
                false => assert_eq!(stage.reasons(), [Reason::DepsChanged(expected)]),
            }
        }
    }

    #[test]
    fn outputs_that_differ_ask_for_a_restore_unless_the_declaration_changed() {
        let (x, y) = (Observed::present("x", content(1)), Observed::present("y", content(2)));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (outs, expected, is_restorable) in [
            (vec![y, x], vec![], false),
            (vec![Observed::pending("x"), y], vec![], false),
            (vec![Observed::missing("x"), y], vec![Reason::OutputsMissing(names(&["x"]))], true),
            (
                vec![Observed::missing("y"), Observed::present("x", content(9))],
                vec![Reason::OutputsMissing(names(&["y"])), Reason::OutputsChanged(names(&["x"]))],
                true,
            ),
            (
                vec![y, Observed::missing("z")],
                vec![Reason::DeclaredOutputsChanged {
                    added: names(&["z"]),
                    removed: names(&["x"]),
                }],
                false,
            ),
            (
                vec![Observed::missing("y")],
                vec![
                    Reason::DeclaredOutputsChanged { added: vec![], removed: names(&["x"]) },
                    Reason::OutputsMissing(names(&["y"])),
                ],
                false,
            ),
        ] {
            let mut stage = stage();
            stage.outs = outs;
            assert_eq!(stage.reasons(), expected);
            assert_eq!(stage.verdict().asks_only_for_outputs(), is_restorable);
        }
    }

    #[test]
    fn reasons_come_in_one_order_with_stable_words() {
        let mut stage = stage();
        stage.force = true;
        stage.code = manifest(&[]);
        stage.params = json!({});
        stage.deps = vec![];
        stage.outs = vec![
            Observed::missing("x"),
            Observed::present("y", content(9)),
            Observed::missing("z"),
        ];
        let words: Vec<_> = stage.reasons().iter().map(Reason::words).collect();
        assert_eq!(
            words,
            [
                "Forced",
                "Code dependency changed",
                "Params changed",
                "Input dependencies changed",
                "Declared outputs changed",
                "Outputs missing",
                "Outputs changed",
            ]
        );
        assert_eq!(words::UNCHANGED_RUN_CACHE, "unchanged (run cache)");
        assert_eq!(words::upstream_failed("prepare"), "upstream 'prepare' failed");
    }
}
