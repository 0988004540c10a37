//! `pivot.yaml` as people write it, and every message about one that is wrong.

use std::fmt::Write as _;

use pivot_pipeline::{
    Action, Definition, Out, OutKind, Overrides, ParamsFile, Pipeline, PipelineError, Project,
    PythonAction, Stage, parse_definition,
};

fn pipeline(yaml: &str) -> Result<Pipeline, PipelineError> {
    let definition = Definition::Yaml("pivot.yaml".into());
    let project = Project { root: "/project".into(), definition };
    Pipeline::new(project, parse_definition("pivot.yaml", yaml.as_bytes())?)
}

fn stages(yaml: &str) -> Vec<Stage> {
    pipeline(yaml).unwrap_or_else(|error| panic!("{}", printed(&error))).stages().to_vec()
}

fn stage(yaml: &str) -> Stage {
    let stages = stages(yaml);
    assert_eq!(stages.len(), 1);
    stages.into_iter().next().unwrap()
}

fn printed(error: &PipelineError) -> String {
    let mut text = format!("error: {error}");
    for place in error.places() {
        write!(text, "\n  --> {place}").unwrap();
    }
    if let Some(hint) = error.hint() {
        write!(text, "\nhint: {hint}").unwrap();
    }
    text
}

/// A stage in one line, for comparison.
fn shown(stage: &Stage) -> String {
    let action = match &stage.action {
        Action::Python(python) => format!("python {python}"),
        Action::Shell { command } => format!("cmd {command:?}"),
    };
    let deps: Vec<_> = stage.deps.iter().map(|dep| dep.as_str()).collect();
    let outs: Vec<_> = stage.outs.iter().map(|out| out.path.as_str()).collect();
    let params = stage.params.canonical();
    format!("{}: {action}; {} -> {}; {params}", stage.name, deps.join(" "), outs.join(" "))
}

fn lines(yaml: &str) -> Vec<String> {
    stages(yaml).iter().map(shown).collect()
}

fn outs(yaml_list: &str) -> Vec<Out> {
    stage(&format!("stages:\n  s:\n    cmd: x\n{yaml_list}")).outs
}

#[test]
fn the_example_of_a_definition() {
    let yaml = "\
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
    assert_eq!(
        lines(yaml),
        [
            "preprocess: python stages.preprocess; data.csv -> processed.parquet; {}",
            "train: python stages.train; processed.parquet -> model.pkl; {\"lr\":0.01}",
        ]
    );
    let pipeline = pipeline(yaml).unwrap();
    let train = pipeline.task("train").unwrap();
    assert_eq!(pipeline.graph().upstream(train), [pipeline.task("preprocess").unwrap()]);
    assert_eq!(pipeline.stage(train).place.to_string(), "pivot.yaml:10:3");
    assert_eq!(
        pipeline.stage(train).action,
        Action::Python(PythonAction::Target("stages.train".into()))
    );
}

#[test]
fn the_example_of_a_matrix() {
    let yaml = "\
stages:
  train:
    python: stages.train
    deps:
      - data/clean.csv
      - \"configs/${model}.yaml\"
    outs:
      - \"models/${model}_${dataset}.pkl\"
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
";
    assert_eq!(
        lines(yaml),
        [
            "train@bert_swe: python stages.train; data/clean.csv configs/bert.yaml -> models/bert_swe.pkl; {\"hidden_size\":768}",
            "train@bert_human: python stages.train; data/clean.csv configs/bert.yaml -> models/bert_human.pkl; {\"hidden_size\":768}",
            "train@gpt_swe: python stages.train; data/clean.csv configs/gpt.yaml data/gpt_tokenizer.json -> models/gpt_swe.pkl; {\"hidden_size\":1024}",
            "train@gpt_human: python stages.train; data/clean.csv configs/gpt.yaml data/gpt_tokenizer.json -> models/gpt_human.pkl; {\"hidden_size\":1024}",
        ]
    );
}

#[test]
fn the_example_of_params() {
    let mut stages =
        stages("stages:\n  train:\n    cmd: train\n    params: {batch_size: 32, epochs: 1}\n");
    let file = ParamsFile::parse(b"train:\n  learning_rate: 0.001\n  epochs: 200\n").unwrap();
    Overrides::new(&file, &[]).unwrap().apply(&mut stages).unwrap();
    assert_eq!(
        stages[0].params.canonical(),
        r#"{"batch_size":32,"epochs":200,"learning_rate":0.001}"#
    );
}

