//! What the pipeline is: its stages, their effective params and the code they depend on.
//!
//! Python is asked only when something may have changed that it would answer differently to.
//! The last answer is kept in the state together with the witness of the import; while all of
//! it still holds, no Python starts.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

use pivot_cache::Table;
use pivot_dag::TaskId;
use pivot_fingerprint::{
    CodeHash, Component, EditRequest, Entry, Helper, Holds, InspectError, InspectRequest,
    InspectedStage, Inspection, Interpreter, InterpreterError, Manifest, Note, SourcePlace,
    Witness,
};
use pivot_pipeline::{
    Action, DeclaredStage, Override, Overrides, PARAMS_FILE, ParamsFile, Pipeline, PipelineError,
    PythonAction, Stage, StageName,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::plain_file;
use crate::project::OpenProject;
use crate::question::Question;

/// How to load a pipeline.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `stage.key=value` texts that go before params.yaml.
    pub overrides: Vec<String>,
    /// The interpreter to use in any case.
    pub python: Option<PathBuf>,
}

/// What a stage's code consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCode {
    /// The parts with their hashes and places.
    pub manifest: Manifest,
    /// What is covered more coarsely than usual, and why.
    pub notes: Vec<Note>,
    /// Which code objects the manifest covers: what else starts in a run is reported by it.
    #[serde(default)]
    pub(crate) covered: String,
    /// Words in the code that may be paths of files.
    #[serde(default)]
    pub(crate) mentions: Vec<String>,
}

impl StageCode {
    fn of(stage: InspectedStage) -> Self {
        let InspectedStage { manifest, notes, covered, mentions, .. } = stage;
        Self { manifest, notes, covered, mentions }
    }
}

/// A pipeline with all that is known of it before its files are looked at.
#[derive(Debug)]
pub struct Loaded {
    /// The stages and their graph.
    pub pipeline: Pipeline,
    /// The code of each stage, by its number.
    pub codes: Vec<StageCode>,
    /// The effective params of each stage, by its number.
    pub params: Vec<serde_json::Value>,
    /// What runs the Python stages; `None` if there are none.
    pub python: Option<Interpreter>,
    /// Things that the user should know, such as an unused section of params.yaml.
    pub notices: Vec<String>,
    /// The question that was answered; `None` if it was asked for one run only.
    pub(crate) question: Option<String>,
    /// What Python looked at to answer it.
    pub(crate) witness: Witness,
    /// Installed modules that the stages' code imports.
    pub(crate) preload: Vec<String>,
}

/// Why a pipeline could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The definition is wrong.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// There is no Python to ask.
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    /// Python could not import the pipeline.
    #[error("{source}")]
    Inspect {
        /// What Python says.
        source: InspectError,
        /// Where the values in question are written, if it is about params.
        params: Box<ParamsFile>,
    },
    /// A file of the definition cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file, relative to the project.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The last answer, as the state keeps it.
#[derive(Default, Serialize, Deserialize)]
struct Remembered {
    question: String,
    stages: Vec<Stage>,
    codes: Vec<StageCode>,
    witness: Witness,
    preload: Vec<String>,
    notices: Vec<String>,
    /// The name of Python's note about edits, of [`Inspection`].
    #[serde(default)]
    edits: Option<String>,
}

const REMEMBERED_KEY: &[u8] = b"pipeline";

/// Finds out what the pipeline of `project` is.
///
/// # Errors
/// When the definition, the user's modules or the params are wrong, or there is no Python.
pub fn load(project: &OpenProject, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let Question { text: question, python } = Question::of(project, options)?;
    let mut helper = None;
    let known = match last(project, &question) {
        None => None,
        Some(last) => match still_true(project, last) {
            Ok(remembered) => return assemble(project, options, remembered, python),
            Err(last) => match after_edit(project, *last, &python) {
                Some(Edited::Function(remembered)) => Some(*remembered),
                Some(Edited::Other(started)) => {
                    helper = Some(started);
                    None
                }
                None => None,
            },
        },
    };
    let remembered = match known {
        Some(remembered) => remembered,
        None => ask(project, options, Asked { python: &python, helper }, question)?,
    };
    // Values given on the command line are for one run; they shall not displace the usual answer.
    if options.overrides.is_empty() {
        remember(project, &remembered);
        project.state.flush();
    }
    assemble(project, options, remembered, python)
}

