//! `pivot run` takes from the remote what somebody has made already.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::sharing::{clone_of, damage, object_of, objects, ran_project};

#[test]
fn the_typical_workflow() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let clone = clone_of(&project);
    clone.pivot("pull train_model").succeeds();
    assert_eq!(objects(&clone, ".pivot/cache"), 3);
    clone.pivot("run train_model").succeeds().does_not_say("fetched");
    assert!(clone.ran().is_empty());
    let ended = clone.pivot("run").succeeds();
    // `copy.txt` and `clean.txt` share an object that is here; the metric is in git.
    assert_eq!(ended.counts(), "3 stages: 1 restored, 2 unchanged ([time])");
    assert!(clone.ran().is_empty());
}

#[test]
fn a_clone_executes_nothing() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let clone = clone_of(&project);
    insta::assert_snapshot!(clone.pivot("run -n"), @r"
    exit: 0
    prepare      WILL RESTORE  Outputs missing
    train_model  WILL RESTORE  Outputs missing
    report       WILL RESTORE  Outputs missing
    ");
    assert!(!clone.exists("clean.txt") && objects(&clone, ".pivot/cache") == 0);
    insta::assert_snapshot!(clone.pivot("run -j 1"), @r"
    exit: 0
    3 stages: 3 restored ([time])
    --- stderr
    done  prepare: outputs restored from `origin`
    done  train_model: outputs restored from `origin`
    done  report: outputs restored from the cache
    note: 3 objects fetched from `origin` (96 B)
    ");
    assert!(clone.ran().is_empty());
    assert_eq!(clone.read("model/b"), "some data\n");

    let never = clone_of(&project);
    never.pivot("run --pull never").succeeds();
    // `report` wrote nothing that is not there by now.
    assert_eq!(never.ran(), ["prepare", "train"]);
}

#[test]
fn what_a_colleague_ran_is_not_run_again_without_locks() {
    let project = ran_project();
    let clone = clone_of(&project);
    project.write("data.txt", "other data\n");
    project.pivot("run").succeeds();
    project.pivot("push").succeeds();
    // The colleague makes the same change, and has the locks of before.
    clone.write("data.txt", "other data\n");
    assert_eq!(
        clone.pivot("run").succeeds().counts(),
        "3 stages: 3 unchanged (run cache) ([time])"
    );
    assert!(clone.ran().is_empty());
    assert_eq!(clone.read("clean.txt"), "other data\nother data\n");
    assert_eq!(clone.lock("train_model"), project.lock("train_model"));
    assert_eq!(clone.pivot("run").succeeds().counts(), "3 stages: 3 unchanged ([time])");
}

#[test]
fn a_remote_that_fails_costs_a_warning() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let clone = clone_of(&project);
    clone.pivot("config set default_remote other").succeeds();
    clone.pivot("run --pull always").exits(1).says("there is no remote `other`");
    assert!(clone.ran().is_empty());
    let ended = clone.pivot("run").succeeds();
    assert_eq!(ended.stderr().matches("there is no remote `other`").count(), 1, "{ended}");
    // `report` wrote nothing that is not there by now.
    assert_eq!(clone.ran(), ["prepare", "train"]);
}

#[test]
fn an_object_that_is_damaged_or_gone_costs_one_execution() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let object = object_of(&project, "prepare", "clean.txt");
    damage(project.path("remote").join(&object), b"other data\nother data\n");
    let clone = clone_of(&project);
    clone.pivot("run").succeeds().says("cannot be pulled");
    assert_eq!(clone.read("clean.txt"), "some data\nsome data\n");
    assert!(clone.ran().contains(&"prepare".to_owned()));
    assert_eq!(clone.lock("prepare"), project.lock("prepare"));
}

#[test]
fn records_of_strangers_are_checked() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let mut records = project.files_in("remote/runs");
    assert_eq!(records.len(), 3);
    let bytes: Vec<String> = records.iter().map(|path| project.read(path)).collect();
    let other = format!("{}x", bytes[0]);
    // One that is damaged, one under another's name, one that is no record at all.
    for (path, text) in records.drain(..).zip([other.as_str(), &bytes[0], "{}"]) {
        damage(project.path(&path), text.as_bytes());
    }
    let clone = clone_of(&project);
    for stage in ["prepare", "train_model", "report"] {
        clone.remove(&format!(".pivot/stages/{stage}.lock"));
    }
    clone.remove("report.txt");
    clone.pivot("run").succeeds();
    assert_eq!(clone.ran(), ["prepare", "report", "train"]);
    assert_eq!(clone.lock("report"), project.lock("report"));
}

#[test]
fn a_run_with_nothing_to_do_asks_nobody() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let remote = project.path("remote");
    let away = project.path("away");
    fs::rename(&remote, &away).unwrap();
    // Anything that is asked here would fail.
    fs::write(&remote, "no directory").unwrap();
    let accessed = SystemTime::now() - Duration::from_secs(60);
    fs::File::open(&remote)
        .unwrap()
        .set_times(fs::FileTimes::new().set_accessed(accessed))
        .unwrap();
    let ended = project.pivot("run --pull always").succeeds();
    assert_eq!(ended.counts(), "3 stages: 3 unchanged ([time])");
    assert!(ended.stderr().is_empty(), "{ended}");
    // What is only gone from the project comes from the cache.
    project.remove("clean.txt");
    assert!(project.pivot("run --pull always").succeeds().stderr().lines().count() == 1);
    assert!(project.ran().is_empty());
}
