//! `--executor=interpreter`: stages in interpreters of their own, and where they run otherwise.
//!
//! What needs Python 3.14 is tested where there is one: see `python_with_interpreters`.

use std::process::Command;

use crate::support::{Project, is_alive, library_python, project, python_with_interpreters};

/// Stages that report what they find, and change all of it for whoever comes after.
const PIPELINE: &str = r#"
import json
import os
import sys
import threading

import shared
from pivot import stage


def report(out):
    found = {
        "folder": os.path.basename(os.getcwd()) == os.path.basename(ROOT),
        "environment": os.environ.get("LEAKED"),
        "modules": shared.SEEN,
        "recursion": sys.getrecursionlimit(),
        "mask": os.umask(0o022),
        "threads": threading.active_count(),
    }
    kept = open(out, "w")
    shared.KEPT.append(kept)
    kept.write(json.dumps(found))
    os.umask(0o077)
    os.environ["LEAKED"] = out
    sys.setrecursionlimit(5000)
    shared.SEEN.append(out)
    os.chdir("/")


ROOT = os.getcwd()


@stage(outs=["a.json", "where.txt"])
def a(out, where):
    with open(where, "w") as file:
        file.write(str(threading.current_thread() is threading.main_thread()))
    report(out)


@stage(deps=["a.json"], outs=["b.json"])
def b(source, out):
    report(out)


@stage(deps=["b.json"], outs=["c.json"])
def c(source, out):
    print("printed by c")
    report(out)
"#;

fn with_interpreters() -> Option<Project> {
    let python = python_with_interpreters()?;
    Some(project().env("PIVOT_PYTHON", &python.display().to_string()))
}

/// A pipeline with one stage, `odd`, that has this body.
fn one_stage(body: &str) -> Option<Project> {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    let pipeline = format!(
        "import os, signal, sys, threading, time\nfrom pivot import stage\n\n\
         @stage(outs=['out.txt'])\ndef odd(out):\n{body}"
    );
    Some(with_interpreters()?.file("pipeline.py", &pipeline))
}

#[test]
fn stages_write_what_they_write_under_spawn() {
    let Some(project) = with_interpreters() else { return };
    let project = project.file("pipeline.py", PIPELINE).file("shared.py", "SEEN = []\nKEPT = []\n");
    let outputs = |executor: &str| {
        let finished = project.pivot(&format!("run -f -j 1 --executor {executor}")).succeeds();
        assert!(!finished.stderr().contains("note:"), "{finished}");
        assert_eq!(project.read(".pivot/logs/c.log"), "printed by c\n");
        ["a.json", "b.json", "c.json", "where.txt"].map(|path| project.read(path))
    };
    assert_eq!(outputs("interpreter"), outputs("spawn"));
    let finished = project.pivot("run --executor interpreter").succeeds();
    assert!(finished.stdout().contains("3 unchanged"), "{finished}");
    project.write("shared.py", "SEEN = [1]\nKEPT = []\n");
    let finished = project.pivot("run --executor interpreter").succeeds();
    assert!(finished.stdout().contains("3 ran"), "an edit is seen: {finished}");
    assert!(project.read("b.json").contains("\"modules\": [1]"), "{}", project.read("b.json"));
}

#[test]
fn a_stage_that_an_interpreter_refuses_runs_warm() {
    for (body, why) in [
        // It is imported in the middle, as nobody can know of it before.
        ("import readline", "`readline` cannot be loaded in an interpreter of its own"),
        ("try:\n    import tracemalloc\nexcept ImportError:\n    pass", "`_tracemalloc`"),
        ("if os.fork() == 0: os._exit(0)\nos.wait()", "fork not supported"),
        ("threading.Thread(target=print, daemon=True).start()", "daemon threads are disabled"),
        ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "`odd` needs more than"),
    ] {
        let body = format!(
            "with open('count', 'a') as f: f.write('x')\n{body}\nopen(out, 'w').write('done')"
        );
        let Some(project) = one_stage(&body) else { return };
        for attempts in ["xx", "xxx"] {
            let finished = project.pivot("run -f --executor interpreter").succeeds();
            let told: Vec<&str> =
                finished.stderr().lines().filter(|l| l.contains("note:")).collect();
            assert_eq!(told.len(), 1, "{body}\n{finished}");
            assert!(told[0].contains(why) && told[0].contains("--executor warm"), "{finished}");
            assert_eq!(finished.stderr().matches("run   odd").count(), 1, "{finished}");
            assert_eq!(project.read("out.txt"), "done");
            assert_eq!(project.read("count"), attempts, "what was refused is remembered: {body}");
        }
    }
}

