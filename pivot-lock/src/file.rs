//! The lock files of a project: one `NAME.lock` per stage in one directory.
//!
//! A lock file appears under its name at once and whole, or not at all: it is written under
//! another name in the same directory and renamed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::lock::{Lock, shown};

const SUFFIX: &str = ".lock";

/// Half-written files have names that begin with this and are no stage's.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A temporary file of this age was left behind by a process that died: writing one takes less
/// than a millisecond.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// A larger file is not read. A lock of a stage with 100,000 dependencies has about 10 MB.
const MAX_SIZE_BYTES: u64 = 256 << 20;

/// The longest stage name.
const MAX_NAME_BYTES: usize = 200;

/// A directory of lock files, usually `.pivot/stages`.
///
/// It may be used from several threads and processes at once.
#[derive(Clone, Debug)]
pub struct LockFiles {
    dir: PathBuf,
    is_synced: bool,
}

/// What there is under a stage's name.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// No file: the stage has not succeeded here or anywhere else yet.
    Absent,
    /// The lock of the last run.
    Usable(Lock),
    /// A file that is not a lock, such as one with conflict markers: as good as none, but worth a
    /// warning.
    Unusable {
        /// What is wrong with it, such as "line 3: `size` is missing".
        why: String,
    },
}

/// What writing a lock did to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The file is new or has other bytes than before.
    Changed,
    /// The file held these bytes already and was not touched.
    Unchanged,
}

/// Why lock files could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// A stage name that cannot be the name of a file.
    #[error("`{name}` is not a stage name: {problem}")]
    Name {
        /// The name, shortened and escaped for reading.
        name: String,
        /// What a name must be.
        problem: &'static str,
    },
    /// A system call on `path` failed; `action` completes "cannot …".
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Found {
    /// What a lock file of these bytes is: usable or not.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let why = match std::str::from_utf8(bytes) {
            Ok(text) => match Lock::from_yaml(text) {
                Ok(lock) => return Self::Usable(lock),
                Err(error) => error.to_string(),
            },
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let lines = before.iter().filter(|&&byte| byte == b'\n').count();
                format!("line {}: not UTF-8", lines + 1)
            }
        };
        Self::Unusable { why }
    }
}

impl LockFiles {
    /// The lock files in `dir`, which need not exist before the first write.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), is_synced: false }
    }

    /// Makes each write wait until the disk has it, so that a power loss undoes no lock.
    ///
    /// Without it a power loss may leave an empty file, which is [`Found::Unusable`]: the stage
    /// runs again.
    pub fn synced(self) -> Self {
        Self { is_synced: true, ..self }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The lock file of the stage `name`.
    ///
    /// # Errors
    ///
    /// Fails if `name` is not a stage name.
    pub fn path(&self, name: &str) -> Result<PathBuf, LockError> {
        validate_stage_name(name)?;
        Ok(self.dir.join([name, SUFFIX].concat()))
    }

    /// Reads the lock of the stage `name`.
    ///
    /// # Errors
    ///
    /// Fails if `name` is not a stage name or the system refuses to read the file. Whatever the
    /// file holds is no error but [`Found::Unusable`].
    pub fn read(&self, name: &str) -> Result<Found, LockError> {
        let path = self.path(name)?;
        match read_bounded(&path) {
            Ok(Bounded::Bytes(bytes)) => Ok(Found::of_bytes(&bytes)),
            Ok(Bounded::Refused(why)) => Ok(Found::Unusable { why: why.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Absent),
            Err(source) => Err(LockError::Io { action: "read", path, source }),
        }
    }

    /// Writes the lock of the stage `name`, unless its file holds exactly that already.
    ///
    /// # Errors
    ///
    /// Fails if `name` is not a stage name or the system refuses; an earlier lock is then still
    /// there, whole.
    pub fn write(&self, name: &str, lock: &Lock) -> Result<Written, LockError> {
        let path = self.path(name)?;
        let text = lock.to_yaml();
        if holds(&path, text.as_bytes()) {
            return Ok(Written::Unchanged);
        }
        let mut temporary = match self.temporary() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.dir).map_err(failed("create", &self.dir))?;
                self.temporary()
            }
            other => other,
        }
        .map_err(failed("create a file in", &self.dir))?;
        temporary.write_all(text.as_bytes()).map_err(failed("write", &path))?;
        if self.is_synced {
            temporary.as_file().sync_all().map_err(failed("write", &path))?;
        }
        temporary.persist(&path).map_err(|error| failed("write", &path)(error.error))?;
        if self.is_synced {
            let dir = File::open(&self.dir).and_then(|dir| dir.sync_all());
            dir.map_err(failed("write", &self.dir))?;
        }
        Ok(Written::Changed)
    }

    /// Removes the lock of the stage `name`; `false` if there was none.
    ///
    /// # Errors
    ///
    /// Fails if `name` is not a stage name or the system refuses.
    pub fn remove(&self, name: &str) -> Result<bool, LockError> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(LockError::Io { action: "remove", path, source }),
        }
    }

    /// The names of all stages that have a lock file, sorted, also those that no pipeline has any
    /// more.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses to list the directory; one that does not exist is empty.
    pub fn list(&self) -> Result<Vec<String>, LockError> {
        let mut names = Vec::new();
        self.each_entry(|name, _| {
            if let Some(stage) = name.strip_suffix(SUFFIX)
                && validate_stage_name(stage).is_ok()
            {
                names.push(stage.to_owned());
            }
        })?;
        names.sort_unstable();
        Ok(names)
    }

    /// Removes what processes that were killed while they wrote have left behind.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses to list the directory.
    pub fn sweep_temporary(&self) -> Result<(), LockError> {
        let now = SystemTime::now();
        self.each_entry(|name, entry| {
            let is_abandoned = || {
                let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                let age = modified.and_then(|modified| now.duration_since(modified).ok());
                age.is_some_and(|age| age > ABANDONED_AFTER)
            };
            if name.starts_with(TEMPORARY_PREFIX) && is_abandoned() {
                // Another process may have been quicker; nothing depends on its being gone.
                let _ = fs::remove_file(entry.path());
            }
        })
    }

    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Locks are shared through git: readable for everyone, less what the umask takes.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        builder.tempfile_in(&self.dir)
    }

    fn each_entry(&self, mut visit: impl FnMut(&str, &fs::DirEntry)) -> Result<(), LockError> {
        let failed = |source| LockError::Io { action: "list", path: self.dir.clone(), source };
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if let Some(name) = entry.file_name().to_str() {
                visit(name, &entry);
            }
        }
        Ok(())
    }
}

