//! `pivot run --timeout` and a stage's own `timeout`: a stage that takes too long is stopped, and the others go on.

use crate::support::{is_alive, project};

#[test]
fn a_stage_that_takes_too_long_fails_and_leaves_nothing() {
    for stage in ["cmd: echo $$ >slow.pid; echo half >slow.txt; sleep 90", "python: slow.slow"] {
        let project = project()
            .file(
                "pivot.yaml",
                &format!(
                    "stages:\n  slow:\n    {stage}\n    outs: [slow.txt]\n  quick: {{cmd: touch quick.txt, outs: [quick.txt]}}\n"
                ),
            )
            .file(
                "slow.py",
                "\
import os, time

def slow(out):
    open(out, 'w').write('half')
    print(os.getpid(), file=open('slow.pid', 'w'))
    time.sleep(90)
",
            );
        let finished = project.pivot("run -k --timeout 500ms").exits(1);
        assert_eq!(finished.counts(), "2 stages: 1 ran, 1 failed ([time])", "{finished}");
        finished.says("FAIL  slow: was stopped after [time], its time limit");
        assert!(!project.exists("slow.txt"), "half an output is left");
        assert!(project.has_lock("quick") && !project.has_lock("slow"));
        if project.exists("slow.pid") {
            assert!(!is_alive(project.wait_for_pid("slow.pid")));
        }
    }
}

#[test]
fn of_two_limits_the_shorter_counts() {
    let project = project().file(
        "pivot.yaml",
        "stages:\n  slow: {cmd: sleep 90, timeout: 300ms}\n  other: {cmd: sleep 90, timeout: 1h}\n",
    );
    project
        .pivot("run -k -j 2 --timeout 600ms")
        .exits(1)
        .says("FAIL  slow: was stopped after [time], its time limit")
        .says("FAIL  other: was stopped after [time], its time limit")
        .says("with `--timeout` or the stage's `timeout`, of which the shorter counts");
}

#[test]
fn another_limit_makes_nothing_stale() {
    let project = project().file(
        "pipeline.py",
        "\
from pivot import stage

@stage(outs=['a.txt'], timeout='10m')
def a(path):
    open(path, 'w').write('a')
",
    );
    project.pivot("run").exits(0);
    project.replace("pipeline.py", "'10m'", "90.5");
    let finished = project.pivot("run").exits(0);
    assert_eq!(finished.counts(), "1 stage: 1 unchanged ([time])", "{finished}");
    project.replace("pipeline.py", "90.5", "'soon'");
    project.pivot("run").exits(1).says("`soon` is not a time that stage `a` may take");
}

#[test]
fn a_limit_that_is_no_time_is_refused() {
    let project = project().file("pivot.yaml", "stages:\n  a:\n    cmd: ok\n    timeout: 0\n");
    let finished = project.pivot("run --timeout soon").exits(2);
    finished.says("write seconds, or a number with a unit, such as");
    project
        .pivot("run")
        .exits(1)
        .says("`0` is not a time that stage `a` may take")
        .says("pivot.yaml:4:14");
}
