//! Outputs to a remote and back: `pivot push`, `pivot pull`, `pivot fetch`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::support::{Project, project};

pub(crate) const PIPELINE: &str = "stages:\n\
    \x20 prepare:\n\
    \x20   cmd: echo prepare >> ran.log; cat data.txt data.txt > clean.txt\n\
    \x20   deps: [data.txt]\n\
    \x20   outs: [clean.txt]\n\
    \x20 train_model:\n\
    \x20   cmd: echo train >> ran.log; mkdir model; cp clean.txt model/a; cp data.txt model/b\n\
    \x20   deps: [clean.txt, data.txt]\n\
    \x20   outs: [model]\n\
    \x20 report:\n\
    \x20   cmd: echo report >> ran.log; wc -c < clean.txt > report.txt; cat clean.txt > copy.txt\n\
    \x20   deps: [clean.txt]\n\
    \x20   outs: [copy.txt]\n\
    \x20   metrics: [report.txt]\n";

/// A project that has run, with a remote in a directory beside it that does not exist yet.
pub(crate) fn ran_project() -> Project {
    let project = project().file("pivot.yaml", PIPELINE).file("data.txt", "some data\n");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["prepare", "report", "train"]);
    project.pivot("remote add origin remote").succeeds();
    project
}

/// A colleague's clone: what git has, with the same remote.
pub(crate) fn clone_of(project: &Project) -> Project {
    let machine_only = [
        ".pivot/cache",
        ".pivot/state.lmdb",
        ".pivot/run",
        ".pivot/logs",
        ".pivot/config.yaml",
        "clean.txt",
        "model",
        "copy.txt",
        "remote",
        "ran.log",
    ];
    let clone = project.cloned_without(&machine_only);
    let url = project.path("remote");
    clone.pivot(&format!("remote add origin {}", url.display())).succeeds();
    clone
}

pub(crate) fn objects(project: &Project, dir: &str) -> usize {
    project.files_in(&format!("{dir}/files")).len()
}

/// Where the object of an output lies below a cache or a remote.
pub(crate) fn object_of(project: &Project, stage: &str, path: &str) -> PathBuf {
    object_in(&project.lock(stage), path)
}

/// The same for an output of a lock.
pub(crate) fn object_in(lock: &str, path: &str) -> PathBuf {
    let rest = lock.split("\nouts:").nth(1).unwrap();
    let rest = rest.split(&format!("path: {path},")).nth(1).unwrap();
    let hash = rest.split("hash: ").nth(1).unwrap().trim_start_matches('\'');
    PathBuf::from("files").join(&hash[..2]).join(&hash[2..16])
}

