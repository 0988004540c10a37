//! Asks Python which stages a pipeline declares and what code each depends on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::frame::FrameError;
use crate::helper::{Helper, HelperError, StartOptions, StreamTo};
use crate::interpreter::Interpreter;
use crate::manifest::{CodeHash, Component, Manifest, Note, SourcePlace};
use crate::witness::{Stamp, Witness};

/// What to import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// A pipeline file, relative to the root, whose import declares the stages.
    File(String),
    /// Functions by name, declared elsewhere: one JSON object a stage with at least `stage` and
    /// `python` (`module.function`). With `command` in place of `python` it asks for the
    /// project's scripts that a shell command executes.
    Targets(Vec<serde_json::Value>),
    /// Functions by name, `module.function`, of a project that declares no stages. Each is
    /// reported as a stage of that name; nothing is bound to their arguments.
    Functions(Vec<String>),
}

/// What an inspection shall look at.
#[derive(Clone, Debug, Serialize)]
pub struct InspectRequest {
    #[serde(rename = "type")]
    kind: &'static str,
    root: PathBuf,
    entry: Entry,
    /// An object with params by stage name, laid over what the stages declare.
    pub overrides: serde_json::Value,
    /// What counts: `{"packages": "exact" | "minor" | "ignore"}`, the first unless given.
    pub settings: serde_json::Value,
}

impl InspectRequest {
    /// A request for the project at `root`.
    pub fn new(root: &Path, entry: Entry) -> Self {
        Self {
            kind: "inspect",
            root: root.to_owned(),
            entry,
            overrides: serde_json::json!({}),
            settings: serde_json::json!({}),
        }
    }
}

/// One stage as Python knows it.
#[derive(Clone, Debug)]
pub struct InspectedStage {
    /// The stage's name.
    pub name: String,
    /// The code that it depends on.
    pub manifest: Manifest,
    /// What the manifest covers more coarsely than usual.
    pub notes: Vec<Note>,
    /// Which code objects the manifest covers, for the process that runs the stage.
    pub covered: String,
    /// Words in the code that may be paths of files which programs or libraries read.
    pub mentions: Vec<String>,
    /// Everything that was declared, for the reader of definitions.
    pub declared: serde_json::Value,
}

/// The answer to an inspection.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The stages in the order of their declaration.
    pub stages: Vec<InspectedStage>,
    /// What the import looked at.
    pub witness: Witness,
    /// Installed modules that the pipeline's code imports, in the bodies of functions as well.
    pub preload: Vec<String>,
    /// Python's version: major, minor, micro.
    pub python_version: (u32, u32, u32),
    /// The name of Python's note about functions whose edit can be told without an import.
    pub edits: Option<String>,
}

/// One source file that has changed since an inspection, for [`edited`].
#[derive(Clone, Debug)]
pub struct EditRequest<'r> {
    /// The project.
    pub root: &'r Path,
    /// The name of the note that belongs to the inspection.
    pub name: &'r str,
    /// The file that changed; it is the only thing that did.
    pub file: &'r Path,
}

/// What an edit of a function's body has changed.
#[derive(Clone, Debug, Deserialize)]
pub struct EditedFunction {
    /// The name of the note for the next edit.
    pub name: String,
    /// BLAKE2b-128 of the file as it was read.
    pub(crate) hash: String,
    pub(crate) stat: Stamp,
    /// Where the function begins, as its components have it.
    pub file: String,
    /// The line of that place, counted from 1.
    pub line: u32,
    /// The new hash of each component of the function by the old one.
    pub hashes: BTreeMap<CodeHash, CodeHash>,
}

/// Something that Python found wrong, or the user's own exception.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Error)]
#[error("{message}")]
pub struct PythonFailure {
    /// `import`, `declare`, `params`, `bind` or `internal`.
    pub kind: String,
    /// The stage that is concerned.
    #[serde(default)]
    pub stage: Option<String>,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// The file, relative to the project where it lies inside.
    #[serde(default)]
    pub file: Option<String>,
    /// The line in that file, counted from 1.
    #[serde(default)]
    pub line: Option<u32>,
    /// The user's own frames, as Python prints them.
    #[serde(default)]
    pub traceback: Option<String>,
    /// The single findings of a params model.
    #[serde(default)]
    pub details: Vec<ErrorDetail>,
}

/// One finding of a params model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorDetail {
    /// The keys that lead to the value.
    pub loc: Vec<String>,
    /// What is wrong with it.
    pub message: String,
}

