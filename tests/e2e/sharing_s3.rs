//! Sharing results through an S3 server, as teams do.

use std::net::TcpListener;
use std::process::Command;

use crate::s3_server::{KEY_ID, S3Server, SECRET, URL, with_keys};
use crate::sharing::{PIPELINE, object_of, objects};
use crate::sharing_lazy::CHAIN;
use crate::support::{Finished, Project, project};

const WRONG_SECRET: &str = "asecretthatdoesnotfit";

fn git(dir: &std::path::Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]).args(arguments);
    let output = command.current_dir(dir).output().expect("git can be run");
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
}

/// A project in git that has run, with the server as its remote.
fn ran_project(server: &S3Server) -> Project {
    let project = project()
        .file("pivot.yaml", PIPELINE)
        .file("data.txt", "some data\n")
        .file(".gitignore", "/clean.txt\n/model/\n/copy.txt\n/ran.log\n");
    git(project.root(), &["init", "-q"]);
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["prepare", "report", "train"]);
    server.added_to(project)
}

fn commit(project: &Project) {
    git(project.root(), &["add", "-A"]);
    git(project.root(), &["commit", "-q", "-m", "Results"]);
}

/// What a colleague gets from git, with the same server.
fn clone_of(project: &Project, server: &S3Server) -> Project {
    let clone = crate::support::project();
    git(clone.root(), &["clone", "-q", &project.root().display().to_string(), "."]);
    server.added_to(clone)
}

fn without_secrets(finished: Finished) -> Finished {
    finished.does_not_say(SECRET).does_not_say(WRONG_SECRET).does_not_say(KEY_ID)
}

#[test]
fn the_typical_workflow() {
    let server = S3Server::start();
    let project = ran_project(&server);
    project.pivot("push").succeeds().says("4 objects sent (99 B)");
    assert_eq!((server.files("files"), server.files("runs")), (4, 3));
    commit(&project);

    let clone = clone_of(&project, &server);
    server.forget();
    clone.pivot("pull train_model").succeeds().says("3 objects fetched (96 B), 1 output restored");
    // Two files and the manifest of their directory, and no other byte.
    assert_eq!(server.downloaded_bytes(), 96);
    assert_eq!(objects(&clone, ".pivot/cache"), 3);
    assert_eq!(clone.read("model/a"), "some data\nsome data\n");
    assert!(!clone.exists("clean.txt"));

    server.forget();
    clone.pivot("run train_model").succeeds();
    clone.pivot("run").succeeds();
    assert!(clone.ran().is_empty());
    // What the other stages lack has the bytes of what is here; the metric is in git.
    assert_eq!(server.downloaded_bytes(), 0);
    assert_eq!(clone.read("copy.txt"), "some data\nsome data\n");
    assert_eq!(clone.lock("report"), project.lock("report"));
    server.forget();
    assert_eq!(clone.pivot("run").succeeds().counts(), "3 stages: 3 unchanged ([time])");
    assert_eq!(server.count(""), 0);
}

#[test]
fn a_clone_downloads_what_is_asked_for_and_executes_nothing() {
    let server = S3Server::start();
    let project = project()
        .file("pivot.yaml", CHAIN)
        .file("data.txt", "data\n")
        .file("note.txt", "note\n")
        .file(".gitignore", "*.bin\n/ran.log\n");
    git(project.root(), &["init", "-q"]);
    let project = server.added_to(project);
    project.pivot("run").succeeds();
    project.pivot("push").succeeds().says("4 objects sent");
    commit(&project);

    let clone = clone_of(&project, &server);
    server.forget();
    clone.pivot("pull middle").succeeds().says("1 object fetched (1000 B), 1 output restored");
    assert_eq!(server.downloaded_bytes(), 1000);
    server.forget();
    // `last.bin` and `other.bin` are what no stage reads; 100 kB of `big.bin` stay there.
    let ended = clone.pivot("run --json").succeeds();
    let summary = ended.json_lines().pop().unwrap();
    assert_eq!(summary["fetched"]["bytes"], 315, "{summary}");
    assert_eq!(server.downloaded_bytes(), 315);
    assert!(clone.ran().is_empty() && !clone.exists("big.bin"));
    let locks = |project: &Project| ["big", "middle", "other", "last"].map(|s| project.lock(s));
    assert_eq!(locks(&clone), locks(&project));
}