#[test]
fn a_package_that_cannot_be_loaded_is_found_before_the_stage_begins() {
    let Some(project) = with_interpreters() else { return };
    // What stands for a compiled module here is one of the standard library that a package imports.
    let site = project.path("site-packages").display().to_string();
    let project = project
        .file("site-packages/compiled/__init__.py", "import readline\n")
        .file("site-packages/compiled-1.0.dist-info/METADATA", "Name: compiled\nVersion: 1.0\n")
        .file("site-packages/compiled-1.0.dist-info/RECORD", "compiled/__init__.py,sha256=a,16\n")
        .env("PYTHONPATH", &site)
        .file(
            "pipeline.py",
            r#"
from pivot import stage

@stage(outs=["a.txt"])
def a(out):
    open("count", "a").write("x")
    import compiled
    open(out, "w").write(compiled.__name__)

@stage(outs=["b.txt"])
def b(out):
    open(out, "w").write("b")
"#,
        );
    let finished = project.pivot("run -j 1 --executor interpreter").succeeds();
    assert!(finished.stderr().contains("note: `readline` cannot be loaded"), "{finished}");
    assert_eq!(project.read("count"), "x");
    assert_eq!(project.read("a.txt"), "compiled");
}

#[test]
fn a_stage_that_fails_in_an_interpreter_fails() {
    let Some(project) = one_stage("print('before')\nraise ValueError('no')") else { return };
    let finished = project.pivot("run --executor interpreter").exits(1);
    insta::assert_snapshot!(finished.errors(), @r#"
    exit: 1
    run   odd: No previous run
    FAIL  odd: ValueError: no
    --- the end of what `odd` printed
    before
    ---
    Traceback (most recent call last):
      File "[root]/pipeline.py", line 7, in odd
        raise ValueError('no')
    ValueError: no
    "#);
    for (body, expected) in [
        ("os.abort()", "signal 6"),
        ("os._exit(0)", "without a result"),
        ("sys.exit(3)", "sys.exit(3)"),
        ("os.kill(os.getpid(), 9)", "signal 9"),
        ("os.closerange(0, 200)", "did not write"),
    ] {
        let Some(project) = one_stage(body) else { return };
        let finished = project.pivot("run --executor interpreter").exits(1);
        assert!(finished.stderr().contains(expected), "{body}\n{finished}");
    }
}

#[test]
fn a_stage_in_an_interpreter_is_stopped() {
    let body = "open('pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(100)";
    let Some(project) = one_stage(body) else { return };
    let finished = project.pivot("run --executor interpreter --timeout 1s").exits(1);
    assert!(finished.stderr().contains("1s"), "{finished}");
    let pid = project.wait_for_pid("pid");
    assert!(!is_alive(pid));
    project.remove("pid");
    let running = project.start("run --executor interpreter");
    let pid = project.wait_for_pid("pid");
    running.signal(libc::SIGINT);
    let _ = running.finish().exits(130);
    assert!(!is_alive(pid) && !project.exists("out.txt"));
}

#[test]
fn python_without_interpreters_runs_warm() {
    let project = project().with_libraries().file(
        "pipeline.py",
        r#"
from pivot import stage

@stage(outs=["a.txt"])
def a(out):
    open(out, "w").write("a")

@stage(outs=["b.txt"])
def b(out):
    open(out, "w").write("b")
"#,
    );
    let finished = project.pivot("run -j 1 --executor interpreter").succeeds();
    let told = finished.stderr().matches("as with `--executor warm`").count();
    let is_able = python_version() >= (3, 14);
    assert_eq!(told, usize::from(!is_able), "one line for all stages: {finished}");
}

/// The version of the Python that the tests use.
fn python_version() -> (u32, u32) {
    let mut python = Command::new(library_python());
    let output = python.args(["-c", "import sys; print(*sys.version_info[:2])"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (major, minor) = text.trim().split_once(' ').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}
