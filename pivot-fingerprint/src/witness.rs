//! What an import looked at, and whether it would see the same again.
//!
//! The helper records a witness while it imports a pipeline: source files and everything that
//! they read, looked for or asked the environment. Replaying it takes `stat`, directory listings
//! and a few reads. If everything is as it was, an import would give the same stages and the
//! same code, so there is no need to start Python.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};
use serde::{Deserialize, Serialize};

use crate::inspect::EditedFunction;

/// The version of the witness that this crate replays.
const SCHEMA: u32 = 1;

/// A file that changed less than this before it was looked at may change again without its times
/// showing it.
const RACY_NS: i64 = 2_000_000_000;

/// What the shell changes by itself; a program that lists the environment does not mean these.
const VOLATILE_VARIABLES: [&str; 4] = ["_", "OLDPWD", "PWD", "SHLVL"];

/// Everything outside itself that an import depended on.
///
/// The default one depends on nothing and always holds. It names absolute paths, so it belongs
/// to one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    schema: u32,
    /// Wall-clock time before anything was looked at.
    began_ns: i64,
    replayable: bool,
    reasons: Vec<String>,
    sources: Vec<FileEntry>,
    opened: Vec<FileEntry>,
    lookups: Vec<LookupEntry>,
    listings: Vec<ListingEntry>,
    sites: Vec<ListingEntry>,
    distributions: Vec<FileEntry>,
    environment: BTreeMap<String, Option<String>>,
    environment_all: Option<String>,
    exists: Vec<ExistsEntry>,
    interpreter: Option<InterpreterEntry>,
}

/// Modification and change time in nanoseconds, size, inode, device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp(i64, i64, u64, u64, u64);

/// A file by its content; one without a hash only by its stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileEntry {
    path: PathBuf,
    hash: Option<String>,
    stat: Option<Stamp>,
}

/// A folder and the entries of it that modules with certain names can be loaded from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LookupEntry {
    dir: PathBuf,
    stat: Option<Stamp>,
    /// Sorted; an entry counts if its name up to the first dot is one of these.
    names: Vec<String>,
    /// Sorted; `None` if the folder does not exist.
    present: Option<Vec<String>>,
}

/// A folder by the names in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ListingEntry {
    dir: PathBuf,
    stat: Option<Stamp>,
    hash: Option<String>,
}

/// What was at a path that was asked for but perhaps not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ExistsEntry {
    path: PathBuf,
    /// `file`, `dir`, `link`, `other`, or nothing.
    kind: Option<String>,
    stat: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<PathBuf>,
}

/// The Python that imported; its path and flags are part of the question that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct InterpreterEntry {
    executable: PathBuf,
    stat: Option<Stamp>,
}

/// The first thing that is not as the witness says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// A few words, such as "`/home/me/project/utils.py` changed".
    pub what: String,
}

/// A witness that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It can be kept as it is.
    AsItIs,
    /// Something was touched but has the same content. This witness says the same and is cheaper
    /// to check the next time.
    Refreshed(Box<Witness>),
}

/// One source file that has other content than the import saw, with all else as it was.
#[derive(Clone, Debug)]
pub struct SourceEdit {
    witness: Witness,
    /// Which of the witness's sources.
    number: usize,
}

impl SourceEdit {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.witness.sources[self.number].path
    }

    /// The witness of an import that would have seen this file as `edit` did.
    pub fn into_witness(mut self, edit: &EditedFunction) -> Witness {
        let entry = &mut self.witness.sources[self.number];
        (entry.hash, entry.stat) = (Some(edit.hash.clone()), Some(edit.stat));
        self.witness
    }
}

impl Default for Witness {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            began_ns: 0,
            replayable: true,
            reasons: Vec::new(),
            sources: Vec::new(),
            opened: Vec::new(),
            lookups: Vec::new(),
            listings: Vec::new(),
            sites: Vec::new(),
            distributions: Vec::new(),
            environment: BTreeMap::new(),
            environment_all: None,
            exists: Vec::new(),
            interpreter: None,
        }
    }
}

impl Witness {
    pub(crate) fn from_json(value: serde_json::Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(value)
    }