/// The stages that are declared, if that can be told without asking Python: from the last answer
/// while it holds, else from a definition in YAML, whose params may then be incomplete.
pub(crate) fn stages_without_python(
    project: &OpenProject,
    options: &LoadOptions,
) -> Option<Vec<Stage>> {
    let remembered = Question::of(project, options).ok();
    let last = remembered.and_then(|question| last(project, &question.text));
    match last.map(|last| still_true(project, last)) {
        Some(Ok(remembered)) => Some(remembered.stages),
        _ => project.project.read_definition().ok().flatten(),
    }
}

/// The last answer, if it was one to this question.
fn last(project: &OpenProject, question: &str) -> Option<Remembered> {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Remembered>(bytes).ok();
    let last = project.state.get_with(Table::Pipeline, REMEMBERED_KEY, parse)??;
    (last.question == question).then_some(last)
}

/// The last answer, if an import would still see the same; else it comes back as it was.
fn still_true(project: &OpenProject, mut last: Remembered) -> Result<Remembered, Box<Remembered>> {
    match last.witness.check() {
        Ok(Holds::AsItIs) => Ok(last),
        Ok(Holds::Refreshed(witness)) => {
            last.witness = *witness;
            remember(project, &last);
            Ok(last)
        }
        Err(_) => Err(Box::new(last)),
    }
}

/// What Python says to a change of one source file.
enum Edited {
    /// It is an edit of a function's body, and this is the answer with it.
    Function(Box<Remembered>),
    /// It is another one. The helper waits for the next question.
    Other(Helper),
}

/// The last answer after the edit of a function's body, if that is all that has happened since:
/// nothing is imported for it.
fn after_edit(
    project: &OpenProject,
    mut last: Remembered,
    python: &Result<Interpreter, InterpreterError>,
) -> Option<Edited> {
    let name = last.edits.as_deref()?;
    let changed = last.witness.edited_source()?;
    let request = EditRequest { root: project.root(), name, file: changed.path() };
    let edit = match pivot_fingerprint::edited(python.as_ref().ok()?, &request).ok()? {
        pivot_fingerprint::Edited::Function(edit) => edit,
        pivot_fingerprint::Edited::Other(helper) => return Some(Edited::Other(helper)),
    };
    for code in &mut last.codes {
        code.manifest = std::mem::take(&mut code.manifest).after(&edit)?;
    }
    last.witness = changed.into_witness(&edit);
    last.edits = Some(edit.name);
    Some(Edited::Function(Box::new(last)))
}

/// Who answers a question about Python code.
struct Asked<'p> {
    python: &'p Result<Interpreter, InterpreterError>,
    /// A helper that runs already.
    helper: Option<Helper>,
}

fn remember(project: &OpenProject, remembered: &Remembered) {
    let bytes = serde_json::to_vec(remembered).expect("strings and numbers can be written");
    project.state.put(Table::Pipeline, REMEMBERED_KEY, &bytes);
}

fn assemble(
    project: &OpenProject,
    options: &LoadOptions,
    remembered: Remembered,
    python: Result<Interpreter, InterpreterError>,
) -> Result<Loaded, LoadError> {
    let is_python = |stage: &Stage| matches!(stage.action, Action::Python(_));
    let needs_python = remembered.stages.iter().any(is_python);
    let pipeline = Pipeline::new(project.project.clone(), remembered.stages)?;
    Ok(Loaded {
        params: pipeline.stages().iter().map(|stage| stage.params.to_json()).collect(),
        pipeline,
        codes: remembered.codes,
        python: if needs_python { Some(python?) } else { None },
        notices: remembered.notices,
        question: options.overrides.is_empty().then_some(remembered.question),
        witness: remembered.witness,
        preload: remembered.preload,
    })
}

