//! Transfers that are interrupted or killed: what is there is whole, and the next one does the rest.

use std::fs;
use std::time::{Duration, Instant};

use xxhash_rust::xxh64::xxh64;

use crate::caretaking_kills::kill_at_every;
use crate::s3_server::S3Server;
use crate::support::{Project, eventually, is_alive, project};

/// More than two parts of 8 MiB, so that such an upload takes several requests.
const LARGE: &str = "stages: {large: {cmd: 'head -c 18000000 /dev/zero > large', outs: [large]}}\n";
const LARGE_BYTES: u64 = 18_000_000;

/// A stage that wrote a directory with 24 files.
const MANY: &str = "stages: {many: {cmd: 'mkdir out; for i in $(seq 24); do echo $i > out/$i; done', outs: [out]}}\n";
const MANY_OBJECTS: usize = 25;

fn ran(yaml: &str, server: &S3Server) -> Project {
    let project = server.added_to(project().file("pivot.yaml", yaml));
    project.pivot("run --pull never").succeeds();
    project
}

/// All that only this machine knows is gone.
fn forget(project: &Project) {
    for path in ["out", "large", "a.txt", "dir", ".pivot/cache", ".pivot/state.lmdb"] {
        if project.exists(path) {
            project.remove(path);
        }
    }
}

/// Every file under the name of an object has the bytes that hash to it.
fn assert_sound(project: &Project, dir: &str, at: &str) {
    for path in project.files_in(&format!("{dir}/files")) {
        let bytes = fs::read(project.path(&path)).unwrap();
        let name = format!("{:016x}", xxh64(&bytes, 0));
        let is_named = path.ends_with(&format!("{}/{}", &name[..2], &name[2..]));
        assert!(is_named, "{at}: {path} has other bytes");
    }
}

fn small() -> Project {
    let yaml = "stages:\n\
        \x20 a: {cmd: 'echo some >a.txt', outs: [a.txt]}\n\
        \x20 dir: {cmd: 'mkdir dir; echo x >dir/x; ln -s x dir/y', outs: [dir]}\n";
    let config = "remotes: {origin: remote}\ndefault_remote: origin\n";
    let project = project().file("pivot.yaml", yaml).file(".pivot/config.yaml", config);
    project.pivot("run --pull never").succeeds();
    project
}

#[test]
fn a_push_killed_at_any_change_is_taken_up_again() {
    let template = small();
    let prepare = || template.cloned_without(&[]);
    let points = kill_at_every("push -j 1", prepare, |project, at| {
        assert_sound(project, "remote", at);
        // What the killed one believed to have sent is there: this sends what is missing.
        project.pivot("push").succeeds();
        assert_eq!(project.files_in("remote/files").len(), 3, "{at}");
        forget(project);
        project.pivot("pull").succeeds();
        assert_eq!(project.read("dir/y"), "x\n", "{at}");
    });
    assert!(points > 10, "only {points} changes were seen");
}

#[test]
fn a_pull_killed_at_any_change_is_taken_up_again() {
    let template = small();
    template.pivot("push").succeeds();
    forget(&template);
    let prepare = || template.cloned_without(&[]);
    let points = kill_at_every("pull -j 1", prepare, |project, at| {
        assert_sound(project, ".pivot/cache", at);
        project.pivot("pull").succeeds();
        assert_eq!((project.read("a.txt"), project.read("dir/y")), ("some\n".into(), "x\n".into()));
        let left = project.files_in("").into_iter().filter(|path| path.contains("pivot-tmp"));
        assert_eq!(left.count(), 0, "{at}");
    });
    assert!(points > 10, "only {points} changes were seen");
}

#[test]
fn killed_transfers_with_a_server_are_taken_up_again() {
    let server = S3Server::start();
    let project = ran(MANY, &server);
    server.ignore_after(5, "PUT /bucket/team/files/");
    let push = project.start("push -j 2");
    server.wait_until_ignoring();
    push.signal(libc::SIGKILL);
    let _ = push.finish();
    assert!(server.files("files") < MANY_OBJECTS);
    server.forget();
    project.pivot("push").succeeds();
    assert_eq!(server.files("files"), MANY_OBJECTS);

    forget(&project);
    server.ignore_after(5, "GET /bucket/team/files/");
    let pull = project.start("pull -j 2");
    server.wait_until_ignoring();
    pull.signal(libc::SIGKILL);
    let _ = pull.finish();
    assert!(!project.exists("out"));
    assert_sound(&project, ".pivot/cache", "killed");
    server.forget();
    project.pivot("pull").succeeds();
    assert_eq!(project.read("out/24"), "24\n");
    assert_eq!(project.files_in(".pivot/cache/tmp").len(), 0);
}