    /// Why the import can never be replaced by its witness, if so: it started a program, say.
    pub fn obstacles(&self) -> &[String] {
        &self.reasons
    }

    /// Looks whether everything is as the import saw it.
    ///
    /// # Errors
    /// The first difference. What cannot be looked at counts as different.
    pub fn check(&self) -> Result<Holds, Change> {
        if self.schema != SCHEMA {
            return Err(changed("the format of the witness".to_owned()));
        }
        if !self.replayable {
            let reason = self.reasons.first().map_or("the import", String::as_str);
            return Err(Change { what: format!("the import cannot be replayed: {reason}") });
        }
        self.check_environment()?;
        if let Some(python) = &self.interpreter {
            let real = python.executable.canonicalize().ok();
            if real.and_then(|path| stamp_of(&path)) != python.stat {
                return Err(changed(quoted(&python.executable)));
            }
        }
        let mut replay = Replay { began_ns: self.began_ns, is_refreshed: false };
        let now_ns = now_ns();
        // A copy whose stamps are brought up to date while it is checked.
        let mut fresh = self.clone();
        let files = [&mut fresh.sources, &mut fresh.opened, &mut fresh.distributions];
        for entry in files.into_iter().flatten() {
            replay.file(entry)?;
        }
        for entry in &mut fresh.lookups {
            replay.lookup(entry)?;
        }
        for entry in &mut fresh.listings {
            replay.listing(entry, None)?;
        }
        for entry in &mut fresh.sites {
            // Python itself makes this folder whenever it likes.
            replay.listing(entry, Some(b"__pycache__"))?;
        }
        for entry in &self.exists {
            exists(entry)?;
        }
        if !replay.is_refreshed {
            return Ok(Holds::AsItIs);
        }
        // Everything was just seen to be as the import saw it, so the import might as well have
        // begun now.
        fresh.began_ns = now_ns;
        Ok(Holds::Refreshed(Box::new(fresh)))
    }

    /// The one source file that has changed, if everything else is as the import saw it.
    pub fn edited_source(&self) -> Option<SourceEdit> {
        let mut witness = self.clone();
        let mut replay = Replay { began_ns: self.began_ns, is_refreshed: false };
        let sources = witness.sources.iter_mut().enumerate();
        let mut changed =
            sources.filter_map(|(number, entry)| replay.file(entry).err().map(|_| number));
        let (Some(number), None) = (changed.next(), changed.next()) else { return None };
        let entry = witness.sources.remove(number);
        // The rest is checked like any other witness, and brought up to date.
        if let Holds::Refreshed(fresh) = witness.check().ok()? {
            witness = *fresh;
        }
        witness.sources.insert(number, entry);
        Some(SourceEdit { witness, number })
    }

    /// The user's files that the import executed.
    pub fn sources(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|entry| entry.path.as_path())
    }

    /// The first file below `root` that was executed with other bytes than the import saw;
    /// `executed` has BLAKE2b-128 digests by the path below `root`.
    pub fn changed_source(
        &self,
        root: &Path,
        executed: &BTreeMap<String, String>,
    ) -> Option<String> {
        let seen: BTreeMap<&Path, &FileEntry> =
            self.sources.iter().map(|entry| (entry.path.as_path(), entry)).collect();
        let differs = |path: &str, hash: &str| {
            let entry = seen.get(root.join(path).as_path());
            entry.is_some_and(|entry| entry.hash.as_deref().is_some_and(|seen| seen != hash))
        };
        executed.iter().find(|(path, hash)| differs(path, hash)).map(|(path, _)| path.clone())
    }

    fn check_environment(&self) -> Result<(), Change> {
        for (name, seen) in &self.environment {
            let value = std::env::var_os(name);
            let now = value.map(|value| digest(value.as_bytes()));
            if now != *seen {
                return Err(changed(format!("the environment variable {name}")));
            }
        }
        if let Some(seen) = &self.environment_all
            && *seen != environment_digest(std::env::vars_os())
        {
            return Err(changed("the environment".to_owned()));
        }
        Ok(())
    }
}

