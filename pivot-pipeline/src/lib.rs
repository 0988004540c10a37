//! The definition of a pipeline: which stages exist, what they read and write, and with which
//! params.
//!
//! [`Project::discover`] finds the file that defines the pipeline. A `pivot.yaml` is read here,
//! with every matrix expanded; a `pipeline.py` is run by Python, whose [`DeclaredStage`]s become
//! [`Stage`]s. [`Overrides`] from `params.yaml` and the command line are laid on their params,
//! and [`Pipeline::new`] checks the whole and builds its graph.
//!
//! ```
//! use pivot_pipeline::{Definition, Overrides, ParamsFile, Pipeline, Project, parse_definition};
//!
//! let yaml = "
//! stages:
//!   prepare: {cmd: ./prepare, outs: [data.csv]}
//!   train:
//!     python: stages.train
//!     deps: [data.csv]
//!     outs: ['${model}.pkl']
//!     matrix: {model: [bert, gpt]}
//! ";
//! let mut stages = parse_definition("pivot.yaml", yaml.as_bytes())?;
//! let params = ParamsFile::parse(b"train@gpt: {lr: 0.1}")?;
//! Overrides::new(&params, &[])?.apply(&mut stages)?;
//!
//! let project = Project { root: ".".into(), definition: Definition::Yaml("pivot.yaml".into()) };
//! let pipeline = Pipeline::new(project, stages)?;
//! let gpt = pipeline.task("train@gpt").unwrap();
//! assert_eq!(pipeline.stage(gpt).outs[0].path.as_str(), "gpt.pkl");
//! assert_eq!(pipeline.stage(gpt).params.canonical(), r#"{"lr":0.1}"#);
//! assert_eq!(pipeline.graph().upstream(gpt), [pipeline.task("prepare").unwrap()]);
//! # Ok::<(), pivot_pipeline::PipelineError>(())
//! ```
//!
//! Everything a person wrote may be wrong: a [`PipelineError`] says what, where and what to do.
//! Text is never trusted, so depth, size and the expansion of aliases and matrices are bounded.

mod declared;
mod definition;
mod discover;
mod error;
mod graph;
mod matrix;
mod name;
mod params;
mod path;
mod pipeline;
mod place;
mod resources;
mod stage;
mod suggest;
mod template;
mod time_limit;
mod value;
mod yaml;

pub use declared::{
    DeclaredFunction, DeclaredKind, DeclaredOut, DeclaredPlace, DeclaredStage, adopt,
    python_targets,
};
pub use definition::parse_definition;
pub use discover::{DEFINITION_FILES, Definition, Project};
pub use error::{PipelineError, Problem};
pub use name::{NameError, StageName};
pub use params::{Override, Overrides, PARAMS_FILE, ParamsFile, UnknownStage};
pub use path::{PathError, ProjectPath};
pub use pipeline::{NoSuchStage, Pipeline, fits_pattern};
pub use place::Place;
pub use resources::resource_amount;
pub use stage::{Action, Out, OutKind, PythonAction, Resources, Stage};
pub use suggest::closest;
pub use time_limit::time_limit;
pub use value::{Map, Params, Value, ValueError};
pub use yaml::YamlText;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