pub(crate) fn damage(path: PathBuf, bytes: &[u8]) {
    fs::remove_file(&path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_pushed_is_pulled_by_a_clone() {
    let project = ran_project();
    // `clean.txt`, `copy.txt` and `model/a` are one object.
    insta::assert_snapshot!(project.pivot("push").succeeds(), @"
    exit: 0
    4 objects sent (99 B)
    ");
    assert_eq!(objects(&project, "remote"), 4);
    project.pivot("push").succeeds().says("4 already there");

    let clone = clone_of(&project);
    insta::assert_snapshot!(clone.pivot("pull train_model"), @"
    exit: 0
    3 objects fetched (96 B), 1 output restored
    ");
    assert_eq!(objects(&clone, ".pivot/cache"), 3);
    assert_eq!(clone.read("model/a"), "some data\nsome data\n");
    assert!(!clone.exists("clean.txt"));
    clone.pivot("pull train_model").succeeds().says("1 output unchanged");

    clone.pivot("pull").succeeds().says("2 outputs restored");
    assert_eq!(clone.pivot("run").succeeds().counts(), "3 stages: 3 unchanged ([time])");
    assert!(clone.ran().is_empty());
    assert_eq!(clone.lock("report"), project.lock("report"));
}

#[test]
fn fetch_fills_the_cache_and_nothing_else() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let clone = clone_of(&project);
    clone.pivot("fetch").succeeds().says("4 objects fetched");
    assert!(!clone.exists("clean.txt") && !clone.exists("model"));
    fs::remove_dir_all(project.path("remote")).unwrap();
    clone.pivot("pull").succeeds().says("3 outputs restored");
    assert_eq!(clone.read("copy.txt"), "some data\nsome data\n");
}

#[test]
fn stages_variants_patterns_and_paths_are_meant() {
    let project = ran_project();
    for (words, objects) in
        [("report", 2), ("train_model prepare", 3), ("mod*", 0), ("model/a", 3), ("./copy.txt", 1)]
    {
        let pushed = project.pivot(&format!("push -n {words}"));
        if objects == 0 {
            pushed.exits(1).says("hint");
        } else {
            pushed.succeeds().says(&format!("{objects} object"));
        }
    }
    assert!(!project.exists("remote"));
    project.pivot("push trian_model").exits(1).says("did you mean `train_model`?");
    project.pivot("push -r orign").exits(1).says("did you mean `origin`?");
    project.pivot("push --nonsense").exits(2);
    project.pivot("remote remove origin").succeeds();
    project.pivot("push").exits(1).says("pivot remote add origin");
}

#[test]
fn a_dry_run_transfers_nothing() {
    let project = ran_project();
    insta::assert_snapshot!(project.pivot("push -n prepare report"), @"
    exit: 0
    prepare: clean.txt (20 B)
    report: copy.txt (0 B)
    report: report.txt (3 B)
    2 objects would be sent (23 B)
    ");
    assert!(!project.exists("remote"));
    project.pivot("push").succeeds();
    assert_eq!(project.pivot("push -n").succeeds().stdout(), "nothing to do\n");
    let clone = clone_of(&project);
    let outlook = clone.pivot("pull -n --json").succeeds().json();
    assert_eq!(outlook["objects"], 2);
    assert_eq!(outlook["outputs"][0]["path"], "clean.txt");
    assert!(!clone.exists("clean.txt") && objects(&clone, ".pivot/cache") == 0);
}

#[test]
fn a_dry_run_stores_nothing() {
    let project = ran_project();
    project.remove(".pivot/cache");
    project.pivot("push -n").succeeds().says("3 objects would be sent");
    assert_eq!(objects(&project, ".pivot/cache"), 0);
    // What is gone from the cache is stored again when it is sent.
    project.pivot("push").succeeds().says("4 objects sent (99 B)");
    assert_eq!(objects(&project, ".pivot/cache"), 4);
}

#[test]
fn one_reason_for_all_is_told_once() {
    let project = ran_project();
    project.write("remote", "no directory");
    let ended = project.pivot("push").exits(1);
    ended.says("FAIL  all 4 outputs: cannot create a file in").says("Not a directory");
    let failed = &project.pivot("push --json").exits(1).json()["failed"];
    assert_eq!(failed.as_array().unwrap().len(), 4, "{failed}");
    // The same under many names.
    project.remove("remote");
    project.write("remote/files", "no directory");
    let ended = project.pivot("push").exits(1).says("FAIL  all 4 outputs: cannot create `");
    assert_eq!(ended.stderr().lines().count(), 1, "{ended}");
}

#[test]
fn json_tells_it_all() {
    let project = ran_project();
    let pushed = project.pivot("push --json").succeeds().json();
    assert_eq!(pushed["moved"], 4);
    assert_eq!(pushed["records"], 3);
    assert_eq!(pushed["success"], true);
    fs::remove_file(project.path("remote").join(object_of(&project, "prepare", "clean.txt")))
        .unwrap();
    let clone = clone_of(&project);
    let pulled = clone.pivot("pull --json").exits(1).json();
    assert_eq!(pulled["success"], false);
    let stages: Vec<_> = pulled["failed"].as_array().unwrap().iter().map(|f| &f["stage"]).collect();
    assert_eq!(stages, ["prepare", "report", "train_model"]);
}

#[test]
fn push_one_fails() {
    let project = ran_project();
    let object = object_of(&project, "report", "report.txt");
    damage(project.path(".pivot/cache").join(&object), b"99\n");
    project
        .pivot("push")
        .exits(1)
        .says("FAIL  report: report.txt: cache object [hash] is damaged")
        .says("3 objects sent");
    assert!(!project.path("remote").join(&object).exists());
    // It is in its place in the project, so the cache is healed from there.
    project.pivot("push").succeeds().says("1 object sent");

    let other = ran_project();
    let object = object_of(&other, "prepare", "clean.txt");
    fs::remove_file(other.path(".pivot/cache").join(object)).unwrap();
    for path in ["clean.txt", "copy.txt", "model"] {
        other.remove(path);
    }
    other
        .pivot("push")
        .exits(1)
        .says("FAIL  prepare: clean.txt: cache object [hash] is missing")
        .says("FAIL  train_model: model: ")
        .says("`pivot run` makes what is missing");
}

#[test]
fn what_is_only_on_the_remote_is_no_failure() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let clone = clone_of(&project);
    clone.pivot("pull prepare").succeeds();
    clone.pivot("push").succeeds().says("already there");
}

#[test]
fn a_corrupt_object_of_the_remote_is_not_kept() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let object = object_of(&project, "prepare", "clean.txt");
    damage(project.path("remote").join(&object), b"other data\nother data\n");
    let clone = clone_of(&project);
    clone
        .pivot("pull")
        .exits(1)
        .says("FAIL  prepare: clean.txt: the remote's object [hash] is damaged");
    assert!(!clone.exists("clean.txt") && !clone.exists("model"));
    assert!(!clone.path(".pivot/cache").join(&object).exists());
    // Somebody who has it heals the remote.
    project.remove(".pivot/state.lmdb");
    fs::remove_file(project.path("remote").join(&object)).unwrap();
    project.pivot("push").succeeds().says("1 object sent");
    clone.pivot("pull").succeeds();
}

#[test]
fn remote_url_changed() {
    let project = ran_project();
    project.pivot("push").succeeds();
    project.pivot("config set remotes.origin elsewhere").succeeds();
    project.pivot("push").succeeds().says("4 objects sent");
    assert_eq!(objects(&project, "elsewhere"), 4);
}

#[test]
fn what_a_person_changed_is_kept_aside() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let clone = clone_of(&project);
    clone.write("clean.txt", "mine\n");
    clone.pivot("pull").succeeds().says("`clean.txt` held something else");
    assert_eq!(clone.read("clean.txt"), "some data\nsome data\n");
    assert_eq!(clone.read(".pivot/saved/clean.txt"), "mine\n");
}

#[test]
fn outputs_without_a_cache_are_passed_over() {
    let project = project()
        .file("pivot.yaml", "stages: {a: {cmd: echo x > a.txt; echo y > b.txt, outs: [a.txt, {path: b.txt, cache: false}]}}\n")
        .file(".pivot/config.yaml", "remotes: {origin: remote}\ndefault_remote: origin\n");
    project.pivot("run").succeeds();
    let pushed = project.pivot("push").succeeds().says("a: b.txt is not kept in the cache");
    assert_eq!(pushed.stdout(), "1 object sent (2 B)\n");
    project.remove("b.txt");
    project.pivot("pull").succeeds().says("a: b.txt is not kept in the cache");
}

#[test]
fn an_evil_listing_writes_nothing_outside() {
    let project = ran_project();
    project.pivot("push").succeeds();
    let victim = project.path("victim");
    fs::write(&victim, "unharmed").unwrap();
    let files = project.path("remote/files");
    fs::create_dir_all(files.join("..x")).unwrap();
    fs::write(files.join("..x/evil"), "x").unwrap();
    fs::write(files.join("not an object"), "x").unwrap();
    let object = project.path("remote").join(object_of(&project, "prepare", "clean.txt"));
    fs::remove_file(&object).unwrap();
    symlink(&victim, &object).unwrap();
    let clone = clone_of(&project);
    clone.pivot("pull prepare").exits(1).says("FAIL  prepare: clean.txt");
    assert!(!clone.exists("clean.txt"));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "unharmed");
    // A lock cannot lead out of the project either.
    let lock = clone.lock("prepare").replace("clean.txt", "../../victim");
    clone.write(".pivot/stages/prepare.lock", &lock);
    clone.pivot("pull prepare").exits(1).says("lock");
}