/// Refuses a stage name that could not be the name of a file everywhere.
///
/// # Errors
///
/// Fails unless `name` has 1 to 200 of the characters `A-Z a-z 0-9 _ @ . -` and begins with
/// neither `.` nor `-`.
pub fn validate_stage_name(name: &str) -> Result<(), LockError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_@.-".contains(&byte);
    let problem = if name.is_empty() {
        "it is empty"
    } else if name.starts_with(['.', '-']) {
        "it begins with `.` or `-`"
    } else if !name.bytes().all(allowed) {
        "it may hold letters, digits, `_`, `@`, `.` and `-`"
    } else if name.len() > MAX_NAME_BYTES {
        "it is longer than 200 characters"
    } else {
        return Ok(());
    };
    Err(LockError::Name { name: shown(name), problem })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LockError {
    move |source| LockError::Io { action, path: path.to_owned(), source }
}

enum Bounded {
    Bytes(Vec<u8>),
    Refused(&'static str),
}

fn read_bounded(path: &Path) -> io::Result<Bounded> {
    // Opening a named pipe would wait for a writer, so look first.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(Bounded::Refused("not a regular file"));
    }
    if metadata.len() > MAX_SIZE_BYTES {
        return Ok(Bounded::Refused("larger than any lock"));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(size + 1);
    File::open(path)?.take(MAX_SIZE_BYTES).read_to_end(&mut bytes)?;
    Ok(Bounded::Bytes(bytes))
}

/// Whether `path` is a regular file of exactly these bytes; any trouble is a no.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let is_candidate = fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes.len() as u64);
    is_candidate && fs::read(path).is_ok_and(|existing| existing == bytes)
}

#[cfg(test)]
mod tests {
    use pivot_fingerprint::CodeHash;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn lock(hash: u64) -> Lock {
        let code = [("self:train".to_owned(), CodeHash::from_u64(hash))];
        Lock::new(code, json!({}), vec![], vec![]).unwrap()
    }

    fn files() -> (TempDir, LockFiles) {
        let dir = tempfile::tempdir().unwrap();
        let files = LockFiles::new(dir.path().join("a/b"));
        (dir, files)
    }

