//! Everything that some lock names: in the project, and in git's branches, tags, stashes, worktrees
//! and index. What is named here is never collected.
//!
//! A lock that cannot be read as one keeps everything in it that looks like a hash: keeping too much
//! costs space only. What cannot be read at all is an error, since then nothing may be removed.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pivot_cache::{Cache, CacheError, ObjectId};
use pivot_lock::Found;
use thiserror::Error;

use crate::project::LOCKS_DIR;
use crate::tracked::TRACKED_DIR;

/// The objects that locks name.
#[derive(Debug, Default)]
pub struct Roots {
    /// The objects, those in directories' manifests included.
    pub objects: HashSet<ObjectId>,
    /// How many different locks were read.
    pub locks: u64,
    /// How many commits they came from; `None` if the project is not in git.
    pub commits: Option<u64>,
    /// Things that the user should know, such as a lock that cannot be read as one.
    pub notices: Vec<String>,
}

/// Why it is not known what is still needed.
#[derive(Debug, Error)]
pub enum RootError {
    /// A lock or a directory of locks cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// git cannot say what it has.
    #[error("git cannot tell which locks it has: {what}")]
    Git {
        /// What it said, or what went wrong.
        what: String,
    },
    /// A directory's manifest cannot be read.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Gathers the texts of locks, each once.
#[derive(Default)]
struct Texts {
    seen: HashSet<u64>,
    named: HashSet<ObjectId>,
    locks: u64,
    notices: Vec<String>,
}

impl Texts {
    fn add(&mut self, text: &[u8], place: &dyn Fn() -> String) {
        if !self.seen.insert(xxhash_rust::xxh3::xxh3_64(text)) {
            return;
        }
        self.locks += 1;
        match Found::of_bytes(text) {
            Found::Usable(lock) => {
                self.named.extend(lock.outs().iter().chain(lock.deps()).map(|a| a.content.id));
            }
            _ => {
                self.notices.push(format!("{}: no lock; all hashes in it are kept", place()));
                self.named.extend(hashes_in(text));
            }
        }
    }

    fn add_dir(&mut self, root: &Path) -> Result<(), RootError> {
        for dir in [LOCKS_DIR, TRACKED_DIR] {
            let dir = root.join(dir);
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |source| RootError::Read { path, source }
            };
            let entries = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed(&dir))?,
            };
            for entry in entries {
                let path = entry.map_err(failed(&dir))?.path();
                if path.extension().is_none_or(|extension| extension != "lock") {
                    continue;
                }
                match std::fs::read(&path) {
                    Ok(text) => self.add(&text, &|| path.display().to_string()),
                    // Replaced or removed just now.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => return Err(RootError::Read { path, source }),
                }
            }
        }
        Ok(())
    }
}

/// Everything in a text that could be the name of an object.
fn hashes_in(text: &[u8]) -> impl Iterator<Item = ObjectId> {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric());
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok())
}

