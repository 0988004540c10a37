//! Amounts of resources: what stages need, what there is, and what runs at the same time.

use crate::support::{Project, project};

/// Fails when it runs at the same time as another one.
const ALONE: &str = "mkdir busy && sleep 0.1 && rmdir busy";

fn two_that_need(resources: &str) -> Project {
    let stage = |name: &str| {
        format!(
            "  {name}: {{cmd: {ALONE}; touch {name}, outs: [{name}], resources: {resources}}}\n"
        )
    };
    project().file("pivot.yaml", &format!("stages:\n{}{}", stage("a"), stage("b")))
}

#[test]
fn stages_share_what_there_is() {
    let project = two_that_need("{license: 1}");
    project.pivot("run -j 2 --resource license=1").succeeds();
    let project = two_that_need("{memory: 3GB}");
    project.write(".pivot/config.yaml", "resources: {memory: 5GB}\n");
    project.pivot("run -j 2").succeeds();
}

#[test]
fn a_demand_that_cannot_be_met_is_an_error_before_anything_runs() {
    let project = two_that_need("{gpus: 2}");
    let finished = project.pivot("run --resource gpus=1").exits(1);
    insta::assert_snapshot!(finished.errors(), @r"
    exit: 1
    error: stage `a` needs 2 of `gpus`, and there is only 1
    hint: run with `--resource gpus=AMOUNT`, or write it below `resources:` in .pivot/config.yaml
    ");
    assert!(!project.exists("b"));
    project.pivot("run -j 2 --resource gpus=2").succeeds();
    // What need not run needs nothing.
    project.remove("a");
    project.pivot("run").succeeds();
}

#[test]
fn an_output_that_cannot_be_restored_is_not_made_without_the_resources() {
    let project = two_that_need("{gpus: 2}");
    project.replace("pivot.yaml", "touch a", "echo made >a");
    project.pivot("run --resource gpus=2").succeeds();
    project.remove("a");
    for object in project.files_in(".pivot/cache/files") {
        if project.read(&object) == "made\n" {
            project.remove(&object);
            project.write(&object, "MADE\n");
        }
    }
    let finished = project.pivot("run --resource gpus=1").exits(1);
    insta::assert_snapshot!(finished.errors(), @r"
    exit: 1
    note: `a` cannot be brought back: cache object [hash] is damaged; `a` has to run again
    FAIL  a: stage `a` needs 2 of `gpus`, and there is only 1
    hint: run with `--resource gpus=AMOUNT`, or write it below `resources:` in .pivot/config.yaml
    ");
    assert!(!project.exists("a"));
    project.pivot("run --resource gpus=2").succeeds();
}

#[test]
fn a_resource_of_which_nobody_has_told_how_much_there_is() {
    let finished = two_that_need("{license: 1}").pivot("run").exits(1);
    finished.says("stage `a` needs `license`, and nothing says how much of it there is");
}

#[test]
fn amounts_are_checked() {
    let project =
        two_that_need("{license: 1}").file(".pivot/config.yaml", "resources: {license: many}\n");
    project.pivot("run").exits(1).says("`many` is not an amount of `license`");
    project.remove(".pivot/config.yaml");
    project.pivot("run --resource license=many").exits(2).says("`many` is not an amount of");
}

/// Both wait for each other: neither can get what the other had.
const DEVICES: &str = r#"
import os
import time
from pathlib import Path

from pivot import stage


def show(mine, other):
    Path(mine).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    while not Path(other).exists():
        time.sleep(0.01)


@stage(outs=["a"], resources={"gpus": 1})
def first(a):
    show(a, "b")


@stage(outs=["b"], resources={"gpus": 2})
def second(b):
    show(b, "a")


@stage(deps=["a", "b"], outs=["c"])
def third(a, b, c):
    show(c, "a")
"#;

#[test]
fn each_stage_gets_graphics_processors_of_its_own() {
    for executor in ["warm", "spawn"] {
        let project =
            project().file("pipeline.py", DEVICES).env("CUDA_VISIBLE_DEVICES", "7,5,GPU-2");
        project.pivot(&format!("run -j 2 --executor {executor}")).succeeds();
        let (one, two) = (project.read("a"), project.read("b"));
        let mut all: Vec<&str> = one.split(',').chain(two.split(',')).collect();
        all.sort_unstable();
        assert_eq!((one.split(',').count(), all), (1, vec!["5", "7", "GPU-2"]), "{executor}");
        assert_eq!(project.read("c"), "7,5,GPU-2", "what a stage does not ask for is as it was");
        let finished = project.pivot("run").succeeds();
        assert!(finished.stdout().contains("3 unchanged"), "{}", finished.stdout());
    }
}

#[test]
fn graphics_processors_that_stages_share_are_not_handed_out() {
    let stage = "echo $CUDA_VISIBLE_DEVICES >";
    let project = project().file(
        "pivot.yaml",
        &format!("stages:\n  a: {{cmd: '{stage} a', outs: [a], resources: {{gpus: 1}}}}\n"),
    );
    let project = project.env("CUDA_VISIBLE_DEVICES", "3");
    project.pivot("run").succeeds();
    assert_eq!(project.read("a"), "3\n");
    project.pivot("run -f --resource gpus=2").succeeds();
    assert_eq!(project.read("a"), "3\n");
    let project = project.env("CUDA_VISIBLE_DEVICES", "3,4");
    project.pivot("run -f").succeeds();
    assert_eq!(project.read("a"), "3\n");
    project.pivot("run -f --resource gpus=4").succeeds();
    assert_eq!(project.read("a"), "3,4\n");
}
