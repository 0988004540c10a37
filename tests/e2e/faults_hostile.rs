//! What others wrote is data: it leads nowhere outside, holds nothing up, and gives nothing away.

use std::ffi::CString;
use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::support::{Project, project};

const COPY: &str = "stages: {copy: {cmd: cp a b, deps: [a], outs: [b]}}";

fn make_fifo(project: &Project, path: &str) {
    let path = CString::new(project.path(path).to_str().unwrap()).unwrap();
    // SAFETY: the string ends with a null byte and lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
}

/// Runs `pivot ARGUMENTS`, which must end by itself: a hung one would hang the test.
fn ends(project: &Project, arguments: &str) -> crate::support::Finished {
    project.start(arguments).finish()
}

#[test]
fn a_named_pipe_is_never_waited_for() {
    for path in ["a", "pivot.yaml", "params.yaml", ".pivot/config.yaml"] {
        let project = project().file("pivot.yaml", COPY).file("a", "1");
        project.pivot("run").succeeds();
        if project.exists(path) {
            project.remove(path);
        }
        make_fifo(&project, path);
        for command in ["run", "status"] {
            let named = if path == "pivot.yaml" { "has no pipeline" } else { path };
            let _ = ends(&project, command).does_not_say("panicked").exits(1).says(named);
        }
    }
    for path in [
        ".pivot/stages/copy.lock",
        ".pivot/state.lmdb/data.mdb",
        ".pivot/state.lmdb/seal",
        ".pivot/state.lmdb",
        "b",
    ] {
        let project = project().file("pivot.yaml", COPY).file("a", "1");
        project.pivot("run").succeeds();
        project.remove(path);
        make_fifo(&project, path);
        ends(&project, "run").succeeds();
        assert_eq!(project.read("b"), "1", "with a named pipe at {path}");
    }
}

#[test]
fn a_socket_is_no_output_and_no_dependency() {
    let in_the_way = project().file("pivot.yaml", COPY).file("a", "1");
    let _listener = UnixListener::bind(in_the_way.path("b")).unwrap();
    ends(&in_the_way, "run").succeeds().says(".pivot/saved/b");
    assert_eq!(in_the_way.read("b"), "1");

    let needed = project().file("pivot.yaml", COPY);
    let _listener = UnixListener::bind(needed.path("a")).unwrap();
    ends(&needed, "run").exits(1).says("a socket");
}

#[test]
fn a_manifest_leads_nowhere_outside() {
    let object = |project: &Project, bytes: &[u8]| {
        let hash = format!("{:016x}", xxhash_rust::xxh64::xxh64(bytes, 0));
        let path = project.path(&format!("inner/.pivot/cache/files/{}/{}", &hash[..2], &hash[2..]));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        hash
    };
    let evil = "evil";
    for entries in [
        "f\tHASH\t4\t../victim\n",
        "f\tHASH\t4\tx/../../victim\n",
        "f\tHASH\t4\t/OUTER/victim\n",
        "l\tlink\t..\nf\tHASH\t4\tlink/victim\n",
        "l\tlink\t/OUTER\nf\tHASH\t4\tlink/victim\n",
        "f\tHASH\t4\t.\n",
        "f\tHASH\t4\t\n",
        "f\tHASH\t4\ta\\x00b\n",
    ] {
        let outer = project()
            .file("inner/pivot.yaml", "stages: {make: {cmd: 'mkdir d; echo 1 >d/x', outs: [d]}}")
            .file("victim", "precious");
        outer.pivot("-C inner run").succeeds();
        let hash = object(&outer, evil.as_bytes());
        let root = outer.root().to_str().unwrap();
        let entries = entries.replace("HASH", &hash).replace("/OUTER", root);
        let manifest = object(&outer, format!("pivot directory 1\n{entries}").as_bytes());
        let lock = outer.read("inner/.pivot/stages/make.lock");
        let (before, out) = lock.split_once("path: d, hash: '").unwrap();
        assert_eq!(out.len(), "0123456789abcdef', size: 2, files: 1}\n".len(), "{lock}");
        let lock = format!("{before}path: d, hash: '{manifest}', size: 4, files: 1}}\n");
        outer.write("inner/.pivot/stages/make.lock", &lock);
        outer.remove("inner/d");
        let finished = outer.pivot("-C inner run").does_not_say("panicked").succeeds();
        assert_eq!(outer.read("victim"), "precious", "{entries}: {finished}");
        assert_eq!(outer.files_in("inner/d"), ["inner/d/x"], "{entries}: {finished}");
    }
}