/// The digest of the whole environment as the helper computes it.
fn environment_digest(variables: impl Iterator<Item = (OsString, OsString)>) -> String {
    let mut pairs: Vec<Vec<u8>> = variables
        .filter(|(name, _)| !VOLATILE_VARIABLES.iter().any(|volatile| name == volatile))
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect();
    pairs.sort();
    digest(&pairs.join(&0))
}

/// One pass over the files and folders of a witness.
struct Replay {
    began_ns: i64,
    is_refreshed: bool,
}

impl Replay {
    /// Whether the stamp alone shows that nothing changed. It does not for something that changed
    /// shortly before it was first looked at.
    fn proves(&self, before: Option<Stamp>, now: Option<Stamp>) -> bool {
        match (before, now) {
            (Some(before), Some(now)) => {
                before == now && before.0.max(before.1) < self.began_ns - RACY_NS
            }
            (None, None) => true,
            _ => false,
        }
    }

    fn file(&mut self, entry: &mut FileEntry) -> Result<(), Change> {
        let now = stamp_of(&entry.path);
        if self.proves(entry.stat, now) {
            return Ok(());
        }
        let same = match (&entry.hash, now) {
            (Some(hash), Some(_)) => {
                fs::read(&entry.path).is_ok_and(|bytes| digest(&bytes) == *hash)
            }
            // Too large to have been read: its stamp must do.
            (None, _) => entry.stat == now,
            (Some(_), None) => false,
        };
        if !same {
            return Err(changed(quoted(&entry.path)));
        }
        self.refresh(&mut entry.stat, now);
        Ok(())
    }

    fn lookup(&mut self, entry: &mut LookupEntry) -> Result<(), Change> {
        let now = stamp_of(&entry.dir);
        if self.proves(entry.stat, now) {
            return Ok(());
        }
        let present = names_in(&entry.dir).map(|names| {
            let stem = |name: &OsString| {
                let bytes = name.as_bytes();
                let end = bytes.iter().position(|byte| *byte == b'.').unwrap_or(bytes.len());
                String::from_utf8_lossy(&bytes[..end]).into_owned()
            };
            let counts = |name: &OsString| entry.names.binary_search(&stem(name)).is_ok();
            let found = names.into_iter().filter(counts);
            let mut found: Vec<_> = found.map(|name| name.to_string_lossy().into_owned()).collect();
            found.sort();
            found
        });
        if present != entry.present {
            return Err(changed(format!("what can be imported from {}", quoted(&entry.dir))));
        }
        self.refresh(&mut entry.stat, now);
        Ok(())
    }

    fn listing(&mut self, entry: &mut ListingEntry, without: Option<&[u8]>) -> Result<(), Change> {
        let now = stamp_of(&entry.dir);
        if self.proves(entry.stat, now) {
            return Ok(());
        }
        let hash = names_in(&entry.dir).map(|names| {
            let names = names.into_iter().map(OsStringExt::into_vec);
            let mut names: Vec<Vec<u8>> =
                names.filter(|name| Some(name.as_slice()) != without).collect();
            names.sort();
            digest(&names.join(&b'\n'))
        });
        if hash != entry.hash {
            return Err(changed(format!("the list of files in {}", quoted(&entry.dir))));
        }
        self.refresh(&mut entry.stat, now);
        Ok(())
    }

    fn refresh(&mut self, stat: &mut Option<Stamp>, now: Option<Stamp>) {
        *stat = now;
        self.is_refreshed = true;
    }
}

fn exists(entry: &ExistsEntry) -> Result<(), Change> {
    let differs = || Err(changed(quoted(&entry.path)));
    let is_link = entry.kind.as_deref() == Some("link");
    let found = if is_link { fs::symlink_metadata(&entry.path) } else { fs::metadata(&entry.path) };
    let kind = found.as_ref().ok().map(|found| {
        if found.is_symlink() {
            "link"
        } else if found.is_file() {
            "file"
        } else if found.is_dir() {
            "dir"
        } else {
            "other"
        }
    });
    if kind != entry.kind.as_deref() {
        return differs();
    }
    if is_link && fs::read_link(&entry.path).ok() != entry.target {
        return differs();
    }
    match (&entry.stat, found) {
        // Who asks for the size or the time of a file may do something with it.
        (Some(stat), Ok(found)) if *stat != stamp(&found) => differs(),
        _ => Ok(()),
    }
}

