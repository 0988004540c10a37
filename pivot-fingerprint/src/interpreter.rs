//! Which Python runs a project's stages.
//!
//! The first of these that exists: an explicit path, the project's configuration, the active
//! virtual environment, `.venv` in the project or above it, an active conda environment,
//! pyenv's choice for the project, `python3` on the `PATH`. A pyenv shim is resolved to the
//! interpreter behind it, since the shim alone costs more than starting Python.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where to look for an interpreter.
#[derive(Clone, Debug)]
pub struct Search {
    root: PathBuf,
    explicit: Option<PathBuf>,
    configured: Option<PathBuf>,
    environment: HashMap<&'static str, OsString>,
}

/// The variables that decide.
const VARIABLES: [&str; 8] = [
    "PIVOT_PYTHON",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "PYENV_VERSION",
    "PYENV_ROOT",
    "HOME",
    "PATH",
];

impl Search {
    /// A search for the project at `root` with this process's environment.
    pub fn from_environment(root: &Path) -> Self {
        let found = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let environment = VARIABLES.iter().filter_map(|name| Some((*name, found(name)?))).collect();
        Self { root: root.to_owned(), explicit: None, configured: None, environment }
    }

    /// Takes this interpreter and no other.
    #[must_use]
    pub fn explicit(mut self, python: Option<PathBuf>) -> Self {
        self.explicit = python;
        self
    }

    /// The interpreter named in the project's configuration, relative to its root.
    #[must_use]
    pub fn configured(mut self, python: Option<PathBuf>) -> Self {
        self.configured = python.map(|path| self.root.join(path));
        self
    }

    fn variable(&self, name: &str) -> Option<&OsString> {
        self.environment.get(name)
    }

    fn directory(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from)
    }
}

/// An interpreter to run stages with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The executable; a symbolic link of a virtual environment is kept, as it names that.
    pub path: PathBuf,
    /// Why this one: "the active virtual environment", for example.
    pub reason: &'static str,
}

/// One place that was looked at, for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What kind of place this is.
    pub reason: &'static str,
    /// The interpreter there, when there is one.
    pub found: Option<PathBuf>,
    /// The path that was asked for but cannot be run, when that is an error.
    pub broken: Option<PathBuf>,
}

/// Why no interpreter can be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InterpreterError {
    /// Somebody named an interpreter that cannot be run.
    #[error("cannot run the Python named by {reason}: `{}`", .path.display())]
    Broken {
        /// Who named it.
        reason: &'static str,
        /// What was named.
        path: PathBuf,
    },
    /// Nothing was found anywhere.
    #[error("no Python was found")]
    NotFound,
}

impl Interpreter {
    /// The interpreter for a project.
    ///
    /// # Errors
    /// When a named one does not exist, or none is found.
    pub fn find(search: &Search) -> Result<Self, InterpreterError> {
        for candidate in Self::candidates(search) {
            if let Some(path) = candidate.broken {
                return Err(InterpreterError::Broken { reason: candidate.reason, path });
            }
            if let Some(path) = candidate.found {
                return Ok(Self { path, reason: candidate.reason });
            }
        }
        Err(InterpreterError::NotFound)
    }

