//! `.pivot/state.lmdb` is only a memory: whatever happens to it, decisions stay the same.

use crate::support::{Project, project};

const PIPELINE: &str = r#"
from pivot import stage


@stage(deps=["data.txt"], outs=["upper.txt"])
def upper(data, out):
    open("ran.log", "a").write("upper\n")
    open(out, "w").write(open(data).read().upper())


@stage(deps=["upper.txt"], outs=["twice"])
def twice(upper, out):
    import os
    open("ran.log", "a").write("twice\n")
    os.mkdir(out)
    open(f"{out}/text", "w").write(open(upper).read() * 2)
"#;

fn ran_project() -> Project {
    let project = project().file("pipeline.py", PIPELINE).file("data.txt", "abc");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["twice", "upper"]);
    project
}

fn damaged(damage: impl Fn(&Project)) {
    let project = ran_project();
    damage(&project);
    assert_eq!(project.pivot("run").succeeds().counts(), "2 stages: 2 unchanged ([time])");
    assert!(project.ran().is_empty());

    damage(&project);
    project.write("data.txt", "xyz");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["twice", "upper"]);
    assert_eq!(project.read("twice/text"), "XYZXYZ");
}

#[test]
fn deleted() {
    damaged(|project| project.remove(".pivot/state.lmdb"));
}

#[test]
fn emptied() {
    damaged(|project| project.write(".pivot/state.lmdb/data.mdb", ""));
}

#[test]
fn truncated() {
    damaged(|project| {
        let path = project.path(".pivot/state.lmdb/data.mdb");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn overwritten_with_garbage() {
    damaged(|project| {
        let path = project.path(".pivot/state.lmdb/data.mdb");
        let length = std::fs::metadata(&path).unwrap().len();
        let garbage: Vec<u8> = (0..length).map(|n| ((n * 2_654_435_761) >> 7) as u8).collect();
        std::fs::write(&path, garbage).unwrap();
    });
}

#[test]
fn partly_overwritten() {
    damaged(|project| {
        let path = project.path(".pivot/state.lmdb/data.mdb");
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle..middle + 4096].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();
    });
}

#[test]
fn replaced_by_a_file() {
    damaged(|project| {
        project.remove(".pivot/state.lmdb");
        project.write(".pivot/state.lmdb", "not a directory");
    });
}

#[test]
fn copied_from_another_project() {
    let other = project().file("pipeline.py", PIPELINE).file("data.txt", "other");
    other.pivot("run").succeeds();
    damaged(|project| {
        let bytes = std::fs::read(other.path(".pivot/state.lmdb/data.mdb")).unwrap();
        std::fs::write(project.path(".pivot/state.lmdb/data.mdb"), bytes).unwrap();
    });
}
