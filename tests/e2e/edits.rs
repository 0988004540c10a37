//! After the edit of a function's body nothing is imported, and the answer is what an import gives.

use crate::support::{Project, project};

/// Tells on standard error when it is imported.
const PIPELINE: &str = r#"
import sys

from pivot import Pipeline

import helpers

print("imported", file=sys.stderr)

pipeline = Pipeline()


def note(name):
    with open("ran.log", "a") as file:
        file.write(name + "\n")


def first(out="first.txt"):
    note("first")
    with open(out, "w") as file:
        file.write(str(helpers.triple(4)))


def second(out="second.txt"):
    note("second")
    with open(out, "w") as file:
        file.write(str([helpers.TABLE, helpers.SIZE > 0, helpers.kept.__name__]))


pipeline.add_stage(first, outs=["first.txt"])
pipeline.add_stage(second, outs=["second.txt"])
"#;

const HELPERS: &str = r#"
def triple(x):
    """Three of them."""
    total = 0
    for _ in range(3):
        total += x * 1
    return total


def unused(x):
    return x + 10


def at_import(x):
    return x + 20


def measured(x):
    return x + 30


def registry(function):
    function.size = len(function.__name__)
    return function


@registry
def kept(x):
    return x + 40


TABLE = [at_import(1)]
SIZE = len(measured.__code__.co_code)
"#;

fn ran_project() -> Project {
    let project = project().file("pipeline.py", PIPELINE).file("helpers.py", HELPERS);
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["first", "second"]);
    project
}

/// Whether the Python of the tests tells which code has started, without which all is imported.
fn is_observable() -> bool {
    let asks = ["-c", "import sys; sys.exit(sys.version_info < (3, 11))"];
    std::process::Command::new("python3").args(asks).status().is_ok_and(|status| status.success())
}

/// Runs after an edit: which stages ran, and whether something was imported to find out. That a
/// look at everything anew comes to the same is checked as well.
fn after(project: &Project, old: &str, new: &str) -> (Vec<String>, bool) {
    project.replace("helpers.py", old, new);
    let plan = project.pivot("run -n").succeeds();
    let has_imported = plan.stderr().contains("imported");
    project.pivot("run").succeeds();
    let ran = project.ran();
    project.remove(".pivot/state.lmdb");
    assert_eq!(project.pivot("run").succeeds().counts(), NOTHING, "{old} -> {new}");
    (ran, has_imported)
}

const NOTHING: &str = "2 stages: 2 unchanged ([time])";

#[test]
fn a_body_needs_no_import() {
    let project = ran_project();
    let is_observable = is_observable();
    for (old, new, ran) in [
        ("x * 1", "x * 2", &["first"][..]),
        ("x * 2", "x ** 2", &["first"]),
        ("range(3)", "range(x)", &["first"]),
        ("x + 10", "x + 11", &[]),
        ("return x + 11", "print(x)     ", &[]),
    ] {
        assert_eq!(after(&project, old, new), (to_strings(ran), !is_observable), "{old} -> {new}");
    }
}

#[test]
fn anything_else_is_imported() {
    for (old, new, ran) in [
        ("x + 20", "x + 21", &["second"][..]),
        ("x + 30", "x + 31 - x", &["second"]),
        ("x + 40", "x + 41", &["second"]),
        ("total += x * 1", "total += abs(x)", &["first"]),
        ("Three of them", "Three times it", &[]),
        ("def triple(x):", "def triple(x, y=1):", &["first"]),
        ("def unused(x):", "def unused(y=0, x=1):", &[]),
        ("    return total\n\n", "    return total\ntotal = 5\n", &[]),
        ("    return x + 10\n", "    return x + 10\n\n", &[]),
    ] {
        let project = ran_project();
        let (stages, has_imported) = after(&project, old, new);
        assert_eq!(stages, to_strings(ran), "{old} -> {new}");
        assert!(has_imported, "{old} -> {new}");
    }
}

#[test]
fn who_has_seen_a_file_otherwise_is_asked_again() {
    const TOOLS: &str = "def helper(x):\n    y = x * 2\n    return y\n";
    let hook = "import sys\n\
                from importlib.machinery import PathFinder, SourceFileLoader\n\
                SIZES = {}\n\
                class Loader(SourceFileLoader):\n    \
                    def get_data(self, path):\n        \
                        data = super().get_data(path)\n        \
                        SIZES[self.name] = len(data)\n        \
                        return data\n\
                class Finder:\n    \
                    @staticmethod\n    \
                    def find_spec(name, path=None, target=None):\n        \
                        spec = PathFinder.find_spec(name, path)\n        \
                        if name == 'tools':\n            \
                            spec.loader = Loader(name, spec.origin)\n        \
                        return spec\n\
                sys.meta_path.insert(0, Finder)\n";
    let sizes = "SIZE = sorted(e.stat().st_size for e in os.scandir('.') if e.name == 'tools.py')";
    let compiled = "import py_compile\n\
                    SIZE = os.path.getsize(py_compile.compile('tools.py', 'tools.bin'))";
    for (first, size) in [
        ("import tools", "SIZE = len(tools.__loader__.get_source('tools'))"),
        ("import tools", "SIZE = len(tools.__loader__.get_data(tools.__file__))"),
        ("import tools", sizes),
        ("import tools", "import posix; SIZE = posix.stat('tools.py').st_size"),
        ("import tools", "SIZE = len(open('link.py').read())"),
        ("import tools", compiled),
        ("import hook, tools", "SIZE = hook.SIZES['tools']"),
    ] {
        let pipeline = format!(
            "import os, sys\nfrom pivot import stage\n{first}\n{size}\n\n\
             @stage(outs=['o.txt'])\ndef work(o):\n    open(o, 'w').write(str(SIZE))\n"
        );
        let project = project().file("pipeline.py", &pipeline).file("tools.py", TOOLS);
        let project = project.file("hook.py", hook);
        std::os::unix::fs::symlink("tools.py", project.path("link.py")).unwrap();
        project.pivot("run").succeeds();
        project.replace("tools.py", "x * 2", "x * 31 + 5 * x");
        let counts = project.pivot("run").succeeds().counts();
        assert_eq!(counts, "1 stage: 1 ran ([time])", "{first}; {size}");
    }
}

#[test]
fn all_bytes_of_declared_code_count() {
    let pipeline = "from pivot import stage\nimport package.module\n\n\
                    @stage(outs=['o.txt'], code_deps=['package'])\ndef work(o):\n    \
                    open(o, 'w').write('1')\n";
    let project = project().file("pipeline.py", pipeline).file("package/__init__.py", "");
    let project = project.file("package/module.py", "def f(x):\n    return x * 2\n");
    project.pivot("run").succeeds();
    project.replace("package/module.py", "x * 2", "x * 3");
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 ran ([time])");
}

#[test]
fn an_error_in_a_body_is_told() {
    let project = ran_project();
    project.replace("helpers.py", "return x + 10", "return x + + ");
    project.pivot("run -n").exits(1).says("helpers.py:11");
    project.replace("helpers.py", "return x + + ", "return x + 12");
    assert_eq!(project.pivot("run").succeeds().counts(), NOTHING);
}

fn to_strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
