//! What a stage is, whoever declared it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::StageName;
use crate::path::ProjectPath;
use crate::place::Place;
use crate::value::Params;

/// Named amounts that a stage occupies while it runs: `cpus`, `memory` in bytes, `gpus`, or any
/// name of the user's.
pub type Resources = BTreeMap<String, u64>;

/// A named piece of work with what it reads and writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The name, unique in its pipeline.
    pub name: StageName,
    /// Where it is defined.
    pub place: Place,
    /// What runs.
    pub action: Action,
    /// What it reads, in the order of declaration, which binds them to arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "without_slack")]
    pub deps: Vec<ProjectPath>,
    /// What it writes, in the order of declaration.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "without_slack")]
    pub outs: Vec<Out>,
    /// Its params, as far as they are known; the effective ones once Python has seen them.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// Stages that share one of these names never run at the same time; `*` excludes all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutex: Vec<String>,
    /// The folder that it runs in; the project root where there is none. Deps and outs are
    /// relative to the project root all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<ProjectPath>,
    /// What it occupies while it runs.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// How long it may run. It says nothing about results, so a change of it makes nothing stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// Lists of one or two, of many stages: what they could grow by would take more than what they hold.
fn without_slack<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    let mut list = Vec::deserialize(from)?;
    list.shrink_to_fit();
    Ok(list)
}

impl Stage {
    /// The output at `path`.
    pub fn out(&self, path: &str) -> Option<&Out> {
        self.outs.iter().find(|out| out.path.as_str() == path)
    }
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Calls a Python function.
    Python(PythonAction),
    /// Runs a command in the shell.
    Shell {
        /// The text for `sh -c`.
        command: String,
    },
}

/// Which Python function a stage calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PythonAction {
    /// `python: stages.train` in pivot.yaml: a dotted name to import.
    Target(String),
    /// A function that the pipeline file declared as a stage.
    Function {
        /// The module that defines it.
        module: String,
        /// Its name in that module.
        qualname: String,
    },
}

impl fmt::Display for PythonAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => f.write_str(target),
            Self::Function { module, qualname } => write!(f, "{module}.{qualname}"),
        }
    }
}

/// A file or folder that a stage writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    /// Where it lies.
    pub path: ProjectPath,
    /// What it is for.
    #[serde(flatten)]
    pub kind: OutKind,
    /// Whether the cache keeps its bytes; if not, Git or nobody does.
    pub cache: bool,
}

impl Out {
    /// The output at `path` with the usual `cache` of its kind.
    pub fn new(path: ProjectPath, kind: OutKind) -> Self {
        let cache = kind.cached_by_default();
        Self { path, kind, cache }
    }
}

/// What an output is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OutKind {
    /// Data for other stages or for people.
    #[default]
    #[serde(rename = "out")]
    Plain,
    /// Numbers that tell how well a stage did; small, and by default kept in Git instead of the cache.
    Metric,
    /// Data to be drawn.
    Plot {
        /// The field for the horizontal axis.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        x: Option<String>,
        /// The field for the vertical axis.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        y: Option<String>,
        /// The name of a template.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        template: Option<String>,
    },
    /// Restored as a private copy before the stage runs, for the stage to add to.
    Incremental,
}

impl OutKind {
    /// Whether the cache keeps outputs of this kind unless told otherwise.
    pub fn cached_by_default(&self) -> bool {
        !matches!(self, Self::Metric)
    }

    /// The word for it in the protocol with Python.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Plain => "out",
            Self::Metric => "metric",
            Self::Plot { .. } => "plot",
            Self::Incremental => "incremental",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn survives_json() {
        let path = |text: &str| ProjectPath::new(text).unwrap();
        let plot = OutKind::Plot { x: Some("step".into()), y: None, template: None };
        let stage = Stage {
            name: "train@a".parse().unwrap(),
            place: Place::new("pivot.yaml", 3, 3),
            action: Action::Python(PythonAction::Target("stages.train".into())),
            deps: vec![path("data.csv")],
            outs: vec![
                Out::new(path("model.pkl"), OutKind::Plain),
                Out::new(path("metrics.json"), OutKind::Metric),
                Out::new(path("loss.csv"), plot),
                Out::new(path("db"), OutKind::Incremental),
            ],
            params: Params::new([("lr".to_owned(), Value::Float(0.5))].into_iter().collect()),
            mutex: vec!["gpu".into()],
            cwd: Some(path("sub")),
            resources: [("cpus".to_owned(), 2)].into(),
            timeout: Some(Duration::from_millis(1500)),
        };
        let text = serde_json::to_string(&stage).unwrap();
        assert_eq!(serde_json::from_str::<Stage>(&text).unwrap(), stage);
        assert_eq!(
            serde_json::to_value(&stage.outs[1]).unwrap(),
            serde_json::json!({"path": "metrics.json", "kind": "metric", "cache": false}),
        );
    }
}