/// Reads the definition, and asks Python about what only Python knows.
fn ask(
    project: &OpenProject,
    options: &LoadOptions,
    python: Asked<'_>,
    question: String,
) -> Result<Remembered, LoadError> {
    let params = match plain_file::read(&project.root().join(PARAMS_FILE)) {
        Ok(Some(bytes)) => ParamsFile::parse(&bytes)?,
        Ok(None) => ParamsFile::default(),
        Err(source) => return Err(LoadError::Read { path: PARAMS_FILE.to_owned(), source }),
    };
    let declared = project.project.read_definition()?;
    let names: Option<Vec<&StageName>> =
        declared.as_ref().map(|stages| stages.iter().map(|stage| &stage.name).collect());
    let parse = |text: &String| match &names {
        Some(names) => Override::parse(text, names.iter().copied()),
        None => Override::parse_before_stages(text),
    };
    let set: Vec<Override> = options.overrides.iter().map(parse).collect::<Result<_, _>>()?;
    let overrides = Overrides::new(&params, &set)?;

    let interpreter = python.python;
    let mut answer = match declared {
        None => from_python_file(project, &overrides, python, params)?,
        Some(stages) => from_yaml(project, stages, &overrides, python, params)?,
    };
    // Only now is it known which stages there are: an override of none must not pass in silence,
    // and one of a stage with dots in its name must not pass for one of another.
    let stages = || answer.0.stages.iter().map(|stage| &stage.name);
    let parsed = options.overrides.iter().map(|text| Override::parse(text, stages()));
    let parsed: Vec<Override> = parsed.collect::<Result<_, _>>()?;
    if parsed != set {
        let overrides = Overrides::new(&answer.1, &parsed)?;
        let python = Asked { python: interpreter, helper: None };
        answer = from_python_file(project, &overrides, python, answer.1)?;
    }
    let (mut remembered, params) = answer;
    remembered.question = question;
    for (stage, code) in remembered.stages.iter().zip(&mut remembered.codes) {
        code.manifest = with_declared_parts(stage, std::mem::take(&mut code.manifest));
    }
    if remembered.stages.is_empty() {
        let file = project.project.definition.file();
        remembered.notices.push(format!("{file} declares no stage"));
    }
    let known = remembered.stages.iter().map(|stage| &stage.name);
    for unknown in params.unknown_stages(known) {
        let (name, place) = (unknown.name, unknown.place);
        let similar = unknown.suggestion.map(|name| format!("; did you mean `{name}`?"));
        let similar = similar.unwrap_or_default();
        remembered.notices.push(format!("{place}: there is no stage `{name}`{similar}"));
    }
    Ok(remembered)
}

/// The stages that `pipeline.py` declares when it is imported.
fn from_python_file(
    project: &OpenProject,
    overrides: &Overrides,
    python: Asked<'_>,
    params: ParamsFile,
) -> Result<(Remembered, ParamsFile), LoadError> {
    let entry = Entry::File(project.project.definition.file().to_owned());
    let (inspection, params) = inspect(project, entry, overrides, python, params)?;
    let Inspection { witness, preload, edits, .. } = inspection;
    let mut remembered = Remembered { witness, preload, edits, ..Remembered::default() };
    for stage in inspection.stages {
        remembered.stages.push(DeclaredStage::from_json(&stage.declared)?.into_stage()?);
        remembered.codes.push(StageCode::of(stage));
    }
    overrides.check(remembered.stages.iter().map(|stage| &stage.name))?;
    Ok((remembered, params))
}