    fn names_on_disk(files: &LockFiles) -> Vec<String> {
        let names = fs::read_dir(files.dir()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_is_read() {
        let (_dir, files) = files();
        assert_eq!(files.read("train").unwrap(), Found::Absent);
        assert_eq!(files.list().unwrap(), Vec::<String>::new());
        assert_eq!(files.write("train", &lock(1)).unwrap(), Written::Changed);
        assert_eq!(files.write("train@bert_swe", &lock(2)).unwrap(), Written::Changed);
        assert_eq!(files.clone().synced().write("train", &lock(3)).unwrap(), Written::Changed);
        assert_eq!(files.read("train").unwrap(), Found::Usable(lock(3)));
        assert_eq!(files.list().unwrap(), ["train", "train@bert_swe"]);
        assert_eq!(names_on_disk(&files), ["train.lock", "train@bert_swe.lock"]);
        assert!(files.remove("train").unwrap());
        assert!(!files.remove("train").unwrap());
        assert_eq!(files.read("train").unwrap(), Found::Absent);
    }

    #[cfg(unix)]
    #[test]
    fn an_unchanged_lock_is_not_touched() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let (_dir, files) = files();
        files.write("train", &lock(1)).unwrap();
        let path = files.path("train").unwrap();
        let before = fs::metadata(&path).unwrap();
        assert_eq!(
            before.permissions().mode() & 0o444,
            0o444 & before.permissions().mode() | 0o400
        );
        assert_eq!(files.write("train", &lock(1)).unwrap(), Written::Unchanged);
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
        assert_eq!(files.write("train", &lock(2)).unwrap(), Written::Changed);
        assert_ne!(fs::metadata(&path).unwrap().ino(), before.ino());
    }

    #[cfg(unix)]
    #[test]
    fn a_write_replaces_a_link_and_leaves_its_target_alone() {
        let (dir, files) = files();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::create_dir_all(files.dir()).unwrap();
        std::os::unix::fs::symlink(&victim, files.path("train").unwrap()).unwrap();
        files.write("train", &lock(1)).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(files.read("train").unwrap(), Found::Usable(lock(1)));
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let (_dir, files) = files();
        let long = "x".repeat(201);
        for name in ["", ".", "..", "../x", "a/b", "/x", ".hidden", "-x", "a b", "é", "a\0", &long]
        {
            assert!(matches!(files.read(name), Err(LockError::Name { .. })), "{name:?}");
            assert!(matches!(files.write(name, &lock(1)), Err(LockError::Name { .. })), "{name:?}");
            assert!(matches!(files.remove(name), Err(LockError::Name { .. })), "{name:?}");
        }
        assert!(!files.dir().exists());
        for name in ["a", "a..b", "train@bert-base_1.5", &"x".repeat(200)] {
            files.write(name, &lock(1)).unwrap();
        }
    }

    #[test]
    fn what_is_not_a_lock_is_unusable_and_says_why() {
        let (_dir, files) = files();
        files.write("whole", &lock(1)).unwrap();
        let whole = fs::read(files.path("whole").unwrap()).unwrap();
        for (bytes, expected) in [
            (&b""[..], "line 1: the file is empty"),
            (b"a: 1\n\xff\n", "line 2: not UTF-8"),
            (&whole[..whole.len() / 2], "line "),
            (b"\0\0\0\0", "line 1: "),
        ] {
            fs::write(files.path("broken").unwrap(), bytes).unwrap();
            let Found::Unusable { why } = files.read("broken").unwrap() else { panic!("usable") };
            assert!(why.starts_with(expected), "{why}");
        }
        fs::create_dir(files.path("directory").unwrap()).unwrap();
        assert!(matches!(files.read("directory").unwrap(), Found::Unusable { .. }));
        assert!(matches!(files.write("directory", &lock(1)), Err(LockError::Io { .. })));
        assert_eq!(names_on_disk(&files), ["broken.lock", "directory.lock", "whole.lock"]);
    }

    #[test]
    fn leftovers_are_no_locks_and_are_swept_once_they_are_old() {
        let (_dir, files) = files();
        files.sweep_temporary().unwrap();
        files.write("train", &lock(1)).unwrap();
        for name in [".tmp-old", ".tmp-new", "notes.txt", ".lock", "a b.lock"] {
            fs::write(files.dir().join(name), "").unwrap();
        }
        let old = File::options().write(true).open(files.dir().join(".tmp-old")).unwrap();
        old.set_modified(SystemTime::now() - 2 * ABANDONED_AFTER).unwrap();
        assert_eq!(files.list().unwrap(), ["train"]);
        files.sweep_temporary().unwrap();
        assert_eq!(
            names_on_disk(&files),
            [".lock", ".tmp-new", "a b.lock", "notes.txt", "train.lock"]
        );
    }
}