#[test]
fn overrides_merge_mappings_and_replace_lists() {
    let yaml = "\
stages:
  t:
    cmd: base
    deps: [a, b]
    outs: [\"${m}.out\"]
    params: {opt: {lr: 1, wd: 0}, layers: [1, 2]}
    matrix:
      m:
        one:
        two:
          cmd: other ${m}
          deps: [c]
          outs+: [\"${m}.log\"]
          params: {opt: {lr: 2}, layers: [3]}
";
    assert_eq!(
        lines(yaml),
        [
            r#"t@one: cmd "base"; a b -> one.out; {"layers":[1,2],"opt":{"lr":1,"wd":0}}"#,
            r#"t@two: cmd "other two"; c -> two.out two.log; {"layers":[3],"opt":{"lr":2,"wd":0}}"#,
        ]
    );
}

#[test]
fn later_dimensions_override_earlier_ones() {
    let yaml = "\
stages:
  t:
    cmd: x
    matrix:
      a:
        p: {params: {v: 1, a: p}, deps+: [p]}
      b:
        q: {params: {v: 2}, deps+: [q], mutex+: gpu}
";
    assert_eq!(lines(yaml), [r#"t@p_q: cmd "x"; p q -> ; {"a":"p","v":2}"#]);
    assert_eq!(stage(yaml).mutex, ["gpu"]);
}

#[test]
fn a_dimension_alone_keeps_its_type_in_params() {
    let yaml = "\
stages:
  t:
    cmd: run --lr ${lr} $${HOME} $HOME
    cwd: work/${fold}
    mutex: gpu${fold}
    params: {lr: \"${lr}\", text: \"lr=${lr}\", plain: 3, list: [\"${fold}\"], name: \"${variant}\"}
    resources:
      cpus: ${fold}
    matrix: {lr: [1e-3, 0.10], fold: [2]}
";
    let stages = stages(yaml);
    assert_eq!(
        shown(&stages[0]),
        r#"t@1e-3_2: cmd "run --lr 1e-3 ${HOME} $HOME";  -> ; {"list":[2],"lr":0.001,"name":"1e-3_2","plain":3,"text":"lr=1e-3"}"#
    );
    assert_eq!(stages[0].cwd.as_ref().unwrap().as_str(), "work/2");
    assert_eq!(stages[0].mutex, ["gpu2"]);
    assert_eq!(stages[0].resources["cpus"], 2);
    assert_eq!(stages[1].name.as_str(), "t@0.10_2");
    assert!(stages[1].params.canonical().contains(r#""lr":0.1,"#));
}

#[test]
fn the_last_dimension_is_the_fastest() {
    let yaml = "stages:\n  t:\n    cmd: x\n    matrix: {a: [1, 2], b: [true, no], c: [x, y]}\n";
    let names: Vec<_> = stages(yaml).iter().map(|stage| stage.name.to_string()).collect();
    let expected =
        ["1_true_x", "1_true_y", "1_no_x", "1_no_y", "2_true_x", "2_true_y", "2_no_x", "2_no_y"];
    assert_eq!(names, expected.map(|variant| format!("t@{variant}")));
}

#[test]
fn variants_are_a_list_of_named_overrides() {
    let yaml = "\
stages:
  t:
    python: m.f
    deps: [in]
    outs: [\"${variant}.pkl\"]
    params: {n: 1}
    variants:
      - name: small
      - {name: big, params: {n: 9}, deps+: [more]}
";
    assert_eq!(
        lines(yaml),
        [
            r#"t@small: python m.f; in -> small.pkl; {"n":1}"#,
            r#"t@big: python m.f; in more -> big.pkl; {"n":9}"#,
        ]
    );
}

#[test]
fn outputs_have_options_in_two_forms() {
    let kind = |out: &Out| (out.path.to_string(), out.kind.clone(), out.cache);
    let plain = |path: &str, cache| (path.to_owned(), OutKind::Plain, cache);
    let plot = |x: Option<&str>, y: Option<&str>, template: Option<&str>| OutKind::Plot {
        x: x.map(str::to_owned),
        y: y.map(str::to_owned),
        template: template.map(str::to_owned),
    };
    let outs = outs(
        "    outs:
    - a
    - b: {cache: false}
    - c:
        cache: false
    - {path: d, cache: false}
    - path: e
      incremental: true
    - f: {incremental: true}
    - path: {cache: false}
    - g:
    metrics:
    - m.json
    - n.json: {cache: true}
    plots:
    - p.csv
    - q.csv: {x: step, y: loss}
    - {path: r, template: confusion, cache: false}
",
    );
    assert_eq!(
        outs.iter().map(kind).collect::<Vec<_>>(),
        [
            plain("a", true),
            plain("b", false),
            plain("c", false),
            plain("d", false),
            ("e".into(), OutKind::Incremental, true),
            ("f".into(), OutKind::Incremental, true),
            plain("path", false),
            plain("g", true),
            ("m.json".into(), OutKind::Metric, false),
            ("n.json".into(), OutKind::Metric, true),
            ("p.csv".into(), plot(None, None, None), true),
            ("q.csv".into(), plot(Some("step"), Some("loss"), None), true),
            ("r".into(), plot(None, None, Some("confusion")), false),
        ]
    );
}

#[test]
fn the_other_keys_of_a_stage() {
    let stage = stage(
        "\
stages:
  s:
    cmd:
      - mkdir -p x
      - run
    cwd: ./sub/
    mutex: [gpu, db, gpu]
    resources: {cpus: 2, memory: 8GB, licence: 1}
    deps:
    params:
",
    );
    assert_eq!(stage.action, Action::Shell { command: "set -e\nmkdir -p x\nrun".into() });
    assert_eq!(stage.cwd.unwrap().as_str(), "sub");
    assert_eq!(stage.mutex, ["gpu", "db"]);
    let resources: Vec<_> = stage.resources.iter().map(|(name, &n)| (name.as_str(), n)).collect();
    assert_eq!(resources, [("cpus", 2), ("licence", 1), ("memory", 8_000_000_000)]);
    assert!(stage.deps.is_empty() && stage.params.is_empty());
}

#[test]
fn defaults_are_shared_by_anchors() {
    let yaml = "\
x-defaults: &defaults
  mutex: gpu
  params: {n: 1}
stages:
  a: {<<: *defaults, cmd: x}
  b: {<<: *defaults, cmd: y, params: {n: 2}}
";
    let stages = stages(yaml);
    assert_eq!(shown(&stages[0]), r#"a: cmd "x";  -> ; {"n":1}"#);
    assert_eq!(shown(&stages[1]), r#"b: cmd "y";  -> ; {"n":2}"#);
    assert_eq!(stages[1].mutex, ["gpu"]);
}

#[test]
fn every_mistake_has_its_message() {
    let table = include_str!("mistakes.txt");
    let mut wrong = String::new();
    for case in table.split("\n=====\n") {
        let (yaml, expected) = case.split_once("\n-----\n").expect("a case has two parts");
        let actual = match pipeline(&format!("{yaml}\n")) {
            Ok(_) => "no error".to_owned(),
            Err(error) => printed(&error),
        };
        if actual != expected.trim_end() {
            write!(wrong, "\n{yaml}\n----- expected\n{expected}\n----- actual\n{actual}\n")
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_large_definition_takes_little_time() {
    let mut yaml = String::from("stages:\n");
    for n in 0..20_000 {
        let dep = if n == 0 { "raw".to_owned() } else { format!("out/{}", n - 1) };
        writeln!(yaml, "  s{n}:\n    cmd: x\n    deps: [{dep}]\n    outs: [out/{n}]").unwrap();
    }
    let started = std::time::Instant::now();
    assert_eq!(pipeline(&yaml).unwrap().graph().len(), 20_000);
    // A second in a debug build on a busy machine; quadratic would be minutes.
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

#[test]
fn a_large_matrix_takes_little_time() {
    let values: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    let values = values.join(", ");
    let yaml = format!(
        "stages:\n  t:\n    cmd: x ${{a}} ${{b}}\n    outs: [\"o/${{a}}/${{b}}\"]\n    matrix: {{a: [{values}], b: [{values}]}}\n"
    );
    assert_eq!(stages(&yaml).len(), 90_000);
}

#[test]
fn a_template_cannot_blow_up() {
    let long = "v".repeat(190);
    let values: Vec<_> = (0..1000).map(|n| format!("{n}{long}")).collect();
    let command = "${a}".repeat(20_000);
    let yaml =
        format!("stages:\n  t:\n    cmd: {command}\n    matrix: {{a: [{}]}}\n", values.join(", "));
    let error = pipeline(&yaml).unwrap_err();
    assert!(error.to_string().ends_with("have more than 512 MiB of text together"), "{error}");
}