#[test]
fn killed_transfers_of_a_large_object_are_begun_anew() {
    let server = S3Server::start();
    let project = ran(LARGE, &server);
    server.ignore_after(0, "partNumber=2");
    let push = project.start("push");
    server.wait_until_ignoring();
    push.signal(libc::SIGKILL);
    let _ = push.finish();
    assert_eq!(server.files("files"), 0);
    server.forget();
    project.pivot("push").succeeds().says("1 object sent");

    forget(&project);
    server.ignore_after(1, "GET /bucket/team/files/");
    let pull = project.start("pull");
    server.wait_until_ignoring();
    pull.signal(libc::SIGKILL);
    let _ = pull.finish();
    assert!(!project.exists("large"));
    assert_eq!(project.files_in(".pivot/cache/files").len(), 0);
    server.forget();
    project.pivot("pull").succeeds();
    assert_eq!(project.path("large").metadata().unwrap().len(), LARGE_BYTES);
    assert_sound(&project, ".pivot/cache", "pulled");
    assert_eq!(project.files_in(".pivot/cache/tmp").len(), 0);
}

#[test]
fn an_interrupted_push_ends_soon_and_leaves_nothing_half_sent() {
    for (yaml, part, objects) in
        [(MANY, "PUT /bucket/team/files/", MANY_OBJECTS), (LARGE, "partNumber=2", 1)]
    {
        let server = S3Server::start();
        let project = ran(yaml, &server);
        server.ignore_after(if objects == 1 { 0 } else { 5 }, part);
        let push = project.start("push");
        server.wait_until_ignoring();
        let asked = Instant::now();
        push.signal(libc::SIGINT);
        push.finish().exits(130).says("interrupted");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert!(server.files("files") < objects);
        if objects == 1 {
            // The parts that are there already are given up.
            assert_eq!(server.count("DELETE "), 1);
        }
        server.forget();
        project.pivot("push").succeeds();
        assert_eq!(server.files("files"), objects);
    }
}

#[test]
fn an_interrupted_pull_ends_soon_and_leaves_nothing_half_written() {
    for (yaml, out) in [(MANY, "out"), (LARGE, "large")] {
        let server = S3Server::start();
        let project = ran(yaml, &server);
        project.pivot("push").succeeds();
        forget(&project);
        server.ignore_after(if out == "large" { 1 } else { 5 }, "GET /bucket/team/files/");
        let pull = project.start("pull");
        server.wait_until_ignoring();
        // What comes meanwhile, and what is there, is not removed below the pull.
        project.pivot("gc -f --grace 0").exits(1).says("the cache is in use");
        let asked = Instant::now();
        pull.signal(libc::SIGTERM);
        pull.finish().exits(143).says("interrupted");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert!(!project.exists(out));
        assert_sound(&project, ".pivot/cache", "interrupted");
        assert_eq!(project.files_in(".pivot/cache/tmp").len(), 0);
        server.forget();
        project.pivot("gc -f --grace 0").succeeds();
        project.pivot("pull").succeeds();
        assert!(project.exists(out));
    }
}

#[test]
fn a_second_signal_ends_a_transfer_at_once() {
    let server = S3Server::start();
    let project = ran(LARGE, &server);
    // Also the request that would give up what was sent is never answered.
    server.ignore_after(1, "uploadId=");
    let push = project.start("push");
    server.wait_until_ignoring();
    push.signal(libc::SIGINT);
    let asked = Instant::now();
    // Only a signal that finds the first one handled counts as the second.
    eventually("the push ends", || {
        push.signal(libc::SIGINT);
        !is_alive(push.id())
    });
    push.finish().exits(130);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[test]
fn two_pushes_at_once_send_everything() {
    let server = S3Server::start();
    let project = ran(MANY, &server);
    let (one, two) = (project.start("push"), project.start("push"));
    one.finish().exits(0);
    two.finish().exits(0);
    assert_eq!(server.files("files"), MANY_OBJECTS);
}
