//! A copy of a project in which stages may do what they like, for as long as it lives.
//!
//! Files are copied, with shared blocks where the file system can, and never linked: what a stage
//! writes to its inputs stays in the copy. It has a cache, locks and a state of its own.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use pivot_cache::{Cache, CheckoutMode, Content};
use pivot_lock::LockFiles;
use pivot_pipeline::Project;

use crate::config::Durability;
use crate::guard::{self, StageGuard};
use crate::outcome::StageFailure;
use crate::project::{LOCKS_DIR, OpenProject};

/// Where copies are, relative to the project.
const DIR: &str = ".pivot/rerun";

/// The guard of the copy; no stage can have this name.
const GUARD: &str = ".rerun";

/// What tells whether a file is the one that it was: device, inode, size and time of the last
/// change to its bytes.
type Seen = (u64, u64, u64, i64, i64);

/// A copy of a project; it is removed with this.
#[derive(Debug)]
pub(crate) struct Scratch<'a> {
    original: &'a OpenProject,
    /// The copy, opened.
    pub(crate) project: OpenProject,
    seen: BTreeMap<PathBuf, Seen>,
    _guard: StageGuard,
}

impl<'a> Scratch<'a> {
    /// Copies the project without `left_out`, which are paths relative to it, and without what
    /// belongs to Pivot and git. Virtual environments are linked to.
    ///
    /// # Errors
    /// When another process has a copy, or something cannot be read or written.
    pub(crate) fn copy(
        original: &'a OpenProject,
        left_out: &HashSet<String>,
    ) -> Result<Self, StageFailure> {
        let guard = guard::take(original.root(), GUARD)?;
        let dir = original.root().join(DIR);
        // What a killed process has left.
        let cleared = match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&dir),
        };
        cleared.map_err(|source| failure("make", Path::new(DIR), source))?;
        // The name of the folder is the project's: programs may look at it.
        let name = original.root().file_name().unwrap_or("project".as_ref());
        let root = dir.join(name);
        let copying = Copying { from: original.root(), to: &root, left_out };
        let seen = copying.go()?;
        let project = Project { root, definition: original.project.definition.clone() };
        let mut project = OpenProject::open(project)
            .map_err(|error| failure("open", Path::new(DIR), io::Error::other(error)))?;
        project.config = original.config.clone();
        project.config.core.durability = Durability::None;
        project.cache = Cache::open(&project.root().join(".pivot/cache"));
        project.locks = LockFiles::new(project.root().join(LOCKS_DIR));
        project.make_layout().map_err(|source| failure("make", Path::new(DIR), source))?;
        Ok(Self { original, project, seen, _guard: guard })
    }

    /// Has `content` at `path` of the copy, if the original or its cache has it.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(crate) fn put(&self, path: &str, content: &Content) -> Result<(), StageFailure> {
        let there = |project: &OpenProject| {
            project.workspace().content(path).ok().flatten() == Some(*content)
        };
        if there(&self.project) {
            return Ok(());
        }
        let to = self.project.root().join(path);
        let shown = Path::new(path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|source| failure("make", shown, source))?;
        }
        if there(self.original) {
            remove(&to).map_err(|source| failure("remove", shown, source))?;
            let from = self.original.root().join(path);
            let whole = Copying { from: &from, to: &to, left_out: &HashSet::new() };
            whole.go()?;
            // It may have changed meanwhile.
            if there(&self.project) {
                return Ok(());
            }
        }
        Ok(self.original.cache.restore(content, &to, CheckoutMode::Copy)?)
    }

    /// What in the original is not as it was, relative to it.
    pub(crate) fn changed_in_original(&self) -> Vec<PathBuf> {
        let is_other = |(path, seen): &(&PathBuf, &Seen)| {
            let now = fs::symlink_metadata(self.original.root().join(path));
            now.map_or(true, |now| look(&now) != **seen)
        };
        self.seen.iter().filter(is_other).map(|(path, _)| path.clone()).collect()
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // What is left is removed the next time.
        let _ = fs::remove_dir_all(self.original.root().join(DIR));
    }
}

