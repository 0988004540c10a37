//! Transfers where something stands in the way: no space, no descriptors, a wrong clock, a proxy.

use std::fs;

use crate::faults_limits::{text, with_limit, with_small_cache};
use crate::s3_server::{S3Server, URL};
use crate::support::{Project, project};

/// A project whose output of 3 MiB in many files is on the server, and nowhere else.
fn only_there(server: &S3Server) -> Project {
    let project = server.added_to(project().file(
        "pivot.yaml",
        "stages: {make: {cmd: 'cp -r source out', deps: [source], outs: [out]}}\n",
    ));
    for n in 0..100 {
        project.write(&format!("source/{n}"), &n.to_string());
    }
    project.write("source/large", &"0123456789abcdef".repeat(200_000));
    project.pivot("run").succeeds();
    project.pivot("push").succeeds();
    forget(&project);
    project
}

fn forget(project: &Project) {
    for path in [".pivot/cache", ".pivot/state.lmdb", "out"] {
        project.remove(path);
    }
}

fn pulls_all(project: &Project) {
    project.pivot("pull").succeeds();
    assert_eq!(project.read("out/99"), "99");
    assert_eq!(project.read("out/large").len(), 3_200_000);
}

#[test]
fn a_disk_that_is_full_in_a_pull() {
    let server = S3Server::start();
    let project = only_there(&server);
    let Some(output) = with_small_cache(&project, &project.command("pull")) else { return };
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(!said.contains("leftover ") && !said.contains("panicked"), "{said}");
    assert!(!project.exists("out"));
    pulls_all(&project);
}

#[test]
fn files_that_may_not_become_large_in_a_pull() {
    let server = S3Server::start();
    let project = only_there(&server);
    let output = with_limit(project.command("pull"), libc::RLIMIT_FSIZE, 1_000_000).output();
    let output = output.unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("File too large") && !said.contains("panicked"), "{said}");
    assert!(!project.exists("out"));
    pulls_all(&project);
}

#[test]
fn few_descriptors_in_a_transfer() {
    let server = S3Server::start();
    let project = only_there(&server);
    let mut failed = 0;
    for limit in [8, 12, 16, 20, 28, 40, 64] {
        let output = with_limit(project.command("pull"), libc::RLIMIT_NOFILE, limit).output();
        let output = output.unwrap();
        let said = text(&output);
        assert!(!said.contains("panicked"), "with {limit} descriptors: {said}");
        match output.status.code() {
            Some(0) => {}
            Some(1) => {
                failed += 1;
                // The certificates of the system are files too.
                let is_told = ["Too many open files", "install `ca-certificates`"];
                let is_told = is_told.iter().any(|words| said.contains(words));
                assert!(is_told, "with {limit} descriptors: {said}");
            }
            code => panic!("exit code {code:?} with {limit} descriptors: {said}"),
        }
        pulls_all(&project);
        forget(&project);
    }
    assert!(failed > 0, "no limit was too low");
}

#[test]
fn a_directory_that_is_gone() {
    let project = crate::sharing::ran_project();
    project.pivot("push").succeeds();
    for path in [".pivot/cache", ".pivot/state.lmdb", "clean.txt", "model", "copy.txt"] {
        project.remove(path);
    }
    fs::rename(project.path("remote"), project.path("away")).unwrap();
    project
        .pivot("pull")
        .exits(1)
        .says("there is no directory `[root]/remote`: is its disk there?")
        .does_not_say("where the stage was run");
    assert!(!project.exists("remote"));
    fs::rename(project.path("away"), project.path("remote")).unwrap();
    project.pivot("pull").succeeds();
}

#[test]
fn a_clock_that_is_wrong() {
    let server = S3Server::start();
    let project = only_there(&server);
    server.refuse("/bucket/", 403, "RequestTimeTooSkewed");
    for command in ["pull", "doctor --remote"] {
        project
            .pivot(command)
            .exits(1)
            .says("403 RequestTimeTooSkewed")
            .says("hint: the clock of this machine is wrong");
    }
}

#[test]
fn a_bucket_that_may_not_be_read() {
    let server = S3Server::start();
    let project = only_there(&server);
    server.refuse("/bucket/", 403, "AccessDenied");
    for command in ["pull", "fetch", "status --remote", "doctor --remote"] {
        project.pivot(command).exits(1).says("403").does_not_say("the remote has no object");
    }
    server.forget();
    pulls_all(&project);
}

/// The server takes the requests of a proxy, which name the whole URL, for its own.
#[test]
fn the_way_through_a_proxy() {
    let server = S3Server::start();
    let project = only_there(&server).env("HTTP_PROXY", &server.endpoint());
    project.pivot("remote remove origin").succeeds();
    let elsewhere = "http://s3.invalid:9000";
    project.pivot(&format!("remote add origin {URL} --endpoint-url {elsewhere}")).succeeds();
    server.forget();
    pulls_all(&project);
    assert!(server.count("http://s3.invalid:9000/bucket/") > 100);
}

#[test]
fn the_way_around_a_proxy() {
    let server = S3Server::start();
    let project = only_there(&server);
    pulls_all(&project.env("HTTP_PROXY", "http://proxy.invalid").env("NO_PROXY", "127.0.0.1"));
}

#[test]
fn an_address_in_brackets() {
    // Not every machine has one.
    let Some(server) = S3Server::start_at("[::1]:0") else { return };
    assert!(server.endpoint().starts_with("http://[::1]:"));
    pulls_all(&only_there(&server));
}
