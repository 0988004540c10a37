//! The cache: where outputs are kept, and what is brought back from it without running.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{Project, project};

const PIPELINE: &str = "\
stages:
  upper:
    cmd: echo upper >>ran.log; tr a-z A-Z <data.txt >upper.txt
    deps: [data.txt]
    outs: [upper.txt]
  twice:
    cmd: echo twice >>ran.log; cat upper.txt upper.txt >twice.txt
    deps: [upper.txt]
    outs: [twice.txt]
";

fn ran_project() -> Project {
    let project = project().file("pivot.yaml", PIPELINE).file("data.txt", "abc");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["twice", "upper"]);
    project
}

#[test]
fn objects_lie_below_the_first_two_digits_of_their_hash() {
    let project = ran_project();
    let objects = project.files_in(".pivot/cache/files");
    let mut contents: Vec<String> = objects.iter().map(|file| project.read(file)).collect();
    contents.sort();
    assert_eq!(contents, ["ABC", "ABCABC"]);
    for object in objects {
        let parts: Vec<&str> = object.split('/').collect();
        assert_eq!((parts.len(), parts[3].len(), parts[4].len()), (5, 2, 14), "{object}");
        let hash = format!("{}{}", parts[3], parts[4]);
        let locks = project.lock("upper") + &project.lock("twice");
        assert!(locks.contains(&hash), "no lock names {hash}");
        let mode = std::fs::metadata(project.path(&object)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "{object} can be written");
    }
}

#[test]
fn git_sees_the_locks_and_nothing_else_of_pivot() {
    let project = ran_project();
    project.write(".pivot/config.yaml", "default_remote: origin\n");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(project.root()).output();
        String::from_utf8(output.expect("git is there").stdout).unwrap()
    };
    git(&["init", "--quiet"]);
    let seen = git(&["ls-files", "--others", "--exclude-standard", ".pivot"]);
    assert_eq!(seen, ".pivot/.gitignore\n.pivot/stages/twice.lock\n.pivot/stages/upper.lock\n");
}

#[test]
fn a_deleted_output_is_restored_without_running() {
    let project = ran_project();
    project.remove("upper.txt");
    project.remove("twice.txt");
    insta::assert_snapshot!(project.pivot("run"), @r"
    exit: 0
    2 stages: 2 restored ([time])
    --- stderr
    done  upper: outputs restored from the cache
    done  twice: outputs restored from the cache
    ");
    assert!(project.ran().is_empty());
    assert_eq!(project.read("upper.txt") + &project.read("twice.txt"), "ABCABCABC");
}

#[test]
fn going_back_to_earlier_data_executes_nothing() {
    let project = ran_project();
    project.write("data.txt", "xyz");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["twice", "upper"]);

    project.write("data.txt", "abc");
    insta::assert_snapshot!(project.pivot("run --explain"), @r"
    exit: 0
    Stage: upper
      Status: WILL RESTORE
      Reason: unchanged (run cache)

      Dependencies:
        data.txt: [hash] → [hash]

    Stage: twice
      Status: WILL RESTORE
      Reason: unchanged (run cache)

      Dependencies:
        upper.txt: [hash] → [hash]
    ");
    insta::assert_snapshot!(project.pivot("run"), @r"
    exit: 0
    2 stages: 2 unchanged (run cache) ([time])
    --- stderr
    done  upper: unchanged (run cache)
    done  twice: unchanged (run cache)
    ");
    assert!(project.ran().is_empty());
    assert_eq!(project.read("twice.txt"), "ABCABC");
    assert_eq!(project.pivot("run").succeeds().counts(), "2 stages: 2 unchanged ([time])");
}

#[test]
fn a_damaged_object_is_never_restored() {
    for damage in ["ABX", "AB", ""] {
        let project = ran_project();
        for object in project.files_in(".pivot/cache/files") {
            let path = project.path(&object);
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
            if project.read(&object) == "ABC" {
                std::fs::remove_file(&path).unwrap();
                std::fs::write(&path, damage).unwrap();
            }
        }
        project.remove("upper.txt");
        let finished = project.pivot("run");
        let right = project.exists("upper.txt") && project.read("upper.txt") == "ABC";
        if !right {
            // Told, and right at the next run.
            finished.exits(1).says("upper");
            project.pivot("run").succeeds();
            assert_eq!(project.read("upper.txt"), "ABC", "damage {damage:?}");
        }
        project.remove("upper.txt");
        project.pivot("run").succeeds();
        assert_eq!(project.read("upper.txt"), "ABC", "the object is healed");
    }
}

#[test]
fn without_the_cache_stages_run_again() {
    let project = ran_project();
    project.remove(".pivot/cache");
    project.remove("twice.txt");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["twice"]);
    assert_eq!(project.read("twice.txt"), "ABCABC");
}

#[test]
fn an_edit_of_an_output_never_reaches_the_object() {
    for mode in ["auto", "copy", "hardlink", "symlink"] {
        let project = project()
            .file("pivot.yaml", PIPELINE)
            .file("data.txt", "abc")
            .file(".pivot/config.yaml", &format!("cache: {{checkout_mode: {mode}}}\n"));
        project.pivot("run").succeeds();
        project.remove("upper.txt");
        project.pivot("run").succeeds();
        // A stubborn editor: it writes in place even what is read-only.
        let upper = project.path("upper.txt");
        let real = upper.canonicalize().unwrap();
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(&upper, "edited").unwrap();
        project.ran();

        project.pivot("run").succeeds();
        assert_eq!(project.read("upper.txt"), "ABC", "with {mode}");
        let kept = |file: &String| project.read(file) == "edited";
        assert!(project.files_in(".pivot").iter().any(kept), "the edit is lost with {mode}");
        project.pivot("run").succeeds();
        assert_eq!(project.read("twice.txt"), "ABCABC", "with {mode}");
    }
}

#[test]
fn a_damaged_object_of_the_right_size_is_noticed_told_and_healed_in_the_same_run() {
    let project = ran_project();
    for object in project.files_in(".pivot/cache/files") {
        if project.read(&object) == "ABC" {
            let path = project.path(&object);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "ABX").unwrap();
        }
    }
    project.write("upper.txt", "mine");
    let finished = project.pivot("run");
    insta::assert_snapshot!(finished, @r"
    exit: 0
    2 stages: 1 ran, 1 unchanged ([time])
    --- stderr
    note: `upper.txt` cannot be brought back: cache object [hash] is damaged; `upper` has to run again
    note: `upper.txt` held something that `upper` did not write: it is now `.pivot/saved/upper.txt`
    run   upper: Outputs changed
    done  upper in [time]
    ");
    assert_eq!(project.ran(), ["upper"]);
    assert_eq!(project.read("upper.txt"), "ABC");
    assert_eq!(project.read(".pivot/saved/upper.txt"), "mine");
    project.remove("upper.txt");
    project.pivot("run").succeeds();
    assert!(project.ran().is_empty(), "the object was not healed");
}
