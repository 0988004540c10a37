//! A bucket of Google's as a remote, and what is said about those of Google and Microsoft.

use pivot_s3_server::{Server, TOKEN};

use crate::sharing::PIPELINE;
use crate::support::{Project, project};

fn ran_project(token: &str) -> Project {
    let home = "/nonexistent";
    let project = project().env("GOOGLE_BEARER_TOKEN", token).env("HOME", home);
    let project = project.file("pivot.yaml", PIPELINE).file("data.txt", "some data\n");
    project.pivot("run").succeeds();
    project
}

fn add(project: &Project, server: &Server) {
    let endpoint = server.endpoint();
    let add = format!("remote add origin gs://bucket/team --endpoint-url {endpoint}");
    project.pivot(&add).succeeds().says("the default remote: gs://bucket/team");
}

#[test]
fn outputs_go_there_and_back() {
    let server = Server::start_google();
    let project = ran_project(TOKEN);
    add(&project, &server);
    project.pivot("push").succeeds().says("4 objects sent").does_not_say(TOKEN);
    project.pivot("doctor --remote").succeeds().says("it can be written to").does_not_say(TOKEN);
    for path in [".pivot/cache", ".pivot/state.lmdb", "clean.txt", "model", "copy.txt"] {
        project.remove(path);
    }
    project.pivot("pull").succeeds().does_not_say(TOKEN);
    assert_eq!(project.read("model/a"), "some data\nsome data\n");
    project.pivot("status --remote").succeeds().does_not_say(TOKEN);
}

#[test]
fn a_token_that_does_not_fit() {
    let server = Server::start_google();
    let project = ran_project("ya29.another");
    add(&project, &server);
    for command in ["push", "doctor --remote"] {
        project.pivot(command).exits(1).says("401").says("hint: the cred").does_not_say("ya29");
    }
}

#[test]
fn an_account_that_nothing_names() {
    let project = ran_project("");
    project.pivot("remote add origin az://container/team").succeeds();
    project.pivot("push").exits(1).says("set AZURE_STORAGE_ACCOUNT_NAME");
}
