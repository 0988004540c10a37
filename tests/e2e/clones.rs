//! A second checkout of the same project.

use crate::support::{Project, project};

const PIPELINE: &str = r#"
from pivot import stage


@stage(deps=["data.txt"], outs=["dir/upper.txt"])
def upper(data, out):
    open("ran.log", "a").write("upper\n")
    open(out, "w").write(open(data).read().upper())


@stage(deps=["dir/upper.txt"], outs=["twice.txt"])
def twice(upper, out):
    open("ran.log", "a").write("twice\n")
    open(out, "w").write(open(upper).read() * 2)
"#;

const MACHINE_ONLY: [&str; 4] = [".pivot/state.lmdb", ".pivot/run", ".pivot/logs", "__pycache__"];

fn ran_project() -> Project {
    let project = project().file("pipeline.py", PIPELINE).file("data.txt", "abc");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["twice", "upper"]);
    project
}

#[test]
fn stages_whose_outputs_are_in_the_cache_are_not_executed() {
    let project = ran_project();
    let outputs = ["dir", "twice.txt"];
    let clone = project.cloned_without(&[&MACHINE_ONLY[..], &outputs].concat());
    insta::assert_snapshot!(clone.pivot("run"), @r"
    exit: 0
    2 stages: 2 restored ([time])
    --- stderr
    done  upper: outputs restored from the cache
    done  twice: outputs restored from the cache
    ");
    assert!(clone.ran().is_empty());
    assert_eq!(clone.read("twice.txt"), "ABCABC");
    assert_eq!(clone.lock("twice"), project.lock("twice"));
}

#[test]
fn stages_whose_outputs_are_there_are_not_executed() {
    let clone = ran_project().cloned_without(&MACHINE_ONLY);
    assert_eq!(clone.pivot("run").succeeds().counts(), "2 stages: 2 unchanged ([time])");
    assert!(clone.ran().is_empty());
}

#[test]
fn without_the_cache_the_clone_runs_and_gets_the_same_locks() {
    let project = ran_project();
    let left_out = [&MACHINE_ONLY[..], &["dir", "twice.txt", ".pivot/cache"]].concat();
    let clone = project.cloned_without(&left_out);
    clone.pivot("run").succeeds();
    assert_eq!(clone.ran(), ["twice", "upper"]);
    assert_eq!(clone.lock("upper"), project.lock("upper"));
    assert_eq!(clone.lock("twice"), project.lock("twice"));
}