fn stamp(found: &fs::Metadata) -> Stamp {
    let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
    Stamp(
        ns(found.mtime(), found.mtime_nsec()),
        ns(found.ctime(), found.ctime_nsec()),
        found.size(),
        found.ino(),
        found.dev(),
    )
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|found| stamp(&found))
}

fn names_in(dir: &Path) -> Option<Vec<OsString>> {
    let names: io::Result<_> =
        fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    names.ok()
}

fn changed(what: String) -> Change {
    Change { what: format!("{what} changed") }
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn digest(bytes: &[u8]) -> String {
    hex(&Blake2b::<U16>::digest(bytes))
}

/// Lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file, a folder and a name that is not there, as the helper would record them.
    fn witness_of(dir: &Path) -> Witness {
        let file = dir.join("utils.py");
        let bytes = fs::read(&file).unwrap();
        Witness {
            began_ns: now_ns(),
            sources: vec![FileEntry {
                hash: Some(digest(&bytes)),
                stat: stamp_of(&file),
                path: file,
            }],
            lookups: vec![LookupEntry {
                dir: dir.to_owned(),
                stat: stamp_of(dir),
                names: vec!["fast".into(), "utils".into()],
                present: Some(vec!["utils.py".into()]),
            }],
            ..Witness::default()
        }
    }

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("utils.py"), "x = 1\n").unwrap();
        dir
    }

    #[test]
    fn the_default_depends_on_nothing() {
        assert_eq!(Witness::default().check(), Ok(Holds::AsItIs));
    }

    #[test]
    fn an_edit_is_seen_even_if_size_and_time_are_put_back() {
        let dir = project();
        let file = dir.path().join("utils.py");
        let witness = witness_of(dir.path());
        assert!(witness.check().is_ok());

        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "x = 2\n").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        let change = witness.check().unwrap_err();
        assert!(change.what.contains("utils.py"), "{}", change.what);
    }

    #[test]
    fn a_touch_refreshes_and_changes_nothing() {
        let dir = project();
        let witness = witness_of(dir.path());
        fs::File::options()
            .write(true)
            .open(dir.path().join("utils.py"))
            .unwrap()
            .set_modified(UNIX_EPOCH)
            .unwrap();
        let Ok(Holds::Refreshed(fresh)) = witness.check() else { panic!("not refreshed") };
        assert!(fresh.check().is_ok());
        assert_ne!(fresh.sources[0].stat, witness.sources[0].stat);
    }

    #[test]
    fn a_new_module_in_front_is_seen_and_another_file_is_not() {
        let dir = project();
        let witness = witness_of(dir.path());
        fs::write(dir.path().join("output.csv"), "").unwrap();
        assert!(witness.check().is_ok());
        fs::write(dir.path().join("fast.cpython-311.so"), "").unwrap();
        assert!(witness.check().is_err());
    }

    #[test]
    fn variables_that_were_read_count() {
        let mut witness = Witness::default();
        witness.environment.insert("PIVOT_TEST_THAT_IS_NOT_SET".into(), None);
        assert!(witness.check().is_ok());
        witness.environment.insert("PIVOT_TEST_THAT_IS_NOT_SET".into(), Some(digest(b"1")));
        assert!(witness.check().is_err());
    }

    #[test]
    fn the_whole_environment_is_independent_of_order_and_of_the_shell() {
        let pairs = |list: &[(&str, &str)]| {
            let pairs: Vec<(OsString, OsString)> =
                list.iter().map(|(name, value)| (name.into(), value.into())).collect();
            environment_digest(pairs.into_iter())
        };
        assert_eq!(pairs(&[("A", "1"), ("B", "2")]), pairs(&[("B", "2"), ("A", "1"), ("_", "x")]));
        assert_ne!(pairs(&[("A", "1")]), pairs(&[("A", "2")]));
    }

    #[test]
    fn digests_are_those_of_the_helper() {
        // hashlib.blake2b(b"pivot", digest_size=16).hexdigest()
        assert_eq!(digest(b"pivot"), PYTHON_DIGEST);
    }

    const PYTHON_DIGEST: &str = "aad30e5beb3921167c8573a3d8b00222";
}
