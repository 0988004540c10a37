//! Which stages the arguments of a command mean.

use crate::support::{Project, project};

fn new_project() -> Project {
    project().file(
        "pivot.yaml",
        "\
stages:
  load: {cmd: 'echo >raw.txt', outs: [raw.txt]}
  train:
    cmd: cp raw.txt ${size}/model.bin
    deps: [raw.txt]
    outs: ['${size}/model.bin']
    matrix: {size: [small, large]}
  tune: {cmd: cp raw.txt tuned.txt, deps: [raw.txt], outs: [tuned.txt]}
",
    )
}

#[test]
fn names_bases_patterns_and_outputs_select_with_all_that_is_needed() {
    let cases = [
        ("", &["load", "train@small", "train@large", "tune"][..]),
        ("tune", &["load", "tune"]),
        ("train", &["load", "train@small", "train@large"]),
        ("train@large", &["load", "train@large"]),
        ("t*", &["load", "train@small", "train@large", "tune"]),
        ("*@small tune", &["load", "train@small", "tune"]),
        ("small/model.bin", &["load", "train@small"]),
        ("./tuned.txt", &["load", "tune"]),
        ("-s train", &["train@small", "train@large"]),
        ("-s tune tune", &["tune"]),
    ];
    let project = new_project();
    project.write("raw.txt", "");
    for (arguments, expected) in cases {
        let plan = project.pivot(&format!("run -n --json {arguments}")).succeeds().json();
        let stages = plan["stages"].as_array().unwrap();
        let names: Vec<&str> =
            stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "run {arguments}");
    }
}

#[test]
fn an_unknown_stage_is_an_error_with_a_suggestion() {
    let project = new_project();
    insta::assert_snapshot!(project.pivot("run trian").errors(), @r"
    exit: 1
    error: there is no stage `trian`
    hint: did you mean `train`?
    ");
    insta::assert_snapshot!(project.pivot("run xyzzy").errors(), @r"
    exit: 1
    error: there is no stage `xyzzy`
    hint: `pivot list` shows all stages
    ");
    insta::assert_snapshot!(project.pivot("run x*").errors(), @r"
    exit: 1
    error: there is no stage `x*`
    hint: `pivot list` shows all stages
    ");
    insta::assert_snapshot!(project.pivot("run train@smal").errors(), @r"
    exit: 1
    error: there is no stage `train@smal`
    hint: did you mean `train@small`?
    ");
    assert!(!project.exists(".pivot/stages"));
}
