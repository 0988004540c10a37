//! `pivot run --timeout`: a stage that takes too long is stopped, and the others go on.

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
fn a_limit_that_is_no_duration_is_refused() {
    let finished = project().pivot("run --timeout 5").exits(2);
    finished.says("write a number with a unit, such as");
}
