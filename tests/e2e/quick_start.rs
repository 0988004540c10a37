//! The three ways to define a first pipeline, as the README shows them.

use crate::support::{Project, project};

/// The decorated pipeline. It stores frames as pickles, since Parquet needs one more library.
const DECORATED: &str = r"from pivot import stage

@stage(deps=['data.csv'], outs=['processed.parquet'])
def preprocess(input_file: str = 'data.csv'):
    import pandas as pd
    df = pd.read_csv(input_file)
    df = df.dropna()
    df.to_pickle('processed.parquet')

@stage(deps=['processed.parquet'], outs=['model.pkl'])
def train(data_file: str = 'processed.parquet', lr: float = 0.01):
    import pandas as pd
    import pickle
    df = pd.read_pickle(data_file)
    model = {'lr': lr, 'data': df.shape}
    with open('model.pkl', 'wb') as f:
        pickle.dump(model, f)
";

const YAML: &str = "\
# pivot.yaml
stages:
  preprocess:
    python: stages.preprocess
    deps:
      - data.csv
    outs:
      - processed.parquet

  train:
    python: stages.train
    deps:
      - processed.parquet
    outs:
      - model.pkl
    params:
      lr: 0.01
";

const PROGRAMMATIC: &str = r"# pipeline.py
from pivot import Pipeline

from stages import preprocess, train

pipeline = Pipeline()
pipeline.add_stage(preprocess, deps=['data.csv'], outs=['processed.parquet'])
pipeline.add_stage(train, deps=['processed.parquet'], outs=['model.pkl'])
";

/// Plain functions for the two definitions that only name them.
const STAGES: &str = r"def preprocess(input_file: str = 'data.csv'):
    with open(input_file) as source, open('processed.parquet', 'w') as target:
        target.writelines(line for line in source if not line.endswith(',\n'))

def train(data_file: str = 'processed.parquet', lr: float = 0.5):
    with open(data_file) as source, open('model.pkl', 'w') as target:
        target.write(f'lr {lr}, {len(source.readlines())} lines')
";

const DATA: &str = "a,b\n1,2\n3,\n5,6\n";

fn runs_once(project: &Project) {
    let first = project.pivot("run").succeeds();
    assert_eq!(first.counts(), "2 stages: 2 ran ([time])");
    let second = project.pivot("run").succeeds();
    assert_eq!(second.counts(), "2 stages: 2 unchanged ([time])");
}

#[test]
fn a_decorated_pipeline_runs_and_then_has_nothing_to_do() {
    let project = project().with_libraries().file("pipeline.py", DECORATED).file("data.csv", DATA);
    runs_once(&project);
    assert!(project.exists("processed.parquet") && project.exists("model.pkl"));
}

#[test]
fn a_yaml_pipeline_runs_and_its_params_reach_the_function() {
    let project =
        project().file("pivot.yaml", YAML).file("stages.py", STAGES).file("data.csv", DATA);
    runs_once(&project);
    assert_eq!(project.read("model.pkl"), "lr 0.01, 3 lines");
}

#[test]
fn a_programmatic_pipeline_runs() {
    let project = project()
        .file("pipeline.py", PROGRAMMATIC)
        .file("stages.py", STAGES)
        .file("data.csv", DATA);
    runs_once(&project);
    assert_eq!(project.read("model.pkl"), "lr 0.5, 3 lines");
}

#[test]
fn every_executor_writes_the_same() {
    let mut models = Vec::new();
    for executor in ["warm", "spawn"] {
        let project = project().with_libraries().file("pipeline.py", DECORATED);
        let project = project.file("data.csv", DATA);
        project.pivot(&format!("run --executor={executor}")).succeeds();
        models.push((project.lock("preprocess"), project.lock("train")));
    }
    assert_eq!(models[0], models[1]);
}

#[test]
fn the_definition_is_discovered_in_the_documented_order() {
    let project = project()
        .file("pivot.yaml", "stages: {from-yaml: {cmd: echo >x, outs: [x]}}")
        .file("pivot.yml", "stages: {from-yml: {cmd: echo >x, outs: [x]}}")
        .file("pipeline.py", "from pivot import stage\n\n@stage\ndef from_python(): pass\n");
    let mut found = Vec::new();
    for file in ["pivot.yaml", "pivot.yml", "pipeline.py"] {
        found.push(project.pivot("list --names").succeeds().stdout().to_owned());
        project.remove(file);
    }
    assert_eq!(found, ["from-yaml\n", "from-yml\n", "from_python\n"]);
}

#[test]
fn a_project_is_found_from_a_directory_below_it() {
    let project = project()
        .file("pivot.yaml", "stages: {copy: {cmd: cp a b, deps: [a], outs: [b]}}")
        .file("a", "1")
        .file("deep/below/x", "");
    project.pivot("-C deep/below run").succeeds();
    assert_eq!(project.read("b"), "1");
}

#[test]
fn init_makes_a_pipeline_that_runs() {
    let project = project();
    project.pivot("init").succeeds();
    project.pivot("run").succeeds();
    assert_eq!(project.read("loud.txt"), "HELLO, PIPELINE\n");

    project.write("hello.txt", "mine");
    project.pivot("init").succeeds();
    assert_eq!(project.read("hello.txt"), "mine");
}
