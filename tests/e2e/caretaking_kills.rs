//! `pivot gc` and `pivot checkout`, killed at any of their changes to files, lose nothing that is
//! needed, and the next one does the rest.

use crate::support::{Project, project};
use crate::system_calls::{Then, watch};

const PIPELINE: &str = "\
stages:
  upper: {cmd: 'tr a-z A-Z <data >upper', deps: [data], outs: [upper]}
  parts: {cmd: 'mkdir parts; cp upper parts/a; cp data parts/b', deps: [upper, data], outs: [parts]}
";

/// Two states of the data have run, so the cache has objects that no lock needs any more.
fn ran_twice() -> Project {
    let project = project().file("pivot.yaml", PIPELINE).file("data", "first");
    project.pivot("run").succeeds();
    project.write("data", "second");
    project.pivot("run").succeeds();
    project
}

/// Kills `command` at each of its changing system calls, one after the other, each in a project
/// of its own, and hands what is left to `check`. Returns how many calls there were.
pub(crate) fn kill_at_every(
    command: &str,
    prepare: impl Fn() -> Project,
    check: impl Fn(&Project, &str),
) -> usize {
    for point in 0.. {
        let project = prepare();
        let mut passed = 0;
        let mut reached = None;
        let exit = watch(project.command(command), project.root(), |call| {
            passed += 1;
            if reached.is_some() || passed <= point {
                return Then::Go;
            }
            reached = Some(format!("{} of {:?}", call.name, call.file));
            Then::Kill
        });
        let Some(reached) = reached else {
            assert_eq!(exit, Some(0), "undisturbed");
            return point;
        };
        let at = format!("killed at point {point}, {reached}");
        assert_eq!(exit, None, "{at}");
        check(&project, &at);
        project.pivot("verify").succeeds();
        project.pivot("cache fsck").succeeds();
    }
    unreachable!("a command makes finitely many calls")
}

#[test]
fn gc_killed_at_any_change_keeps_what_is_needed() {
    let points = kill_at_every("gc -f --grace 0", ran_twice, |project, at| {
        project.pivot("gc -f --grace 0").succeeds();
        let left = project.files_in(".pivot/cache/files");
        assert!(!left.iter().any(|object| project.read(object) == "FIRST"), "{at}: {left:?}");
        for path in ["upper", "parts/a", "parts/b"] {
            project.remove(path);
        }
        project.pivot("checkout").succeeds();
        assert_eq!(project.read("upper"), "SECOND", "{at}");
        assert_eq!(project.read("parts/b"), "second", "{at}");
    });
    assert!(points > 3, "only {points} changes were seen");
}

#[test]
fn checkout_killed_at_any_change_loses_no_edit() {
    fn edited() -> Project {
        let project = ran_twice();
        project.remove("upper");
        project.write("upper", "mine");
        project.remove("parts/a");
        project
    }
    let points = kill_at_every("checkout", edited, |project, at| {
        let saved = project.files_in(".pivot/saved");
        let is_there = |path: &String| project.read(path) == "mine";
        assert!(
            saved.iter().any(is_there)
                || (project.path("upper").exists() && project.read("upper") == "mine"),
            "{at}: the edit is lost"
        );
        project.pivot("checkout").succeeds();
        assert_eq!(project.read("upper"), "SECOND", "{at}");
        assert_eq!(project.read("parts/a"), "SECOND", "{at}");
        assert!(project.files_in(".pivot/saved").iter().any(is_there), "{at}");
    });
    assert!(points > 3, "only {points} changes were seen");
}
