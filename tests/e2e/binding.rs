//! Which values a stage's function is called with.

use crate::support::project;

#[test]
fn arguments_are_bound_in_the_documented_order() {
    let project = project().file("a.txt", "").file("b.txt", "").file(
        "pipeline.py",
        r#"
from pivot import Variant, stage

@stage.matrix([Variant("v1")], deps=["a.txt", "b.txt"], outs=["out.txt"],
              params={"rate": 0.5, "depth": 3})
def show(first, depth, second, target, variant, mode="quick", rate=0.1):
    with open(target, "w") as file:
        print(first, depth, second, target, variant, mode, rate, file=file)
"#,
    );
    project.pivot("run").succeeds();
    assert_eq!(project.read("out.txt"), "a.txt 3 b.txt out.txt v1 quick 0.5\n");
}

#[test]
fn params_may_be_taken_as_one_mapping() {
    let project = project().file(
        "pipeline.py",
        r#"
from pivot import stage

@stage(outs=["out.txt"], params={"lr": 0.01, "layers": [1, 2], "nested": {"a": 1}})
def show(out, params):
    with open(out, "w") as file:
        print(type(params).__name__, params["lr"], params["layers"], params["nested"], file=file)
"#,
    );
    project.pivot("run").succeeds();
    assert_eq!(project.read("out.txt"), "dict 0.01 [1, 2] {'a': 1}\n");
}

#[test]
fn remaining_params_go_to_keyword_arguments() {
    let project = project().file(
        "pipeline.py",
        r#"
from pivot import stage

@stage(outs=["out.txt"], params={"lr": 0.01, "seed": 7})
def show(out, lr, **rest):
    with open(out, "w") as file:
        print(lr, rest, file=file)
"#,
    );
    project.pivot("run").succeeds();
    assert_eq!(project.read("out.txt"), "0.01 {'seed': 7}\n");
}

#[test]
fn an_argument_without_a_value_is_an_error_before_anything_runs() {
    let project = project().file("data.txt", "").file(
        "pipeline.py",
        r#"
from pivot import stage

@stage(deps=["data.txt"], outs=["out.txt"])
def show(data, out, more):
    pass
"#,
    );
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: stage `show`: argument `more` of `show` has no value
      --> pipeline.py:4
    hint: dependencies and outputs are passed in order, and the stage declares only 2 of them; add one, or give `more` a default, or declare a param `more`
    ");
    assert!(!project.exists(".pivot/stages/show.lock"));
}

#[test]
fn the_order_of_dependencies_is_part_of_what_runs() {
    let project = project().file("a.txt", "A").file("b.txt", "B").file(
        "pipeline.py",
        r#"
from pivot import stage

@stage(deps=["a.txt", "b.txt"], outs=["out.txt"])
def join(first, second, out):
    with open(out, "w") as file:
        file.write(open(first).read() + open(second).read())
"#,
    );
    project.pivot("run").succeeds();
    assert_eq!(project.read("out.txt"), "AB");
    project.replace("pipeline.py", r#""a.txt", "b.txt""#, r#""b.txt", "a.txt""#);
    project.pivot("run").succeeds();
    assert_eq!(project.read("out.txt"), "BA");
}