/// The stages of `pivot.yaml`; Python knows the code and the models of those it runs.
fn from_yaml(
    project: &OpenProject,
    mut stages: Vec<Stage>,
    overrides: &Overrides,
    python: Asked<'_>,
    params: ParamsFile,
) -> Result<(Remembered, ParamsFile), LoadError> {
    let mut targets = match pivot_pipeline::python_targets(&stages) {
        serde_json::Value::Array(targets) => targets,
        _ => Vec::new(),
    };
    targets.extend(stages.iter().filter_map(command_target));
    let mut by_name: HashMap<String, StageCode> = HashMap::new();
    let (mut witness, mut preload, mut edits) = (Witness::default(), Vec::new(), None);
    let mut params = params;
    overrides.apply(&mut stages)?;
    if !targets.is_empty() {
        let (inspection, back) =
            inspect(project, Entry::Targets(targets), overrides, python, params)?;
        params = back;
        (witness, preload, edits) = (inspection.witness, inspection.preload, inspection.edits);
        let declared: Vec<DeclaredStage> = inspection
            .stages
            .iter()
            .filter(|stage| !stage.declared["function"].is_null())
            .map(|stage| DeclaredStage::from_json(&stage.declared))
            .collect::<Result<_, _>>()?;
        pivot_pipeline::adopt(&mut stages, &declared)?;
        for stage in inspection.stages {
            by_name.insert(stage.name.clone(), StageCode::of(stage));
        }
    }
    let code_of = |stage: &Stage| {
        let code = by_name.remove(stage.name.as_str()).unwrap_or_default();
        match &stage.action {
            Action::Python(_) => code,
            Action::Shell { command } => with_command(code, stage, command),
        }
    };
    let codes = stages.iter().map(code_of).collect();
    Ok((Remembered { stages, codes, witness, preload, edits, ..Remembered::default() }, params))
}

fn inspect(
    project: &OpenProject,
    entry: Entry,
    overrides: &Overrides,
    asked: Asked<'_>,
    params: ParamsFile,
) -> Result<(Inspection, ParamsFile), LoadError> {
    let python = asked.python.as_ref().map_err(Clone::clone)?;
    let mut request = InspectRequest::new(project.root(), entry);
    request.overrides = overrides.to_json();
    request.settings = serde_json::json!({ "packages": project.config.fingerprint.packages });
    let answer = match asked.helper {
        Some(helper) => pivot_fingerprint::inspect_with(helper, &request),
        None => pivot_fingerprint::inspect(python, &request),
    };
    match answer {
        Ok(inspection) => Ok((inspection, params)),
        Err(source) => Err(LoadError::Inspect { source, params: Box::new(params) }),
    }
}

/// Asks for the scripts behind a shell command, if it may have some: they are what Python can
/// tell of it without being a stage.
fn command_target(stage: &Stage) -> Option<serde_json::Value> {
    let Action::Shell { command } = &stage.action else { return None };
    let may_run_scripts = ["python", ".py", ".sh"].iter().any(|word| command.contains(word));
    may_run_scripts.then(|| {
        serde_json::json!({
            "stage": stage.name.as_str(),
            "command": command,
            "cwd": stage.cwd.as_ref().map(|cwd| cwd.as_str()),
        })
    })
}

/// A shell stage's code: its command, and the scripts that it executes.
fn with_command(code: StageCode, stage: &Stage, command: &str) -> StageCode {
    let name = format!("cmd:{}", stage.name.base());
    let mut components = vec![component(name, command.as_bytes(), stage)];
    components.extend(code.manifest.components().iter().cloned());
    StageCode { manifest: Manifest::new(components), ..code }
}

fn component(name: String, bytes: &[u8], stage: &Stage) -> Component {
    let place = SourcePlace { file: stage.place.file.to_string(), line: stage.place.line };
    let hash = CodeHash::from_u64(xxhash_rust::xxh64::xxh64(bytes, 0));
    Component { name, hash, place: Some(place) }
}

/// Adds what is declared and changes the result, but is neither code nor a path: the folder, and
/// for a function the order in which dependencies and outputs become arguments.
fn with_declared_parts(stage: &Stage, manifest: Manifest) -> Manifest {
    let mut parts = Vec::new();
    if let Some(cwd) = &stage.cwd {
        parts.push(component("cwd".to_owned(), cwd.as_str().as_bytes(), stage));
    }
    if matches!(stage.action, Action::Python(_)) {
        let deps = stage.deps.iter().map(|dep| dep.as_str());
        let outs = stage.outs.iter().map(|out| out.path.as_str());
        for (name, order) in [("order:deps", order(deps)), ("order:outs", order(outs))] {
            // The usual case costs no line in the lock.
            if !order.is_sorted() {
                let text = format!("{order:?}");
                parts.push(component(name.to_owned(), text.as_bytes(), stage));
            }
        }
    }
    if parts.is_empty() {
        return manifest;
    }
    parts.extend(manifest.components().iter().cloned());
    Manifest::new(parts)
}

