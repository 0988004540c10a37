//! What is told when Python code is at fault: the user's frames, and none of ours.

use crate::support::{Finished, Project, project};

fn no_frames_of_ours(finished: Finished) -> Finished {
    finished
        .does_not_say("pivot/_")
        .does_not_say("importlib")
        .does_not_say("__main__.py")
        .does_not_say("panicked")
}

/// What was told, without the place where this machine keeps its Python.
fn told(finished: &Finished) -> String {
    let text = finished.errors();
    let is_python = |word: &str| word.starts_with('/') && word.contains("/bin/python");
    let words = text.split('`').map(|word| if is_python(word) { "[python]" } else { word });
    words.collect::<Vec<_>>().join("`")
}

fn yaml_project() -> Project {
    project().file(
        "pivot.yaml",
        "\
stages:
  train:
    python: stages.train
    outs: [model.pkl]
",
    )
}

#[test]
fn a_module_that_is_not_there() {
    insta::assert_snapshot!(told(&no_frames_of_ours(yaml_project().pivot("run").exits(1))), @r"
    exit: 1
    error: stage `train`: there is no module `stages`
      --> pivot.yaml:2
    hint: the project has no `stages.py` or `stages/`, and no package `stages` is installed for `[python]`; if it is a package: `[python]`
    ");
}

#[test]
fn a_function_that_is_not_there() {
    let project = yaml_project().file("stages.py", "def trian(out):\n    pass\n");
    insta::assert_snapshot!(told(&no_frames_of_ours(project.pivot("run").exits(1))), @r"
    exit: 1
    error: stage `train`: `stages` has no `train`; did you mean `trian`?
      --> pivot.yaml:2
    hint: `stages` is `stages.py`
    ");
}

#[test]
fn an_import_that_fails() {
    let project = project()
        .file("pipeline.py", "from pivot import stage\nfrom steps import prepare\n")
        .file("steps.py", "import no_such_library\n\ndef prepare():\n    pass\n");
    insta::assert_snapshot!(told(&no_frames_of_ours(project.pivot("run").exits(1))), @r#"
    exit: 1
    error: cannot import `pipeline.py`: ModuleNotFoundError: No module named 'no_such_library'
      --> steps.py:1
    Traceback (most recent call last):
      File "[root]/pipeline.py", line 2, in <module>
        from steps import prepare
      File "[root]/steps.py", line 1, in <module>
        import no_such_library
    ModuleNotFoundError: No module named 'no_such_library'
    hint: the project has no `no_such_library.py` or `no_such_library/`, and no package `no_such_library` is installed for `[python]`; if it is a package: `[python]`
    "#);
}

#[test]
fn a_pipeline_that_raises_while_it_is_imported() {
    let project = project().file(
        "pipeline.py",
        "\
from pivot import stage

def read():
    return {}['key']

read()
",
    );
    insta::assert_snapshot!(told(&no_frames_of_ours(project.pivot("run").exits(1))), @r#"
    exit: 1
    error: cannot import `pipeline.py`: KeyError: 'key'
      --> pipeline.py:4
    Traceback (most recent call last):
      File "[root]/pipeline.py", line 6, in <module>
        read()
      File "[root]/pipeline.py", line 4, in read
        return {}['key']
    KeyError: 'key'
    "#);
}

#[test]
fn a_syntax_error() {
    let project =
        project().file("pipeline.py", "from pivot import stage\n\ndef broken(:\n    pass\n");
    let finished = no_frames_of_ours(project.pivot("run").exits(1));
    finished.says("pipeline.py:3").says("SyntaxError");
}

#[test]
fn a_pipeline_that_ends_python_while_it_is_imported() {
    for end in ["sys.exit(3)", "os._exit(0)", "os.kill(os.getpid(), 9)"] {
        let project = project().file("pipeline.py", &format!("import os, sys\n{end}\n"));
        no_frames_of_ours(project.pivot("run").exits(1)).says("error: ");
    }
}

#[test]
fn a_wrong_declaration() {
    let declare = |arguments: &str| {
        let text =
            format!("from pivot import stage\n\n\n@stage({arguments})\ndef train(a):\n    pass\n");
        no_frames_of_ours(project().file("pipeline.py", &text).pivot("run").exits(1)).errors()
    };
    insta::assert_snapshot!(declare("dep=['a']"), @r"
    exit: 1
    error: `stage` has no argument `dep`; did you mean `deps`?
      --> pipeline.py:4
    ");
    insta::assert_snapshot!(declare("deps='a.csv'"), @r"
    exit: 1
    error: stage `train`: `deps` must be a list of paths, not 'a.csv'
      --> pipeline.py:4
    hint: write `deps=['a.csv']`
    ");
    insta::assert_snapshot!(declare("outs=['../a']"), @r"
    exit: 1
    error: `../a` cannot be an output of stage `train`: it contains `..`
      --> pipeline.py:4
    hint: write it relative to the project's root, inside the project
    ");
    insta::assert_snapshot!(declare("outs=['pipeline.py']"), @r"
    exit: 1
    error: stage `train` cannot write `pipeline.py`: it defines the pipeline
      --> pipeline.py:4
    hint: give the stage another output
    ");
    insta::assert_snapshot!(declare("outs=['a'], name='a b'"), @r"
    exit: 1
    error: `a b` cannot be a stage's name
      --> pipeline.py:4
    hint: a name has up to 200 letters from A to Z, digits, `_`, `-` and `.`, and does not start with `-` or `.`; give one with `name=...`
    ");
}

#[test]
fn a_stage_that_raises() {
    let project = project().file(
        "pipeline.py",
        r#"
from pivot import stage


def divide(a, b):
    return a / b


@stage(outs=["out.txt"])
def train(out):
    print("about to divide")
    divide(1, 0)
"#,
    );
    insta::assert_snapshot!(no_frames_of_ours(project.pivot("run")), @r#"
    exit: 1
    1 stage: 1 failed ([time])
    --- stderr
    run   train: No previous run
    FAIL  train: ZeroDivisionError: division by zero
    --- the end of what `train` printed
    about to divide
    ---
    Traceback (most recent call last):
      File "[root]/pipeline.py", line 12, in train
        divide(1, 0)
      File "[root]/pipeline.py", line 6, in divide
        return a / b
    ZeroDivisionError: division by zero
    "#);
    assert!(!project.has_lock("train"));
}

#[test]
fn a_stage_that_raises_from_another_exception() {
    let project = project().file(
        "pipeline.py",
        r#"
from pivot import stage


@stage(outs=["out.txt"])
def train(out):
    try:
        open("no-such-file")
    except OSError as error:
        raise RuntimeError("no data") from error
"#,
    );
    let finished = no_frames_of_ours(project.pivot("run").exits(1));
    finished.says("RuntimeError: no data").says("FileNotFoundError").says("direct cause");
}

#[test]
fn no_python_at_all() {
    let project = yaml_project().file("stages.py", "def train(out): pass\n").file("empty/x", "");
    let empty = project.path("empty").display().to_string();
    let project = project.env("PATH", &empty).env("HOME", &empty).env("PYENV_ROOT", &empty);
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: no Python was found
    hint: activate a virtual environment, make one in `.venv`, or name an interpreter with `--python`
    ");
}

#[test]
fn a_python_that_is_too_old() {
    use std::os::unix::fs::PermissionsExt;

    // It ends as the helper's first lines do where they find an old Python.
    let project = yaml_project().file("stages.py", "def train(out): pass\n");
    project.write("old-python", "#!/bin/sh\nexit 64\n");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(project.path("old-python"), executable).unwrap();
    insta::assert_snapshot!(project.pivot("--python ./old-python run").errors(), @r"
    exit: 1
    error: `[root]/old-python` is too old: Pivot needs Python 3.10 or newer
    hint: name a newer one with `--python`, or activate a newer virtual environment
    ");
}

#[test]
fn a_python_that_cannot_run() {
    let project = yaml_project().file("stages.py", "def train(out): pass\n");
    insta::assert_snapshot!(project.pivot("--python no/such/python run").errors(), @r"
    exit: 1
    error: cannot run the Python named by `--python`: `[root]/no/such/python`
    hint: name the interpreter that runs your stages
    ");
    let project = project.env("PIVOT_PYTHON", "/no/such/python");
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: cannot run the Python named by `PIVOT_PYTHON`: `/no/such/python`
    hint: name the interpreter that runs your stages
    ");
}