#[test]
fn no_python_is_started_and_none_is_needed() {
    let project = project()
        .file("pipeline.py", "from pivot import stage\n\n\n@stage(outs=['x.txt'])\ndef make(out):\n    open(out, 'w').write('x')\n")
        .file(".pivot/config.yaml", "remotes: {origin: remote}\ndefault_remote: origin\n");
    project.pivot("run").succeeds();
    project.write("pipeline.py", "this is no Python\n");
    let project = project.env("PATH", "/nowhere");
    project.pivot("push").succeeds().says("1 object sent");
    project.remove("x.txt");
    project.remove(".pivot/cache");
    project.pivot("pull").succeeds();
    assert_eq!(project.read("x.txt"), "x");
}

#[test]
fn status_tells_what_is_where() {
    let project = ran_project();
    project.pivot("push report").succeeds();
    insta::assert_snapshot!(project.pivot("status --remote").succeeds(), @r"
    exit: 0
    train_model: model: not on the remote
    4 outputs: 3 on `origin`, 4 in the cache
    ");
    let clone = clone_of(&project);
    let status = clone.pivot("status --remote prepare --json").succeeds().json();
    assert_eq!(status["outputs"][0]["in_cache"], false);
    assert_eq!(status["outputs"][0]["on_remote"], true);
    clone.pivot("status --remote train_model").succeeds().says("neither in the cache nor");
    clone.pivot("status --remote -r other").exits(1).says("known remotes: origin");
    clone.pivot("status -r origin").exits(2);
}

#[test]
fn the_doctor_examines_a_remote() {
    let project = ran_project();
    let examined = project.pivot("doctor --remote").succeeds();
    for finding in ["remote `origin` is", "it answers", "can be written to", "can be read"] {
        assert!(examined.stdout().contains(finding), "{examined}");
    }
    project.write("file", "no directory");
    project.pivot("config set remotes.broken file").succeeds();
    project.pivot("doctor --remote -r broken").exits(1).says("problem it cannot be written to");
    project.pivot("doctor --remote -r other").exits(1).says("known remotes: broken, origin");
}
