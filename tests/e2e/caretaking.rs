//! The commands that look after the cache and the workspace.

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
    cmd: echo twice >>ran.log; mkdir -p twice; cp upper.txt twice/a; cp data.txt twice/b
    deps: [upper.txt, data.txt]
    outs: [twice]
";

fn ran_project() -> Project {
    let project = project().file("pivot.yaml", PIPELINE).file("data.txt", "abc");
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["twice", "upper"]);
    project
}

fn git(project: &Project, arguments: &str) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=x", "-c", "user.email=x@example.org"]);
    let output = command.args(arguments.split(' ')).current_dir(project.root()).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Writes other bytes of the same length into the object that holds `text`.
fn damage(project: &Project, text: &str) {
    for object in project.files_in(".pivot/cache/files") {
        if project.read(&object) == text {
            std::fs::remove_file(project.path(&object)).unwrap();
            project.write(&object, &"#".repeat(text.len()));
        }
    }
}

fn objects(project: &Project) -> usize {
    project.files_in(".pivot/cache/files").len()
}

#[test]
fn checkout_brings_what_the_locks_record_and_saves_edits() {
    let project = ran_project();
    git(&project, "init --quiet");
    std::fs::write(project.path(".gitignore"), "/upper.txt\n/twice\n/ran.log\n").unwrap();
    git(&project, "add -A");
    git(&project, "commit --quiet -m one");
    project.write("data.txt", "xyz");
    project.pivot("run").succeeds();
    project.ran();
    git(&project, "checkout --quiet -- .");
    project.write("upper.txt", "mine");
    project.pivot("checkout -n").succeeds().says("bring   upper.txt");
    assert_eq!(project.read("upper.txt"), "mine");
    insta::assert_snapshot!(project.pivot("checkout"), @r"
    exit: 0
    2 brought, 0 already there
    --- stderr
    done  twice
    note: `upper.txt` held something else: it is now `.pivot/saved/upper.txt`
    done  upper.txt
    ");
    assert_eq!(project.read("upper.txt") + &project.read("twice/a"), "ABCABC");
    assert_eq!(project.read(".pivot/saved/upper.txt"), "mine");
    project.pivot("run").succeeds();
    assert!(project.ran().is_empty());
}

#[test]
fn checkout_names_what_the_cache_lacks_and_harms_nothing() {
    let project = ran_project();
    project.remove(".pivot/cache");
    project.write("upper.txt", "mine");
    let finished = project.pivot("checkout").exits(1);
    let finished = finished.says("FAIL  upper.txt: cache object [hash] is missing");
    finished.says("`pivot pull`").says("1 already there, 1 failed");
    assert_eq!(project.read("upper.txt"), "mine");
}

#[test]
fn verify_finds_edits_and_damage_that_stat_cannot_show() {
    let project = ran_project();
    project.pivot("verify").succeeds().says("2 outputs: 0 wrong");
    damage(&project, "ABC");
    let finished = project.pivot("verify").exits(1);
    finished.says("damaged; stored again from the workspace");
    project.pivot("verify").succeeds();
    project.write("upper.txt", "edit");
    let finished = project.pivot("verify --json").exits(1);
    assert_eq!(finished.json()["success"], false);
    project.pivot("verify twice").succeeds();
    project.remove("upper.txt");
    project.pivot("verify upper").exits(1).says("not in the workspace");
}

#[test]
fn verify_tells_locks_that_do_not_fit_together_and_finds_nothing_wrong_with_them() {
    let project = ran_project();
    project.write("data.txt", "new");
    project.pivot("run -s upper").succeeds();
    let finished = project.pivot("verify").succeeds();
    finished.says("stale  twice: it read another `upper.txt` than `upper` wrote");
}

#[test]
fn gc_keeps_what_branches_stashes_and_the_index_need() {
    let project = ran_project();
    git(&project, "init --quiet");
    project.write(".gitignore", "/upper.txt\n/twice\n/ran.log\n/data.txt\n");
    git(&project, "add -A");
    git(&project, "commit --quiet -m one");
    git(&project, "branch kept");
    for (text, after) in [("in stash", "stash --quiet"), ("in index", "add -A"), ("forgotten", "")]
    {
        project.write("data.txt", text);
        project.pivot("run").succeeds();
        if !after.is_empty() {
            git(&project, after);
        }
    }
    project.write("data.txt", "now");
    project.pivot("run").succeeds();
    let before = objects(&project);
    project.pivot("gc --grace 0").succeeds().says("would remove: 3 objects");
    assert_eq!(objects(&project), before);
    project.pivot("gc -f").succeeds().says("removed: 0 objects");
    project.pivot("gc -f --grace 0").succeeds().says("removed: 3 objects");
    let left: Vec<String> =
        project.files_in(".pivot/cache/files").iter().map(|file| project.read(file)).collect();
    for text in ["ABC", "IN STASH", "IN INDEX", "NOW"] {
        assert!(left.iter().any(|kept| kept == text), "{text} was collected");
    }
    assert!(!left.iter().any(|kept| kept == "FORGOTTEN"));
    project.pivot("cache fsck").succeeds();
}

#[test]
fn gc_of_a_broken_lock_keeps_all_hashes_in_it() {
    let project = ran_project();
    let lock = format!("<<<<<<< ours\n{}", project.lock("twice"));
    project.write(".pivot/stages/twice.lock", &lock);
    project.pivot("gc -f --grace 0").succeeds().says("not in git").says("removed: 0 objects");
}

#[test]
fn gc_refuses_while_a_run_goes_on_and_when_it_cannot_know() {
    let waiting = "stages: {wait: {cmd: 'touch begun; while ! test -e go; do sleep 0.01; done; \
                   echo x >out', outs: [out]}}\n";
    let project = project().file("pivot.yaml", waiting);
    let running = project.start("run");
    project.wait_for("begun");
    project.pivot("gc -f --grace 0").exits(1).says("the cache is in use");
    project.write("go", "");
    running.finish().succeeds();
    project.pivot("gc -f --grace 0").succeeds().says("removed: 0 objects");

    // A `.git` that git does not understand may hold anything.
    project.write(".git/HEAD", "nonsense");
    project.pivot("gc -f --grace 0").exits(1).says("nothing was removed");
}

#[test]
fn fsck_reports_every_kind_of_damage() {
    let project = ran_project();
    damage(&project, "ABC");
    project.write(".pivot/cache/files/ab/notes", "x");
    for object in project.files_in(".pivot/cache/files") {
        if project.read(&object) == "abc" {
            std::fs::set_permissions(project.path(&object), PermissionsExt::from_mode(0o644))
                .unwrap();
        }
    }
    let finished = project.pivot("cache fsck").exits(1);
    let finished = finished.says("is damaged: it is now").says("lacks 1 files, such as `a`");
    finished.says("is no object").says("read-only again").says("2 damaged");
    // The workspace has the right bytes: verifying heals.
    project.pivot("verify").exits(1).says("stored again");
    project.pivot("cache fsck --json").succeeds();
}

#[test]
fn commit_accepts_an_edit_without_running() {
    let project = ran_project();
    project.replace("pivot.yaml", "tr a-z A-Z <data.txt", "tr '[a-z]' '[A-Z]' <data.txt");
    project.pivot("commit").exits(2);
    insta::assert_snapshot!(project.pivot("commit upper twice"), @r"
    exit: 0
    1 recorded, 1 unchanged
    --- stderr
    recorded  upper: Code dependency changed
    ");
    project.pivot("run").succeeds();
    assert!(project.ran().is_empty());
    project.remove("upper.txt");
    project.replace("pivot.yaml", "cp data.txt", "cp  data.txt");
    project.pivot("commit upper").exits(1).says("did not write its output");
}

#[test]
fn tracked_data_is_kept_checked_out_and_not_collected() {
    let project = ran_project();
    git(&project, "init --quiet");
    project.pivot("track upper.txt").exits(1).says("stage `upper` writes `upper.txt`");
    project.pivot("track ../x").exits(1);
    project.write(".gitignore", "*.tmp");
    project.pivot("track nothing").exits(1).says("there is nothing");
    project.pivot("track data.txt").succeeds().says("tracked data.txt, 3 bytes");
    assert_eq!(project.read(".gitignore"), "*.tmp\n/data.txt\n");
    project.pivot("track data.txt").succeeds().says("unchanged data.txt");
    project.pivot("gc -f --grace 0").succeeds();
    project.remove("data.txt");
    project.pivot("checkout data.txt").succeeds().says("1 brought");
    assert_eq!(project.read("data.txt"), "abc");
    project.write("data.txt", "new");
    project.pivot("verify data.txt").exits(1).says("another content");
    project.pivot("track data.txt").succeeds();
    project.pivot("verify data.txt").succeeds();
    project.pivot("untrack data.txt").succeeds();
    assert_eq!(project.read("data.txt") + &project.read(".gitignore"), "new*.tmp\n");
    assert!(project.files_in(".pivot/tracked").is_empty());
}

#[test]
fn a_gc_or_checkout_that_is_killed_leaves_a_sound_project() {
    let project = ran_project();
    for number in 0..200 {
        project.write(&format!("junk/{number}"), &format!("junk {number}"));
    }
    project.pivot("track junk").succeeds();
    project.pivot("untrack junk").succeeds();
    for command in ["gc -f --grace 0", "gc -f --grace 0", "checkout", "checkout"] {
        project.write("upper.txt", "mine");
        let running = project.start(command);
        running.signal(libc::SIGKILL);
        drop(running.finish());
    }
    let (one, two) = (project.start("gc -f --grace 0"), project.start("gc -f --grace 0"));
    // The second one ends too, or says that the first has the cache.
    drop((one.finish(), two.finish()));
    project.pivot("gc -f --grace 0").succeeds();
    project.pivot("checkout").succeeds();
    project.pivot("verify").succeeds();
    project.pivot("cache fsck").succeeds();
    assert_eq!(project.read("upper.txt"), "ABC");
    assert!(project.files_in(".pivot/saved").iter().any(|saved| project.read(saved) == "mine"));
}
