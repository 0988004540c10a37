//! Stages that behave badly: the run ends with a verdict that names them.

use crate::support::{Project, eventually, is_alive, project};

const EXECUTORS: [&str; 3] = ["warm", "spawn", "reuse"];

/// A pipeline with one stage of this body, and an innocent one.
fn stage_that(body: &str) -> Project {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    project().file(
        "pipeline.py",
        &format!(
            r#"
import ctypes
import os
import subprocess
import sys

from pivot import stage


@stage(outs=["out.txt"])
def bad(out):
{body}

@stage(outs=["good.txt"])
def good(out):
    leaked = [
        os.path.basename(os.getcwd()) == "elsewhere",
        os.environ["PATH"] == "",
        os.umask(0o022) == 0o777,
        sys.argv == ["leaked"],
        sys.stdout is None,
        hasattr(sys, "leaked"),
    ]
    open(out, "w").write(str(leaked) if any(leaked) else "right")
"#
        ),
    )
}

/// Runs both stages, of which `bad` must fail and `good` must not, with each executor.
fn fails(body: &str, says: &[&str]) {
    for executor in EXECUTORS {
        let project = stage_that(body);
        let finished = project.pivot(&format!("run -k -j 1 --executor {executor}")).exits(1);
        assert!(!project.has_lock("bad") && !project.exists("out.txt"), "{executor}: {finished}");
        assert_eq!(project.read("good.txt"), "right", "{executor}");
        let length = finished.stderr().len();
        assert!(length < 300_000, "{executor}: {length} bytes are told");
        let finished = finished.does_not_say("panicked");
        says.iter().fold(finished, |finished, text| finished.says(text));
    }
}

/// Runs both stages, which must succeed, with each executor; `check` looks at what `bad` wrote.
fn succeeds(body: &str, check: impl Fn(&Project)) {
    for executor in EXECUTORS {
        let project = stage_that(body);
        project.pivot(&format!("run -j 1 --executor {executor}")).succeeds();
        assert_eq!(project.read("good.txt"), "right", "{executor}");
        check(&project);
    }
}

#[test]
fn a_segmentation_fault() {
    let says = ["FAIL  bad: was killed by signal 11 (segmentation fault)"];
    fails("open(out, 'w').write('half')\nctypes.string_at(0)", &says);
}

#[test]
fn a_kill_from_outside() {
    fails("os.kill(os.getpid(), 9)", &["FAIL  bad: was killed by signal 9"]);
}

#[test]
fn an_exit_in_the_middle() {
    let half = "open(out, 'w').write('half')\nos._exit(0)";
    fails(half, &["FAIL  bad: ended without a result"]);
    fails("os._exit(7)", &["FAIL  bad: ended with exit code 7"]);
    fails("sys.exit('no more')", &["FAIL  bad: ", "no more"]);
}

#[test]
fn an_exit_that_says_that_all_is_well() {
    succeeds("open(out, 'w').write('all')\nsys.exit(0)", |project| {
        assert_eq!(project.read("out.txt"), "all");
    });
}

#[test]
fn an_exit_waits_for_threads_like_any_end() {
    let body = r#"
import threading, time
def append():
    time.sleep(0.2)
    with open(out, 'a') as file:
        file.write(', appended')
with open(out, 'w') as file:
    file.write('written')
threading.Thread(target=append).start()
sys.exit(0)
"#;
    succeeds(body, |project| {
        assert_eq!(project.read("out.txt"), "written, appended");
        let again = project.pivot("run").succeeds();
        assert_eq!(again.counts(), "2 stages: 2 unchanged ([time])");
    });
}

#[test]
fn the_loss_of_the_process_that_stages_are_forked_from() {
    let body = r#"
child = subprocess.Popen(['sleep', '1000'])
with open('child.pid', 'w') as file:
    file.write(f'{child.pid}')
os.kill(os.getppid(), 9)
child.wait()
"#;
    let project = stage_that(body);
    let finished = project.pivot("run -k -j 1 --executor warm").exits(1);
    finished.says("FAIL  bad: was lost").does_not_say("panicked");
    assert_eq!(project.read("good.txt"), "right");
    let child = project.read("child.pid").parse().unwrap();
    eventually("what the stage started is ended", || !is_alive(child));
}