    /// Every place in the order of preference, with what is there.
    pub fn candidates(search: &Search) -> Vec<Candidate> {
        let named = |reason, path: Option<PathBuf>| {
            let path = path.map(|path| on_path(search, path));
            let (found, broken) = match path {
                Some(path) if is_executable(&path) => (Some(path), None),
                other => (None, other),
            };
            Candidate { reason, found: found.map(|path| behind_shim(search, path)), broken }
        };
        let optional = |reason, found: Option<PathBuf>| Candidate { reason, found, broken: None };
        vec![
            named("`--python`", search.explicit.clone()),
            named("`PIVOT_PYTHON`", search.directory("PIVOT_PYTHON")),
            named("`python` in .pivot/config.yaml", search.configured.clone()),
            optional(
                "the active virtual environment",
                search.directory("VIRTUAL_ENV").and_then(|dir| in_environment(&dir)),
            ),
            optional(
                "a .venv of the project",
                search.root.ancestors().find_map(|dir| in_environment(&dir.join(".venv"))),
            ),
            optional("the active conda environment", conda(search)),
            optional("pyenv", pyenv(search)),
            optional("the PATH", python_on_path(search)),
        ]
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A bare name such as `python3.13` is looked up like a command.
fn on_path(search: &Search, path: PathBuf) -> PathBuf {
    if path.components().count() != 1 {
        return path;
    }
    path_directories(search).map(|dir| dir.join(&path)).find(|p| is_executable(p)).unwrap_or(path)
}

fn path_directories(search: &Search) -> impl Iterator<Item = PathBuf> {
    let path = search.variable("PATH").cloned().unwrap_or_default();
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect::<Vec<_>>().into_iter()
}

fn in_environment(dir: &Path) -> Option<PathBuf> {
    in_dir(&dir.join("bin"))
}

fn conda(search: &Search) -> Option<PathBuf> {
    let base = search.variable("CONDA_DEFAULT_ENV").is_some_and(|name| name == "base");
    search.directory("CONDA_PREFIX").filter(|_| !base).and_then(|dir| in_environment(&dir))
}

fn pyenv_root(search: &Search) -> Option<PathBuf> {
    let root = search.directory("PYENV_ROOT");
    root.or_else(|| Some(search.directory("HOME")?.join(".pyenv")))
}

/// The interpreter in the version that the environment or a `.python-version` file of the project
/// names.
fn pyenv(search: &Search) -> Option<PathBuf> {
    pyenv_interpreter(search, &pyenv_local(search)?, &in_dir)
}

fn pyenv_local(search: &Search) -> Option<String> {
    let named = search.variable("PYENV_VERSION").and_then(|name| name.to_str().map(str::to_owned));
    let file = || {
        let read = |dir: &Path| fs::read_to_string(dir.join(".python-version")).ok();
        search.root.ancestors().find_map(read)
    };
    named.or_else(file)
}

/// What `choose` takes from the first version of a `.python-version` text where it finds something.
fn pyenv_interpreter(
    search: &Search,
    text: &str,
    choose: &dyn Fn(&Path) -> Option<PathBuf>,
) -> Option<PathBuf> {
    let versions = pyenv_root(search)?.join("versions");
    let names = text.split(['\n', ':']).map(str::trim).filter(|name| !name.is_empty());
    names
        .filter(|name| !name.starts_with('#') && !name.contains('/'))
        .find_map(|name| choose(&versions.join(name).join("bin")))
}

fn python_on_path(search: &Search) -> Option<PathBuf> {
    let mut found = path_directories(search).filter_map(|dir| in_dir(&dir));
    found.next().map(|path| behind_shim(search, path))
}

fn in_dir(dir: &Path) -> Option<PathBuf> {
    ["python3", "python"].iter().map(|name| dir.join(name)).find(|path| is_executable(path))
}

/// The real interpreter when `path` is a pyenv shim, else `path` itself.
fn behind_shim(search: &Search, path: PathBuf) -> PathBuf {
    let is_shim = path.parent().is_some_and(|dir| dir.ends_with("shims"))
        && fs::read(&path).is_ok_and(|text| text.starts_with(b"#!"));
    if !is_shim {
        return path;
    }
    let global = || fs::read_to_string(pyenv_root(search)?.join("version")).ok();
    let Some(text) = pyenv_local(search).or_else(global) else { return path };
    // Like pyenv, which looks for the very name that was called: `python3.13` may be another
    // version than `python3`.
    let namesake = |dir: &Path| {
        path.file_name().map(|name| dir.join(name)).filter(|found| is_executable(found))
    };
    pyenv_interpreter(search, &text, &namesake)
        .or_else(|| pyenv_interpreter(search, &text, &in_dir))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(path: &Path, text: &str) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    fn search(root: &Path, variables: &[(&'static str, &Path)]) -> Search {
        let environment =
            variables.iter().map(|(name, value)| (*name, value.as_os_str().to_owned())).collect();
        Search { root: root.to_owned(), explicit: None, configured: None, environment }
    }

    #[test]
    fn an_active_environment_goes_before_the_projects_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("project/sub");
        let own = executable(&dir.path().join("project/.venv/bin/python3"), "");
        let active = executable(&dir.path().join("active/bin/python"), "");
        fs::create_dir_all(&root).unwrap();

        let found = Interpreter::find(&search(&root, &[])).unwrap();
        assert_eq!((found.path, found.reason), (own, "a .venv of the project"));

        let with_active = search(&root, &[("VIRTUAL_ENV", &dir.path().join("active"))]);
        assert_eq!(Interpreter::find(&with_active).unwrap().path, active);
    }

    #[test]
    fn a_named_interpreter_that_does_not_exist_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = PathBuf::from("/nowhere/python");
        let error = Interpreter::find(&search(dir.path(), &[]).explicit(Some(missing.clone())));
        assert_eq!(error, Err(InterpreterError::Broken { reason: "`--python`", path: missing }));
        assert_eq!(Interpreter::find(&search(dir.path(), &[])), Err(InterpreterError::NotFound));
    }

    #[test]
    fn a_shim_is_resolved_to_the_version_of_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let pyenv = dir.path().join("pyenv");
        executable(&pyenv.join("shims/python3"), "#!/bin/sh\nexec pyenv exec\n");
        let old = executable(&pyenv.join("versions/3.11.7/bin/python3"), "");
        let new = executable(&pyenv.join("versions/3.13.1/bin/python3"), "");
        fs::write(pyenv.join("version"), "3.11.7\n").unwrap();
        let root = dir.path().join("project");
        fs::create_dir_all(&root).unwrap();
        let variables = [("PATH", pyenv.join("shims")), ("PYENV_ROOT", pyenv.clone())];
        let variables: Vec<_> = variables.iter().map(|(n, v)| (*n, v.as_path())).collect();

        assert_eq!(Interpreter::find(&search(&root, &variables)).unwrap().path, old);
        fs::write(root.join(".python-version"), "# chosen\n3.13.1\n").unwrap();
        assert_eq!(Interpreter::find(&search(&root, &variables)).unwrap().path, new);
    }

    #[test]
    fn a_shim_with_a_version_in_its_name_is_that_version() {
        let dir = tempfile::tempdir().unwrap();
        let pyenv = dir.path().join("pyenv");
        let shim = executable(&pyenv.join("shims/python3.13"), "#!/bin/sh\nexec pyenv exec\n");
        executable(&pyenv.join("versions/3.11.7/bin/python3"), "");
        let new = executable(&pyenv.join("versions/3.13.1/bin/python3.13"), "");
        fs::write(pyenv.join("version"), "3.11.7\n3.13.1\n").unwrap();
        let search = search(dir.path(), &[("PYENV_ROOT", &pyenv)]).explicit(Some(shim));

        assert_eq!(Interpreter::find(&search).unwrap().path, new);
    }
}
