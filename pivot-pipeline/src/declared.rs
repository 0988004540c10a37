//! Stages on their way to Python and back.
//!
//! Python is told about the functions that a `pivot.yaml` names ([`python_targets`]) and answers
//! with their effective params ([`adopt`]); for a `pipeline.py` it declares the stages
//! itself ([`DeclaredStage`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use crate::error::{PipelineError, Problem};
use crate::name::StageName;
use crate::path::ProjectPath;
use crate::place::Place;
use crate::resources::amount;
use crate::stage::{Action, Out, OutKind, PythonAction, Resources, Stage};
use crate::time_limit;
use crate::value::{Map, Params, Value};

/// One stage as Python reports it.
#[derive(Clone, Debug, Deserialize)]
pub struct DeclaredStage {
    /// The whole name.
    pub name: String,
    /// The function that it calls.
    pub function: DeclaredFunction,
    /// Where it was declared.
    pub place: DeclaredPlace,
    /// What it reads.
    #[serde(default)]
    pub deps: Vec<String>,
    /// What it writes.
    #[serde(default)]
    pub outs: Vec<DeclaredOut>,
    /// Its effective params, after models and overrides.
    #[serde(default)]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Whether a model has validated the params.
    #[serde(default)]
    pub params_model: bool,
    /// The names that it shares with stages that may not run at the same time.
    #[serde(default)]
    pub mutex: Vec<String>,
    /// The folder that it runs in.
    #[serde(default)]
    pub cwd: Option<String>,
    /// What it occupies while it runs.
    #[serde(default)]
    pub resources: BTreeMap<String, serde_json::Value>,
    /// How long it may run: seconds, or a text such as `15m`.
    #[serde(default)]
    pub timeout: Option<serde_json::Value>,
}

/// A function's module and its name there.
#[derive(Clone, Debug, Deserialize)]
pub struct DeclaredFunction {
    /// The module.
    pub module: String,
    /// The name in it, with dots where it is nested.
    pub qualname: String,
}

/// A line of a source file.
#[derive(Clone, Debug, Deserialize)]
pub struct DeclaredPlace {
    /// The file, relative to the project.
    pub file: String,
    /// The line, counted from 1.
    #[serde(default)]
    pub line: u32,
}

/// An output as Python reports it.
#[derive(Clone, Debug, Deserialize)]
pub struct DeclaredOut {
    /// Where it lies.
    pub path: String,
    /// What it is for.
    #[serde(default)]
    pub kind: DeclaredKind,
    /// Whether the cache keeps it; if nothing is said, as usual for its kind.
    #[serde(default)]
    pub cache: Option<bool>,
    /// The field for the horizontal axis of a plot.
    #[serde(default)]
    pub x: Option<String>,
    /// The field for the vertical axis of a plot.
    #[serde(default)]
    pub y: Option<String>,
    /// The template of a plot.
    #[serde(default)]
    pub template: Option<String>,
}

/// What a declared output is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeclaredKind {
    /// Data.
    #[default]
    Out,
    /// Numbers.
    Metric,
    /// Data to draw.
    Plot,
    /// Data that the stage adds to.
    Incremental,
}

