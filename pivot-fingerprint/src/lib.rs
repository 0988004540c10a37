//! Which Python code a function depends on, and when to look again.
//!
//! A Python process, the *helper*, imports a pipeline and reports for each stage a
//! [`Manifest`]: every piece of code and every constant that the stage can reach, each with
//! a hash and a place. Together with the stages comes a [`Witness`] of everything that the
//! import looked at (sources, environment, folders, packages). As long as the witness
//! [holds](Witness::check), the manifests are still true and no Python needs to start.
//!
//! ```no_run
//! use pivot_fingerprint::{Entry, InspectRequest, Interpreter, Search};
//!
//! let root = std::path::Path::new("/home/me/project");
//! let python = Interpreter::find(&Search::from_environment(root))?;
//! let request = InspectRequest::new(root, Entry::File("pipeline.py".into()));
//! let inspection = pivot_fingerprint::inspect(&python, &request)?;
//! for stage in &inspection.stages {
//!     for component in stage.manifest.components() {
//!         println!("{} {} {:?}", component.name, component.hash, component.place);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod frame;
mod helper;
mod inspect;
mod interpreter;
mod manifest;
mod package;
mod witness;

pub use frame::{FrameError, read_frame, write_frame};
pub use helper::{Hello, Helper, HelperError, Prepared, StartOptions, StreamTo};
pub use inspect::{
    EditRequest, Edited, EditedFunction, Entry, ErrorDetail, InspectError, InspectRequest,
    InspectedStage, Inspection, PythonFailure, digest, edited, inspect, inspect_with,
};
pub use interpreter::{Candidate, Interpreter, InterpreterError, Search};
pub use manifest::{CodeHash, Component, Manifest, Note, SourcePlace};
pub use package::{PackageError, package_digest, unpack};
pub use witness::{Change, Holds, SourceEdit, Witness};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
