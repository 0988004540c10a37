//! What a stage's last run did beyond its fingerprint: modules, functions, files and variables
//! that only showed when they were used.
//!
//! They stand in the lock beside the components of the manifest, under names that say where to
//! look again: `ran:FILE`, `ran:FILE:FUNCTION`, `read:FILE`, `exists:PATH`, `listing:FOLDER`,
//! `environ:NAME`. Comparing the lock
//! takes their hashes of now. Only Python can compute one of a piece of code, so the state
//! remembers it by the content of its file, and Python starts only when that has changed.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pivot_cache::{Content, ObjectId, Table, Workspace};
use pivot_dag::TaskId;
use pivot_fingerprint::{CodeHash, Component, Manifest, SourcePlace};
use pivot_lock::Found;
use pivot_pipeline::Pipeline;

use crate::load::Loaded;
use crate::project::OpenProject;
use crate::worker::ExtraFrame;

/// What the names of environment variables begin with.
const VARIABLE: &str = "environ:";

/// What the names of paths begin with that were only asked for, and of folders that were listed.
const EXISTS: &str = "exists:";
const LISTING: &str = "listing:";

/// Names that Pivot and Python themselves put into folders.
const NOT_LISTED: [&str; 3] = [".pivot", ".git", "__pycache__"];

/// The current hashes of everything that some lock names as an extra.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    hashes: HashMap<String, Option<CodeHash>>,
    /// The files that the hashes were taken from, or would have been.
    files: Vec<(String, Content)>,
}

/// Whether a component in a lock was only seen by a run.
pub(crate) fn is_extra(name: &str) -> bool {
    ["ran:", "read:", EXISTS, LISTING, VARIABLE].iter().any(|kind| name.starts_with(kind))
}

impl Extras {
    /// Looks up what the locks name.
    pub(crate) fn gather<'l>(
        project: &OpenProject,
        loaded: &Loaded,
        workspace: &Workspace<'_>,
        locks: impl IntoIterator<Item = &'l Found>,
    ) -> Self {
        let mut names = BTreeSet::new();
        for lock in locks {
            if let Found::Usable(lock) = lock {
                names.extend(lock.code().iter().map(|(name, _)| name).filter(|n| is_extra(n)));
            }
        }
        let (mut hashes, mut files) = (HashMap::new(), Vec::new());
        let mut unknown: Vec<(String, ObjectId)> = Vec::new();
        for name in names {
            match known(project, workspace, name, &mut files) {
                Known::Hash(hash) => drop(hashes.insert(name.clone(), hash)),
                Known::OnlyToPython(content) => unknown.push((name.clone(), content)),
            }
        }
        // Without an answer they have no hash, and the stages that they belong to run.
        if let (false, Some(python)) = (unknown.is_empty(), &loaded.python) {
            let names: Vec<String> = unknown.iter().map(|(name, _)| name.clone()).collect();
            let answer = pivot_fingerprint::digest(python, project.root(), &names);
            for ((name, content), hash) in unknown.into_iter().zip(answer.unwrap_or_default()) {
                if let Some(hash) = hash {
                    remember(project, &name, content, hash);
                }
                hashes.insert(name, hash);
            }
        }
        files.sort_unstable();
        files.dedup();
        Self { hashes, files }
    }

    /// The files that the hashes follow from, with what they held.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, Content)> {
        self.files.iter().map(|(file, content)| (file.as_str(), *content))
    }

    /// What counts beside the contents of files, with its hashes; see [`fact_hash`].
    pub(crate) fn facts(&self) -> impl Iterator<Item = (&str, Option<CodeHash>)> {
        let is_fact =
            |name: &str| [VARIABLE, EXISTS, LISTING].iter().any(|kind| name.starts_with(kind));
        let all = self.hashes.iter().map(|(name, hash)| (name.as_str(), *hash));
        all.filter(move |(name, _)| is_fact(name))
    }

    /// A stage's manifest together with the extras that its lock names.
    pub(crate) fn extend<'m>(&self, own: &'m Manifest, lock: &Found) -> Cow<'m, Manifest> {
        let Found::Usable(lock) = lock else { return Cow::Borrowed(own) };
        let extra = lock.code().iter().filter(|(name, _)| is_extra(name));
        let extra = extra.filter_map(|(name, _)| {
            let hash = self.hashes.get(name).copied().flatten()?;
            let place = file_of(name).map(|file| SourcePlace { file: file.to_owned(), line: 1 });
            Some(Component { name: name.clone(), hash, place })
        });
        let extra: Vec<Component> = extra.collect();
        if extra.is_empty() { Cow::Borrowed(own) } else { Cow::Owned(with(own, extra)) }
    }
}

