//! How many stages run at once, within one run and between two.

use crate::support::{Project, project};

/// Each stage says that it runs and notes whether the other one came while it waited.
///
/// With `meet.sh both` a stage waits until both run; with `meet.sh alone` it fails when it sees
/// the other one.
const MEET: &str = r#"
touch "$2.running"
if [ "$1" = both ]; then
    tries=0
    until [ -e "$3.running" ]; do
        tries=$((tries + 1))
        [ $tries -lt 3000 ] || exit 1
        sleep 0.01
    done
    touch "$2.met"
    until [ -e "$3.met" ]; do
        tries=$((tries + 1))
        [ $tries -lt 3000 ] || exit 1
        sleep 0.01
    done
else
    # The other one has ample time to come, if nothing keeps it away.
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ ! -e "$3.running" ] || exit 1
        sleep 0.01
    done
    rm "$2.running"
fi
touch "$2.txt"
"#;

fn meeting(how: &str, more: &str) -> Project {
    let stages = ["a b", "b a"].map(|pair| {
        let name = &pair[..1];
        format!("  {name}: {{cmd: sh meet.sh {how} {pair}, outs: [{name}.txt]{more}}}\n")
    });
    project().file("pivot.yaml", &format!("stages:\n{}", stages.concat())).file("meet.sh", MEET)
}

#[test]
fn two_jobs_really_run_at_the_same_time() {
    meeting("both", "").pivot("run -j 2").succeeds();
}

#[test]
fn one_job_never_runs_two_stages_at_the_same_time() {
    meeting("alone", "").pivot("run -j 1").succeeds();
}

#[test]
fn a_mutex_keeps_two_stages_apart() {
    meeting("alone", ", mutex: [gpu]").pivot("run -j 8").succeeds();
}

#[test]
fn a_mutex_of_everything_keeps_all_stages_apart() {
    let project = meeting("alone", "");
    project.replace("pivot.yaml", "outs: [a.txt]", "outs: [a.txt], mutex: ['*']");
    project.pivot("run -j 8").succeeds();
}

#[test]
fn the_number_of_jobs_can_be_configured() {
    let project = meeting("alone", "").file(".pivot/config.yaml", "core: {jobs: 1}\n");
    project.pivot("run").succeeds();
}

#[test]
fn two_runs_at_once_execute_a_stage_once() {
    let project = project()
        .file(
            "pivot.yaml",
            "\
stages:
  slow:
    cmd: echo slow >>ran.log; touch runs; until [ -e go ]; do sleep 0.01; done; cp data.txt out.txt
    deps: [data.txt]
    outs: [out.txt]
  next:
    cmd: echo next >>ran.log; cp out.txt next.txt
    deps: [out.txt]
    outs: [next.txt]
",
        )
        .file("data.txt", "1");
    let first = project.start("run");
    project.wait_for("runs");
    let second = project.start("run");
    second.wait_until_it_says(&format!("waiting for process {}, which runs `slow`", first.id()));
    project.write("go", "");
    let (first, second) = (first.finish().succeeds(), second.finish().succeeds());
    assert_eq!(project.ran(), ["next", "slow"]);
    assert_eq!(project.read("next.txt"), "1");
    let ran = |counts: String| counts.contains("ran");
    assert!(ran(first.counts()) || ran(second.counts()));
    assert!(
        second.counts().contains("1 unchanged") || second.counts().contains("2 unchanged"),
        "{second}"
    );
}

#[test]
fn the_guard_of_a_dead_process_does_not_block() {
    let project = meeting("alone", "");
    // The id of a process that lives, as after a reuse of the number.
    project.write(".pivot/run/a.flock", &format!("{}\n", std::process::id()));
    project.pivot("run -j 1").succeeds();
}
