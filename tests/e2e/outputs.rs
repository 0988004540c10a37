//! Outputs of all kinds come back as they were made, and user's files are never lost.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Project, project};

const TREE: &str = r#"
import os

from pivot import stage


@stage(outs=["tree"])
def make(tree):
    open("ran.log", "a").write("make\n")
    os.makedirs(f"{tree}/deep/er/still")
    os.makedirs(f"{tree}/empty/inside")
    for name in ["a.txt", "deep/b.txt", "deep/er/still/c.txt", "with space", "üñï.txt", "-x", "new\nline"]:
        with open(f"{tree}/{name}", "w") as file:
            file.write(name)
    with open(os.fsencode(tree) + b"/not-\xff-utf8", "w") as file:
        file.write("bytes")
    with open(f"{tree}/script.sh", "w") as file:
        file.write('#!/bin/sh\necho ran\n')
    os.chmod(f"{tree}/script.sh", 0o755)
    os.symlink("a.txt", f"{tree}/link")
    os.symlink("nowhere", f"{tree}/dangling")
    os.symlink("deep", f"{tree}/dirlink")
"#;

/// All that there is below `dir`: names, kinds, texts, execute bits.
fn listing(project: &Project, dir: &str) -> String {
    let script = r#"cd "$1" && find . -mindepth 1 -printf '%y %p %l\n' | sort; find . -type f -perm -u+x | sort; find . -type f | sort | xargs -d '\n' cat 2>/dev/null"#;
    let mut shell = std::process::Command::new("sh");
    let output = shell
        .args(["-c", script, "sh", dir])
        .env("LC_ALL", "C")
        .current_dir(project.root())
        .output();
    String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
}

#[test]
fn a_directory_comes_back_as_it_was_made() {
    let project = project().file("pipeline.py", TREE);
    project.pivot("run").succeeds();
    let made = listing(&project, "tree");
    assert!(made.contains("d ./empty/inside") && made.contains("l ./link a.txt"), "{made}");

    project.remove("tree");
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 restored ([time])");
    assert_eq!(listing(&project, "tree"), made);
    assert_eq!(project.ran(), ["make"]);
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 unchanged ([time])");
}

