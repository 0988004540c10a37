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
    assert_eq!(outputs("warm"), [first, second, third]);
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
    for executor in ["spawn", "warm"] {
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
    error: `core.executor`: `cold` is not one of warm, spawn
      --> .pivot/config.yaml:1:18
    ");
}
