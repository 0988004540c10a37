//! Which project a command is about.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::definition::parse_definition;
use crate::error::{PipelineError, Problem};
use crate::stage::Stage;

/// The files that define a pipeline; where there are several, the first counts.
pub const DEFINITION_FILES: [&str; 3] = ["pivot.yaml", "pivot.yml", "pipeline.py"];

/// A folder with a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Project {
    /// The folder that all paths are relative to.
    pub root: PathBuf,
    /// The file that defines the pipeline.
    pub definition: Definition,
}

/// Which file defines a pipeline; the name is relative to the project's root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Definition {
    /// A `pivot.yaml` or `pivot.yml`.
    Yaml(String),
    /// A `pipeline.py`.
    Python(String),
}

impl Definition {
    /// The name of the file.
    pub fn file(&self) -> &str {
        match self {
            Self::Yaml(file) | Self::Python(file) => file,
        }
    }
}

impl Project {
    /// Finds the project that `start` is in: the nearest folder, `start` or above it, with a
    /// pipeline file or a `.pivot` folder.
    ///
    /// # Errors
    ///
    /// When there is no such folder, or it has no pipeline file.
    pub fn discover(start: &Path) -> Result<Self, PipelineError> {
        match Self::find_root(start) {
            Some(root) => Self::at(&root),
            None => Err(Problem::NoProject { start: start.to_owned() }.into()),
        }
    }

    /// The root of the project that `start` is in, whether it has a pipeline file or not.
    pub fn find_root(start: &Path) -> Option<PathBuf> {
        let start = std::path::absolute(start).ok()?;
        let is_root =
            |folder: &&Path| definition_in(folder).is_some() || folder.join(".pivot").is_dir();
        start.ancestors().find(is_root).map(Path::to_owned)
    }

    /// The project whose root is `root`.
    ///
    /// # Errors
    ///
    /// When it has no pipeline file, or its path is not UTF-8 text, which Python is told it in.
    pub fn at(root: &Path) -> Result<Self, PipelineError> {
        if root.to_str().is_none() {
            return Err(Problem::RootNotUtf8 { root: root.to_owned() }.into());
        }
        let definition = definition_in(root)
            .ok_or_else(|| PipelineError::new(Problem::NoDefinition { root: root.to_owned() }))?;
        Ok(Self { root: root.to_owned(), definition })
    }

    /// The file that defines the pipeline.
    pub fn definition_path(&self) -> PathBuf {
        self.root.join(self.definition.file())
    }

    /// The stages that a `pivot.yaml` declares; `None` when Python does.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not YAML or does not define stages.
    pub fn read_definition(&self) -> Result<Option<Vec<Stage>>, PipelineError> {
        let Definition::Yaml(file) = &self.definition else { return Ok(None) };
        let bytes = std::fs::read(self.definition_path()).map_err(|source| {
            PipelineError::new(Problem::Io { action: "read", file: file.clone(), source })
        })?;
        parse_definition(file, &bytes).map(Some)
    }
}

fn definition_in(folder: &Path) -> Option<Definition> {
    let file = DEFINITION_FILES.into_iter().find(|file| folder.join(file).is_file())?;
    Some(match file.ends_with(".py") {
        true => Definition::Python(file.to_owned()),
        false => Definition::Yaml(file.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::printed;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "stages: {}").unwrap();
        }
        root
    }

    #[test]
    fn the_first_kind_of_file_counts() {
        let all = ["pipeline.py", "pivot.yml", "pivot.yaml"];
        for (count, expected) in [(1, "pipeline.py"), (2, "pivot.yml"), (3, "pivot.yaml")] {
            let root = folder(&all[..count]);
            let project = Project::discover(root.path()).unwrap();
            assert_eq!(project.definition.file(), expected);
            assert_eq!(project.read_definition().unwrap().is_none(), expected == "pipeline.py");
        }
    }

    #[test]
    fn the_nearest_folder_counts() {
        let root = folder(&["pipeline.py", "sub/pivot.yml", "sub/deep/x", "other/x"]);
        let found = |start: &str| {
            let project = Project::discover(&root.path().join(start)).unwrap();
            project.definition_path().strip_prefix(root.path()).unwrap().to_owned()
        };
        assert_eq!(found("sub/deep"), Path::new("sub/pivot.yml"));
        assert_eq!(found("other"), Path::new("pipeline.py"));
        assert_eq!(found("not/there"), Path::new("pipeline.py"));
    }

    #[test]
    fn a_folder_of_that_name_is_no_definition() {
        let root = folder(&["pivot.yaml/x", "pipeline.py"]);
        assert_eq!(Project::discover(root.path()).unwrap().definition.file(), "pipeline.py");
    }

    #[test]
    fn a_path_that_is_not_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;

        let parent = folder(&[]);
        let root = parent.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("pipeline.py"), "").unwrap();
        let error = Project::discover(&root).unwrap_err();
        assert_eq!(
            printed(&error).replace(&parent.path().display().to_string(), "PARENT"),
            "error: the project's path is not UTF-8 text: `PARENT/caf\u{fffd}`\n\
             hint: rename the folder"
        );
    }

    #[test]
    fn says_what_is_missing() {
        let root = folder(&["a/x"]);
        let error = Project::discover(&root.path().join("a")).unwrap_err();
        assert_eq!(
            printed(&error).replace(&root.path().display().to_string(), "ROOT"),
            "error: no pipeline found in `ROOT/a` or a folder above it\n\
             hint: `pivot init` makes a first pipeline here; a project elsewhere is named with -C"
        );
        std::fs::create_dir(root.path().join(".pivot")).unwrap();
        let error = Project::discover(&root.path().join("a")).unwrap_err();
        assert_eq!(
            printed(&error).replace(&root.path().display().to_string(), "ROOT"),
            "error: the project `ROOT` has no pipeline\n\
             hint: create a pivot.yaml or a pipeline.py there"
        );
    }
}
