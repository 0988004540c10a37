//! A run that is killed at any of its changes to files, or of which any change fails, leaves
//! nothing wrong and nothing lost: the next run gives what an undisturbed one gives.
//!
//! Not a sample: the program is stopped at each system call that writes, creates, renames, links,
//! removes or syncs, one after the other, until a run comes to its end without reaching the next.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Project, project};
use crate::system_calls::{Call, Then, watch};

const PIPELINE: &str = "\
stages:
  clean: {cmd: 'tr a-z A-Z <data >clean', deps: [data], outs: [clean]}
  split:
    cmd: mkdir -p parts/empty; cp clean parts/a; ln -s a parts/link; echo b >parts/b; chmod +x parts/b
    deps: [clean]
    outs: [parts]
  score:
    cmd: wc -c <parts/a >score.json; cat data >>all
    deps: [parts, data]
    outs: [{all: {incremental: true}}]
    metrics: [score.json]
";

/// What there is before the run, and what must not be lost in it.
struct Scenario {
    prepare: fn(Project) -> Project,
    precious: &'static [&'static str],
    mode: &'static str,
}

/// Nothing has run yet, and the user's own files are where outputs will be.
const FRESH: Scenario = Scenario {
    prepare: |project| project.file("clean", "my clean").file("parts/mine", "my part"),
    precious: &["my clean", "my part"],
    mode: "auto",
};

/// All has run; then the data changed, and the user edited and removed outputs.
const CHANGED: Scenario = Scenario {
    prepare: |project| {
        project.pivot("run").succeeds();
        project.write("data", "second\n");
        project.remove("clean");
        project.write("clean", "my clean");
        project.write("parts/mine", "my part");
        project.remove("score.json");
        project
    },
    precious: &["my clean", "my part"],
    mode: "hardlink",
};

/// The outputs of an earlier state of the data come back from the cache.
const RESTORED: Scenario = Scenario {
    prepare: |project| {
        project.pivot("run").succeeds();
        project.write("data", "second\n");
        project.pivot("run").succeeds();
        project.write("data", "first\n");
        project.remove("parts");
        project
    },
    precious: &[],
    mode: "symlink",
};

impl Scenario {
    fn project(&self) -> Project {
        let config = format!("cache: {{checkout_mode: {}}}\n", self.mode);
        let project = project().file("pivot.yaml", PIPELINE).file("data", "first\n");
        (self.prepare)(project.file(".pivot/config.yaml", &config))
    }

    /// Has `then` happen at every call that `chosen` picks, a run for each, and checks what is left.
    fn at_every(&self, then: Then, chosen: impl Fn(&Call) -> bool) -> usize {
        let expected = {
            let project = self.project();
            project.pivot("run").succeeds();
            picture(&project)
        };
        for point in 0.. {
            let project = self.project();
            let mut passed = 0;
            let mut reached = None;
            let mut command = project.command("run -j 1");
            let told = tempfile::NamedTempFile::new().unwrap();
            command.stderr(told.reopen().unwrap());
            let exit = watch(command, project.root(), |call| {
                if reached.is_some() || !chosen(call) {
                    return Then::Go;
                }
                passed += 1;
                if passed <= point {
                    return Then::Go;
                }
                reached = Some(format!("{} of {:?}", call.name, call.file));
                then
            });
            let said = fs::read_to_string(told.path()).unwrap();
            let Some(reached) = reached else {
                assert_eq!(exit, Some(0), "undisturbed:\n{said}");
                return point;
            };
            let at = format!("{then:?} at point {point}, {reached}; it had said:\n{said}");
            match (then, exit) {
                // Some calls may fail without harm; then all must be as if none had.
                (Then::Fail(_), Some(0)) => {
                    assert_eq!(picture(&project).outputs, expected.outputs, "{at}");
                }
                (Then::Fail(_), Some(1)) => {
                    assert!(said.contains("caused by: "), "no cause is told: {at}");
                    assert!(!said.contains("panicked") && said.len() < 2000, "{at}");
                    for saved in project.files_in(".pivot/saved") {
                        let top: Vec<_> = saved.split('/').take(3).collect();
                        assert!(said.contains(&top.join("/")), "{saved} is not told: {at}");
                    }
                }
                (Then::Fail(_), _) => panic!("exit code {exit:?}: {at}"),
                _ => assert_eq!(exit, None, "it was not killed: {at}"),
            }
            self.check_now(&project, &expected, &at);
            let again = project.pivot("run");
            assert_eq!(picture(&project), expected, "{at}\nthen:\n{again}");
            again.succeeds();
            self.check_now(&project, &expected, &at);
            assert!(project.read(".pivot/.gitignore").contains("/cache/\n"), "{at}");
            assert!(project.files_in(".pivot/cache/tmp").is_empty(), "leftovers: {at}");
            assert!(project.files_in(".pivot/cache/quarantine").is_empty(), "quarantine: {at}");
            let third = project.pivot("run").succeeds();
            assert_eq!(third.counts(), "3 stages: 3 unchanged ([time])", "{at}");
        }
        unreachable!("a run makes finitely many calls")
    }