/// For each path, in the order of declaration, its place among the sorted paths.
fn order<'p>(paths: impl Iterator<Item = &'p str>) -> Vec<usize> {
    let paths: Vec<&str> = paths.collect();
    let mut sorted: Vec<usize> = (0..paths.len()).collect();
    sorted.sort_by_key(|index| paths[*index]);
    let mut order = vec![0; paths.len()];
    for (rank, index) in sorted.into_iter().enumerate() {
        order[index] = rank;
    }
    order
}

impl Loaded {
    /// The request that makes the helper fork a process for each stage that it is asked for later.
    pub(crate) fn serve_request(&self) -> serde_json::Value {
        let project = self.pipeline.project();
        let actions = self.pipeline.stages().iter().map(|stage| &stage.action);
        let mut entries = actions.filter_map(|action| match action {
            Action::Python(action) => Some(self.entry(action)),
            Action::Shell { .. } => None,
        });
        serde_json::json!({
            "type": "serve",
            "preload": self.preload,
            "sources": self.witness.sources().collect::<Vec<_>>(),
            "root": project.root,
            // All stages of a pipeline are defined in the same way.
            "entry": entries.next(),
        })
    }

    /// Where the function of a stage comes from.
    fn entry(&self, action: &PythonAction) -> serde_json::Value {
        match action {
            PythonAction::Target(target) => serde_json::json!({ "python": target }),
            PythonAction::Function { .. } => {
                serde_json::json!({ "file": self.pipeline.project().definition.file() })
            }
        }
    }

    /// The request that makes the helper run a Python stage.
    pub(crate) fn run_request(
        &self,
        task: TaskId,
        variable: Option<&(&str, String)>,
    ) -> Option<serde_json::Value> {
        let stage = self.pipeline.stage(task);
        let Action::Python(action) = &stage.action else { return None };
        let project = self.pipeline.project();
        let entry = self.entry(action);
        let outs = stage
            .outs
            .iter()
            .map(|out| serde_json::json!({ "path": out.path.as_str(), "kind": out.kind.as_str() }));
        // What the run does beyond these it reports.
        let manifest = self.codes[task.index()].manifest.components().iter().map(|component| {
            (component.name.as_str(), component.place.as_ref().map(|place| place.file.as_str()))
        });
        Some(serde_json::json!({
            "type": "run",
            "root": project.root,
            "entry": entry,
            "stage": stage.name.as_str(),
            "environment": variable.into_iter().cloned().collect::<HashMap<_, _>>(),
            "params": self.params[task.index()],
            "deps": stage.deps.iter().map(|dep| dep.as_str()).collect::<Vec<_>>(),
            "outs": outs.collect::<Vec<_>>(),
            "manifest": manifest.collect::<Vec<_>>(),
            "covered": self.codes[task.index()].covered,
            "mentions": self.codes[task.index()].mentions,
            "variant": stage.name.variant(),
            "cwd": stage.cwd.as_ref().map(|cwd| cwd.as_str()),
        }))
    }

    /// The first file that was executed with other bytes than were inspected.
    pub(crate) fn changed_source(&self, executed: &BTreeMap<String, String>) -> Option<String> {
        self.witness.changed_source(&self.pipeline.project().root, executed)
    }
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn the_order_of_paths_is_independent_of_their_names() {
        assert_eq!(order(["b", "a", "c"].into_iter()), [1, 0, 2]);
        assert_eq!(order(["y", "x", "z"].into_iter()), [1, 0, 2]);
        assert!(order(["a", "b"].into_iter()).is_sorted());
    }
}
