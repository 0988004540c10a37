//! How a stage gets its process: what each [`Executor`] starts, keeps, and takes again.

use std::collections::HashSet;
use std::rc::Rc;

use pivot_cache::{State, Table};
use pivot_dag::TaskId;
use pivot_fingerprint::{CodeHash, Component, Interpreter, Manifest};
use pivot_pipeline::Action;
use serde_json::{Value, json};

use crate::devices::Held;
use crate::keeper::Keeper;
use crate::outcome::StageFailure;
use crate::run::Executor;
use crate::stage_run::StageRunner;
use crate::warded::Wardens;
use crate::worker::{Refusal, Work};
use crate::zygote::Zygote;

/// The first Python with an interpreter for each stage, `concurrent.interpreters`.
const FIRST_WITH_INTERPRETERS: (u32, u32) = (3, 14);

/// What an executor has at hand during a run.
pub(crate) struct Executors<'a> {
    stages: StageRunner<'a>,
    executor: Executor,
    wardens: Rc<Wardens>,
    /// Started with the first stage that needs it.
    zygote: Option<Rc<Zygote>>,
    /// Processes that have run a stage and may run another.
    kept: Vec<Rc<Keeper>>,
    /// Stages that an interpreter has refused in this run.
    refused: HashSet<TaskId>,
    /// What was told already about stages that run otherwise than asked for.
    told: HashSet<String>,
    notices: Vec<String>,
}

impl<'a> Executors<'a> {
    pub(crate) fn new(stages: StageRunner<'a>, executor: Executor) -> Self {
        Self {
            stages,
            executor,
            wardens: Rc::default(),
            zygote: None,
            kept: Vec::new(),
            refused: HashSet::new(),
            told: HashSet::new(),
            notices: Vec::new(),
        }
    }

