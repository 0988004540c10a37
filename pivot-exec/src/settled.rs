//! Whether there is anything to do at all, answered without planning.
//!
//! A plan follows from the definition, the code, the locks and the files. When it says that
//! everything is to be kept, all of these are taken down by their contents. As long as none of
//! them has changed the plan would say the same again, so it is not made.

use std::borrow::Cow;
use std::time::Instant;

use pivot_cache::{Content, Table, Workspace};
use pivot_dag::TaskId;
use pivot_fingerprint::{CodeHash, Holds, Witness};
use serde::{Deserialize, Serialize};

use crate::extras::{Extras, fact_hash};
use crate::load::{LoadOptions, Loaded};
use crate::outcome::{Outcome, Summary};
use crate::plan::{Decision, Plan};
use crate::project::OpenProject;
use crate::question::Question;
use crate::remotes::choose_remote;
use crate::supply::Pull;

/// A pipeline in which nothing is to be done.
#[derive(Debug)]
pub struct Settled {
    /// Things that the user should know, as in [`Loaded::notices`].
    pub notices: Vec<String>,
    /// What a run of all stages would come to.
    pub summary: Summary,
}

const KEY: &[u8] = b"settled";

/// What a plan was made from, but for the contents of files: a snapshot of those follows.
#[derive(Serialize, Deserialize)]
struct Record<'r, Text> {
    question: Text,
    witness: Cow<'r, Witness>,
    /// What a run was seen to ask for beside the contents of files.
    facts: Vec<(Text, Option<CodeHash>)>,
    /// In the plan's order.
    stages: Vec<Text>,
    /// Those of them with outputs that stay on the remote: their numbers in `stages`.
    away: Vec<usize>,
    /// That remote, if there are any.
    remote: Option<String>,
    notices: Vec<Text>,
}

/// Whether a run of all stages would do nothing, if that is known; `None` if a plan has to be
/// made to find out. Outputs may only stay on a remote if `pull` says so.
pub fn settled(project: &OpenProject, options: &LoadOptions, pull: Pull) -> Option<Settled> {
    let started = Instant::now();
    let question = Question::of(project, options).ok()?;
    let bytes = project.state.get(Table::Pipeline, KEY)?;
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (record, snapshot) = rest.split_at_checked(length)?;
    let record: Record<'_, String> = serde_json::from_slice(record).ok()?;
    if record.question != question.text {
        return None;
    }
    if record.remote.is_some() && (pull != Pull::Auto || record.remote != remote(project)) {
        return None;
    }
    // If something was touched, planning brings the witness and the record up to date.
    let Ok(Holds::AsItIs) = record.witness.check() else { return None };
    if record.facts.iter().any(|(name, hash)| fact_hash(project.root(), name) != *hash) {
        return None;
    }
    if !project.workspace().is_as_in(snapshot) {
        return None;
    }
    let outcomes = record.stages.into_iter().map(|stage| (stage, Outcome::Unchanged));
    let mut outcomes: Vec<_> = outcomes.collect();
    for number in record.away {
        outcomes.get_mut(number)?.1 = Outcome::Away;
    }
    let summary = Summary { outcomes, interrupted: None, elapsed: started.elapsed() };
    Some(Settled { notices: record.notices, summary })
}

/// The default remote, as far as it matters what is on it.
fn remote(project: &OpenProject) -> Option<String> {
    let (_, remote) = choose_remote(&project.config, None).ok()?;
    Some(serde_json::json!([remote.url, remote.endpoint_url]).to_string())
}