#[test]
fn a_clone_runs_nothing_that_somebody_ran_since() {
    let server = S3Server::start();
    let project = ran_project(&server);
    commit(&project);
    let clone = clone_of(&project, &server);
    for person in [&project, &clone] {
        person.write("data.txt", "other data\n");
    }
    project.pivot("run").succeeds();
    let _ = project.ran();
    project.pivot("push").succeeds();
    server.forget();
    assert_eq!(
        clone.pivot("run train_model").succeeds().counts(),
        "2 stages: 2 unchanged (run cache) ([time])"
    );
    assert!(clone.ran().is_empty());
    assert_eq!(clone.lock("train_model"), project.lock("train_model"));
    let bytes = |project: &Project| -> u64 {
        let files = project.files_in(".pivot/cache/files");
        files.iter().map(|path| project.path(path).metadata().unwrap().len()).sum()
    };
    assert_eq!(server.downloaded_bytes() as u64, bytes(&clone));
    assert_eq!(objects(&clone, ".pivot/cache"), 3);
}

#[test]
fn one_object_that_is_refused() {
    let server = S3Server::start();
    let project = ran_project(&server);
    let object = object_of(&project, "report", "report.txt");
    server.refuse(&format!("PUT /bucket/team/{}", object.display()), 403, "AccessDenied");
    project
        .pivot("push")
        .exits(1)
        .says("FAIL  report: report.txt: cannot send object [hash]: the server answered 403")
        .says("3 objects sent (96 B), 1 failed")
        .says("hint: the credentials");
    assert_eq!(server.files("files"), 3);
    let pushed = project.pivot("push --json").exits(1).json();
    assert_eq!(pushed["success"], false);
    assert_eq!(pushed["failed"][0]["path"], "report.txt");
    server.forget();
    project.pivot("push").succeeds().says("1 object sent");
}

#[test]
fn no_output_and_no_file_has_credentials_in_it() {
    let server = S3Server::start();
    let right = ran_project(&server);
    for command in ["push", "push --json", "status --remote", "doctor --remote", "remote list"] {
        without_secrets(right.pivot(command).succeeds());
    }
    let wrong = with_keys(ran_project(&server), KEY_ID, WRONG_SECRET);
    for command in ["push", "push --json", "pull", "fetch --json", "status --remote"] {
        if command == "pull" {
            wrong.remove(".pivot/cache");
            wrong.remove("clean.txt");
        }
        without_secrets(wrong.pivot(command).exits(1)).says("403");
    }
    without_secrets(wrong.pivot("doctor --remote").exits(1)).says("403").says("hint: the cred");
    wrong.write("data.txt", "other data\n");
    without_secrets(wrong.pivot("run").succeeds()).says("cannot be asked");
    wrong.write("data.txt", "more data\n");
    without_secrets(wrong.pivot("run --json --pull always").exits(1)).says("403");
    for project in [&right, &wrong] {
        for path in project.files_in(".pivot") {
            let bytes = std::fs::read(project.path(&path)).unwrap();
            for secret in [KEY_ID, SECRET, WRONG_SECRET] {
                let mut windows = bytes.windows(secret.len());
                assert!(!windows.any(|window| window == secret.as_bytes()), "{secret} in {path}");
            }
        }
    }
}

#[test]
fn without_credentials_the_doctor_tells_where_it_looked() {
    let server = S3Server::start();
    let project = with_keys(ran_project(&server), "", "");
    project
        .pivot("doctor --remote")
        .exits(1)
        .says("credentials from environment: none: no AWS_ACCESS_KEY_ID")
        .says("hint: set AWS_ACCESS_KEY_ID")
        .does_not_say("is the `endpoint_url` right");
    project.pivot("push").exits(1).says("no credentials were found").says("doctor --remote");
}

#[test]
fn a_bucket_that_is_not_there() {
    let server = S3Server::start();
    let project = ran_project(&server);
    server.refuse("/bucket/", 404, "NoSuchBucket");
    for command in ["push", "doctor --remote"] {
        project.pivot(command).exits(1).says("404").says("is the bucket's name right");
    }
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let project = with_keys(project(), KEY_ID, SECRET)
        .file("pivot.yaml", "stages: {a: {cmd: echo x > a.txt, outs: [a.txt]}}\n");
    let endpoint = format!("http://127.0.0.1:{port}");
    project.pivot(&format!("remote add origin {URL} --endpoint-url {endpoint}")).succeeds();
    let ended = project.pivot("run").succeeds();
    assert_eq!(ended.stderr().matches("the default remote cannot be asked").count(), 1, "{ended}");
    without_secrets(project.pivot("doctor --remote").exits(1))
        .says("is the `endpoint_url` right, and the network there?");
}
