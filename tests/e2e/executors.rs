//! Executors differ in speed alone: the same pipeline gives the same bytes under each.

use crate::support::project;

/// Every stage reports what it finds, and changes all of it for whoever comes after.
const PIPELINE: &str = r#"
import decimal
import json
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings

from pivot import stage
from shared import COUNTER, Table


def report(out):
    found = {
        "cwd": os.path.basename(os.getcwd()) == os.path.basename(ROOT),
        "environ": os.environ.get("LEAKED"),
        "argv": sys.argv,
        "path": [os.path.basename(path) for path in sys.path[:3]].count("leaked"),
        "counter": list(COUNTER),
        "patched": Table.name,
        "random": random.Random(7).random(),
        "level": logging.getLogger().level,
        "handlers": len(logging.getLogger().handlers),
        "umask": os.umask(0o022),
        "precision": decimal.getcontext().prec,
        "limit": sys.getrecursionlimit(),
        "filters": any(item[0] == "error" for item in warnings.filters),
        "signal": signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL,
        "threads": threading.active_count(),
        "stdout": sys.stdout is sys.__stdout__,
        "order": list({"a", "b", "c", "d", "e"}),
        "leaked": hasattr(sys, "leaked"),
    }
    with open(out, "w") as file:
        json.dump(found, file, indent=1)


ROOT = os.getcwd()


def mutate():
    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")
    os.environ["LEAKED"] = "yes"
    sys.argv[:] = ["leaked"]
    sys.path.insert(0, "/leaked")
    COUNTER.append(1)
    Table.name = "patched"
    random.seed(3)
    logging.basicConfig(level=logging.DEBUG)
    os.umask(0o077)
    decimal.getcontext().prec = 5
    sys.setrecursionlimit(500)
    warnings.simplefilter("error")
    signal.signal(signal.SIGUSR1, lambda *_: None)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    sys.leaked = True
    sys.stdout = open(os.devnull, "w")


@stage(outs=["a.json"])
def a(out):
    report(out)
    mutate()


@stage(deps=["a.json"], outs=["b.json"])
def b(source, out):
    report(out)
    mutate()


@stage(deps=["b.json"], outs=["c.json"])
def c(source, out):
    report(out)
"#;

#[test]
fn outputs_are_the_same_bytes_under_each_executor() {
    let project = project()
        .file("pipeline.py", PIPELINE)
        .file("shared.py", "COUNTER = []\n\n\nclass Table:\n    name = 'table'\n");
    let outputs = |executor: &str| {
        project.pivot(&format!("run -f -j 1 --executor {executor}")).succeeds();
        ["a.json", "b.json", "c.json"].map(|path| project.read(path))
    };
    let [first, second, third] = outputs("spawn");
    assert!(first == second && second == third, "a fresh process knew of another:\n{second}");
    let outputs_of_spawn = [first, second, third];
    for executor in ["warm", "reuse"] {
        assert_eq!(outputs(executor), outputs_of_spawn, "{executor}");
    }
}

#[test]
fn what_a_stage_leaves_open_is_written_under_each_executor() {
    let project = project().file(
        "pipeline.py",
        r#"
import gzip
from pivot import stage

KEPT = []


class Broken:
    """Fails whoever looks at it."""

    closed = property(lambda self: 1 / 0)


@stage(outs=["open.txt", "lines.txt", "packed.gz"])
def left(text, lines, packed):
    KEPT.append(Broken())
    KEPT.append(open(text, "w"))
    KEPT[-1].write("left open")
    KEPT.append(open(lines, "wb"))
    KEPT[-1].write(b"a buffer")
    KEPT.append(gzip.open(packed, "wt"))
    KEPT[-1].write("packed")
    KEPT[-1].flush()
"#,
    );
    for executor in ["spawn", "warm", "reuse"] {
        project.pivot(&format!("run -f --executor {executor}")).succeeds();
        assert_eq!(project.read("open.txt"), "left open", "under {executor}");
        assert_eq!(project.read("lines.txt"), "a buffer", "under {executor}");
    }
}