/// Why there is no inspection.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The pipeline could not be imported or declares something wrong.
    #[error(transparent)]
    Python(Box<PythonFailure>),
    /// Python could not be started or broke off.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// Python ended in the middle of the import.
    #[error("Python ended while it imported the pipeline ({status})")]
    Ended {
        /// How it ended.
        status: std::process::ExitStatus,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Answer {
    Inspected {
        stages: Vec<serde_json::Value>,
        witness: serde_json::Value,
        #[serde(default)]
        preload: Vec<String>,
        #[serde(default)]
        edits: Option<String>,
    },
    Failed {
        error: PythonFailure,
    },
}

/// The parts of a declared stage that belong to the fingerprint.
#[derive(Deserialize)]
struct CodeOfStage {
    name: String,
    code: Vec<ComponentFrame>,
    #[serde(default)]
    notes: Vec<NoteFrame>,
    #[serde(default)]
    covered: String,
    #[serde(default)]
    mentions: Vec<String>,
}

#[derive(Deserialize)]
struct ComponentFrame {
    name: String,
    hash: CodeHash,
    file: Option<String>,
    line: Option<u32>,
}

#[derive(Deserialize)]
struct NoteFrame {
    text: String,
    file: Option<String>,
    line: Option<u32>,
}

fn place(file: Option<String>, line: Option<u32>) -> Option<SourcePlace> {
    Some(SourcePlace { file: file?, line: line.unwrap_or(1) })
}

/// Imports a pipeline in a fresh Python process and reports its stages.
///
/// What the user's modules print while they are imported goes to standard error.
///
/// # Errors
/// When Python cannot be started, or the import or a declaration fails.
pub fn inspect(python: &Interpreter, request: &InspectRequest) -> Result<Inspection, InspectError> {
    inspect_with(Helper::start(python, options(&request.root))?, request)
}

/// As [`inspect`], with a helper that has just started.
///
/// # Errors
/// When the import or a declaration fails, or Python ends.
pub fn inspect_with(
    mut helper: Helper,
    request: &InspectRequest,
) -> Result<Inspection, InspectError> {
    let hello = helper.hello()?;
    helper.send(request)?;
    let answer = match helper.receive() {
        Err(HelperError::Frame(FrameError::Closed)) => {
            let status = helper.wait().map_err(|e| HelperError::Frame(FrameError::Io(e)))?;
            return Err(InspectError::Ended { status });
        }
        other => other?,
    };
    let malformed = |error| HelperError::Frame(FrameError::Malformed(error));
    match serde_json::from_slice(&answer).map_err(malformed)? {
        Answer::Failed { error } => Err(InspectError::Python(Box::new(error))),
        Answer::Inspected { stages, witness, preload, edits } => Ok(Inspection {
            preload,
            edits,
            stages: stages
                .into_iter()
                .map(inspected_stage)
                .collect::<Result<_, _>>()
                .map_err(malformed)?,
            witness: Witness::from_json(witness).map_err(malformed)?,
            python_version: hello.py,
        }),
    }
}

fn options(root: &Path) -> StartOptions {
    StartOptions {
        directory: root.to_owned(),
        streams: StreamTo::StandardError,
        environment: Vec::new(),
    }
}

/// What came of asking whether a change is an edit of a function's body.
#[derive(Debug)]
pub enum Edited {
    /// It is, and that is all it changes.
    Function(EditedFunction),
    /// It is another change: [`inspect_with`] this helper.
    Other(Helper),
}

/// Asks whether the change of one file is an edit of a function's body that cannot have changed
/// what an import makes. Nothing of the user's is imported.
///
/// # Errors
/// When Python cannot be started or breaks off.
pub fn edited(python: &Interpreter, request: &EditRequest<'_>) -> Result<Edited, HelperError> {
    #[derive(Deserialize)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Answer {
        Edited(EditedFunction),
        Other,
    }
    let question = [request.root.as_os_str(), OsStr::new(request.name), request.file.as_os_str()];
    let mut helper = Helper::start_for_edit(python, options(request.root), question)?;
    helper.hello()?;
    match serde_json::from_slice(&helper.receive()?).map_err(FrameError::Malformed)? {
        Answer::Edited(function) => Ok(Edited::Function(function)),
        Answer::Other => Ok(Edited::Other(helper)),
    }
}

/// The current hashes of components by their names, without importing anything; `None` where
/// there is nothing. These are components that a run has reported as `extras`.
///
/// # Errors
/// When Python cannot be started, breaks off or fails.
pub fn digest(
    python: &Interpreter,
    root: &Path,
    names: &[String],
) -> Result<Vec<Option<CodeHash>>, InspectError> {
    #[derive(Deserialize)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Answer {
        Digests { hashes: Vec<Option<CodeHash>> },
        Failed { error: PythonFailure },
    }
    let mut helper = Helper::start(python, options(root))?;
    helper.hello()?;
    helper.send(&serde_json::json!({ "type": "digest", "root": root, "names": names }))?;
    let malformed = |error| HelperError::Frame(FrameError::Malformed(error));
    match serde_json::from_slice(&helper.receive()?).map_err(malformed)? {
        Answer::Digests { hashes } => Ok(hashes),
        Answer::Failed { error } => Err(InspectError::Python(Box::new(error))),
    }
}

fn inspected_stage(mut declared: serde_json::Value) -> Result<InspectedStage, serde_json::Error> {
    let code = CodeOfStage::deserialize(&declared)?;
    if let Some(fields) = declared.as_object_mut() {
        fields.remove("code");
        fields.remove("notes");
        fields.remove("covered");
        fields.remove("mentions");
    }
    let components = code.code.into_iter().map(|c| Component {
        name: c.name,
        hash: c.hash,
        place: place(c.file, c.line),
    });
    let notes = code.notes.into_iter().map(|n| Note { text: n.text, place: place(n.file, n.line) });
    Ok(InspectedStage {
        name: code.name,
        manifest: Manifest::new(components.collect()),
        notes: notes.collect(),
        covered: code.covered,
        mentions: code.mentions,
        declared,
    })
}
