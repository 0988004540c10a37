//! Params: typed, injected, overridden, and part of what a stage depends on.

use crate::support::{Project, project};

/// The example of the README; the function also writes the output that it declares.
const PYDANTIC: &str = r#"from pydantic import BaseModel
from pivot import stage

class TrainParams(BaseModel):
    learning_rate: float = 0.01
    epochs: int = 100
    batch_size: int = 32

@stage(deps=['data.csv'], outs=['model.pkl'], params=TrainParams)
def train(params: TrainParams):
    print(f"Training with lr={params.learning_rate}")
    with open('model.pkl', 'w') as file:
        file.write(f'{type(params).__name__} {params.learning_rate} {params.epochs} {params.batch_size}')
"#;

const OVERRIDES: &str = "\
train:
  learning_rate: 0.001
  epochs: 200
";

fn pydantic_project() -> Project {
    project().with_libraries().file("pipeline.py", PYDANTIC).file("data.csv", "1")
}

#[test]
fn a_model_with_its_defaults_is_injected() {
    let project = pydantic_project();
    project.pivot("run --show-output").succeeds().says("Training with lr=0.01");
    assert_eq!(project.read("model.pkl"), "TrainParams 0.01 100 32");
}

#[test]
fn params_yaml_goes_before_the_defaults_of_the_model() {
    let project = pydantic_project().file("params.yaml", OVERRIDES);
    project.pivot("run").succeeds();
    assert_eq!(project.read("model.pkl"), "TrainParams 0.001 200 32");
}

#[test]
fn a_changed_param_runs_the_stage_and_is_tracked_in_its_lock() {
    let project = pydantic_project();
    project.pivot("run").succeeds();
    insta::assert_snapshot!(params_in_lock(&project), @"params: {batch_size: 32, epochs: 100, learning_rate: 0.01}");

    project.write("params.yaml", OVERRIDES);
    project.pivot("run").succeeds().says("Params changed");
    assert_eq!(project.read("model.pkl"), "TrainParams 0.001 200 32");
    insta::assert_snapshot!(params_in_lock(&project), @"params: {batch_size: 32, epochs: 200, learning_rate: 0.001}");

    // The same values, written in another way.
    project.write("params.yaml", "train: {epochs: 200, learning_rate: 1.0e-3}\n");
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 unchanged ([time])");

    project.remove("params.yaml");
    let back = project.pivot("run").succeeds();
    assert_eq!(back.counts(), "1 stage: 1 unchanged (run cache) ([time])");
    assert_eq!(project.read("model.pkl"), "TrainParams 0.01 100 32");
}

fn params_in_lock(project: &Project) -> String {
    let lock = project.lock("train");
    let from = lock.find("params:").expect("every lock has params");
    let to = lock.find("deps:").expect("every lock has dependencies");
    lock[from..to].to_owned()
}

