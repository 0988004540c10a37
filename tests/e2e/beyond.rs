//! What only shows while a stage runs, and what a shell command executes, counts as its code.

use crate::support::{Project, project};

/// A stage that chooses its module and finds its settings only while it runs.
fn with_plugins() -> Project {
    project()
        .file(
            "pipeline.py",
            r#"
import importlib, json
from pivot import stage

@stage(deps=["in.txt"], outs=["out.txt"])
def build(source, out):
    name = open(source).read().strip()
    plugin = importlib.import_module("plugins." + name)
    settings = json.load(open("settings" + ".json"))
    with open(out, "w") as file:
        file.write(str(plugin.go(settings["x"])))
"#,
        )
        .file("in.txt", "alpha\n")
        .file("settings.json", r#"{"x": 3}"#)
        .file("plugins/alpha.py", "def go(x):\n    return x * 2\n")
        .file("plugins/beta.py", "def go(x):\n    return x * 7\n")
}

#[test]
fn a_module_that_is_chosen_while_the_stage_runs_counts() {
    let project = with_plugins();
    project.pivot("run").succeeds();
    assert_eq!(project.read("out.txt"), "6");
    project.pivot("run").succeeds().says("1 unchanged");

    project.replace("plugins/alpha.py", "x * 2", "x * 5");
    project.pivot("run --explain").succeeds().says("plugins/alpha.py");
    project.pivot("run").succeeds().says("1 ran");
    assert_eq!(project.read("out.txt"), "15");

    project.write("plugins/alpha.py", "# a comment\ndef go(x):\n    return x * 5\n");
    project.pivot("run").succeeds().says("1 unchanged");
    // Which module it will be is not known before, so all that it may be count, and Pivot says so.
    project.replace("plugins/beta.py", "x * 7", "x * 8");
    project
        .pivot("run --explain")
        .succeeds()
        .says("WILL RUN")
        .says("depends on all modules in plugins");
}

#[test]
fn a_file_that_nobody_declared_counts_once_it_was_read() {
    let project = with_plugins();
    project.pivot("run").succeeds();
    project.write("settings.json", r#"{"x": 4}"#);
    project.pivot("run").succeeds().says("1 ran");
    assert_eq!(project.read("out.txt"), "8");
    project.pivot("run").succeeds().says("1 unchanged");
}

#[test]
fn what_a_run_has_shown_travels_with_the_lock() {
    let project = with_plugins();
    project.pivot("run").succeeds();
    let clone = project.cloned_without(&[".pivot/state.lmdb"]);
    clone.pivot("run").succeeds().says("1 unchanged");
    clone.replace("plugins/alpha.py", "x * 2", "x * 9");
    clone.pivot("run").succeeds().says("1 ran");
}

#[test]
fn the_scripts_of_a_shell_command_count_with_what_they_import() {
    let project = project()
        .file(
            "pivot.yaml",
            "
stages:
  a:
    cmd: MODE=x python3 tool.py in.txt > a.txt
    deps: [in.txt]
    outs: [a.txt]
  b:
    cmd: python3 -m pkg < a.txt > b.txt && sh finish.sh
    deps: [a.txt]
    outs: [b.txt]
",
        )
        .file("in.txt", "hi\n")
        .file("tool.py", "import sys, util\nprint(util.double(open(sys.argv[1]).read()))\n")
        .file("util.py", "def double(x):\n    return x * 2\n")
        .file("unused.py", "x = 1\n")
        .file("pkg/__init__.py", "")
        .file("pkg/__main__.py", "import sys\nprint(len(sys.stdin.read()))\n")
        .file("finish.sh", "true\n");
    project.pivot("run").succeeds().says("2 ran");

    project.replace("util.py", "x * 2", "x * 3");
    project.pivot("run --explain").succeeds().says("file:util.py").does_not_say("file:pkg");
    project.pivot("run").succeeds().says("2 ran");
    project.replace("finish.sh", "true", "true true");
    project.pivot("run").succeeds().says("1 ran, 1 unchanged");
    project.replace("pkg/__main__.py", "len(", "1 + len(");
    project.pivot("run").succeeds().says("1 ran, 1 unchanged");

    project.write("util.py", "# a comment\ndef double(x):\n    return x * 3\n");
    project.replace("unused.py", "1", "2");
    project.pivot("run").succeeds().says("2 unchanged");
}

#[test]
fn it_also_counts_after_runs_that_did_nothing() {
    let pipeline = r#"
import os
from pivot import stage

@stage(outs=["out.txt"])
def build(out):
    name = "settings" + ".txt"
    with open(out, "w") as file:
        file.write(open(name).read() + os.environ["MO" + "DE"])
"#;
    let project =
        project().file("pipeline.py", pipeline).file("settings.txt", "1").env("MODE", "a");
    let settle = || {
        for _ in 0..3 {
            project.pivot("run").succeeds().says("1 unchanged");
        }
    };
    project.pivot("run").succeeds().says("1 ran");
    settle();
    project.write("settings.txt", "2");
    project.pivot("run").succeeds().says("1 ran");
    assert_eq!(project.read("out.txt"), "2a");
    settle();
    let output = project.command("run").env("MODE", "b").output().expect("the program starts");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 ran"), "{output:?}");
    assert_eq!(project.read("out.txt"), "2b");
}

#[test]
fn reading_an_output_that_is_no_dependency_is_told_at_once() {
    let project = project().file(
        "pipeline.py",
        r#"
from pivot import stage

@stage(outs=["made.txt"])
def make(out):
    open(out, "w").write("1")

@stage(deps=["made.txt"], outs=["middle.txt"])
def middle(source, out):
    open(out, "w").write("2")

@stage(deps=["middle.txt"], outs=["used.txt"])
def use(source, out):
    open(out, "w").write(open("made.txt").read())
"#,
    );
    let notice = "`use` read `made.txt`, which `make` writes: add it to the deps of `use`";
    project.pivot("run").succeeds().says("3 ran").says(notice);
    project.pivot("run").succeeds().says("3 unchanged");
}
