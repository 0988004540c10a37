//! `pivot run` leaves outputs on the remote that nobody needs here.

use std::fs;
use std::time::SystemTime;

use xxhash_rust::xxh64::xxh64;

use crate::caretaking_kills::kill_at_every;
use crate::sharing::{damage, object_of, objects};
use crate::support::{Project, eventually, project};

/// Each stage writes a number of bytes of its own, so that what was fetched can be told by its size.
pub(crate) const CHAIN: &str = "stages:\n\
    \x20 big:\n\
    \x20   cmd: echo big >> ran.log; (cat data.txt; head -c 100000 /dev/zero) > big.bin\n\
    \x20   deps: [data.txt]\n\
    \x20   outs: [big.bin]\n\
    \x20 middle:\n\
    \x20   cmd: echo middle >> ran.log; head -c 1000 big.bin > middle.bin\n\
    \x20   deps: [big.bin]\n\
    \x20   outs: [middle.bin]\n\
    \x20 other:\n\
    \x20   cmd: echo other >> ran.log; head -c 300 big.bin > other.bin\n\
    \x20   deps: [big.bin]\n\
    \x20   outs: [other.bin]\n\
    \x20 last:\n\
    \x20   cmd: echo last >> ran.log; (cat note.txt; head -c 10 middle.bin) > last.bin\n\
    \x20   deps: [middle.bin, note.txt]\n\
    \x20   outs: [last.bin]\n";

/// Only what is on the machine of somebody who ran all stages and pushed.
fn pushed() -> Project {
    let project =
        project().file("pivot.yaml", CHAIN).file("data.txt", "data\n").file("note.txt", "note\n");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["big", "last", "middle", "other"]);
    project.pivot("remote add origin remote").succeeds();
    project.pivot("push").succeeds();
    project
}

/// A colleague's clone: what git has, with the same remote.
fn clone_of(project: &Project) -> Project {
    let clone = project.cloned_without(&[
        ".pivot/cache",
        ".pivot/state.lmdb",
        ".pivot/run",
        ".pivot/logs",
        ".pivot/config.yaml",
        "big.bin",
        "middle.bin",
        "other.bin",
        "last.bin",
        "remote",
        "ran.log",
    ]);
    let url = project.path("remote");
    clone.pivot(&format!("remote add origin {}", url.display())).succeeds();
    clone
}

fn outputs(project: &Project) -> Vec<&'static str> {
    let all = ["big.bin", "middle.bin", "other.bin", "last.bin"];
    all.into_iter().filter(|path| project.exists(path)).collect()
}