#[test]
fn prints_of_any_kind() {
    let body = r#"
sys.stdout.buffer.write(bytes(range(256)) * 10)
sys.stdout.buffer.write(b'{"type": "result", "ok": false}\n')
print("no newline at the end", end="")
open(out, "w").write("done")
"#;
    succeeds(body, |project| {
        assert_eq!(project.read("out.txt"), "done");
        project.pivot("run -f --json --show-output").succeeds().json_lines();
    });
}

#[test]
fn fifty_megabytes_of_prints() {
    succeeds("for _ in range(50_000):\n    print('x' * 999)\nopen(out, 'w').close()", |project| {
        let log = std::fs::metadata(project.path(".pivot/logs/bad.log")).unwrap();
        assert_eq!(log.len(), 50_000_000);
    });
}

#[test]
fn megabytes_of_prints_before_a_failure() {
    let body = r#"
print('x' * 5_000_000)
for n in range(50_000):
    print(n)
raise ValueError('y' * 1_000_000)
"#;
    fails(body, &["49999", "ValueError"]);
}

#[test]
fn standard_input_is_empty() {
    succeeds("open(out, 'w').write(repr(sys.stdin.read()))", |project| {
        assert_eq!(project.read("out.txt"), "''");
    });
}

#[test]
fn a_child_that_stays_behind_is_ended_with_the_stage() {
    let body = "child = subprocess.Popen(['sleep', '1000'])\nopen(out, 'w').write(f'{child.pid}')";
    succeeds(body, |project| {
        let child = project.read("out.txt").parse().unwrap();
        assert!(!is_alive(child), "it is left running");
    });
}

#[test]
fn a_daemon_that_leaves_its_session_is_ended_with_the_stage() {
    let body = r#"
child = subprocess.Popen(['sleep', '600'], start_new_session=True)
open(out, 'w').write(f'{child.pid}')
"#;
    succeeds(body, |project| {
        let child = project.read("out.txt").parse().unwrap();
        assert!(!is_alive(child), "it is left running");
    });
}

#[test]
fn closed_descriptors() {
    let body = "os.close(0)\nos.close(1)\nos.close(2)\nopen(out, 'w').write('done')";
    succeeds(body, |project| assert_eq!(project.read("out.txt"), "done"));
}

#[test]
fn nothing_leaks_from_a_stage_into_the_next() {
    let body = r#"
os.mkdir('elsewhere')
os.chdir('elsewhere')
os.umask(0o777)
os.environ['PATH'] = ''
sys.argv[:] = ['leaked']
sys.stdout = None
sys.leaked = True
"#;
    succeeds(&format!("open(out, 'w').close()\n{body}"), |_| {});
}

#[test]
fn a_function_that_would_do_nothing_is_refused() {
    let finished = stage_that("yield 1").pivot("run").exits(1);
    insta::assert_snapshot!(finished.errors(), @r"
    exit: 1
    error: stage `bad` is a generator function, and calling it would run nothing
      --> pipeline.py:10
    hint: write the outputs in the function, without `yield`
    ");
}

#[test]
fn an_exception_whose_text_cannot_be_made() {
    let body =
        "class Odd(Exception):\n    def __str__(self):\n        raise RuntimeError\nraise Odd";
    fails(body, &["FAIL  bad: ", "Odd"]);
}

#[test]
fn a_library_sees_the_environment_that_the_pipeline_sets_before_importing_it() {
    let site = project()
        .file("library.py", "import os\nTHREADS = os.environ.get('LIBRARY_THREADS', 'many')\n")
        .file("library-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: library\nVersion: 1\n")
        .file("library-1.dist-info/RECORD", "library.py,,\n");
    let project = project().env("PYTHONPATH", &site.root().display().to_string()).file(
        "pipeline.py",
        r#"
import os
os.environ["LIBRARY_THREADS"] = "1"
import library
from pivot import stage

@stage(outs=["out.txt"])
def count(out):
    open(out, "w").write(library.THREADS)
"#,
    );
    for executor in ["warm", "spawn", "reuse"] {
        project.pivot(&format!("run -f --executor {executor}")).succeeds();
        assert_eq!(project.read("out.txt"), "1", "{executor}");
    }
}
