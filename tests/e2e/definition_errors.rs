//! A wrong pivot.yaml: what is wrong, where, and what to do.

use crate::support::{Finished, project};

fn run(yaml: &str) -> Finished {
    let project = project()
        .file("pivot.yaml", yaml)
        .file("a.txt", "precious")
        .file(".git/config", "precious");
    let finished = project.pivot("run").exits(1);
    assert_eq!(project.read("a.txt"), "precious");
    assert_eq!(project.read(".git/config"), "precious");
    assert_eq!(project.read("pivot.yaml"), yaml);
    assert_eq!(project.files_in(".pivot/stages"), [""; 0]);
    finished
}

#[test]
fn broken_yaml() {
    insta::assert_snapshot!(run("stages:\n  train: {cmd: [x\n").errors(), @r"
    exit: 1
    error: this is not YAML: unclosed bracket '['
      --> pivot.yaml:2:16
    ");
    insta::assert_snapshot!(run("stages:\n\ttrain: {}\n").errors(), @r"
    exit: 1
    error: this is not YAML: a tab stands where only spaces may
      --> pivot.yaml:2:1
    hint: indent with spaces
    ");
    insta::assert_snapshot!(run("stages: {}\nstages: {}\n").errors(), @r"
    exit: 1
    error: the key `stages` occurs twice in this mapping
      --> pivot.yaml:2:1
      --> pivot.yaml:1:1
    hint: remove one of the two, or give it another name
    ");
    insta::assert_snapshot!(run("").errors(), @r"
    exit: 1
    error: the file defines no `stages`
      --> pivot.yaml:1:1
    hint: define them as `stages: {NAME: {python: module.function}}`
    ");
    insta::assert_snapshot!(run("- a\n- b\n").errors(), @r"
    exit: 1
    error: the file must be a mapping with `stages`, but it is a list
      --> pivot.yaml:1:1
    ");
}

#[test]
fn unknown_and_repeated_keys() {
    insta::assert_snapshot!(run("stages:\n  train:\n    cmd: x\n    dependencies: [a]\n").errors(), @r"
    exit: 1
    error: unknown key `dependencies` in stage `train`
      --> pivot.yaml:4:5
    hint: did you mean `deps`?
    ");
    insta::assert_snapshot!(run("stages:\n  train:\n    cmd: x\n    ots: [a]\n").errors(), @r"
    exit: 1
    error: unknown key `ots` in stage `train`
      --> pivot.yaml:4:5
    hint: did you mean `outs`?
    ");
    insta::assert_snapshot!(run("stages:\n  train: {cmd: x}\n  train: {cmd: y}\n").errors(), @r"
    exit: 1
    error: the key `train` occurs twice in this mapping
      --> pivot.yaml:3:3
      --> pivot.yaml:2:3
    hint: remove one of the two, or give it another name
    ");
    insta::assert_snapshot!(run("stags:\n  train: {cmd: x}\n").errors(), @r"
    exit: 1
    error: unknown key `stags` in the file
      --> pivot.yaml:1:1
    hint: did you mean `stages`?
    ");
}

#[test]
fn values_of_a_wrong_type() {
    insta::assert_snapshot!(run("stages:\n  train:\n    cmd: x\n    outs: model.pkl\n").errors(), @r"
    exit: 1
    error: `outs` of stage `train` must be a list of paths, but it is a string
      --> pivot.yaml:4:11
    hint: begin each item with `- `, or put brackets around them
    ");
    insta::assert_snapshot!(run("stages:\n  train:\n    cmd: x\n    outs: [1]\n").errors(), @r"
    exit: 1
    error: the path of an output of stage `train` must be a string, but it is an integer
      --> pivot.yaml:4:12
    hint: put it in quotes
    ");
    insta::assert_snapshot!(run("stages:\n  train:\n    deps: [a.txt]\n").errors(), @r"
    exit: 1
    error: stage `train` has nothing to run
      --> pivot.yaml:2:3
    hint: add `python: module.function` or `cmd: …`
    ");
    insta::assert_snapshot!(run("stages:\n  train: {cmd: x, python: a.b}\n").errors(), @r"
    exit: 1
    error: stage `train` has both `python` and `cmd`
      --> pivot.yaml:2:19
      --> pivot.yaml:2:11
    hint: keep one of them, or make two stages
    ");
}

#[test]
fn names_that_cannot_be_file_names() {
    insta::assert_snapshot!(run("stages:\n  ../train: {cmd: x}\n").errors(), @r"
    exit: 1
    error: `../train` is not a stage name: `/` is not a letter, a digit or one of `_-.@`
      --> pivot.yaml:2:3
    hint: stage names are made of letters, digits and `_-.@`
    ");
    insta::assert_snapshot!(run("stages:\n  'a b': {cmd: x}\n").errors(), @r"
    exit: 1
    error: `a b` is not a stage name: ` ` is not a letter, a digit or one of `_-.@`
      --> pivot.yaml:2:3
    hint: stage names are made of letters, digits and `_-.@`
    ");
}

#[test]
fn variables_of_a_matrix_that_stand_for_nothing() {
    insta::assert_snapshot!(run("stages:\n  train:\n    cmd: x\n    outs: ['${modle}.pkl']\n    matrix: {model: [a, b]}\n").errors(), @r"
    exit: 1
    error: `${modle}` stands for nothing in stage `train@a`
      --> pivot.yaml:4:12
    hint: did you mean `${model}`?
    ");
}

#[test]
fn outputs_that_would_destroy_something() {
    for path in [
        ".",
        "./",
        ".git",
        ".git/config",
        ".pivot",
        ".pivot/cache",
        "pivot.yaml",
        "../x",
        "/tmp/x",
        "a/../..",
    ] {
        let finished = run(&format!("stages:\n  train:\n    cmd: 'true'\n    outs: ['{path}']\n"));
        let errors = finished.errors();
        assert!(errors.contains("--> pivot.yaml:"), "no place for {path:?}:\n{errors}");
        assert!(errors.contains("hint: "), "no hint for {path:?}:\n{errors}");
    }
    insta::assert_snapshot!(run("stages:\n  train:\n    cmd: x\n    outs: [.]\n").errors(), @r"
    exit: 1
    error: `.` cannot be an output of stage `train`: it is the project itself
      --> pivot.yaml:4:12
    hint: name a file or a folder inside the project
    ");
    insta::assert_snapshot!(run("stages:\n  train:\n    cmd: x\n    outs: [.git]\n").errors(), @r"
    exit: 1
    error: stage `train` cannot write `.git`: it belongs to Git
      --> pivot.yaml:2:3
    hint: give the stage another output
    ");
}

#[test]
fn an_output_through_a_link_that_leaves_the_project() {
    let outside = project().file("victim/x", "precious");
    let project =
        project().file("pivot.yaml", "stages: {make: {cmd: 'echo >link/x', outs: [link/x]}}");
    std::os::unix::fs::symlink(outside.path("victim"), project.path("link")).unwrap();
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    FAIL  make: may not write its output `link/x`: the link `link` leads out of the project
    hint: make `link` a real folder, or give the stage another output
    ");
    assert_eq!(outside.read("victim/x"), "precious");
    assert!(project.files_in(".pivot/saved").is_empty());
}

#[test]
fn stages_that_write_the_same() {
    insta::assert_snapshot!(run("stages:\n  one: {cmd: x, outs: [m]}\n  two: {cmd: x, outs: [./m]}\n").errors(), @r"
    exit: 1
    error: stages `one` and `two` both write `m`
      --> pivot.yaml:3:3
      --> pivot.yaml:2:3
    hint: give one of them another output, or merge the two stages
    ");
    insta::assert_snapshot!(run("stages:\n  one: {cmd: x, outs: [m]}\n  two: {cmd: x, outs: [m/x]}\n").errors(), @r"
    exit: 1
    error: stage `two` writes `m/x` inside `m`, which stage `one` writes
      --> pivot.yaml:3:3
      --> pivot.yaml:2:3
    hint: write to a folder of its own, or let one stage write all of it
    ");
}

#[test]
fn stages_that_need_themselves() {
    insta::assert_snapshot!(run("stages:\n  one: {cmd: x, deps: [a.txt], outs: [a.txt]}\n").errors(), @r"
    exit: 1
    error: stage `one` both reads and writes `a.txt`
      --> pivot.yaml:2:3
    hint: remove it from the deps; an incremental output is there when the stage starts
    ");
    insta::assert_snapshot!(run("stages:\n  one: {cmd: x, deps: [b], outs: [a]}\n  two: {cmd: x, deps: [a], outs: [b]}\n").errors(), @r"
    exit: 1
    error: stages need one another in a circle: `one` -> `two` -> `one`
      --> pivot.yaml:2:3
      --> pivot.yaml:3:3
    hint: `one` writes `a`, which `two` reads; one such link must go
    ");
}

#[test]
fn dependencies_that_are_not_there() {
    insta::assert_snapshot!(run("stages:\n  one: {cmd: x, deps: [data/raw.csv, a.txt], outs: [b]}\n").errors(), @r"
    exit: 1
    error: a dependency is missing, and no selected stage writes it
      `data/raw.csv`, which stage `one` reads (pivot.yaml:2:3)
    hint: add the file, or correct the path in the stage's dependencies
    ");
}

#[test]
fn no_pipeline_at_all() {
    insta::assert_snapshot!(project().pivot("run").errors(), @r"
    exit: 1
    error: no pipeline found in `[root]` or a folder above it
    hint: `pivot init` makes a first pipeline here; a project elsewhere is named with -C
    ");
    insta::assert_snapshot!(project().file(".pivot/config.yaml", "").pivot("run").errors(), @r"
    exit: 1
    error: the project `[root]` has no pipeline
    hint: create a pivot.yaml or a pipeline.py there
    ");
}

#[test]
fn a_misspelt_setting() {
    let project = project()
        .file("pivot.yaml", "stages: {one: {cmd: 'true'}}")
        .file(".pivot/config.yaml", "cache:\n  checkout_mod: copy\n");
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: `cache.checkout_mod`: there is no such setting; expected one of dir, checkout_mode
      --> .pivot/config.yaml:2:3
    ");
    assert_eq!(project.read(".pivot/config.yaml"), "cache:\n  checkout_mod: copy\n");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let inner = format!("*a{}, ", level - 1).repeat(9);
        yaml.push_str(&format!("a{level}: &a{level} [{}]\n", inner.trim_end_matches(", ")));
    }
    insta::assert_snapshot!(run(&yaml).errors(), @r"
    exit: 1
    error: the aliases of the file stand for too much text
      --> pivot.yaml:6:9
    hint: write the values out
    ");
}