#[test]
fn the_configuration_says_how_stages_are_executed_unless_the_command_line_does() {
    let project = project().file(
        "pipeline.py",
        r#"
import os
from pivot import stage

@stage(outs=["kind.txt"])
def kind(out):
    # In a fork, the process is not the one that was started with these arguments.
    with open(f"/proc/{os.getppid()}/cmdline") as file:
        is_fork = "--fd" in file.read()
    open(out, "w").write("warm" if is_fork else "spawn")
"#,
    );
    let executor = |arguments: &str| {
        project.pivot(&format!("run -f {arguments}")).succeeds();
        project.read("kind.txt")
    };
    assert_eq!(executor(""), "warm");
    project.write(".pivot/config.yaml", "core: {executor: spawn}\n");
    assert_eq!(executor(""), "spawn");
    assert_eq!(executor("--executor warm"), "warm");

    project.write(".pivot/config.yaml", "core: {executor: cold}\n");
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    error: `core.executor`: `cold` is not one of warm, spawn, reuse, interpreter
      --> .pivot/config.yaml:1:18
    ");
}

/// Three stages, one after the other, that write which process they ran in; `body` is what the
/// second does besides.
fn processes_of(body: &str) -> Vec<u32> {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    let project = project().file(
        "pipeline.py",
        &format!(
            r#"
import atexit, os, subprocess, sys, threading
from pivot import stage

def tell(out):
    open(out, "w").write(str(os.getpid()))

@stage(outs=["1.txt"])
def first(out):
    tell(out)

@stage(deps=["1.txt"], outs=["2.txt"])
def second(source, out):
    tell(out)
{body}

@stage(deps=["2.txt"], outs=["3.txt"])
def third(source, out):
    tell(out)
"#
        ),
    );
    project.pivot("run -j 1 --executor reuse").succeeds();
    ["1.txt", "2.txt", "3.txt"].map(|path| project.read(path).parse().unwrap()).into()
}

#[test]
fn processes_are_reused_where_nothing_is_left_of_a_stage() {
    for body in [
        "pass",
        "os.chdir('/')\nos.environ['X'] = '1'\nsys.path.insert(0, '/')",
        "with open('2.txt') as file, subprocess.Popen(['true']) as child:\n    child.wait()",
        "thread = threading.Thread(target=print)\nthread.start()\nthread.join()",
    ] {
        let [first, second, third] = processes_of(body)[..] else { unreachable!() };
        assert!(first == second && second == third, "{body}");
    }
}

#[test]
fn a_process_with_something_left_of_a_stage_is_not_reused() {
    for body in [
        "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "threading.Thread(target=threading.Event().wait, args=(0.05,)).start()",
        "subprocess.Popen(['sleep', '1000'])",
        "os.dup(0)",
        "os.nice(1)",
        "atexit.register(print)",
    ] {
        let [first, second, third] = processes_of(body)[..] else { unreachable!() };
        assert!(first == second && second != third, "{body}");
    }
}

#[test]
fn nothing_goes_wrong_in_the_process_that_stages_are_forked_from() {
    // A stage does without what could not be prepared there, only slower.
    for (file, text) in [
        ("pipeline.py", "from pivot import stage\n@stage(outs=['o'])\ndef f(o): open(o, 'w')\n"),
        ("pivot.yaml", "stages: {f: {python: stages.f, outs: [o]}}\n"),
    ] {
        let project = project().file(file, text).file("stages.py", "def f(o): open(o, 'w')\n");
        project.pivot("run").succeeds();
        assert_eq!(project.read(".pivot/logs/.warm.log"), "", "{file}");
    }
}

#[test]
fn what_the_end_of_a_process_does_is_done_under_each_executor() {
    let project = project().file(
        "pipeline.py",
        r#"
import atexit
from pivot import stage

kept = []

@stage(outs=["end.txt", "open.txt"])
def ends(end, out):
    atexit.register(lambda: open(end, "w").write("at the end"))
    kept.append(open(out, "w"))
    kept[0].write("left open")

@stage(deps=["end.txt"], outs=["late.txt"])
def left_open(source, out):
    kept.append(open(out, "w"))
    kept[0].write("left open")
"#,
    );
    for executor in ["warm", "spawn", "reuse"] {
        project.pivot(&format!("run -f -j 1 --executor {executor}")).succeeds();
        let found = ["end.txt", "open.txt", "late.txt"].map(|path| project.read(path));
        assert_eq!(found, ["at the end", "left open", "left open"], "{executor}");
    }
}
