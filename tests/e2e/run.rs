//! `pivot run`: what is executed, what is not, and how failures are told.

use crate::support::{Project, project};

/// upper -> twice -> end, and `alone`, which needs nothing of them.
const PIPELINE: &str = "\
stages:
  upper:
    cmd: echo upper >>ran.log; tr a-z A-Z <data.txt >upper.txt
    deps: [data.txt]
    outs: [upper.txt]
  twice:
    cmd: echo twice >>ran.log; cat upper.txt upper.txt >twice.txt
    deps: [upper.txt]
    outs: [twice.txt]
  end:
    cmd: echo end >>ran.log; wc -c <twice.txt >end.txt
    deps: [twice.txt]
    outs: [end.txt]
  alone:
    cmd: echo alone >>ran.log; cp other.txt alone.txt
    deps: [other.txt]
    outs: [alone.txt]
";

fn new_project() -> Project {
    project().file("pivot.yaml", PIPELINE).file("data.txt", "abc").file("other.txt", "other")
}

fn ran_project() -> Project {
    let project = new_project();
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["alone", "end", "twice", "upper"]);
    project
}

#[test]
fn says_what_it_runs_and_why() {
    insta::assert_snapshot!(new_project().pivot("run -j 1"), @r"
    exit: 0
    4 stages: 4 ran ([time])
    --- stderr
    run   upper: No previous run
    done  upper in [time]
    run   twice: No previous run
    done  twice in [time]
    run   end: No previous run
    done  end in [time]
    run   alone: No previous run
    done  alone in [time]
    ");
}

#[test]
fn runs_what_changed_and_what_depends_on_it() {
    let project = ran_project();
    assert_eq!(project.pivot("run").succeeds().counts(), "4 stages: 4 unchanged ([time])");
    assert!(project.ran().is_empty());
    project.write("data.txt", "xyz");
    project.pivot("run").succeeds();
    // `end` only counts, and the count is the same: but its dependency is not.
    assert_eq!(project.ran(), ["end", "twice", "upper"]);
    assert_eq!(project.read("twice.txt"), "XYZXYZ");
}

#[test]
fn equal_outputs_cut_off_what_comes_after() {
    let project = ran_project();
    project.write("data.txt", "ABC");
    insta::assert_snapshot!(project.pivot("run"), @r"
    exit: 0
    4 stages: 1 ran, 3 unchanged ([time])
    --- stderr
    run   upper: Input dependencies changed
    done  upper in [time]
    ");
    assert_eq!(project.ran(), ["upper"]);
}

#[test]
fn repro_is_another_word_for_run() {
    let project = new_project();
    assert_eq!(project.pivot("repro").succeeds().counts(), "4 stages: 4 ran ([time])");
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let project = new_project();
    insta::assert_snapshot!(project.pivot("run -n"), @r"
    exit: 0
    upper  WILL RUN      No previous run
    twice  WILL RUN      No previous run, upstream 'upper' may change
    end    WILL RUN      No previous run, upstream 'twice' may change
    alone  WILL RUN      No previous run
    ");
    assert!(project.ran().is_empty());
    assert!(!project.exists("upper.txt") && !project.has_lock("upper"));
    let before = project.files_in(".pivot/stages");
    project.pivot("run --dry-run --json").succeeds().json();
    assert_eq!(project.files_in(".pivot/stages"), before);
}

#[test]
fn force_runs_what_is_selected_though_nothing_changed() {
    let project = ran_project();
    project.pivot("run -f twice").succeeds();
    assert_eq!(project.ran(), ["twice", "upper"]);
    project.pivot("run -f -s twice").succeeds();
    assert_eq!(project.ran(), ["twice"]);
}

#[test]
fn a_single_stage_runs_without_those_it_needs() {
    let project = ran_project();
    project.write("data.txt", "xyz");
    project.pivot("run -s twice").succeeds();
    assert!(project.ran().is_empty(), "its own dependency is the same");
    project.pivot("run --single-stage upper").succeeds();
    assert_eq!(project.ran(), ["upper"]);
}

#[test]
fn a_failure_names_the_stage_and_blocks_what_depends_on_it() {
    let project = new_project();
    project.replace("pivot.yaml", "cat upper.txt upper.txt >twice.txt", "echo sorry >&2; exit 3");
    insta::assert_snapshot!(project.pivot("run -j 1 end"), @r"
    exit: 1
    3 stages: 1 ran, 1 failed, 1 not started ([time])
    --- stderr
    run   upper: No previous run
    done  upper in [time]
    run   twice: No previous run
    FAIL  twice: ended with exit code 3
    --- the end of what `twice` printed
    sorry
    ---
    not started  end: upstream 'twice' failed
    ");
    assert!(project.has_lock("upper") && !project.has_lock("twice") && !project.has_lock("end"));
    project.pivot("run -j 1 end").exits(1).says("twice");
    assert_eq!(project.ran(), ["twice", "twice", "upper"], "what succeeded is not run again");
}

#[test]
fn a_failure_stops_the_run_unless_told_otherwise() {
    let failing = "\
stages:
  bad: {cmd: 'exit 1', outs: [bad.txt]}
  worse: {cmd: cp bad.txt worse.txt, deps: [bad.txt], outs: [worse.txt]}
  good: {cmd: 'echo good >>ran.log; echo >good.txt', outs: [good.txt]}
";
    let project = project().file("pivot.yaml", failing);
    insta::assert_snapshot!(project.pivot("run -j 1"), @r"
    exit: 1
    3 stages: 1 failed, 2 not started ([time])
    --- stderr
    run   bad: No previous run
    FAIL  bad: ended with exit code 1
    not started  worse: upstream 'bad' failed
    ");
    assert!(project.ran().is_empty());
    insta::assert_snapshot!(project.pivot("run -j 1 --keep-going"), @r"
    exit: 1
    3 stages: 1 ran, 1 failed, 1 not started ([time])
    --- stderr
    run   bad: No previous run
    FAIL  bad: ended with exit code 1
    not started  worse: upstream 'bad' failed
    run   good: No previous run
    done  good in [time]
    ");
    assert_eq!(project.ran(), ["good"]);
    assert_eq!(
        project.pivot("run -k").exits(1).counts(),
        "3 stages: 1 unchanged, 1 failed, 1 not started ([time])"
    );
}

#[test]
fn the_output_of_stages_is_shown_when_asked_for_and_kept_in_a_log() {
    let project = project().file("pivot.yaml", "stages: {talk: {cmd: 'echo out; echo err >&2'}}");
    project.pivot("run").succeeds().does_not_say("out\n");
    project.pivot("run -f --show-output").succeeds().says("talk | out").says("talk ! err");
    assert_eq!(project.read(".pivot/logs/talk.log").len(), "out\nerr\n".len());
}

#[test]
fn works_in_the_directory_that_is_named() {
    let project = project()
        .file("sub/pivot.yaml", PIPELINE)
        .file("sub/data.txt", "abc")
        .file("sub/other.txt", "");
    project.pivot("-C sub run upper").succeeds();
    project.pivot("run twice -C sub").succeeds();
    assert_eq!(project.read("sub/twice.txt"), "ABCABC");
    assert!(!project.exists(".pivot"));
}

#[test]
fn outputs_that_a_stage_did_not_write_are_named() {
    let project = new_project();
    project.replace(
        "pivot.yaml",
        "[upper.txt]\n  twice",
        "[upper.txt, more.txt, most.txt]\n  twice",
    );
    insta::assert_snapshot!(project.pivot("run upper").errors(), @r"
    exit: 1
    run   upper: No previous run
    FAIL  upper: did not write its outputs `more.txt` and `most.txt`
    hint: write them, or remove them from the stage's outputs
    ");
    assert!(!project.has_lock("upper"));
    assert!(!project.exists("upper.txt"), "half of the outputs are not left behind");
}

#[test]
fn a_dependency_on_a_directory_sees_every_file_in_it() {
    let project = project()
        .file(
            "pivot.yaml",
            "stages: {all: {cmd: 'cat data/*/* >all.txt', deps: [data], outs: [all.txt]}}",
        )
        .file("data/a/1", "1")
        .file("data/b/2", "2");
    project.pivot("run").succeeds();
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 unchanged ([time])");
    project.write("data/b/2", "3");
    project.pivot("run").succeeds();
    assert_eq!(project.read("all.txt"), "13");
    project.write("data/b/4", "4");
    project.pivot("run").succeeds();
    assert_eq!(project.read("all.txt"), "134");
    project.remove("data/a/1");
    project.write("data/a/0", "1");
    project.pivot("run").succeeds().says("Input dependencies changed");
}

#[test]
fn a_stage_may_read_part_of_a_directory_that_another_one_writes() {
    let project = project()
        .file("pivot.yaml", "\
stages:
  read: {cmd: cp parts/b/x.txt out.txt, deps: [parts/b/x.txt], outs: [out.txt]}
  whole: {cmd: ls -R parts >names.txt, deps: [parts], outs: [names.txt]}
  make: {cmd: 'mkdir -p parts/a parts/b; cat in.txt >parts/b/x.txt; date >parts/a/y', deps: [in.txt], outs: [parts]}
")
        .file("in.txt", "1");
    project.pivot("run read").succeeds();
    assert_eq!(project.read("out.txt"), "1");
    project.write("in.txt", "2");
    assert_eq!(project.pivot("run").succeeds().counts(), "3 stages: 3 ran ([time])");
    assert_eq!(project.read("out.txt"), "2");
}