#[test]
fn only_what_nobody_reads_is_brought() {
    let project = pushed();
    let clone = clone_of(&project);
    insta::assert_snapshot!(clone.pivot("run -n"), @r"
    exit: 0
    big     UNCHANGED     unchanged (remote)
    middle  UNCHANGED     unchanged (remote)
    other   WILL RESTORE  Outputs missing
    last    WILL RESTORE  Outputs missing
    ");
    insta::assert_snapshot!(clone.pivot("run -j 1"), @r"
    exit: 0
    4 stages: 2 restored, 2 unchanged (remote) ([time])
    --- stderr
    done  other: outputs restored from `origin`
    done  last: outputs restored from `origin`
    note: 2 objects fetched from `origin` (315 B)
    ");
    assert_eq!(outputs(&clone), ["other.bin", "last.bin"]);
    assert_eq!(objects(&clone, ".pivot/cache"), 2);
    // From then on there is nothing to do, and the remote is not asked.
    clone.pivot("run").succeeds().says("2 unchanged (remote), 2 unchanged");
    assert_eq!(objects(&clone, ".pivot/cache"), 2);
    clone.pivot("status --json").succeeds().says("unchanged (remote)");
    assert!(clone.ran().is_empty());
    let verified = clone.pivot("verify").succeeds().says("big.bin: on the remote only");
    assert!(
        verified.stdout().ends_with("4 outputs: 0 wrong, 2 on the remote only\n"),
        "{verified}"
    );
    // What is asked for by name is brought.
    clone.pivot("run middle").succeeds().says("1 object fetched from `origin` (1000 B)");
    assert_eq!(outputs(&clone), ["middle.bin", "other.bin", "last.bin"]);
    clone.pivot("run big.bin").succeeds().says("1 restored");
    assert_eq!(outputs(&clone).len(), 4);
    assert!(clone.ran().is_empty());
    assert_eq!(clone.pivot("run").succeeds().counts(), "4 stages: 4 unchanged ([time])");
}

#[test]
fn a_stage_that_runs_gets_its_inputs_and_no_more() {
    let project = pushed();
    let clone = clone_of(&project);
    clone.write("note.txt", "another note\n");
    let ended = clone.pivot("run last --json").succeeds();
    assert_eq!(clone.ran(), ["last"]);
    let lines = ended.json_lines();
    let summary = lines.last().unwrap();
    assert_eq!(summary["fetched"]["bytes"], 1000, "{summary}");
    assert_eq!(summary["fetched"]["objects"], 1);
    assert_eq!(outputs(&clone), ["middle.bin", "last.bin"]);
    let restored = lines.iter().find(|line| line["stage"] == "middle").unwrap();
    assert_eq!(restored["fetched"]["remote"], "origin", "{restored}");
}

#[test]
fn an_input_comes_when_it_turns_out_that_its_reader_runs() {
    let project = pushed();
    let clone = clone_of(&project);
    // `other` and `middle` may run: it depends on what `big` writes.
    clone.replace(
        "pivot.yaml",
        "(cat data.txt; head -c 100000 /dev/zero) > big.bin",
        "head -c 4 data.txt > big.bin; echo >> big.bin; head -c 100000 /dev/zero >> big.bin",
    );
    clone.pivot("run").succeeds();
    assert_eq!(clone.ran(), ["big"], "the others read the same as before");
    assert_eq!(outputs(&clone), ["big.bin", "other.bin", "last.bin"]);

    // `middle` stays away while it is not known whether `last` runs.
    let clone = clone_of(&project);
    clone.write(
        "pivot.yaml",
        &CHAIN.replace("deps: [middle.bin, note.txt]", "deps: [middle.bin, note.txt, other.bin]"),
    );
    clone.replace("pivot.yaml", "head -c 300 big.bin > other.bin", "echo new > other.bin");
    clone.pivot("run").succeeds();
    assert_eq!(clone.ran(), ["last", "other"]);
    assert_eq!(outputs(&clone).len(), 4);
}

#[test]
fn records_alone_are_enough() {
    let project = pushed();
    let clone = clone_of(&project);
    for stage in ["big", "middle", "other", "last"] {
        clone.remove(&format!(".pivot/stages/{stage}.lock"));
    }
    let ended = clone.pivot("run").succeeds().says("fetched from `origin` (315 B)");
    assert_eq!(ended.counts(), "4 stages: 4 unchanged (run cache) ([time])");
    assert_eq!(outputs(&clone), ["other.bin", "last.bin"]);
    for stage in ["big", "middle", "other", "last"] {
        assert_eq!(clone.lock(stage), project.lock(stage));
    }
    let counts = clone.pivot("run").succeeds().counts();
    assert_eq!(counts, "4 stages: 2 unchanged (remote), 2 unchanged ([time])");
}

#[test]
fn an_output_that_is_out_of_date_does_not_stay() {
    let project = pushed();
    let clone = clone_of(&project);
    clone.write("middle.bin", "mine");
    clone.pivot("run").succeeds().says("it is now `.pivot/saved/middle.bin`");
    assert_eq!(clone.read("middle.bin").len(), 1000);
    assert!(!clone.exists("big.bin"));
}

#[test]
fn with_always_all_comes_and_with_never_nothing() {
    let project = pushed();
    let clone = clone_of(&project);
    clone.pivot("run").succeeds();
    // Nobody relies on what another `--pull` may leave away.
    let ended = clone.pivot("run --pull always").succeeds();
    assert_eq!(ended.counts(), "4 stages: 2 restored, 2 unchanged ([time])");
    assert_eq!(outputs(&clone).len(), 4);

    let clone = clone_of(&project);
    clone.pivot("run").succeeds();
    clone.pivot("run --pull never").succeeds();
    assert_eq!(clone.ran(), ["big", "middle"]);

    let clone = clone_of(&project);
    clone.pivot("run").succeeds();
    clone.pivot("remote remove origin").succeeds();
    clone.pivot("run").succeeds();
    assert_eq!(clone.ran(), ["big", "middle"]);
}

#[test]
fn an_input_that_the_remote_has_lost_is_made_here() {
    let project = pushed();
    // Both are there when asked, and neither can be had.
    for (stage, path) in [("last", "last.bin"), ("middle", "middle.bin")] {
        damage(project.path("remote").join(object_of(&project, stage, path)), b"damaged");
    }
    let clone = clone_of(&project);
    let ended = clone.pivot("run").succeeds().says("going on without what the remote has lost");
    assert_eq!(clone.ran(), ["last", "middle"], "{ended}");
    for path in ["middle.bin", "last.bin"] {
        assert_eq!(fs::read(clone.path(path)).unwrap(), fs::read(project.path(path)).unwrap());
    }
}

#[test]
fn what_nobody_needs_is_not_made_while_the_remote_is_silent() {
    let project = pushed();
    let clone = clone_of(&project);
    clone.pivot("run").succeeds();
    fs::rename(project.path("remote"), project.path("away")).unwrap();
    // Not settled any more, and nothing to do.
    clone.replace("pivot.yaml", "stages:", "# a comment\nstages:");
    let ended = clone.pivot("run").succeeds();
    assert_eq!(ended.counts(), "4 stages: 2 unchanged (remote), 2 unchanged ([time])");
    assert!(clone.ran().is_empty(), "{ended}");
    let _ = ended.says("there is no directory").says("is its disk there?");
    clone.write("unrelated.txt", "x");
    let stage = "  alone: {cmd: echo alone >> ran.log; cp unrelated.txt alone.txt, \
                 deps: [unrelated.txt], outs: [alone.txt]}\n";
    clone.write("pivot.yaml", &format!("{CHAIN}{stage}"));
    clone.pivot("run").succeeds().says("the run goes on without it");
    assert_eq!(clone.ran(), ["alone"]);
    // What has to run gets its inputs made here.
    clone.write("note.txt", "another note\n");
    clone.pivot("run").succeeds();
    assert_eq!(clone.ran(), ["big", "last", "middle"]);
}

#[test]
fn a_run_killed_at_any_change_is_taken_up_again() {
    let project = pushed();
    let template = clone_of(&project);
    template.write("note.txt", "another note\n");
    let prepare = || template.cloned_without(&[]);
    // `middle.bin` is brought, `last` is executed, and `big.bin` stays.
    let points = kill_at_every("run -j 1 last", prepare, |clone, at| {
        clone.pivot("run").succeeds();
        assert!(clone.read("last.bin").starts_with("another note\ndata"), "{at}");
        let ran = clone.ran();
        assert!(ran.iter().all(|stage| stage == "last") && ran.len() <= 2, "{at}: {ran:?}");
        assert!(!clone.exists("big.bin"), "{at}");
        assert_eq!(clone.read("middle.bin").len(), 1000, "{at}");
        for path in clone.files_in(".pivot/cache/files") {
            let digits = path.trim_start_matches(".pivot/cache/files/").replace('/', "");
            let bytes = fs::read(clone.path(&path)).unwrap();
            assert_eq!(digits, format!("{:016x}", xxh64(&bytes, 0)), "{at}");
        }
    });
    assert!(points > 10, "only {points} changes were seen");
}

#[test]
fn without_the_remote_nothing_changes_for_who_has_all_that_is_needed() {
    let project = pushed();
    let clone = clone_of(&project);
    clone.pivot("run").succeeds();
    // Files that are younger prove nothing by their times.
    let begun = SystemTime::now();
    eventually("files have an age", || begun.elapsed().is_ok_and(|e| e.as_millis() > 200));
    clone.pivot("run").succeeds();
    fs::rename(project.path("remote"), project.path("away")).unwrap();
    let ended = clone.pivot("run").succeeds();
    assert_eq!(ended.counts(), "4 stages: 2 unchanged (remote), 2 unchanged ([time])");
    assert!(clone.ran().is_empty() && ended.stderr().is_empty());
}
