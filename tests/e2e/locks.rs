//! Lock files: one a stage, small, and readable.

use std::os::unix::fs::MetadataExt;

use crate::support::{Project, normalized, project};

const PIPELINE: &str = r#"
from pivot import stage

RATE = 2


def helper_a(x):
    return x * RATE


@stage(deps=["data.csv"], outs=["features.csv"])
def preprocess(data, features):
    with open(features, "w") as file:
        file.write(open(data).read() * 2)


@stage(deps=["features.csv"], outs=["model.pkl"], params={"lr": 0.01})
def train(features, model, lr):
    with open(model, "w") as file:
        file.write(str(helper_a(len(open(features).read()))))
"#;

fn ran_project() -> Project {
    let project = project().file("pipeline.py", PIPELINE).file("data.csv", "a,b\n");
    project.pivot("run").succeeds();
    project
}

#[test]
fn each_stage_has_a_lock_of_about_500_bytes() {
    let project = ran_project();
    assert_eq!(
        project.files_in(".pivot/stages"),
        [".pivot/stages/preprocess.lock", ".pivot/stages/train.lock"]
    );
    for stage in ["preprocess", "train"] {
        let bytes = project.lock(stage).len();
        assert!((200..1000).contains(&bytes), "{bytes} bytes");
    }
}

#[test]
fn a_lock_reads_like_the_documentation() {
    let project = ran_project();
    // Python's own version is a part of the code, and differs from machine to machine.
    let lines = project.lock("train");
    let lines = lines.lines().filter(|line| !line.contains("python:")).map(normalized);
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    schema_version: 1
    code_manifest:
      const:RATE: '[hash]'
      func:helper_a: '[hash]'
      self:train: '[hash]'
    params: {lr: 0.01}
    deps:
    - {path: features.csv, hash: '[hash]', size: 8}
    outs:
    - {path: model.pkl, hash: '[hash]', size: 2}
    ");
}

#[test]
fn only_the_lock_of_the_changed_stage_is_written_again() {
    let project = ran_project();
    let identity = |stage: &str| {
        let found = std::fs::metadata(project.path(&format!(".pivot/stages/{stage}.lock")));
        let found = found.unwrap();
        (found.ino(), found.mtime_nsec(), found.mtime())
    };
    let (preprocess, train) = (identity("preprocess"), identity("train"));
    project.replace("pipeline.py", "RATE = 2", "RATE = 3");
    project.pivot("run").succeeds();
    assert_eq!(identity("preprocess"), preprocess);
    assert_ne!(identity("train"), train);
}

#[test]
fn a_run_that_changes_nothing_rewrites_no_lock() {
    let project = ran_project();
    let before = (project.lock("preprocess"), project.lock("train"));
    project.pivot("run --force").succeeds();
    assert_eq!((project.lock("preprocess"), project.lock("train")), before);
}

#[test]
fn a_lock_holds_no_path_of_this_machine() {
    let project = ran_project();
    let root = project.root().display().to_string();
    for file in project.files_in(".pivot/stages") {
        assert!(!project.read(&file).contains(&root), "{file} names the project's directory");
    }
}

#[test]
fn a_lock_with_conflict_markers_counts_as_no_lock_and_is_named() {
    let project = ran_project();
    let ours = project.lock("train");
    let conflict = format!("<<<<<<< HEAD\n{ours}=======\n{ours}>>>>>>> theirs\n");
    project.write(".pivot/stages/train.lock", &conflict);

    insta::assert_snapshot!(project.pivot("run --explain train"), @r"
    exit: 0
    Stage: preprocess
      Status: UNCHANGED
      Reason: unchanged

    Stage: train
      Status: WILL RESTORE
      Reason: unchanged (run cache)

      Lock:
        line 1: git conflict markers: the lock was not merged
    --- stderr
    warning: .pivot/stages/train.lock is not used: line 1: git conflict markers: the lock was not merged
    ");
    project.pivot("run").succeeds().says("warning: .pivot/stages/train.lock is not used");
    assert_eq!(project.lock("train"), ours);
}

#[test]
fn a_lock_cannot_make_pivot_write_outside_of_the_project() {
    let project = project()
        .file("inner/pivot.yaml", "stages: {copy: {cmd: cp a b, deps: [a], outs: [b]}}")
        .file("inner/a", "a")
        .file("victim", "precious");
    project.pivot("-C inner run").succeeds();
    let lock = project.read("inner/.pivot/stages/copy.lock");
    for path in ["../victim", "/tmp/pivot-test-victim", "b/../../victim", ".git/config"] {
        let evil = lock.replace("path: b", &format!("path: {path}"));
        assert_ne!(evil, lock);
        project.write("inner/.pivot/stages/copy.lock", &evil);
        project.remove("inner/b");
        project.pivot("-C inner run").succeeds();
        assert_eq!(project.read("inner/b"), "a");
        assert_eq!(project.read("victim"), "precious");
        assert!(!project.exists("inner/.git"));
    }
    assert!(!std::path::Path::new("/tmp/pivot-test-victim").exists());
}

#[test]
fn damaged_locks_are_never_trusted() {
    let project = ran_project();
    let good = project.lock("train");
    let damaged = [
        String::new(),
        "schema_version: 1\n".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("schema_version: 1", "schema_version: 99"),
        good.replace("size: ", "size: -"),
        "\u{0}\u{1}\u{2}".to_owned(),
        "- [".repeat(2000),
    ];
    for text in damaged {
        project.write(".pivot/stages/train.lock", &text);
        project.write("model.pkl", "wrong");
        project.pivot("run").succeeds();
        assert_eq!(project.read("model.pkl"), "16", "after the lock {text:?}");
        assert_eq!(project.lock("train"), good);
    }
}