#[test]
fn a_change_inside_an_output_directory_is_noticed_and_kept() {
    let project = project().file("pipeline.py", TREE);
    project.pivot("run").succeeds();
    let made = listing(&project, "tree");
    let deep = project.path("tree/deep/b.txt");
    std::fs::set_permissions(&deep, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::remove_file(&deep).unwrap();
    std::fs::write(&deep, "mine").unwrap();
    project.write("tree/added.txt", "mine too");

    project.pivot("run").succeeds().says("tree");
    assert_eq!(listing(&project, "tree"), made);
    let saved = project.files_in(".pivot/saved");
    for text in ["mine", "mine too"] {
        let kept = saved
            .iter()
            .any(|file| std::fs::read(project.path(file)).unwrap_or_default() == text.as_bytes());
        assert!(kept, "{text:?} is lost: {saved:?}");
    }
}

#[test]
fn an_executable_output_stays_executable() {
    let project = project()
        .file("pivot.yaml", "stages: {make: {cmd: 'echo >tool; chmod +x tool', outs: [tool]}}");
    let mode = |project: &Project| {
        std::fs::metadata(project.path("tool")).unwrap().permissions().mode() & 0o111
    };
    project.pivot("run").succeeds();
    assert_ne!(mode(&project), 0);
    project.remove("tool");
    project.pivot("run").succeeds();
    assert_ne!(mode(&project), 0, "after a restore");
}

#[test]
fn a_fifo_is_refused_rather_than_waited_for() {
    let project = project()
        .file("pivot.yaml", "stages: {make: {cmd: 'mkdir dir; mkfifo dir/pipe', outs: [dir]}}");
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    run   make: No previous run
    FAIL  make: cannot track `[root]/dir/pipe`: it is a named pipe
    ");
}

#[test]
fn metrics_stay_plain_files_beside_the_code() {
    let project = project().file(
        "pipeline.py",
        r#"
from pivot import Metric, Plot, stage


@stage(outs=[Metric("metrics.json"), Plot("curve.csv", x="step", y="loss")])
def train(metrics, curve):
    open(metrics, "w").write('{"loss": 0.5}')
    open(curve, "w").write("step,loss\n1,0.5\n")
"#,
    );
    project.pivot("run").succeeds();
    insta::assert_snapshot!(project.pivot("list"), @r"
    exit: 0
    train  (pipeline.train, pipeline.py:5)
      -> metrics.json  (metric)
      -> curve.csv  (plot)
    ");
    let metrics = std::fs::metadata(project.path("metrics.json")).unwrap();
    assert_ne!(metrics.permissions().mode() & 0o200, 0, "people may edit it");
    project.remove("metrics.json");
    project.remove("curve.csv");
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 restored ([time])");
    assert_eq!(project.read("metrics.json"), r#"{"loss": 0.5}"#);
}

#[test]
fn what_lay_at_an_output_before_the_first_run_is_set_aside() {
    let project = project()
        .file("pivot.yaml", "stages: {make: {cmd: 'mkdir -p dir; echo new >out.txt; echo new >dir/x', outs: [out.txt, dir]}}")
        .file("out.txt", "precious")
        .file("dir/deep/notes.txt", "precious too");
    insta::assert_snapshot!(project.pivot("run"), @r"
    exit: 0
    1 stage: 1 ran ([time])
    --- stderr
    note: `out.txt` held something that `make` did not write: it is now `.pivot/saved/out.txt`
    note: `dir` held something that `make` did not write: it is now `.pivot/saved/dir`
    run   make: No previous run
    done  make in [time]
    ");
    assert_eq!(project.read("out.txt"), "new\n");
    assert_eq!(project.read(".pivot/saved/out.txt"), "precious");
    assert_eq!(project.read(".pivot/saved/dir/deep/notes.txt"), "precious too");
    assert_eq!(project.files_in("dir"), ["dir/x"]);
}

#[test]
fn an_edited_output_is_set_aside_and_the_right_one_restored() {
    let project = project()
        .file("a", "1")
        .file("pivot.yaml", "stages: {copy: {cmd: cp a b, deps: [a], outs: [b]}}");
    project.pivot("run").succeeds();
    for round in ["first edit", "second edit"] {
        project.remove("b");
        project.write("b", round);
        project.pivot("run").succeeds().says("`b` held something that `copy` did not write");
        assert_eq!(project.read("b"), "1");
    }
    assert_eq!(project.read(".pivot/saved/b"), "first edit");
    assert_eq!(project.read(".pivot/saved/b.1"), "second edit");
}

#[test]
fn a_stage_that_must_run_sets_an_edited_output_aside_too() {
    let project = project()
        .file("a", "1")
        .file("pivot.yaml", "stages: {copy: {cmd: cp a b, deps: [a], outs: [b]}}");
    project.pivot("run").succeeds();
    project.remove("b");
    project.write("b", "edit");
    project.write("a", "2");
    project.pivot("run").succeeds();
    assert_eq!(project.read("b"), "2");
    assert_eq!(project.read(".pivot/saved/b"), "edit");
}

#[test]
fn directories_for_outputs_are_made() {
    let project = project()
        .file("pivot.yaml", "stages: {make: {cmd: 'echo x >a/b/c.txt', outs: [a/b/c.txt]}}");
    project.pivot("run").succeeds();
    project.remove("a");
    project.pivot("run").succeeds();
    assert_eq!(project.read("a/b/c.txt"), "x\n");
}

#[test]
fn old_outputs_are_gone_before_a_stage_runs() {
    let project = project().file("data", "1").file("pivot.yaml", "\
stages: {make: {cmd: '[ ! -e out ] && mkdir out && cp data out/$(cat data)', deps: [data], outs: [out]}}
");
    project.pivot("run").succeeds();
    project.write("data", "2");
    project.pivot("run").succeeds();
    assert_eq!(project.files_in("out"), ["out/2"]);
}