/// One copy of a tree or a file.
struct Copying<'a> {
    from: &'a Path,
    to: &'a Path,
    left_out: &'a HashSet<String>,
}

impl Copying<'_> {
    /// Copies all of it and returns what the files looked like before, also of those left out.
    fn go(&self) -> Result<BTreeMap<PathBuf, Seen>, StageFailure> {
        let mut seen = BTreeMap::new();
        // Each with whether it is left out: then it is only looked at.
        let mut waiting = vec![(PathBuf::new(), false)];
        while let Some((path, is_out)) = waiting.pop() {
            let told = |action| {
                let path = path.clone();
                move |source| failure(action, &path, source)
            };
            let (from, to) = (self.from.join(&path), self.to.join(&path));
            let (from, to) =
                if path.as_os_str().is_empty() { (self.from, self.to) } else { (&*from, &*to) };
            let metadata = match fs::symlink_metadata(from) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(told("read"))?,
            };
            let kind = metadata.file_type();
            let is_out = is_out || path.to_str().is_some_and(|path| self.left_out.contains(path));
            if kind.is_dir() && !is_environment(from) {
                if !is_out {
                    fs::create_dir_all(to).map_err(told("copy"))?;
                }
                for entry in fs::read_dir(from).map_err(told("read"))? {
                    let inner = path.join(entry.map_err(told("read"))?.file_name());
                    if inner != Path::new(".pivot") && inner != Path::new(".git") {
                        waiting.push((inner, is_out));
                    }
                }
                continue;
            }
            if kind.is_file() {
                seen.insert(path.clone(), look(&metadata));
            }
            if is_out {
                continue;
            }
            if kind.is_dir() {
                symlink(from, to).map_err(told("copy"))?;
            } else if kind.is_symlink() {
                let target = fs::read_link(from).map_err(told("read"))?;
                symlink(self.target(&path, &target), to).map_err(told("copy"))?;
            } else if kind.is_file() {
                match fs::copy(from, to) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => drop(other.map_err(told("copy"))?),
                }
            }
        }
        Ok(seen)
    }

    /// Where the copy of a link leads: inside of the copy what led inside of the original, and
    /// otherwise where it led before.
    fn target(&self, path: &Path, target: &Path) -> PathBuf {
        if target.is_absolute() {
            return target.strip_prefix(self.from).map_or(target.to_owned(), |t| self.to.join(t));
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut depth = 0_usize;
        for component in parent.join(target).components() {
            match component {
                Component::ParentDir if depth == 0 => return self.from.join(parent).join(target),
                Component::ParentDir => depth -= 1,
                _ => depth += 1,
            }
        }
        target.to_owned()
    }
}

/// Whether a folder is a virtual environment, or one of conda.
fn is_environment(dir: &Path) -> bool {
    dir.join("pyvenv.cfg").exists() || dir.join("conda-meta").exists()
}

fn look(metadata: &fs::Metadata) -> Seen {
    let time = (metadata.mtime(), metadata.mtime_nsec());
    (metadata.dev(), metadata.ino(), metadata.size(), time.0, time.1)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    }
}

fn failure(action: &'static str, path: &Path, source: io::Error) -> StageFailure {
    StageFailure::Workspace { action, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_into_the_copy_or_where_they_led() {
        let left_out = HashSet::new();
        let copying = Copying { from: "/p".as_ref(), to: "/p/copy".as_ref(), left_out: &left_out };
        for (path, target, expected) in [
            ("a/link", "../b", "../b"),
            ("a/link", "../../b", "/p/a/../../b"),
            ("link", "/p/b", "/p/copy/b"),
            ("link", "/q/b", "/q/b"),
            ("link", "b/../../c", "/p/b/../../c"),
        ] {
            assert_eq!(copying.target(path.as_ref(), target.as_ref()), Path::new(expected));
        }
    }
}