    /// What must be true at any moment, also directly after a kill.
    fn check_now(&self, project: &Project, expected: &Picture, at: &str) {
        for object in project.files_in(".pivot/cache/files") {
            let bytes = fs::read(project.path(&object)).unwrap();
            let name: String =
                object.rsplit('/').take(2).collect::<Vec<_>>().into_iter().rev().collect();
            let hash = xxhash_rust::xxh64::xxh64(&bytes, 0);
            assert_eq!(name, format!("{hash:016x}"), "an object does not match its name: {at}");
        }
        for (name, text) in &picture(project).locks {
            let is_whole = text.starts_with("schema_version: 1\n") && text.ends_with("}\n");
            assert!(
                is_whole || expected.locks.get(name) == Some(text),
                "half a lock: {text}: {at}"
            );
        }
        let files = project.files_in(".");
        for text in self.precious {
            let is_kept =
                |file: &String| fs::read(project.path(file)).is_ok_and(|b| b == text.as_bytes());
            assert!(files.iter().any(is_kept), "{text:?} is lost: {at}");
        }
    }
}

/// What two runs have to agree on.
#[derive(Debug, PartialEq)]
struct Picture {
    /// All files of the user, with kind, execute bit and content.
    outputs: BTreeMap<String, String>,
    locks: BTreeMap<String, String>,
    objects: Vec<String>,
}

fn picture(project: &Project) -> Picture {
    let mut outputs = BTreeMap::new();
    let mut waiting = vec![project.root().to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(project.root()).unwrap().display().to_string();
            let kind = entry.file_type().unwrap();
            if name == ".pivot" {
                continue;
            } else if kind.is_dir() {
                waiting.push(path);
                outputs.insert(name, "directory".to_owned());
            } else if kind.is_symlink()
                && fs::read_link(&path).unwrap().as_os_str().as_bytes() == b"a"
            {
                outputs.insert(name, "link to a".to_owned());
            } else {
                let metadata = fs::metadata(&path).unwrap();
                let is_executable = metadata.permissions().mode() & 0o111 != 0;
                let text = fs::read_to_string(&path).unwrap();
                outputs.insert(name, format!("{is_executable} {text}"));
            }
        }
    }
    let locks = project.files_in(".pivot/stages").into_iter();
    let locks = locks.filter(|name| name.ends_with(".lock"));
    Picture {
        outputs,
        locks: locks.map(|name| (name.clone(), project.read(&name))).collect(),
        objects: project.files_in(".pivot/cache/files"),
    }
}

#[test]
fn killed_at_any_point_of_a_first_run() {
    assert!(FRESH.at_every(Then::Kill, |_| true) > 80);
}

#[test]
fn killed_at_any_point_of_a_run_after_changes() {
    assert!(CHANGED.at_every(Then::Kill, |_| true) > 80);
}

#[test]
fn killed_at_any_point_of_a_restore() {
    assert!(RESTORED.at_every(Then::Kill, |_| true) > 20);
}

#[test]
fn killed_in_the_middle_of_any_write() {
    assert!(CHANGED.at_every(Then::KillHalfway, |call| call.is_write) > 10);
}

#[test]
fn a_full_disk_at_any_point() {
    assert!(FRESH.at_every(Then::Fail(libc::ENOSPC), |_| true) > 80);
}
