//! What can be written into pivot.yaml and pipeline.py.

use crate::support::project;

/// The matrix of the README, literally.
const MATRIX: &str = r#"stages:
  train:
    python: stages.train
    deps:
      - data/clean.csv
      - "configs/${model}.yaml"
    outs:
      - "models/${model}_${dataset}.pkl"
    matrix:
      model:
        bert:
          params:
            hidden_size: 768
        gpt:
          params:
            hidden_size: 1024
          deps+:
            - data/gpt_tokenizer.json
      dataset: [swe, human]
"#;

#[test]
fn a_matrix_becomes_a_stage_for_each_combination() {
    let project = project()
        .file("pivot.yaml", MATRIX)
        .file("stages.py", "def train(hidden_size, variant):\n    with open(f'models/{variant}.pkl', 'w') as file:\n        print(variant, hidden_size, file=file)\n")
        .file("data/clean.csv", "1")
        .file("data/gpt_tokenizer.json", "{}")
        .file("configs/bert.yaml", "")
        .file("configs/gpt.yaml", "");

    insta::assert_snapshot!(project.pivot("list"), @r"
    exit: 0
    train@bert_swe  (stages.train, pivot.yaml:2:3)
      <- data/clean.csv
      <- configs/bert.yaml
      -> models/bert_swe.pkl
    train@bert_human  (stages.train, pivot.yaml:2:3)
      <- data/clean.csv
      <- configs/bert.yaml
      -> models/bert_human.pkl
    train@gpt_swe  (stages.train, pivot.yaml:2:3)
      <- data/clean.csv
      <- configs/gpt.yaml
      <- data/gpt_tokenizer.json
      -> models/gpt_swe.pkl
    train@gpt_human  (stages.train, pivot.yaml:2:3)
      <- data/clean.csv
      <- configs/gpt.yaml
      <- data/gpt_tokenizer.json
      -> models/gpt_human.pkl
    ");
    insta::assert_snapshot!(project.pivot("params show"), @r"
    exit: 0
    train@bert_swe.hidden_size: 768
    train@bert_human.hidden_size: 768
    train@gpt_swe.hidden_size: 1024
    train@gpt_human.hidden_size: 1024
    ");

    assert_eq!(project.pivot("run").succeeds().counts(), "4 stages: 4 ran ([time])");
    assert_eq!(project.read("models/gpt_human.pkl"), "gpt_human 1024\n");
    assert_eq!(project.read("models/bert_swe.pkl"), "bert_swe 768\n");
}

#[test]
fn variants_run_alone_by_name_and_together_by_their_base() {
    let project = project().file(
        "pivot.yaml",
        "\
stages:
  make:
    cmd: echo ${size} ${color} >${size}_${color}.txt
    outs: ['${size}_${color}.txt']
    matrix: {size: [s, l], color: [red, blue]}
  other:
    cmd: echo >other.txt
    outs: [other.txt]
",
    );
    assert_eq!(project.pivot("run make@l_red").succeeds().counts(), "1 stage: 1 ran ([time])");
    assert_eq!(project.read("l_red.txt"), "l red\n");
    let base = project.pivot("run make").succeeds();
    assert_eq!(base.counts(), "4 stages: 3 ran, 1 unchanged ([time])");
    assert!(!project.exists("other.txt"));
}

#[test]
fn a_decorated_function_can_have_variants() {
    let project = project()
        .file(
            "pipeline.py",
            r#"
from pivot import Variant, stage

@stage.matrix(
    [Variant("small", outs=["small.txt"], params={"depth": 2}),
     Variant("large", outs=["large.txt"], params={"depth": 8})],
    deps=["data.txt"], params={"seed": 1},
)
def train(data, model, depth, seed, variant):
    with open(model, "w") as file:
        print(variant, data, depth, seed, file=file)
"#,
        )
        .file("data.txt", "");
    project.pivot("run").succeeds();
    assert_eq!(project.read("small.txt"), "small data.txt 2 1\n");
    assert_eq!(project.read("large.txt"), "large data.txt 8 1\n");
    let names = project.pivot("list --names").succeeds();
    assert_eq!(names.stdout(), "train@small\ntrain@large\n");
}

#[test]
fn yaml_means_what_yaml_1_2_says() {
    let project = project()
        .file(
            "pivot.yaml",
            "\
stages:
  show:
    python: stages.show
    outs: [out.txt]
    params: {country: no, octal: 010, date: 2024-01-01, ratio: 1e-3, nothing: ~, flag: true}
",
        )
        .file("stages.py", "def show(params):\n    open('out.txt', 'w').write(repr(params))\n");
    project.pivot("run").succeeds();
    insta::assert_snapshot!(project.read("out.txt"), @"{'country': 'no', 'octal': 10, 'date': '2024-01-01', 'ratio': 0.001, 'nothing': None, 'flag': True}");
}

#[test]
fn stages_may_be_declared_in_modules_that_the_pipeline_imports() {
    let project = project()
        .file("pipeline.py", "import steps.first\nfrom steps import second\n")
        .file("steps/__init__.py", "")
        .file("steps/first.py", "from pivot import stage\n\n@stage(outs=['a'])\ndef one(a):\n    open(a, 'w').write('1')\n")
        .file("steps/second.py", "from pivot import stage\n\n@stage(deps=['a'], outs=['b'])\ndef two(a, b):\n    open(b, 'w').write(open(a).read() + '2')\n");
    project.pivot("run").succeeds();
    assert_eq!(project.read("b"), "12");
    insta::assert_snapshot!(project.pivot("list"), @r"
    exit: 0
    one  (steps.first.one, steps/first.py:3)
      -> a
    two  (steps.second.two, steps/second.py:3)
      <- a
      -> b
    ");
    assert_eq!(project.pivot("run").succeeds().counts(), "2 stages: 2 unchanged ([time])");
}

#[test]
fn a_stage_without_outputs_runs_once() {
    let project = project().file("data.csv", "1").file(
        "pipeline.py",
        r"
from pivot import stage

def load(path):
    return open(path).read()

def helper(x):
    return x * 2  # Change this...

@stage(deps=['data.csv'])
def process(file: str):
    data = load(file)
    return helper(data)  # ...and Pivot knows to re-run!
",
    );
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 ran ([time])");
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 unchanged ([time])");
    project.replace("pipeline.py", "x * 2", "x * 3");
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 ran ([time])");
}

#[test]
fn shell_commands_are_stages_too() {
    let project = project()
        .file(
            "pivot.yaml",
            "\
stages:
  count:
    cmd: wc -l <data.txt | tr -d ' ' >lines.txt
    deps: [data.txt]
    outs: [lines.txt]
  block:
    cmd: |
      set -e
      read -r lines <lines.txt
      echo \"$((lines * 2))\" >twice.txt
    deps: [lines.txt]
    outs: [twice.txt]
",
        )
        .file("data.txt", "a\nb\n");
    // No Python is needed to run them.
    let without_python = project.env("PIVOT_PYTHON", "/no/such/python");
    without_python.pivot("run").succeeds();
    assert_eq!(without_python.read("twice.txt"), "4\n");

    without_python.replace("pivot.yaml", "lines * 2", "lines * 3");
    insta::assert_snapshot!(without_python.pivot("run --explain block"), @r"
    exit: 0
    Stage: count
      Status: UNCHANGED
      Reason: unchanged

    Stage: block
      Status: WILL RUN
      Reason: Code dependency changed

      Changes:
        cmd:block
          Old: [hash]
          New: [hash]
          File: pivot.yaml:6
    ");
    without_python.pivot("run").succeeds();
    assert_eq!(without_python.read("twice.txt"), "6\n");
}

#[test]
fn a_stage_runs_in_its_working_directory() {
    let project = project()
        .file("pivot.yaml", "\
stages:
  shell:
    cmd: cp in.txt out.txt
    cwd: sub
    deps: [sub/in.txt]
    outs: [sub/out.txt]
  python:
    python: stages.copy
    cwd: sub
    deps: [sub/out.txt]
    outs: [other/copy.txt]
")
        .file("stages.py", "import os\n\ndef copy(source, target):\n    text = open(source).read()\n    open(target, 'w').write(f'{text} in {os.path.basename(os.getcwd())} from {source} to {target}')\n")
        .file("sub/in.txt", "text");
    project.pivot("run").succeeds();
    assert_eq!(project.read("other/copy.txt"), "text in sub from out.txt to ../other/copy.txt");
}