impl Roots {
    /// Reads the locks of the projects at `roots`, and those that their git repositories hold: in the
    /// commits that anything points at, or with `whole_history` in all commits that can be reached,
    /// also through the reflog.
    ///
    /// # Errors
    /// When a lock, git or a manifest cannot be read.
    pub fn of(cache: &Cache, roots: &[PathBuf], whole_history: bool) -> Result<Self, RootError> {
        let mut texts = Texts::default();
        let mut commits = None;
        for root in roots {
            texts.add_dir(root)?;
            if is_below_git(root) {
                let count = git_locks(root, whole_history, &mut texts)?;
                commits = Some(commits.unwrap_or(0) + count);
            }
        }
        let mut objects = texts.named.clone();
        let mut notices = texts.notices;
        for id in texts.named {
            match cache.manifest(id) {
                Ok(manifest) => objects.extend(manifest.files().map(|(id, _)| id)),
                // A file, or not here.
                Err(CacheError::Manifest { .. } | CacheError::Missing { .. }) => {}
                Err(error @ CacheError::Corrupt { .. }) => notices.push(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { objects, locks: texts.locks, commits, notices })
    }
}

/// Whether the directory is in a git repository.
pub(crate) fn is_below_git(dir: &Path) -> bool {
    dir.ancestors().any(|dir| dir.join(".git").exists())
}

/// `git` in the repository that the directory is in.
pub(crate) fn git_command(root: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(root).stdin(Stdio::null()).env("LC_ALL", "C");
    // In a hook of git's these name the repository, the index or the work tree that the hook is
    // about, and not always the project's.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    command
}

fn git(root: &Path, arguments: &[&str]) -> Result<Vec<u8>, RootError> {
    let failed = |what: String| RootError::Git { what };
    let output = git_command(root).args(arguments).output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(said));
    }
    Ok(output.stdout)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = String> {
    String::from_utf8_lossy(bytes)
        .split_whitespace()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Adds the locks that git has; how many commits there were.
fn git_locks(root: &Path, whole_history: bool, texts: &mut Texts) -> Result<u64, RootError> {
    let prefix = git(root, &["rev-parse", "--show-prefix"])?;
    let prefix = prefix.strip_suffix(b"\n").unwrap_or(&prefix);
    // Otherwise it would be asked for something else, and answer that it is not there.
    let prefix = std::str::from_utf8(prefix).ok().filter(|prefix| !prefix.contains('\n'));
    let prefix = prefix.ok_or_else(|| {
        let what = "the path of the project in the repository is not text in one line".to_owned();
        RootError::Git { what }
    })?;
    let mut commits: HashSet<String> = HashSet::new();
    if whole_history {
        commits.extend(words(&git(root, &["rev-list", "--all", "--reflog"])?));
    } else {
        let format = "--format=%(objectname) %(objecttype) %(*objecttype)";
        let refs = git(root, &["for-each-ref", format])?;
        for line in String::from_utf8_lossy(&refs).lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            // A tag may be one of a tag, and leads to a commit all the same.
            if let [id, "commit", ..] | [id, _, "commit" | "tag"] = fields[..] {
                commits.insert(id.to_owned());
            }
        }
    }
    for name in ["HEAD", "ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD"] {
        // It need not be there; a new repository has not even a `HEAD`.
        if let Ok(id) = git(root, &["rev-parse", "--verify", "--quiet", name]) {
            commits.extend(words(&id));
        }
    }
    if git(root, &["rev-parse", "--verify", "--quiet", "refs/stash"]).is_ok() {
        // Each with its parents: what was staged, and what was not yet in git.
        commits.extend(words(&git(root, &["log", "-g", "--format=%H %P", "refs/stash"])?));
    }
    let mut blobs: HashSet<String> = HashSet::new();
    let worktrees = git(root, &["worktree", "list", "--porcelain"])?;
    for line in String::from_utf8_lossy(&worktrees).lines() {
        if let Some(id) = line.strip_prefix("HEAD ").filter(|id| id.bytes().any(|b| b != b'0')) {
            commits.insert(id.to_owned());
        } else if let Some(tree) = line.strip_prefix("worktree ") {
            let tree = Path::new(tree).join(prefix);
            // One that was removed without telling git has nothing left to keep.
            if tree.is_dir() {
                texts.add_dir(&tree)?;
                let staged = git(&tree, &["ls-files", "-s", "--", LOCKS_DIR, TRACKED_DIR])?;
                let ids = String::from_utf8_lossy(&staged)
                    .lines()
                    .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
                    .collect::<Vec<_>>();
                blobs.extend(ids);
            }
        }
    }
    let mut objects = GitObjects::start(root)?;
    let mut trees: HashSet<String> = HashSet::new();
    for commit in &commits {
        if objects.get(&format!("{commit}^{{tree}}"))?.is_none() {
            return Err(RootError::Git { what: format!("commit {commit} has no tree") });
        }
        for dir in [LOCKS_DIR, TRACKED_DIR] {
            let Some((id, tree)) = objects.get(&format!("{commit}:{prefix}{dir}"))? else {
                continue;
            };
            if trees.insert(id.clone()) {
                blobs.extend(lock_blobs(&tree, id.len() / 2));
            }
        }
    }
    for blob in blobs {
        match objects.get(&blob)? {
            Some((_, text)) => texts.add(&text, &|| format!("git object {blob}")),
            None => return Err(RootError::Git { what: format!("object {blob} is missing") }),
        }
    }
    Ok(commits.len() as u64)
}

/// The ids of the lock files in the bytes of a tree: `mode name\0id` one after the other.
fn lock_blobs(mut tree: &[u8], id_bytes: usize) -> Vec<String> {
    let mut blobs = Vec::new();
    while let Some(zero) = tree.iter().position(|&byte| byte == 0) {
        let (name, rest) = tree.split_at(zero);
        let Some(id) = rest.get(1..=id_bytes) else { break };
        if name.ends_with(b".lock") && name.starts_with(b"100") {
            blobs.push(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        tree = &rest[1 + id_bytes..];
    }
    blobs
}

/// One `git cat-file --batch` that is asked for one object after the other.
struct GitObjects {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl GitObjects {
    fn start(root: &Path) -> Result<Self, RootError> {
        let mut command = git_command(root);
        command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().map_err(broken)?;
        let stdout = child.stdout.take().expect("it was piped");
        Ok(Self { child, answers: BufReader::new(stdout) })
    }

    /// The object's id and bytes; `None` if there is none of that name.
    fn get(&mut self, name: &str) -> Result<Option<(String, Vec<u8>)>, RootError> {
        let questions = self.child.stdin.as_mut().expect("it was piped");
        questions.write_all(format!("{name}\n").as_bytes()).map_err(broken)?;
        questions.flush().map_err(broken)?;
        let mut header = String::new();
        self.answers.read_line(&mut header).map_err(broken)?;
        let header = header.trim_end();
        if header.ends_with(" missing") {
            return Ok(None);
        }
        let mut fields = header.rsplitn(3, ' ');
        let size: Option<usize> = fields.next().and_then(|size| size.parse().ok());
        let (Some(size), Some(_), Some(id)) = (size, fields.next(), fields.next()) else {
            return Err(RootError::Git { what: format!("`{header}` about `{name}`") });
        };
        let id = id.to_owned();
        let mut bytes = vec![0; size + 1];
        self.answers.read_exact(&mut bytes).map_err(broken)?;
        bytes.pop();
        Ok(Some((id, bytes)))
    }
}

impl Drop for GitObjects {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn broken(error: io::Error) -> RootError {
    RootError::Git { what: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_lock_keeps_what_looks_like_a_hash() {
        let text =
            b"<<<<<<< ours\n- {path: a, hash: '0123456789abcdef'}\nhash: fedcba9876543210\n0123";
        let found: Vec<_> = hashes_in(text).map(|id| id.to_string()).collect();
        assert_eq!(found, ["0123456789abcdef", "fedcba9876543210"]);
    }

    #[test]
    fn a_tree_names_its_locks() {
        let mut tree = Vec::new();
        for (entry, byte) in [("100644 a.lock", 1), ("100644 note.txt", 2), ("40000 b.lock", 3)] {
            tree.extend_from_slice(entry.as_bytes());
            tree.push(0);
            tree.extend_from_slice(&[byte; 20]);
        }
        assert_eq!(lock_blobs(&tree, 20), ["01".repeat(20)]);
        assert!(lock_blobs(b"100644 a.lock\0short", 20).is_empty());
    }
}
