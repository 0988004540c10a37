//! `pivot run --explain`: why a stage would run.

use crate::support::{Project, project};

const PIPELINE: &str = r#"
from pivot import stage
from src.utils import helper_a


@stage(deps=["data.csv"], outs=["model.pkl"], params={"lr": 0.01})
def train(data, model, lr):
    with open(model, "w") as file:
        file.write(helper_a(open(data).read()) + str(lr))
"#;

/// `helper_a` stands on line 15.
const UTILS: &str = r#""""Helpers."""


def helper_b(text):
    """Used by the other helper."""
    return text.strip()


# Lines
# to
# fill
# the
# file.

def helper_a(text):
    return helper_b(text).upper()
"#;

fn ran_project() -> Project {
    let project = project()
        .file("pipeline.py", PIPELINE)
        .file("src/__init__.py", "")
        .file("src/utils.py", UTILS)
        .file("data.csv", "a");
    project.pivot("run").succeeds();
    project
}

#[test]
fn names_the_helper_that_changed_with_its_file_and_line() {
    let project = ran_project();
    project.replace("src/utils.py", "upper()", "lower()");
    insta::assert_snapshot!(project.pivot("run --explain"), @r"
    exit: 0
    Stage: train
      Status: WILL RUN
      Reason: Code dependency changed

      Changes:
        func:helper_a
          Old: [hash]
          New: [hash]
          File: src/utils.py:15
    ");
    assert_eq!(project.read("model.pkl"), "A0.01", "explaining runs nothing");
}

#[test]
fn says_that_a_stage_has_not_run_yet() {
    let project =
        project().file("pipeline.py", PIPELINE).file("src/utils.py", UTILS).file("data.csv", "a");
    insta::assert_snapshot!(project.pivot("run --explain"), @r"
    exit: 0
    Stage: train
      Status: WILL RUN
      Reason: No previous run
    ");
    assert!(!project.exists(".pivot/stages"), "explaining writes no lock");
}

#[test]
fn says_that_nothing_changed() {
    insta::assert_snapshot!(ran_project().pivot("run --explain"), @r"
    exit: 0
    Stage: train
      Status: UNCHANGED
      Reason: unchanged
    ");
}

#[test]
fn shows_old_and_new_values_of_params() {
    let project = ran_project().file("params.yaml", "train: {lr: 0.001}\n");
    insta::assert_snapshot!(project.pivot("run --explain"), @r"
    exit: 0
    Stage: train
      Status: WILL RUN
      Reason: Params changed

      Params:
        lr: 0.01 → 0.001
    ");
}

#[test]
fn names_the_dependency_that_changed() {
    let project = ran_project();
    project.write("data.csv", "b");
    insta::assert_snapshot!(project.pivot("run --explain"), @r"
    exit: 0
    Stage: train
      Status: WILL RUN
      Reason: Input dependencies changed

      Dependencies:
        data.csv: [hash] → [hash]
    ");
}

#[test]
fn names_all_causes_at_once() {
    let project = ran_project().file("params.yaml", "train: {lr: 0.001}\n");
    project.write("data.csv", "b");
    project.replace("src/utils.py", "strip()", "rstrip()");
    project.replace("pipeline.py", r#"["model.pkl"]"#, r#"["model.bin"]"#);
    insta::assert_snapshot!(project.pivot("run --explain"), @r"
    exit: 0
    Stage: train
      Status: WILL RUN
      Reason: Code dependency changed, Params changed, Input dependencies changed, Declared outputs changed

      Changes:
        func:helper_b
          Old: [hash]
          New: [hash]
          File: src/utils.py:4

      Params:
        lr: 0.01 → 0.001

      Dependencies:
        data.csv: [hash] → [hash]

      Outputs:
        model.bin: declared since
        model.pkl: no longer declared
    ");
}

#[test]
fn tells_a_missing_output_from_a_stale_one() {
    let project = ran_project();
    project.remove("model.pkl");
    insta::assert_snapshot!(project.pivot("run --explain"), @r"
    exit: 0
    Stage: train
      Status: WILL RESTORE
      Reason: Outputs missing

      Outputs:
        model.pkl: missing
    ");
}

#[test]
fn tells_what_may_run_since_something_upstream_runs() {
    let project = project().file("data.txt", "1").file(
        "pivot.yaml",
        "\
stages:
  first: {cmd: cp data.txt first.txt, deps: [data.txt], outs: [first.txt]}
  second: {cmd: cp first.txt second.txt, deps: [first.txt], outs: [second.txt]}
",
    );
    project.pivot("run").succeeds();
    project.write("data.txt", "2");
    insta::assert_snapshot!(project.pivot("run --explain"), @r"
    exit: 0
    Stage: first
      Status: WILL RUN
      Reason: Input dependencies changed

      Dependencies:
        data.txt: [hash] → [hash]

    Stage: second
      Status: MAY RUN
      Reason: upstream 'first' may change
    ");
    insta::assert_snapshot!(project.pivot("run -n"), @r"
    exit: 0
    first   WILL RUN      Input dependencies changed
    second  MAY RUN       upstream 'first' may change
    ");
}

#[test]
fn is_the_same_decision_in_all_commands() {
    let project = ran_project();
    project.replace("src/utils.py", "upper()", "lower()");
    let plan = project.pivot("run -n").succeeds().stdout().to_owned();
    assert_eq!(plan, project.pivot("status").succeeds().stdout());
    let explained = project.pivot("run --explain --json").succeeds().json();
    assert_eq!(explained, project.pivot("status --json").succeeds().json());
    assert_eq!(explained["stages"][0]["reasons"][0]["changes"][0]["name"], "func:helper_a");
    let blocks = project.pivot("run --explain").succeeds().stdout().to_owned();
    assert_eq!(blocks, project.pivot("status --explain").succeeds().stdout());
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 ran ([time])");
}
