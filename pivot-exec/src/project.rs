//! A project on disk, opened: its cache, locks, state and settings.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pivot_cache::{Cache, State, Workspace};
use pivot_lock::LockFiles;
use pivot_pipeline::Project;

use crate::config::{Config, ConfigError, Durability};

/// What git shall not see of `.pivot`: all but the locks is of this machine.
const IGNORED: &str = "/cache/\n/config.yaml\n/.config.yaml-*\n/logs/\n/rerun/\n/run/\n/runs/\n/saved/\n/stages/.tmp-*\n/tracked/.tmp-*\n/state.lmdb/\n";

/// Where the locks are.
pub(crate) const LOCKS_DIR: &str = ".pivot/stages";

/// A project and everything that Pivot keeps of it.
#[derive(Debug)]
pub struct OpenProject {
    /// Where it is and how it is defined.
    pub project: Project,
    /// Its settings on this machine.
    pub config: Config,
    /// Its outputs by content.
    pub cache: Cache,
    /// Its lock files.
    pub locks: LockFiles,
    /// This machine's memory of it; losing it costs time only.
    pub state: State,
}

impl OpenProject {
    /// Opens a project; nothing is written yet.
    ///
    /// # Errors
    /// When its configuration cannot be understood.
    pub fn open(project: Project) -> Result<Self, ConfigError> {
        let root = &project.root;
        let config = Config::read(root)?;
        let own = root.join(".pivot");
        let cache = config.cache.dir.as_ref().map_or(own.join("cache"), |dir| root.join(dir));
        let (mut cache, mut locks) = (Cache::open(&cache), LockFiles::new(root.join(LOCKS_DIR)));
        if config.core.durability == Durability::Full {
            (cache, locks) = (cache.synced(), locks.synced());
        }
        Ok(Self { cache, locks, state: State::open(&own.join("state.lmdb")), config, project })
    }

    /// The project's directory.
    pub fn root(&self) -> &Path {
        &self.project.root
    }

    /// What lies in the project, by content.
    pub fn workspace(&self) -> Workspace<'_> {
        Workspace::new(self.root(), &self.state)
    }

    /// Makes `.pivot` with its `.gitignore`.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn make_layout(&self) -> io::Result<()> {
        make_layout(self.root())
    }

    /// Where the last output of a stage is written.
    pub fn log_path(&self, stage: &str) -> PathBuf {
        self.root().join(".pivot/logs").join(format!("{stage}.log"))
    }
}

/// Makes `.pivot` in `root`, so that git keeps the locks and nothing else of it.
///
/// # Errors
/// When the directory cannot be written.
pub fn make_layout(root: &Path) -> io::Result<()> {
    let own = root.join(".pivot");
    for dir in ["stages", "logs"] {
        fs::create_dir_all(own.join(dir))?;
    }
    // An empty one was left by a run that was killed here, one with fewer lines by an older version.
    // Lines of the user's own stay.
    let path = own.join(".gitignore");
    let present = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let present = String::from_utf8_lossy(&present);
    let has = |line: &&str| present.lines().any(|there| there == *line);
    let mut added: String =
        IGNORED.lines().filter(|line| !has(line)).map(|line| format!("{line}\n")).collect();
    if !added.is_empty() {
        if !present.is_empty() && !present.ends_with('\n') {
            added.insert(0, '\n');
        }
        fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(added.as_bytes())?;
    }
    Ok(())
}
