//! `pivot remote` and `pivot config`: settings are changed, and a person's file is respected.

use crate::support::{Project, project};

const CONFIG: &str = ".pivot/config.yaml";

fn empty() -> Project {
    project().file("pivot.yaml", "stages: {}\n")
}

#[test]
fn the_first_remote_is_the_default() {
    let project = empty();
    project.pivot("remote add origin s3://my-bucket/pivot-cache").succeeds().says("default");
    assert_eq!(
        project.read(CONFIG),
        "remotes:\n  origin: s3://my-bucket/pivot-cache\ndefault_remote: origin\n"
    );
    let add = "remote add minio s3://b/p --endpoint-url http://localhost:9000 --region eu";
    project.pivot(add).succeeds();
    insta::assert_snapshot!(project.pivot("remote list").succeeds(), @r"
    exit: 0
      minio   s3://b/p  endpoint_url=http://localhost:9000  region=eu
    * origin  s3://my-bucket/pivot-cache
    ");
    project.pivot("remote default minio").succeeds();
    assert_eq!(project.pivot("remote default").succeeds().stdout(), "minio\n");
    let list = project.pivot("remote list --json").succeeds().json();
    assert_eq!(list["remotes"][0]["endpoint_url"], "http://localhost:9000");
    assert_eq!(list["remotes"][0]["default"], true);
    assert_eq!(list["remotes"][1]["url"], "s3://my-bucket/pivot-cache");

    project.pivot("remote remove minio").succeeds().says("no remote is the default now");
    project.pivot("remote default").exits(1).says("pivot remote default NAME");
    project.pivot("remote remove origin").succeeds();
    assert_eq!(project.read(CONFIG), "");
    project.pivot("remote list").succeeds().says("no remotes; add one");
}

#[test]
fn what_a_person_wrote_is_kept() {
    let text = "# settings of this laptop\n\
        core:\n    jobs: 2   # it is small\n\n\
        remotes:\n    # the team's\n    team: s3://team/cache   # ask Kim\n\
        default_remote: team\n# the end\n";
    let project = empty().file(CONFIG, text);
    project.pivot("remote add mine /mnt/cache").succeeds();
    let with_mine = text.replace("Kim\n", "Kim\n    mine: /mnt/cache\n");
    assert_eq!(project.read(CONFIG), with_mine);
    project.pivot("remote default mine").succeeds();
    assert_eq!(
        project.read(CONFIG),
        with_mine.replace("default_remote: team", "default_remote: mine")
    );
    project.pivot("remote default team").succeeds();
    project.pivot("remote remove mine").succeeds();
    assert_eq!(project.read(CONFIG), text);
}

#[test]
fn a_file_that_is_not_understood_is_never_rewritten() {
    for text in ["remotes: [\n", "core: {jobs: many}\n", "a: 1\n", "<<<<<<< x\n"] {
        let project = empty().file(CONFIG, text);
        for command in
            ["remote add x /mnt/x", "remote remove x", "remote default x", "config set core.jobs 2"]
        {
            project.pivot(command).exits(1).says(".pivot/config.yaml:1");
            assert_eq!(project.read(CONFIG), text);
        }
    }
}

#[test]
fn what_cannot_be_a_remote_is_refused_and_secrets_are_not_repeated() {
    let project = empty();
    project.pivot("remote add origin /mnt/a").succeeds();
    let before = project.read(CONFIG);
    for (command, says) in [
        ("remote add origin /mnt/b", "there is a remote `origin` already"),
        ("remote add up abfss://c@a.dfs.core.windows.net", "use `s3://bucket/prefix`, `gs://"),
        ("remote add up gs://bucket --region eu", "`--region` means nothing for gs://bucket"),
        ("remote add up s3://", "names no bucket"),
        ("remote add up s3:/bucket", "needs two slashes"),
        ("remote add -- -x /mnt/b", "begins with `-`"),
        ("remote add a.b /mnt/b", "may only have letters"),
        ("remote add up /mnt/b --region eu", "`--region` means nothing for /mnt/b"),
        ("remote add up /mnt/b --anonymous", "`--anonymous` means nothing for /mnt/b"),
        ("remote add up s3://b --endpoint-url localhost:9000", "has to begin with `https://`"),
        ("remote remove orign", "did you mean `origin`?"),
        ("remote default other", "known remotes: origin"),
    ] {
        project.pivot(command).exits(1).says(says);
    }
    for command in [
        "remote add up s3://AKIA:s3cr3t@bucket/x",
        "remote add up https://user:s3cr3t@example.com/x",
        "remote add up s3://b --endpoint-url https://user:s3cr3t@example.com",
    ] {
        project.pivot(command).exits(1).does_not_say("s3cr3t");
    }
    project.pivot("remote add up s3://k:s3cr3t@b").exits(1).says("AWS_ACCESS_KEY_ID");
    project.pivot("remote add").exits(2);
    project.pivot("remote add up s3://b --addressing-style host").exits(2).says("virtual");
    assert_eq!(project.read(CONFIG), before);
    // One that a person wrote into the file is not shown either.
    project.write(CONFIG, "remotes: {origin: 's3://k:s3cr3t@b'}\n");
    project.pivot("remote list").succeeds().does_not_say("s3cr3t");
    project.pivot("remote list --json").succeeds().does_not_say("s3cr3t");
}

#[test]
fn settings_are_shown_and_changed_one_by_one() {
    let project = empty().file(CONFIG, "core: {jobs: 2} # small\n");
    project.pivot("config set core.jobs 4").succeeds();
    project.pivot("config set cache.checkout_mode copy").succeeds();
    assert_eq!(project.read(CONFIG), "core: {jobs: 4} # small\ncache:\n  checkout_mode: copy\n");
    assert_eq!(project.pivot("config get core.jobs").succeeds().stdout(), "4\n");
    assert_eq!(
        project.pivot("config list").succeeds().stdout(),
        "core.jobs: 4\ncache.checkout_mode: copy\n"
    );
    assert_eq!(project.pivot("config list --json").succeeds().json()["config"]["core"]["jobs"], 4);
    project.pivot("config set core.jobs many").exits(1).says("cannot be set to this");
    project.pivot("config set core.job 3").exits(1).says("core.job");
    project.pivot("config unset cache.checkout_mode").succeeds();
    project.pivot("config unset cache.checkout_mode").exits(1).says("is not set");
    project.pivot("config get cache").exits(1);
    assert_eq!(project.read(CONFIG), "core: {jobs: 4} # small\n");
}

#[test]
fn every_setting_of_a_bucket_is_written_and_shown() {
    let project = empty();
    let add = "remote add open s3://b/p --profile lab --addressing-style path --anonymous";
    project.pivot(add).succeeds();
    insta::assert_snapshot!(project.pivot("remote list").succeeds(), @r"
    exit: 0
    * open  s3://b/p  profile=lab  addressing_style=path  anonymous=true
    ");
    let remote = &project.pivot("remote list --json").succeeds().json()["remotes"][0];
    assert_eq!((&remote["addressing_style"], &remote["anonymous"]), (&"path".into(), &true.into()));
    project.pivot("config set remotes.open.addressing_style virtual").succeeds();
    project.pivot("config set remotes.open.anonymous false").succeeds();
    project.pivot("remote list").succeeds().says("addressing_style=virtual  anonymous=false");
}

#[test]
fn an_unknown_setting_of_a_remote_is_refused_with_its_place() {
    for (text, says) in [
        ("origin:\n    url: s3://b\n    adressing_style: path\n", "adressing_style"),
        ("origin:\n    url: s3://b\n    addressing_style: host\n", "host"),
        (
            "origin:\n    url: s3://b\n    anonymous: perhaps\n",
            "`remotes.origin.anonymous`: write true or false",
        ),
    ] {
        let project = empty().file(CONFIG, &format!("remotes:\n  {text}default_remote: origin\n"));
        project.pivot("push").exits(1).says(".pivot/config.yaml:4:").says(says);
    }
    let text = "remotes:\n  disk: {url: /mnt/x, region: eu}\ndefault_remote: disk\n";
    let project = empty().file(CONFIG, text);
    project
        .pivot("push")
        .exits(1)
        .says("remote `disk` is /mnt/x, for which `region` means nothing");
}