#[test]
fn shows_current_values() {
    let project = pydantic_project().file("params.yaml", OVERRIDES);
    insta::assert_snapshot!(project.pivot("params show"), @r"
    exit: 0
    train.learning_rate: 0.001
    train.epochs: 200
    train.batch_size: 32
    ");
    insta::assert_snapshot!(project.pivot("params show --format json"), @r#"
    exit: 0
    {
      "schema_version": 1,
      "params": {
        "train": {
          "learning_rate": 0.001,
          "epochs": 200,
          "batch_size": 32
        }
      }
    }
    "#);
    insta::assert_snapshot!(project.pivot("params show --md --precision 4"), @r"
    exit: 0
    | Stage | Param | Value |
    | --- | --- | --- |
    | train | learning_rate | 0.001 |
    | train | epochs | 200 |
    | train | batch_size | 32 |
    ");
    assert_eq!(
        project.pivot("params show --json").succeeds().stdout(),
        project.pivot("params show --format json").succeeds().stdout()
    );
}

#[test]
fn values_win_in_the_documented_order() {
    let project = project()
        .file(
            "pivot.yaml",
            "\
stages:
  train:
    python: stages.train
    outs: ['${size}.txt']
    params: {a: yaml, b: yaml, c: yaml, d: yaml, deep: {x: yaml, y: yaml}, list: [1, 2]}
    matrix: {size: [s, l]}
",
        )
        .file(
            "params.yaml",
            "\
train: {b: base, c: base, d: base, deep: {y: base}, list: [3]}
train@s: {c: variant, d: variant}
",
        )
        .file(
            "stages.py",
            "\
def train(out, a, b, c, d, deep, list):
    with open(out, 'w') as file:
        print(a, b, c, d, deep, list, file=file)
",
        );
    project.pivot("run -S train@s.d=set").succeeds();
    assert_eq!(project.read("s.txt"), "yaml base variant set {'x': 'yaml', 'y': 'base'} [3]\n");
    assert_eq!(project.read("l.txt"), "yaml base base base {'x': 'yaml', 'y': 'base'} [3]\n");
}

#[test]
fn a_value_from_the_command_line_is_for_one_run() {
    let project = project().file(
        "pipeline.py",
        r#"
from pivot import stage

@stage(outs=["out.txt"], params={"lr": 0.01, "deep": {"name": "x"}})
def train(out, lr, deep):
    with open(out, "w") as file:
        print(lr, deep, file=file)
"#,
    );
    project.pivot("run -S train.lr=0.5 -S train.deep.name=y").succeeds();
    assert_eq!(project.read("out.txt"), "0.5 {'name': 'y'}\n");
    insta::assert_snapshot!(project.pivot("run --explain"), @r#"
    exit: 0
    Stage: train
      Status: WILL RUN
      Reason: Params changed

      Params:
        deep.name: "y" → "x"
        lr: 0.5 → 0.01
    "#);
    project.pivot("run").succeeds();
    assert_eq!(project.read("out.txt"), "0.01 {'name': 'x'}\n");
}

#[test]
fn an_override_of_no_stage_is_told() {
    let project = pydantic_project().file("params.yaml", "tran: {epochs: 1}\n");
    insta::assert_snapshot!(project.pivot("status").succeeds(), @r"
    exit: 0
    train  WILL RUN      No previous run
    --- stderr
    warning: params.yaml:1:1: there is no stage `tran`; did you mean `train`?
    ");
}

#[test]
fn names_of_stages_may_have_dots() {
    let project = project().file(
        "pipeline.py",
        r#"
from pivot import Pipeline

def train(out, rate):
    with open(out, "w") as file:
        file.write(str(rate))

for rate in (0.1, 0.3):
    Pipeline().add_stage(train, f"train@{rate}", outs=[f"{rate}.txt"], params={"rate": rate})
"#,
    );
    project.pivot("run -S train@0.1.rate=0.5").succeeds();
    assert_eq!([project.read("0.1.txt"), project.read("0.3.txt")], ["0.5", "0.3"]);
    project.pivot("run -S train@0.3.speed=7").exits(1).says("`speed`");
    project.pivot("run -S train@0.2.rate=7").exits(1).says("there is no stage `train@0");
}

#[test]
fn a_value_that_the_model_refuses_is_named_with_its_line() {
    let project = pydantic_project().file(
        "params.yaml",
        "\
train:
  learning_rate: fast
  epochs: 2.5
",
    );
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: stage `train`: param `learning_rate`: Input should be a valid number, unable to parse string as a number; param `epochs`: Input should be a valid integer, got a number with a fractional part
      --> pipeline.py:9
      params.yaml:2:3: learning_rate: Input should be a valid number, unable to parse string as a number
      params.yaml:3:3: epochs: Input should be a valid integer, got a number with a fractional part
    ");
}

#[test]
fn a_param_that_the_model_does_not_know_is_an_error() {
    let project = pydantic_project().file(
        "params.yaml",
        "\
train:
  epochs: 3
  lerning_rate: 0.5
",
    );
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: stage `train`: param `lerning_rate`: `TrainParams` has no field `lerning_rate`; did you mean `learning_rate`?
      --> params.yaml:3:3
      --> pipeline.py:9
    ");
}

#[test]
fn a_param_that_the_function_does_not_take_is_an_error() {
    let project = project().file("params.yaml", "train: {momentum: 1}\n").file(
        "pipeline.py",
        r#"
from pivot import stage

@stage(outs=["out.txt"], params={"lr": 0.01})
def train(out, lr):
    open(out, "w").close()
"#,
    );
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: stage `train`: param `momentum`: `train` has no argument `momentum`
      --> params.yaml:1:9
      --> pipeline.py:4
    ");
}

#[test]
fn a_stage_of_pipeline_py_wants_a_mapping_in_params_yaml() {
    let project = pydantic_project().file("params.yaml", "train: 5\n");
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: the params of stage `train` must be a mapping, but they are an integer
      --> params.yaml:1:8
    hint: write `train: {NAME: VALUE}`
    ");
}

#[test]
fn a_param_may_look_like_the_protocol() {
    let project = project()
        .file(
            "pipeline.py",
            "from pivot import stage\n\n@stage(outs=['out.txt'])\ndef show(given=None):\n    \
             open('out.txt', 'w').write(repr(given))\n",
        )
        .file("params.yaml", "show: {given: {$float: zzz}}\n");
    project.pivot("run").succeeds();
    assert_eq!(project.read("out.txt"), "{'$float': 'zzz'}");
}