impl DeclaredStage {
    /// Reads one element of the `stages` that Python reports.
    ///
    /// # Errors
    ///
    /// When a field is missing or has the wrong type.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, PipelineError> {
        Self::deserialize(json).map_err(|source| {
            let stage = json.get("name").and_then(|name| name.as_str()).unwrap_or("?").to_owned();
            Problem::Declared { stage, source }.into()
        })
    }

    /// The stage, with its name, paths and params checked.
    ///
    /// # Errors
    ///
    /// When one of them is not valid; the place is that of the declaration.
    pub fn into_stage(self) -> Result<Stage, PipelineError> {
        let place = self.place();
        let at = |problem: Problem| PipelineError::new(problem).at(place.clone());
        let params = self.effective_params()?;
        let path = |role: &'static str, text: &str| {
            ProjectPath::new(text).map_err(|reason| {
                at(Problem::Path { stage: self.name.clone(), role, path: text.to_owned(), reason })
            })
        };
        let deps = self.deps.iter().map(|dep| path("dependency", dep)).collect::<Result<_, _>>()?;
        let outs = self
            .outs
            .iter()
            .map(|out| {
                let kind = match out.kind {
                    DeclaredKind::Out => OutKind::Plain,
                    DeclaredKind::Metric => OutKind::Metric,
                    DeclaredKind::Incremental => OutKind::Incremental,
                    DeclaredKind::Plot => OutKind::Plot {
                        x: out.x.clone(),
                        y: out.y.clone(),
                        template: out.template.clone(),
                    },
                };
                if kind == OutKind::Incremental && out.cache == Some(false) {
                    return Err(at(Problem::IncrementalWithoutCache { path: out.path.clone() }));
                }
                let usual = Out::new(path("output", &out.path)?, kind);
                Ok(Out { cache: out.cache.unwrap_or(usual.cache), ..usual })
            })
            .collect::<Result<_, _>>()?;
        let cwd = match self.cwd.as_deref() {
            None | Some("" | "." | "./") => None,
            Some(cwd) => Some(path("working folder", cwd)?),
        };
        let mut resources = Resources::new();
        for (name, json) in &self.resources {
            let value = Value::from_json(json).ok();
            let Some(amount) = value.and_then(|value| amount(name, &value)) else {
                return Err(at(Problem::ResourceAmount {
                    stage: self.name.clone(),
                    name: name.clone(),
                    amount: json.to_string(),
                }));
            };
            resources.insert(name.clone(), amount);
        }
        let timeout = match &self.timeout {
            None => None,
            Some(json) => {
                let limit = Value::from_json(json).ok().as_ref().and_then(time_limit::of_value);
                let problem = || {
                    let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
                    at(Problem::TimeLimit { stage: self.name.clone(), text })
                };
                Some(limit.ok_or_else(problem)?)
            }
        };
        let name = StageName::new(self.name.as_str())
            .map_err(|reason| at(Problem::StageName { name: self.name.clone(), reason }))?;
        let DeclaredFunction { module, qualname } = self.function;
        let action = Action::Python(PythonAction::Function { module, qualname });
        let mutex = self.mutex;
        Ok(Stage { name, place, action, deps, outs, params, mutex, cwd, resources, timeout })
    }

    fn place(&self) -> Place {
        Place::new(Arc::from(self.place.file.as_str()), self.place.line, 0)
    }

    fn effective_params(&self) -> Result<Params, PipelineError> {
        let mut params = Map::with_capacity(self.params.len());
        for (name, json) in &self.params {
            let value = Value::from_json(json).map_err(|reason| {
                let (stage, param) = (self.name.clone(), name.clone());
                PipelineError::new(Problem::DeclaredParam { stage, param, reason }).at(self.place())
            })?;
            params.insert(name.clone(), value);
        }
        Ok(Params::new(params))
    }
}

/// The `targets` of an inspection: those of `stages` that name a function to import.
pub fn python_targets(stages: &[Stage]) -> serde_json::Value {
    stages.iter().filter_map(python_target).collect()
}

fn python_target(stage: &Stage) -> Option<serde_json::Value> {
    let Action::Python(PythonAction::Target(python)) = &stage.action else { return None };
    let outs: Vec<_> = stage
        .outs
        .iter()
        .map(|out| json!({"path": out.path.as_str(), "kind": out.kind.as_str()}))
        .collect();
    let deps: Vec<_> = stage.deps.iter().map(ProjectPath::as_str).collect();
    Some(json!({
        "stage": stage.name.as_str(),
        "python": python,
        "params": stage.params.to_json(),
        "deps": deps,
        "outs": outs,
        "variant": stage.name.variant(),
        "place": {"file": &*stage.place.file, "line": stage.place.line},
    }))
}