/// A stage's manifest together with what its run has just reported.
pub(crate) fn with_reported(own: &Manifest, reported: &[ExtraFrame]) -> Manifest {
    let component = |extra: &ExtraFrame| Component {
        name: extra.name.clone(),
        hash: extra.hash,
        place: extra
            .file
            .as_ref()
            .map(|file| SourcePlace { file: file.clone(), line: extra.line.unwrap_or(1) }),
    };
    with(own, reported.iter().map(component).collect())
}

/// A shell stage's manifest together with the environment variables that its command names.
pub(crate) fn with_variables(own: &Manifest, command: &str) -> Manifest {
    let component = |name: String| {
        let hash = variable_hash(&name);
        Component { name: format!("{VARIABLE}{name}"), hash, place: None }
    };
    with(own, variables_of(command).into_iter().map(component).collect())
}

/// What a shell sets by itself, or what says nothing about the result.
const SHELLS_OWN: [&str; 16] = [
    "PWD", "OLDPWD", "SHLVL", "RANDOM", "SECONDS", "LINENO", "PPID", "UID", "EUID", "IFS",
    "OPTARG", "OPTIND", "HOSTNAME", "PATH", "HOME", "TMPDIR",
];

/// The names after `$` and `${` in a command, without those that it sets itself.
fn variables_of(command: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name_at = |text: &str| {
        let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
        let name = &text[..end];
        (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()))
            .then(|| name.to_owned())
    };
    let sets = |name: &str| {
        let forms = [format!("{name}="), format!("for {name} "), format!("read {name}")];
        forms.iter().flat_map(|form| command.match_indices(form.as_str())).any(|(start, _)| {
            let before = command[..start].chars().next_back();
            before.is_none_or(|c| !is_word(c) && c != '$' && c != '{')
        })
    };
    let texts = command.split('$').skip(1);
    let names = texts.filter_map(|text| name_at(text.strip_prefix('{').unwrap_or(text)));
    names.filter(|name| !SHELLS_OWN.contains(&name.as_str()) && !sets(name)).collect()
}

/// What to tell of a run that read outputs of other stages which are none of its dependencies:
/// nothing makes those stages run before it.
pub(crate) fn undeclared_reads(
    pipeline: &Pipeline,
    task: TaskId,
    reported: &[ExtraFrame],
) -> Vec<String> {
    let reader = &pipeline.stage(task).name;
    let read = reported.iter().filter_map(|extra| extra.name.strip_prefix("read:"));
    let writer_of = |file: &str| {
        let is_part =
            |out: &str| file.strip_prefix(out).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let others = pipeline.stages().iter().filter(|stage| stage.name != *reader);
        others.into_iter().find(|stage| stage.outs.iter().any(|out| is_part(out.path.as_str())))
    };
    let told = read.filter_map(|file| {
        let writer = &writer_of(file)?.name;
        Some(format!(
            "`{reader}` read `{file}`, which `{writer}` writes: add it to the deps of `{reader}`"
        ))
    });
    told.collect()
}

fn with(own: &Manifest, mut extra: Vec<Component>) -> Manifest {
    extra.extend(own.components().iter().cloned());
    Manifest::new(extra)
}

/// The file that an extra is about.
fn file_of(name: &str) -> Option<&str> {
    match name.split_once(':')? {
        ("read" | "exists" | "listing", file) => Some(file),
        ("ran", rest) => Some(rest.split_once(':').map_or(rest, |(file, _)| file)),
        _ => None,
    }
}

enum Known {
    Hash(Option<CodeHash>),
    /// The content that the answer shall be remembered for.
    OnlyToPython(ObjectId),
}

