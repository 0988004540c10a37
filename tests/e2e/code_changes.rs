//! Which edits of the code make a stage run again.

use crate::support::{Project, project};

/// Two stages, of which only `double` uses `scale`.
const PIPELINE: &str = r#"
from pivot import stage

import shared

FACTOR = 2


def scale(x):
    return x * FACTOR


def log(name):
    with open("ran.log", "a") as file:
        file.write(name + "\n")


@stage(deps=["data.txt"], outs=["double.txt"])
def double(data, out):
    log("double")
    with open(out, "w") as file:
        file.write(str(scale(int(open(data).read()))))


@stage(deps=["data.txt"], outs=["round.txt"])
def around(data, out):
    log("around")
    with open(out, "w") as file:
        file.write(shared.around(open(data).read()))
"#;

const SHARED: &str = r#"
def _brackets(text):
    return "(" + text + ")"


def around(text):
    return _brackets(text)


def unused(text):
    return text
"#;

fn ran_project() -> Project {
    let project =
        project().file("pipeline.py", PIPELINE).file("shared.py", SHARED).file("data.txt", "21");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["around", "double"]);
    project
}

/// Makes one edit and tells which stages then run.
fn ran_after(project: &Project, file: &str, old: &str, new: &str) -> Vec<String> {
    project.replace(file, old, new);
    project.pivot("run").succeeds();
    project.ran()
}

#[test]
fn an_edited_helper_runs_the_stages_that_use_it_and_no_others() {
    let project = ran_project();
    assert_eq!(ran_after(&project, "pipeline.py", "x * FACTOR", "x * FACTOR + 0"), ["double"]);
    assert_eq!(ran_after(&project, "shared.py", "\"(\"", "\"<\""), ["around"]);
    assert_eq!(project.read("round.txt"), "<21)");
}

#[test]
fn an_edited_constant_runs_the_stages_that_read_it() {
    let project = ran_project();
    assert_eq!(ran_after(&project, "pipeline.py", "FACTOR = 2", "FACTOR = 3"), ["double"]);
    assert_eq!(project.read("double.txt"), "63");
}

#[test]
fn edits_that_change_no_behavior_run_nothing() {
    let project = ran_project();
    let none: [&str; 0] = [];
    assert_eq!(
        ran_after(&project, "pipeline.py", "    return x", "    # Why not?\n    return x"),
        none
    );
    assert_eq!(
        ran_after(&project, "shared.py", "    return text\n", "    return text * 2\n"),
        none
    );
    assert_eq!(ran_after(&project, "pipeline.py", "x * FACTOR", "(x*FACTOR)"), none);
    assert_eq!(ran_after(&project, "pipeline.py", "def scale(x):", "\n\n\ndef scale(x):"), none);
}

#[test]
fn an_edited_stage_function_runs_that_stage() {
    let project = ran_project();
    assert_eq!(ran_after(&project, "pipeline.py", "str(scale(", "repr(scale("), ["double"]);
}

#[test]
fn going_back_to_earlier_code_executes_nothing() {
    let project = ran_project();
    assert_eq!(ran_after(&project, "pipeline.py", "FACTOR = 2", "FACTOR = 3"), ["double"]);
    project.replace("pipeline.py", "FACTOR = 3", "FACTOR = 2");

    insta::assert_snapshot!(project.pivot("run"), @r"
    exit: 0
    2 stages: 1 unchanged (run cache), 1 unchanged ([time])
    --- stderr
    done  double: unchanged (run cache)
    ");
    assert!(project.ran().is_empty());
    assert_eq!(project.read("double.txt"), "42");
}

#[test]
fn a_run_with_nothing_to_do_starts_no_python() {
    let project = project()
        .file("bin/python", "#!/bin/sh\necho started >>starts.log\nexec python3 \"$@\"\n")
        .file(
            "pipeline.py",
            "from pivot import stage\n\n@stage(outs=['a'])\ndef one(a):\n    open(a, 'w')\n",
        );
    let python = project.path("bin/python");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&python, mode).unwrap();
    let project = project.env("PIVOT_PYTHON", &python.display().to_string());
    project.pivot("run").succeeds();
    project.remove("starts.log");
    for command in ["run", "run -n", "run --explain", "status", "list", "dag", "params show"] {
        project.pivot(command).succeeds();
        assert!(!project.exists("starts.log"), "`pivot {command}` started Python");
    }
}

#[test]
fn code_that_is_edited_after_the_run_began_is_not_recorded() {
    let project = project().file(
        "pipeline.py",
        r#"
import os
import time

from pivot import stage


@stage(outs=["a.txt"])
def one(a):
    open("one-runs", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.005)
    open(a, "w").close()


@stage(deps=["a.txt"], outs=["b.txt"])
def two(a, b):
    with open(b, "w") as file:
        file.write("old")
"#,
    );
    let running = project.start("run");
    project.wait_for("one-runs");
    project.replace("pipeline.py", "\"old\"", "\"new\"");
    project.write("go", "");
    insta::assert_snapshot!(running.finish().errors(), @r"
    exit: 1
    run   one: No previous run
    done  one in [time]
    run   two: No previous run
    FAIL  two: `pipeline.py` was edited after the run began
    hint: run again; nothing was recorded for this stage
    ");
    assert!(!project.has_lock("two"));

    project.pivot("run").succeeds();
    assert_eq!(project.read("b.txt"), "new");
}