/// Gives each of `stages` that names a function the effective params that Python reports.
///
/// # Errors
///
/// When Python left one of them out, or reports a param that is not valid.
pub fn adopt(stages: &mut [Stage], declared: &[DeclaredStage]) -> Result<(), PipelineError> {
    let by_name: HashMap<_, _> = declared.iter().map(|d| (d.name.as_str(), d)).collect();
    for stage in stages {
        if !matches!(stage.action, Action::Python(PythonAction::Target(_))) {
            continue;
        }
        let Some(declared) = by_name.get(stage.name.as_str()) else {
            let problem = Problem::NotDeclared { stage: stage.name.to_string() };
            return Err(PipelineError::new(problem).at(stage.place.clone()));
        };
        stage.params = declared.effective_params()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::parse_definition;
    use crate::error::printed;

    fn declared() -> serde_json::Value {
        json!({
            "name": "train@a", "base": "train", "variant": "a",
            "function": {"module": "pipeline", "qualname": "train"},
            "place": {"file": "pipeline.py", "line": 12},
            "deps": ["./data.csv"],
            "outs": [
                {"path": "model.pkl", "kind": "out", "cache": true, "x": null, "y": null, "template": null},
                {"path": "m.json", "kind": "metric", "cache": false},
                {"path": "p.csv", "kind": "plot", "cache": true, "x": "step"},
                {"path": "db", "kind": "incremental"},
            ],
            "params": {"lr": 0.1, "n": 1, "opt": {"b": [1.0, null]}},
            "params_model": true, "mutex": ["gpu"], "cwd": null,
            "resources": {"cpus": 2, "memory": "1GB"}, "timeout": 1.5,
            "code": [], "notes": [],
        })
    }

    fn with(key: &str, value: serde_json::Value) -> Result<Stage, PipelineError> {
        let mut json = declared();
        json[key] = value;
        DeclaredStage::from_json(&json)?.into_stage()
    }

    #[test]
    fn becomes_a_stage() {
        let stage = DeclaredStage::from_json(&declared()).unwrap().into_stage().unwrap();
        assert_eq!(stage.name.as_str(), "train@a");
        assert_eq!(stage.place.to_string(), "pipeline.py:12");
        assert_eq!(stage.deps[0].as_str(), "data.csv");
        assert_eq!(
            stage.outs.iter().map(|o| o.cache).collect::<Vec<_>>(),
            [true, false, true, true]
        );
        assert_eq!(
            stage.outs[2].kind,
            OutKind::Plot { x: Some("step".into()), y: None, template: None }
        );
        assert_eq!(stage.params.canonical(), r#"{"lr":0.1,"n":1,"opt":{"b":[1.0,null]}}"#);
        assert_eq!(stage.resources["memory"], 1_000_000_000);
        assert_eq!(stage.timeout, Some(std::time::Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_wrong_has_the_place_of_the_declaration() {
        let cases = [
            (
                "name",
                json!("a b"),
                "error: `a b` is not a stage name: ` ` is not a letter, a digit or one of `_-.@`\n  --> pipeline.py:12\nhint: stage names are made of letters, digits and `_-.@`",
            ),
            (
                "deps",
                json!(["/etc/passwd"]),
                "error: `/etc/passwd` cannot be a dependency of stage `train@a`: it is absolute\n  --> pipeline.py:12\nhint: write it relative to the project's root, inside the project",
            ),
            (
                "outs",
                json!([{"path": ".pivot/x"}]),
                "error: `.pivot/x` cannot be an output of stage `train@a`: it belongs to Pivot itself\n  --> pipeline.py:12\nhint: keep stages out of `.pivot`",
            ),
            (
                "outs",
                json!([{"path": "x", "kind": "incremental", "cache": false}]),
                "error: incremental output `x` needs the cache, but has `cache: false`\n  --> pipeline.py:12\nhint: an incremental output is restored from the cache before each run",
            ),
            (
                "cwd",
                json!("../x"),
                "error: `../x` cannot be a working folder of stage `train@a`: it contains `..`\n  --> pipeline.py:12\nhint: write it relative to the project's root, inside the project",
            ),
            (
                "resources",
                json!({"cpus": "many"}),
                "error: `\"many\"` is not an amount of `cpus` for stage `train@a`\n  --> pipeline.py:12\nhint: write a whole number",
            ),
            (
                "timeout",
                json!("soon"),
                "error: `soon` is not a time that stage `train@a` may take\n  --> pipeline.py:12\nhint: write seconds, or a number with a unit, such as 90s, 15m or 2h",
            ),
            (
                "params",
                json!({"n": 9223372036854775808u64}),
                "error: param `n` of stage `train@a` cannot be used: the integer 9223372036854775808 does not fit into 64 bits\n  --> pipeline.py:12",
            ),
            (
                "outs",
                json!([{"path": 1}]),
                "error: cannot read what Python declared as stage `train@a`",
            ),
        ];
        for (key, value, expected) in cases {
            assert_eq!(printed(&with(key, value).unwrap_err()), expected);
        }
    }

    #[test]
    fn targets_are_the_python_stages_of_a_definition() {
        let text = b"stages:\n  a:\n    cmd: x\n  t:\n    python: m.f\n    deps: [d]\n    metrics: [j]\n    params: {lr: 1}\n    variants: [{name: v}]\n";
        let mut stages = parse_definition("pivot.yaml", text).unwrap();
        assert_eq!(
            python_targets(&stages),
            json!([{
                "stage": "t@v", "python": "m.f", "params": {"lr": 1}, "deps": ["d"],
                "outs": [{"path": "j", "kind": "metric"}], "variant": "v",
                "place": {"file": "pivot.yaml", "line": 4},
            }])
        );
        let mut answer = declared();
        answer["name"] = json!("t@v");
        adopt(&mut stages, &[DeclaredStage::from_json(&answer).unwrap()]).unwrap();
        assert_eq!(stages[1].params.get("n"), Some(&Value::Int(1)));
        assert!(stages[0].params.is_empty());
        assert_eq!(
            printed(&adopt(&mut stages, &[]).unwrap_err()),
            "error: Python declared no stage `t@v`\n  --> pivot.yaml:4:3"
        );
    }
}