/// The hash of an environment variable, of what is at a path, or of a folder's names, as it is
/// now. It takes a system call or two.
pub(crate) fn fact_hash(root: &Path, name: &str) -> Option<CodeHash> {
    if let Some(variable) = name.strip_prefix(VARIABLE) {
        return Some(variable_hash(variable));
    }
    let path = file_of(name).filter(|path| is_below(path))?;
    if name.starts_with(EXISTS) {
        return Some(CodeHash::of_parts([&kind_of(&root.join(path))[..]]));
    }
    let entries = fs::read_dir(root.join(path)).ok()?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.ok()?.file_name();
        if !NOT_LISTED.iter().any(|not| name == *not) {
            names.push(name.into_encoded_bytes());
        }
    }
    names.sort_unstable();
    Some(CodeHash::of_parts(names.iter().map(Vec::as_slice)))
}

/// A variable that is not set has no part; one that is empty has one.
fn variable_hash(variable: &str) -> CodeHash {
    CodeHash::of_parts(std::env::var_os(variable).iter().map(|value| value.as_bytes()))
}

/// What is at a path, in the helper's words.
fn kind_of(path: &Path) -> Vec<u8> {
    let Ok(found) = path.symlink_metadata() else { return b"absent".to_vec() };
    if found.is_symlink() {
        let target = path.read_link().map(|target| target.into_os_string().into_encoded_bytes());
        return target.map_or(b"absent".to_vec(), |target| [b"link:", &target[..]].concat());
    }
    let word = if found.is_file() {
        "file"
    } else if found.is_dir() {
        "dir"
    } else {
        "other"
    };
    word.as_bytes().to_vec()
}

/// A lock from elsewhere must not make us read outside the project.
fn is_below(path: &str) -> bool {
    !path.starts_with('/') && path.split('/').all(|part| part != "..")
}

fn known(
    project: &OpenProject,
    workspace: &Workspace<'_>,
    name: &str,
    files: &mut Vec<(String, Content)>,
) -> Known {
    if [VARIABLE, EXISTS, LISTING].iter().any(|kind| name.starts_with(kind)) {
        return Known::Hash(fact_hash(project.root(), name));
    }
    let Some(file) = file_of(name).filter(|file| is_below(file)) else { return Known::Hash(None) };
    let Ok(Some(content)) = workspace.content(file) else { return Known::Hash(None) };
    files.push((file.to_owned(), content));
    let remembered = project.state.get(Table::Pipeline, key(name).as_bytes());
    let remembered: Option<[u8; 16]> = remembered.and_then(|bytes| bytes.try_into().ok());
    match remembered.map(u128::from_le_bytes) {
        Some(pair) if (pair >> 64) as u64 == content.id.as_u64() => {
            Known::Hash(Some(CodeHash::from_u64(pair as u64)))
        }
        _ => Known::OnlyToPython(content.id),
    }
}

fn remember(project: &OpenProject, name: &str, content: ObjectId, hash: CodeHash) {
    let pair = u128::from(content.as_u64()) << 64 | u128::from(hash.as_u64());
    project.state.put(Table::Pipeline, key(name).as_bytes(), &pair.to_le_bytes());
}

/// The hash also depends on the helper that computes it.
fn key(name: &str) -> String {
    format!("extra {} {name}", pivot_fingerprint::package_digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_to_look() {
        assert_eq!(file_of("ran:plugins/a.py"), Some("plugins/a.py"));
        assert_eq!(file_of("ran:plugins/a.py:Model.fit"), Some("plugins/a.py"));
        assert_eq!(file_of("read:config.json"), Some("config.json"));
        assert_eq!(file_of("exists:maybe.json"), Some("maybe.json"));
        assert_eq!(file_of("environ:MODE"), None);
        assert!(!is_extra("func:ran"));
    }

    #[test]
    fn a_command_reads_the_variables_that_it_does_not_set() {
        for (command, names) in [
            ("echo $MODE ${LEVEL:-1}x", &["LEVEL", "MODE"][..]),
            ("MODE=1; echo $MODE $HOME $1 $$ $(date) $", &[]),
            ("for f in *; do echo $f; done", &[]),
            ("echo $É", &[]),
        ] {
            assert_eq!(Vec::from_iter(variables_of(command)), names, "{command}");
        }
    }
}
