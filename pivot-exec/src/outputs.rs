//! Makes room for a stage's outputs and never destroys bytes that nobody else has.
//!
//! Before anything at an output path is removed, its content must be in the cache or be what
//! the stage's lock says the stage wrote. Everything else is moved to `.pivot/saved/`.

use std::fs;
use std::io;
use std::path::Path;

use pivot_cache::{Cache, CheckoutMode, Content, Workspace};
use pivot_pipeline::ProjectPath;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::outcome::StageFailure;
use crate::project::OpenProject;

/// What SQLite keeps beside a database while it is written. Left behind by a killed stage and found
/// beside another version of the database, it would be played into that.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What the workspace side of a stage needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    pub(crate) root: &'a Path,
    pub(crate) cache: &'a Cache,
    pub(crate) workspace: &'a Workspace<'a>,
    pub(crate) mode: CheckoutMode,
}

/// Something that happened to a file before a stage could begin, and that its owner has to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incident {
    /// It was moved out of the way.
    SetAside {
        path: String,
        /// Where it is now, relative to the project.
        saved: String,
    },
    /// It could not be brought back, since the cache has lost or damaged it.
    Lost {
        path: String,
        /// What is wrong with the cache.
        why: String,
    },
}

/// Refuses the output `path` of the project at `root` if a link leads out of the project.
pub(crate) fn check_inside(root: &Path, path: &str) -> Result<(), StageFailure> {
    // A link at the path itself is removed before anything is written, as it may be one to a
    // cache elsewhere: only the folders above count.
    let parent = path.rsplit_once('/').map(|(parent, _)| parent);
    let Some(parent) = parent.and_then(|parent| ProjectPath::new(parent).ok()) else {
        return Ok(());
    };
    let path = path.to_owned();
    match parent.leaves_project(root) {
        Ok(None) => Ok(()),
        Ok(Some(link)) => Err(StageFailure::OutputOutside { path, link }),
        Err(source) => Err(StageFailure::Workspace { action: "find", path, source }),
    }
}

impl<'a> Site<'a> {
    pub(crate) fn new(project: &'a OpenProject, workspace: &'a Workspace<'a>) -> Self {
        let mode = project.config.cache.checkout_mode.into();
        Self { root: project.root(), cache: &project.cache, workspace, mode }
    }

    fn failure(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> StageFailure {
        let path = path.to_owned();
        move |source| StageFailure::Workspace { action, path, source }
    }

    /// Removes what is at the output `path`, or sets it aside when it is not `recorded` and in
    /// no cache object, and makes the directory for it. What was set aside is added to `set_aside`
    /// also if something fails after that: its owner has to hear of it.
    pub(crate) fn clear(
        &self,
        path: &str,
        recorded: Option<&Content>,
        set_aside: &mut Vec<Incident>,
    ) -> Result<(), StageFailure> {
        let full = self.root.join(path);
        let found = match fs::symlink_metadata(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(Self::failure("read", path))?),
        };
        if let Some(found) = found {
            if self.is_expendable(path, recorded)? {
                let removed =
                    if found.is_dir() { fs::remove_dir_all(&full) } else { fs::remove_file(&full) };
                removed.map_err(Self::failure("remove the old output", path))?;
            } else {
                set_aside.push(self.set_aside(path)?);
            }
            self.workspace.forget(path);
        }
        self.set_companions_aside(path, set_aside)?;
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent).map_err(Self::failure("make the directory of", path))?;
        }
        Ok(())
    }

    fn set_companions_aside(
        &self,
        path: &str,
        set_aside: &mut Vec<Incident>,
    ) -> Result<(), StageFailure> {
        for suffix in COMPANIONS {
            let companion = format!("{path}{suffix}");
            if fs::symlink_metadata(self.root.join(&companion)).is_ok() {
                set_aside.push(self.set_aside(&companion)?);
            }
        }
        Ok(())
    }

    /// Whether the bytes at `path` can be had again.
    fn is_expendable(&self, path: &str, recorded: Option<&Content>) -> Result<bool, StageFailure> {
        match self.workspace.content(path) {
            Ok(None) => Ok(false),
            Ok(Some(content)) if Some(&content) == recorded => Ok(true),
            // An object that is damaged does not count: it is hashed before it is relied on.
            Ok(Some(content)) => {
                Ok(self.cache.holds(&content) && self.cache.verify(&content).is_ok())
            }
            // What cannot be read, such as a named pipe, is nobody's output: keep it.
            Err(_) => Ok(false),
        }
    }

    fn set_aside(&self, path: &str) -> Result<Incident, StageFailure> {
        let failed = Self::failure("set aside", path);
        let moved = || -> io::Result<String> {
            let parent = Path::new(".pivot/saved").join(path);
            let parent = parent.parent().map(Path::to_owned).unwrap_or_default();
            fs::create_dir_all(self.root.join(parent))?;
            for number in 0_u32.. {
                let number = if number == 0 { String::new() } else { format!(".{number}") };
                let saved = format!(".pivot/saved/{path}{number}");
                // Never onto something that was set aside before, by whomever.
                match renameat_with(
                    CWD,
                    self.root.join(path),
                    CWD,
                    self.root.join(&saved),
                    RenameFlags::NOREPLACE,
                ) {
                    Err(Errno::EXIST) => {}
                    result => return result.map(|()| saved).map_err(io::Error::from),
                }
            }
            Err(io::ErrorKind::AlreadyExists.into())
        };
        Ok(Incident::SetAside { path: path.to_owned(), saved: moved().map_err(failed)? })
    }

    /// Brings `content` from the cache to `path`, in place of whatever is there. If that fails,
    /// everything at `path` is as it was.
    pub(crate) fn restore(
        &self,
        path: &str,
        content: &Content,
        mode: CheckoutMode,
        set_aside: &mut Vec<Incident>,
    ) -> Result<(), StageFailure> {
        let full = self.root.join(path);
        let is_there = fs::symlink_metadata(&full).is_ok();
        // What can be had again stays until the new content takes its place.
        let moved = match is_there && !self.is_expendable(path, None)? {
            true => Some(self.set_aside(path)?),
            false => None,
        };
        self.workspace.forget(path);
        match self.workspace.restore(self.cache, path, content, mode) {
            Ok(()) => set_aside.extend(moved),
            Err(error) => {
                if let Some(Incident::SetAside { path, saved }) = moved {
                    let (saved_path, full) = (self.root.join(&saved), self.root.join(&path));
                    let flags = RenameFlags::NOREPLACE;
                    if renameat_with(CWD, saved_path, CWD, full, flags).is_err() {
                        set_aside.push(Incident::SetAside { path, saved });
                    }
                }
                return Err(error.into());
            }
        }
        self.set_companions_aside(path, set_aside)
    }

    /// Removes what a stage that did not finish has written. `clear` ran before the stage, so
    /// everything there is the stage's own.
    pub(crate) fn discard(&self, path: &str) {
        let full = self.root.join(path);
        let Ok(found) = fs::symlink_metadata(&full) else { return };
        // What cannot be removed is set aside by the next run.
        let _ = if found.is_dir() { fs::remove_dir_all(&full) } else { fs::remove_file(&full) };
        self.workspace.forget(path);
    }
}
