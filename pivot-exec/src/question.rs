//! What the answer to "which stages are there?" depends on, outside the modules that Python
//! imports.

use std::collections::BTreeMap;
use std::path::Path;

use pivot_fingerprint::{Interpreter, InterpreterError, Search};
use pivot_pipeline::{Definition, PARAMS_FILE};

use crate::load::{LoadError, LoadOptions};
use crate::plain_file;
use crate::project::OpenProject;

/// The question that loading a pipeline answers.
pub(crate) struct Question {
    /// Equal texts have equal answers, as long as the import's witness holds.
    pub(crate) text: String,
    pub(crate) python: Result<Interpreter, InterpreterError>,
}

impl Question {
    /// The question of this project, now.
    ///
    /// # Errors
    /// When the definition or the params cannot be read.
    pub(crate) fn of(project: &OpenProject, options: &LoadOptions) -> Result<Self, LoadError> {
        let search = Search::from_environment(project.root())
            .explicit(options.python.clone())
            .configured(project.config.python.clone());
        let python = Interpreter::find(&search);
        let definition = match &project.project.definition {
            Definition::Yaml(file) => digest(project.root(), file)?,
            // The witness covers it like every other module.
            Definition::Python(_) => None,
        };
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter(|(name, _)| name.to_string_lossy().starts_with("PYTHON"))
            .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
            .collect();
        let parts = serde_json::json!([
            env!("CARGO_PKG_VERSION"),
            pivot_fingerprint::package_digest(),
            project.root(),
            project.project.definition.file(),
            definition,
            digest(project.root(), PARAMS_FILE)?,
            options.overrides,
            project.config.fingerprint.packages,
            python.as_ref().ok().map(|python| python.path.display().to_string()),
            environment,
        ]);
        Ok(Self { text: parts.to_string(), python })
    }
}

/// The digest of a file; `None` if it does not exist.
fn digest(root: &Path, file: &str) -> Result<Option<String>, LoadError> {
    let bytes = plain_file::read(&root.join(file));
    let bytes = bytes.map_err(|source| LoadError::Read { path: file.to_owned(), source })?;
    Ok(bytes.map(|bytes| xxhash_rust::xxh3::xxh3_128(&bytes).to_string()))
}