/// Takes down that `plan` has nothing to do for all stages of `loaded`, because `contents` are what
/// they are: those of their locks, dependencies, outputs and `extras`.
pub(crate) fn remember_settled<'p>(
    project: &OpenProject,
    workspace: &Workspace<'_>,
    loaded: &Loaded,
    extras: &Extras,
    plan: &Plan,
    contents: impl IntoIterator<Item = (&'p str, Option<Content>)>,
) {
    let Some(question) = loaded.question.as_deref() else { return };
    if !loaded.witness.obstacles().is_empty() {
        return;
    }
    let mut facts: Vec<_> = extras.facts().collect();
    // The same record for the same facts.
    facts.sort_unstable();
    let name = |task: TaskId| loaded.pipeline.stage(task).name.as_str();
    let stages = plan.stages.iter().enumerate();
    let away = stages.filter(|(_, stage)| stage.decision == Decision::Leave).map(|(n, _)| n);
    let record = Record {
        question,
        witness: Cow::Borrowed(&loaded.witness),
        facts,
        stages: plan.stages.iter().map(|stage| name(stage.task)).collect(),
        away: away.collect(),
        remote: (!plan.away.is_empty()).then(|| remote(project)).flatten(),
        notices: loaded.notices.iter().map(String::as_str).collect(),
    };
    let record = serde_json::to_vec(&record).expect("strings and numbers can be written");
    let before = [&(record.len() as u64).to_le_bytes()[..], &record].concat();
    let Some(bytes) = workspace.snapshot(contents, before) else { return };
    let is_known = project.state.get_with(Table::Pipeline, KEY, |known| known == bytes);
    if is_known != Some(true) {
        project.state.put(Table::Pipeline, KEY, &bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant, SystemTime};

    use pivot_cache::State;
    use pivot_dag::OnFailure;
    use pivot_pipeline::Project;
    use tempfile::TempDir;

    use super::*;
    use crate::{Executor, Reach, RunOptions};

    const PIPELINE: &str = "stages:\n\
        \x20 a: {cmd: cat source > a.txt, deps: [source], outs: [a.txt]}\n\
        \x20 b: {cmd: mkdir b; cp a.txt b/x, deps: [a.txt], outs: [b]}\n";

    /// A project whose two stages have run, and which is known to be settled.
    struct Fixture(TempDir);

    impl Fixture {
        fn new() -> Self {
            let fixture = Self(tempfile::tempdir().unwrap());
            fs::write(fixture.path("pivot.yaml"), PIPELINE).unwrap();
            fs::write(fixture.path("params.yaml"), "nobody: {}\n").unwrap();
            fs::write(fixture.path("source"), "1").unwrap();
            assert_eq!(fixture.run(&LoadOptions::default()), ["ran a", "ran b"]);
            fixture.settle();
            fixture
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn open(&self) -> OpenProject {
            OpenProject::open(Project::discover(self.0.path()).unwrap()).unwrap()
        }

        fn settled(&self) -> Option<Settled> {
            settled(&self.open(), &LoadOptions::default(), Pull::Auto)
        }

        /// Runs until files are old enough for their stamps to prove something.
        fn settle(&self) {
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.settled().is_none() {
                assert!(Instant::now() < deadline, "it does not settle");
                self.run(&LoadOptions::default());
            }
        }

        /// Plans and runs; what was done to which stage, unless it was nothing.
        fn run(&self, options: &LoadOptions) -> Vec<String> {
            let project = self.open();
            let loaded = crate::load(&project, options).unwrap();
            let selected = crate::select(&loaded.pipeline, &[], Reach::WithUpstream).unwrap();
            let planned = crate::make_plan(&project, &loaded, &selected, &|_| false).unwrap();
            let options = RunOptions {
                jobs: std::num::NonZeroUsize::MIN,
                on_failure: OnFailure::Stop,
                timeout: None,
                resources: pivot_pipeline::Resources::default(),
                executor: Executor::Spawn,
            };
            let run = crate::run(&project, &loaded, planned, &options, &mut |_| {});
            let word = |(stage, outcome): (String, Outcome)| match outcome {
                Outcome::Unchanged => None,
                Outcome::Ran { .. } => Some(format!("ran {stage}")),
                Outcome::Restored { .. } => Some(format!("restored {stage}")),
                Outcome::FromRunCache { .. } => Some(format!("recalled {stage}")),
                other => panic!("{stage}: {other:?}"),
            };
            run.unwrap().outcomes.into_iter().filter_map(word).collect()
        }
    }

    fn set_mtime(path: &Path, time: SystemTime) {
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    /// Other bytes of the same length under the same times.
    fn edit_in_secret(path: &Path, from: &str, to: &str) {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from) && from.len() == to.len(), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
        set_mtime(path, time);
    }

    #[test]
    fn a_settled_project_is_known_without_a_plan() {
        let fixture = Fixture::new();
        let Settled { notices, summary } = fixture.settled().unwrap();
        assert_eq!(notices, ["params.yaml:1:1: there is no stage `nobody`"]);
        let stages: Vec<_> = summary.outcomes.iter().map(|(stage, _)| stage.as_str()).collect();
        assert_eq!(stages, ["a", "b"]);
        assert!(summary.is_success());
        assert!(fixture.run(&LoadOptions::default()).is_empty());
    }

    #[test]
    fn every_change_leads_to_a_plan() {
        let hash = |text: &str| text.split("hash: '").nth(1).unwrap()[..16].to_owned();
        let other_hash = |fixture: &Fixture| {
            let path = fixture.path(".pivot/stages/b.lock");
            let hash = hash(&fs::read_to_string(&path).unwrap());
            edit_in_secret(&path, &hash, "0123456789abcdef");
        };
        let replaced = |fixture: &Fixture| {
            let (path, new) = (fixture.path(".pivot/stages/b.lock"), fixture.path("new"));
            fs::copy(fixture.path(".pivot/stages/a.lock"), &new).unwrap();
            fs::rename(new, path).unwrap();
        };
        type Change<'a> = (&'a str, &'a dyn Fn(&Fixture), &'a [&'a str]);
        let changes: [Change<'_>; 10] = [
            ("lock edited in secret", &other_hash, &["recalled b"]),
            ("lock replaced", &replaced, &["recalled b"]),
            (
                "lock deleted",
                &|fixture| fs::remove_file(fixture.path(".pivot/stages/b.lock")).unwrap(),
                &["recalled b"],
            ),
            (
                "lock with conflict markers",
                &|fixture| fs::write(fixture.path(".pivot/stages/b.lock"), "<<<<<<< x").unwrap(),
                &["recalled b"],
            ),
            (
                "lock touched",
                &|fixture| set_mtime(&fixture.path(".pivot/stages/b.lock"), SystemTime::now()),
                &[],
            ),
            (
                "source edited in secret",
                &|fixture| edit_in_secret(&fixture.path("source"), "1", "2"),
                &["ran a", "ran b"],
            ),
            (
                "output edited in secret",
                &|fixture| edit_in_secret(&fixture.path("b/x"), "1", "2"),
                &["restored b"],
            ),
            (
                "output deleted",
                &|fixture| fs::remove_file(fixture.path("a.txt")).unwrap(),
                &["restored a"],
            ),
            (
                "definition edited in secret",
                &|fixture| edit_in_secret(&fixture.path("pivot.yaml"), "cat source", "tac source"),
                &["ran a"],
            ),
            (
                "params edited",
                &|fixture| fs::write(fixture.path("params.yaml"), "a: {x: 1}").unwrap(),
                &["ran a"],
            ),
        ];
        for (what, change, done) in changes {
            let fixture = Fixture::new();
            change(&fixture);
            assert!(fixture.settled().is_none(), "{what} was not noticed");
            assert_eq!(fixture.run(&LoadOptions::default()), done, "{what}");
            fixture.settle();
        }
    }

    #[test]
    fn without_its_state_a_project_is_planned_and_the_same_comes_out() {
        let fixture = Fixture::new();
        fs::remove_dir_all(fixture.path(".pivot/state.lmdb")).unwrap();
        assert!(fixture.settled().is_none());
        assert!(fixture.run(&LoadOptions::default()).is_empty());
        fixture.settle();
        for table in [Table::Pipeline, Table::Locks] {
            for garbage in [&b""[..], b"\x08\0\0\0\0\0\0\0", &[0xff; 64]] {
                let state = State::open(&fixture.path(".pivot/state.lmdb"));
                for key in [KEY, b"a", b"b"] {
                    state.put(table, key, garbage);
                }
                state.flush();
                drop(state);
                if table == Table::Pipeline {
                    assert!(fixture.settled().is_none(), "{garbage:?}");
                }
                assert!(fixture.run(&LoadOptions::default()).is_empty(), "{garbage:?}");
                fixture.settle();
            }
        }
    }

    #[test]
    fn a_lock_that_was_parsed_from_other_bytes_is_not_used() {
        let fixture = Fixture::new();
        let state = State::open(&fixture.path(".pivot/state.lmdb"));
        let of_a = state.get(Table::Locks, b"a").unwrap();
        state.put(Table::Locks, b"b", &of_a);
        state.delete(Table::Pipeline, KEY);
        state.flush();
        drop(state);
        assert!(fixture.run(&LoadOptions::default()).is_empty());
    }

    #[test]
    fn values_for_one_run_are_not_taken_for_the_usual_ones() {
        let fixture = Fixture::new();
        let set = LoadOptions { overrides: vec!["a.x=1".to_owned()], ..LoadOptions::default() };
        assert!(settled(&fixture.open(), &set, Pull::Auto).is_none());
        assert_eq!(fixture.run(&set), ["ran a"]);
        assert!(fixture.run(&set).is_empty());
        assert!(settled(&fixture.open(), &set, Pull::Auto).is_none());
        assert!(fixture.settled().is_none());
    }
}