#[test]
fn damage_through_a_link_to_an_object_is_found() {
    let large = "x".repeat(5 << 20);
    for mode in ["auto", "hardlink", "symlink", "copy"] {
        let project = project()
            .file("data", &large)
            .file(".pivot/config.yaml", &format!("cache: {{checkout_mode: {mode}}}\n"))
            .file(
                "pivot.yaml",
                "\
stages:
  make: {cmd: cp data made, deps: [data], outs: [made]}
  spoil:
    cmd: 'if [ -e spoil ]; then chmod -R u+w .pivot/cache; printf y | dd of=made conv=notrunc 2>/dev/null; fi; echo >spoilt'
    deps: [made]
    outs: [spoilt]
",
            );
        project.pivot("run").succeeds();
        project.write("spoil", "");
        project.pivot("run -f -s spoil").exits(1).says("its dependency `made` changed");
        project.remove("spoil");
        // It is named, and made again by the next run at the latest.
        let named = project.pivot("run");
        if project.read("made") != large {
            let _ = named.exits(1).says("is damaged");
        }
        project.pivot("run").succeeds();
        assert_eq!(project.read("made").len(), large.len(), "with {mode}");
        assert!(project.read("made") == large, "a damaged object was used, with {mode}");
        project.remove("made");
        project.pivot("run").succeeds();
        assert!(project.read("made") == large, "a damaged object was restored, with {mode}");
    }
}

#[test]
fn broken_settings_are_named_and_kept() {
    let bomb = {
        let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ('b'..='j').zip('a'..) {
            let many = vec![format!("*{last}"); 9].join(", ");
            text += &format!("{this}: &{this} [{many}]\n");
        }
        text
    };
    let texts = [
        bomb,
        "core: {jobs: 1}\ncore: {jobs: 2}\n".to_owned(),
        "core:\n\tjobs: 1\n".to_owned(),
        "core: {jobs: 0}\n".to_owned(),
        "core: {jobs: many}\n".to_owned(),
        "core: {durability: maybe}\n".to_owned(),
        "<<<<<<< HEAD\npython: a\n=======\npython: b\n>>>>>>> x\n".to_owned(),
        "[".repeat(100_000),
        "a: ".repeat(50_000),
    ];
    for text in texts {
        let project = project().file("pivot.yaml", COPY).file("a", "1");
        project.write(".pivot/config.yaml", &text);
        let started = Instant::now();
        let finished = project.pivot("run").exits(1).says("--> .pivot/config.yaml:");
        assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
        let length = finished.does_not_say("panicked").stderr().len();
        assert!(length < 2000, "{length} bytes are told");
        assert_eq!(project.read(".pivot/config.yaml"), text);
    }
}

#[test]
fn secrets_of_the_environment_are_written_nowhere() {
    let secret = "very-secret-value-4711";
    let project = project().env("API_TOKEN", secret).file(
        "pipeline.py",
        r#"
import os
from pivot import stage

TOKEN = os.environ["API_TOKEN"]

@stage(outs=["out.txt"])
def use(out):
    assert os.environ["API_TOKEN"] and os.getenv("API_TOKEN") == TOKEN
    open(out, "w").write("done")
    if os.path.exists("fail"):
        raise ValueError("no")
"#,
    );
    let _ = project.pivot("run --explain").succeeds().does_not_say(secret);
    let _ = project.pivot("run").succeeds().does_not_say(secret);
    project.write("fail", "");
    let _ = project.pivot("run --force").exits(1).does_not_say(secret);
    let _ = project.pivot("status --explain").succeeds().does_not_say(secret);
    for file in project.files_in(".pivot") {
        let bytes = fs::read(project.path(&file)).unwrap();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{file} holds the secret");
    }
}

#[test]
fn a_chain_of_20_000_stages() {
    let count = 20_000;
    let stage = |n: usize| {
        format!("  s{n}: {{cmd: cp f{n} f{}, deps: [f{n}], outs: [f{}]}}\n", n + 1, n + 1)
    };
    let stages: String = (0..count).map(stage).collect();
    let project = project().file("pivot.yaml", &format!("stages:\n{stages}")).file("f0", "1");
    let planned = project.pivot("run -n").succeeds();
    assert_eq!(planned.stdout().matches("WILL RUN").count(), count);
    // The first one fails: all others are told to wait for it, and nobody is asked again.
    project.replace("pivot.yaml", "cp f0 f1,", "'false',");
    let failed = project.pivot("run").exits(1);
    assert_eq!(failed.counts(), "20000 stages: 1 failed, 19999 not started ([time])");

    project.replace("pivot.yaml", "deps: [f0]", &format!("deps: [f{count}]"));
    let cycle = project.pivot("run").exits(1).says("s0");
    assert!(cycle.stderr().len() < 2000, "{} bytes are told", cycle.stderr().len());
}
