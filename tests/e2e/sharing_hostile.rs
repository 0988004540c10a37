//! What people and accidents do to remotes.

use std::fs;

use crate::s3_server::S3Server;
use crate::sharing::{PIPELINE, clone_of, object_of, objects, ran_project};
use crate::support::Running;

#[test]
fn a_remote_is_another_place_than_the_project() {
    let project = ran_project();
    for (url, says) in [
        (".pivot/cache", "is the project's own cache"),
        (".pivot/cache/files", "is the project's own cache"),
        (".pivot", "lies in the project's `.pivot`"),
        (".", "is the project itself"),
        ("model/..", "is the project itself"),
    ] {
        project.pivot(&format!("remote add own {url}")).exits(1).says(says);
        // A person may have written it.
        project.pivot(&format!("config set remotes.own {url}")).succeeds();
        for command in ["push -r own", "pull -r own", "status --remote -r own"] {
            project.pivot(command).exits(1).says(says).says("remotes.own");
        }
        project.pivot("remote remove own").succeeds();
    }
    std::os::unix::fs::symlink(".pivot/cache", project.path("link")).unwrap();
    project.pivot("remote add own link").exits(1).says("is the project's own cache");
    // What is sent would change an output.
    project.pivot("remote add inside model/remote").succeeds();
    let model = project.files_in("model");
    project.pivot("push -r inside").exits(1).says("lies in `model`, an output of `train_model`");
    assert_eq!(project.files_in("model"), model);
    project.pivot("remote add beside elsewhere/remote").succeeds();
    project.pivot("push -r beside").succeeds().says("4 objects sent");
    assert_eq!(project.pivot("run").succeeds().counts(), "3 stages: 3 unchanged ([time])");
}

#[test]
fn what_somebody_deleted_on_the_remote_is_sent_again() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let object = object_of(&project, "prepare", "clean.txt");
    fs::remove_file(project.path("remote").join(&object)).unwrap();
    let clone = clone_of(&project);
    clone.pivot("pull prepare").exits(1).says("hint: `pivot push prepare` where the stage was run");
    project.pivot("push").succeeds().says("1 object sent");
    clone.pivot("pull prepare").succeeds();

    // A server is not asked each time, unless the outputs are named.
    let server = S3Server::start();
    let project = server.added_to(crate::support::project().file("pivot.yaml", PIPELINE));
    project.write("data.txt", "some data\n");
    project.pivot("run").succeeds();
    project.pivot("push").succeeds();
    fs::remove_file(server.path(object.to_str().unwrap())).unwrap();
    server.forget();
    project.pivot("push").succeeds().says("4 already there");
    assert_eq!(server.count("PUT"), 0);
    project.pivot("push prepare").succeeds().says("1 object sent");
}

#[test]
fn objects_that_are_no_files_are_no_objects() {
    let project = ran_project();
    let object = project.path("remote").join(object_of(&project, "prepare", "clean.txt"));
    project.pivot("push").succeeds();
    fs::remove_file(&object).unwrap();
    fs::create_dir(&object).unwrap();
    let clone = clone_of(&project);
    clone.pivot("pull prepare").exits(1).says("the remote has no object");
    project.pivot("push prepare").exits(1).says("FAIL  prepare: clean.txt: ");
    fs::remove_dir(&object).unwrap();
    make_fifo(&object);
    clone.pivot("pull prepare").exits(1).says("the remote has no object");
    project.pivot("push prepare").succeeds().says("1 object sent");
    clone.pivot("pull prepare").succeeds();
}

fn make_fifo(path: &std::path::Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

#[test]
fn records_that_cannot_be_sent_are_told() {
    let project = ran_project();
    fs::create_dir(project.path("remote")).unwrap();
    fs::write(project.path("remote/runs"), "no directory").unwrap();
    project.pivot("push").exits(1).says("FAIL  records of runs: ").says("4 objects sent");
    let told = project.pivot("push --json").exits(1).json();
    assert!(told["record_error"].as_str().unwrap().contains("Not a directory"), "{told}");
    // The outputs are there, and locks are enough.
    let clone = clone_of(&project);
    clone.pivot("run").succeeds();
    assert!(clone.ran().is_empty());
}

#[test]
fn pulls_and_runs_at_once_wait_for_each_other() {
    let project = ran_project();
    project.pivot("push").succeeds();
    for _ in 0..3 {
        let clone = clone_of(&project);
        let started = ["pull", "run", "pull", "fetch", "run", "pull"].map(|c| clone.start(c));
        for finished in started.map(Running::finish) {
            let finished = finished.succeeds();
            assert!(!finished.stderr().contains("saved"), "{finished}");
        }
        assert!(clone.ran().is_empty());
        assert_eq!(clone.read("copy.txt"), "some data\nsome data\n");
        assert_eq!(objects(&clone, ".pivot/cache"), 4);
    }
}

#[test]
fn a_remote_that_is_not_asked_is_told_before_the_work_that_it_would_spare() {
    let project = ran_project();
    let clone = clone_of(&project);
    clone.pivot("config set default_remote other").succeeds();
    let ended = clone.pivot("run").succeeds();
    let told = ended.stderr().find("there is no remote `other`").unwrap();
    assert!(told < ended.stderr().find("run   prepare").unwrap(), "{ended}");
}
