//! Interrupted and killed runs: over at once, nobody left, nothing half done.

use crate::support::{Project, Running, eventually, is_alive, project};

/// One stage that is done, and one that has written half of its output and waits for `go`.
const PIPELINE: &str = r#"
import os
import time

from pivot import stage


@stage(outs=["first.txt"])
def first(out):
    open(out, "w").write("first")


@stage(deps=["first.txt"], outs=["slow.txt", "slow-dir"])
def slow(first, out, directory):
    os.mkdir(directory)
    with open(out, "w") as file:
        file.write("half")
        file.flush()
        with open("slow.pid", "w") as pid:
            pid.write(f"{os.getpid()}\n")
        while not os.path.exists("go"):
            time.sleep(0.005)
        file.write(" and half")
"#;

const EXECUTORS: [&str; 3] = ["warm", "spawn", "reuse"];

fn in_the_middle(executor: &str) -> (Project, Running, u32) {
    let project = project().file("pipeline.py", PIPELINE);
    let running = project.start(&format!("run --executor {executor}"));
    let worker = project.wait_for_pid("slow.pid");
    assert!(is_alive(worker));
    (project, running, worker)
}

fn completes(project: &Project) {
    project.write("go", "");
    let again = project.pivot("run").succeeds();
    assert_eq!(again.counts(), "2 stages: 1 ran, 1 unchanged ([time])");
    assert_eq!(project.read("slow.txt"), "half and half");
}

fn stops(signal: i32, exit: i32) {
    for executor in EXECUTORS {
        let (project, running, worker) = in_the_middle(executor);
        running.signal(signal);
        let finished = running.finish().exits(exit);
        assert!(!is_alive(worker), "the stage is still running");
        let is_clean = !project.exists("slow.txt") && !project.exists("slow-dir");
        assert!(is_clean, "half an output is left");
        assert!(project.has_lock("first") && !project.has_lock("slow"));
        finished.does_not_say("Traceback").does_not_say("panicked");
        completes(&project);
    }
}

#[test]
fn ctrl_c_ends_the_run_with_130() {
    stops(libc::SIGINT, 130);
}

#[test]
fn sigterm_ends_the_run_with_143() {
    stops(libc::SIGTERM, 143);
}

#[test]
fn sighup_ends_the_run_with_129() {
    stops(libc::SIGHUP, 129);
}

#[test]
fn a_second_ctrl_c_kills_a_stage_that_does_not_listen() {
    let project = project().file(
        "pivot.yaml",
        "\
stages:
  deaf:
    cmd: trap '' INT TERM; echo $$ >deaf.pid; while true; do sleep 0.05; done
    outs: [x]
",
    );
    let running = project.start("run");
    let worker = project.wait_for_pid("deaf.pid");
    running.signal(libc::SIGINT);
    running.signal(libc::SIGINT);
    running.finish().exits(130);
    assert!(!is_alive(worker));
}

#[test]
fn an_interrupt_in_the_middle_is_an_event_stream_that_ends_well() {
    let project = project().file("pipeline.py", PIPELINE);
    let running = project.start("run --json");
    project.wait_for_pid("slow.pid");
    running.signal(libc::SIGINT);
    let events = running.finish().exits(130).json_lines();
    let summary = events.last().unwrap();
    assert_eq!((&summary["event"], &summary["success"]), (&"summary".into(), &false.into()));
}

#[test]
fn after_kill_9_the_stage_dies_and_the_next_run_gives_the_right_files() {
    for executor in EXECUTORS {
        let (project, running, worker) = in_the_middle(executor);
        running.signal(libc::SIGKILL);
        let _ = running.finish();
        eventually("the worker dies with the run", || !is_alive(worker));
        assert!(!project.has_lock("slow"));
        completes(&project);
    }
}

#[test]
fn after_kill_9_what_a_shell_stage_started_is_ended_by_the_next_run() {
    let project = project()
        .file("slow.sh", "echo $$ >child.pid\nuntil [ -e go ]; do sleep 0.01; done\necho late >>out.txt\n")
        .file("pivot.yaml", "stages: {slow: {cmd: 'echo begin >>out.txt; sh slow.sh; echo end >>out.txt', outs: [out.txt]}}");
    let running = project.start("run");
    let child = project.wait_for_pid("child.pid");
    running.wait_until_it_says("run   slow");
    running.signal(libc::SIGKILL);
    let _ = running.finish();
    project.remove("child.pid");
    let again = project.start("run");
    project.wait_for_pid("child.pid");
    eventually("the child of the old run ends", || !is_alive(child));
    project.write("go", "");
    again.finish().succeeds();
    assert_eq!(project.read("out.txt"), "begin\nlate\nend\n");
}

#[test]
fn after_kill_9_what_a_python_stage_started_is_ended_by_the_next_run() {
    for executor in EXECUTORS {
        let project = project().file("pipeline.py", PIPELINE);
        project.replace("pipeline.py", "import os\n", "import os\nimport subprocess\n");
        project.replace("pipeline.py", "{os.getpid()}", "{subprocess.Popen(['sleep', '90']).pid}");
        let running = project.start(&format!("run --executor {executor}"));
        let child = project.wait_for_pid("slow.pid");
        running.wait_until_it_says("run   slow");
        running.signal(libc::SIGKILL);
        let _ = running.finish();
        completes(&project);
        eventually("what the stage started ends", || !is_alive(child));
    }
}

#[test]
fn a_killed_run_leaves_user_files_that_were_set_aside() {
    let project = project().file("pipeline.py", PIPELINE).file("slow.txt", "mine");
    let running = project.start("run");
    project.wait_for_pid("slow.pid");
    running.signal(libc::SIGKILL);
    let _ = running.finish();
    assert_eq!(project.read(".pivot/saved/slow.txt"), "mine");
    completes(&project);
}

#[test]
fn after_kill_9_not_even_what_left_its_session_survives() {
    let stage = "setsid sh -c 'echo $$ >slow.pid; exec sleep 90' & wait";
    let shell = project().file("pivot.yaml", &format!("stages: {{slow: {{cmd: \"{stage}\"}}}}"));
    let python = |executor| {
        let project = project().file("pipeline.py", PIPELINE);
        project.replace("pipeline.py", "import os\n", "import os\nimport subprocess\n");
        let child = "{subprocess.Popen(['sleep', '90'], start_new_session=True).pid}";
        project.replace("pipeline.py", "{os.getpid()}", child);
        (project, format!("run --executor {executor}"))
    };
    for (project, run) in [(shell, "run".to_owned()), python("warm"), python("spawn")] {
        let running = project.start(&run);
        let child = project.wait_for_pid("slow.pid");
        running.signal(libc::SIGKILL);
        let _ = running.finish();
        eventually("what left its session ends", || !is_alive(child));
    }
}