    /// What the worker of a stage shall execute, with these graphics processors.
    pub(crate) fn work(&mut self, task: TaskId, devices: &Held) -> Result<Work<'a>, StageFailure> {
        let StageRunner { project, loaded, .. } = self.stages;
        let stage = loaded.pipeline.stage(task);
        let root = project.root();
        let variable = devices.variable();
        let request = loaded.run_request(task, variable.as_ref());
        let (interpreter, request) = match (&stage.action, &loaded.python, request) {
            (Action::Shell { command }, ..) => {
                let directory = stage.cwd.as_ref().map_or(root.to_owned(), |cwd| cwd.below(root));
                let wardens = Rc::clone(&self.wardens);
                let command = match variable {
                    // On the same line, as the shell counts lines in its messages.
                    Some((name, value)) => format!("export {name}={value}; {command}").into(),
                    None => command.into(),
                };
                return Ok(Work::Shell { wardens, command, directory });
            }
            (Action::Python(_), Some(interpreter), Some(request)) => (interpreter, request),
            (Action::Python(_), ..) => unreachable!("a Python stage was loaded by some Python"),
        };
        let isolates = self.executor == Executor::Interpreter && self.is_fit(task);
        match self.executor {
            Executor::Spawn => Ok(Work::Python { interpreter, request }),
            Executor::Reuse => {
                let keep = json!({ "type": "keep", "preload": loaded.preload });
                self.kept(interpreter, &keep, request)
            }
            Executor::Interpreter if isolates => {
                let probe = self.probe(task);
                self.kept(interpreter, &json!({ "type": "isolate" }), with(request, probe))
            }
            Executor::Warm | Executor::Interpreter => self.forked(interpreter, request),
        }
    }

    /// Takes a process back that may run another stage.
    pub(crate) fn keep(&mut self, keeper: Option<Rc<Keeper>>) {
        self.kept.extend(keeper);
    }

    /// Notes that a stage cannot run in an interpreter, and that it is going to run otherwise.
    pub(crate) fn refuse(&mut self, task: TaskId, refusal: &Refusal) {
        let manifest = self.manifest(task);
        let key = match refusal {
            Refusal::Module { .. } => packages(manifest),
            Refusal::Feature { .. } => None,
        };
        let text = match refusal {
            Refusal::Module { name } => {
                format!("`{name}` cannot be loaded in an interpreter of its own: stages with it")
            }
            Refusal::Feature { why } => {
                format!(
                    "`{}` needs more than an interpreter of its own ({why}): it",
                    self.name(task)
                )
            }
        };
        remember(self.state(), key.unwrap_or_else(|| digest(manifest.components())), &text);
        self.refused.insert(task);
        self.tell(text);
    }

    /// Notes that a stage ran in an interpreter, so what it imports can be loaded there.
    pub(crate) fn accept(&self, task: TaskId) {
        if self.executor == Executor::Interpreter
            && let Some(key) = packages(self.manifest(task))
            && recall(self.state(), key).is_none()
        {
            remember(self.state(), key, "");
        }
    }

    /// What is to be told about stages that run otherwise than was asked for.
    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn kept(
        &mut self,
        interpreter: &Interpreter,
        first: &Value,
        request: Value,
    ) -> Result<Work<'a>, StageFailure> {
        let keeper = match self.kept.pop() {
            Some(keeper) => keeper,
            None => {
                let project = self.stages.project;
                let log = project.log_path(".reuse");
                let keeper = Keeper::start(interpreter, project.root(), first, &log);
                Rc::new(keeper.map_err(StageFailure::Helper)?)
            }
        };
        Ok(Work::Kept { keeper, request })
    }

    fn forked(
        &mut self,
        interpreter: &Interpreter,
        request: Value,
    ) -> Result<Work<'a>, StageFailure> {
        let StageRunner { project, loaded, .. } = self.stages;
        let zygote = match self.zygote.take().filter(|zygote| !zygote.is_dead()) {
            Some(zygote) => zygote,
            None => {
                let log = project.log_path(".warm");
                let serve = loaded.serve_request();
                let zygote = Zygote::start(interpreter, project.root(), &serve, &log);
                Rc::new(zygote.map_err(StageFailure::Helper)?)
            }
        };
        self.zygote = Some(Rc::clone(&zygote));
        Ok(Work::Forked { zygote, request })
    }

    /// Whether nothing is known against an interpreter of its own for a stage.
    fn is_fit(&mut self, task: TaskId) -> bool {
        if self.refused.contains(&task) {
            return false;
        }
        let manifest = self.manifest(task);
        let version = version(manifest);
        if version.is_none_or(|version| version < FIRST_WITH_INTERPRETERS) {
            let (major, minor) = version.unwrap_or((3, 0));
            self.tell(format!(
                "Python {major}.{minor} cannot give each stage an interpreter, as 3.14 can: stages"
            ));
            return false;
        }
        let keys = [packages(manifest), Some(digest(manifest.components()))];
        let state = self.state();
        let why = keys.into_iter().flatten().find_map(|key| recall(state, key));
        match why {
            Some(why) if !why.is_empty() => {
                self.tell(why);
                false
            }
            _ => true,
        }
    }

    /// What the stage's interpreter shall import before its function is called, to see whether it can:
    /// otherwise a stage could be refused in the middle.
    fn probe(&self, task: TaskId) -> &'a [String] {
        let is_known =
            packages(self.manifest(task)).is_none_or(|key| recall(self.state(), key).is_some());
        if is_known { &[] } else { &self.stages.loaded.preload }
    }

    /// Tells once how it runs instead: `text` goes up to that.
    fn tell(&mut self, text: String) {
        if self.told.insert(text.clone()) {
            self.notices.push(format!("{text} run as with `--executor warm`"));
        }
    }

    fn manifest(&self, task: TaskId) -> &'a Manifest {
        &self.stages.loaded.codes[task.index()].manifest
    }

    fn name(&self, task: TaskId) -> &'a str {
        self.stages.loaded.pipeline.stage(task).name.as_str()
    }

    fn state(&self) -> &'a State {
        &self.stages.project.state
    }
}

/// The version of Python that the manifest was made with.
fn version(manifest: &Manifest) -> Option<(u32, u32)> {
    let mut names = manifest.components().iter().map(|component| component.name.as_str());
    let (major, minor) = names.find_map(|name| name.strip_prefix("python:"))?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The stage's installed packages and its Python, as one key; none if it uses no package.
fn packages(manifest: &Manifest) -> Option<CodeHash> {
    let is_package = |component: &&Component| component.name.starts_with("package:");
    manifest.components().iter().find(is_package)?;
    let is_python = |component: &&Component| component.name.starts_with("python:");
    let environment = manifest.components().iter().filter(|c| is_package(c) || is_python(c));
    Some(digest(environment))
}

fn digest<'m>(components: impl IntoIterator<Item = &'m Component>) -> CodeHash {
    let texts = components.into_iter().map(|c| format!("{} {}", c.name, c.hash));
    CodeHash::of_parts(texts.collect::<Vec<_>>().iter().map(String::as_bytes))
}

fn recall(state: &State, key: CodeHash) -> Option<String> {
    String::from_utf8(state.get(Table::Interpreters, &key.as_u64().to_be_bytes())?).ok()
}

fn remember(state: &State, key: CodeHash, why: &str) {
    state.put(Table::Interpreters, &key.as_u64().to_be_bytes(), why.as_bytes());
}

fn with(mut request: Value, probe: &[String]) -> Value {
    request["probe"] = probe.into();
    request
}
