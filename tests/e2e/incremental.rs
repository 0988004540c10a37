//! Incremental outputs: restored before the run, appended to, and kept as copies.

use std::os::unix::fs::MetadataExt;

use crate::support::{Project, project};

const PIPELINE: &str = r#"from pivot import stage, IncrementalOut

@stage(deps=['new_data.csv'], outs=[IncrementalOut('database.db')])
def append_to_database():
    # database.db is restored from cache before execution
    # Stage can append to it rather than recreating from scratch
    import sqlite3
    conn = sqlite3.connect('database.db')
    conn.execute('create table if not exists records (text)')
    with open('new_data.csv') as file:
        conn.executemany('insert into records values (?)', [[line.strip()] for line in file])
    conn.commit()
    conn.close()
"#;

const READ: &str = "\
import sqlite3
for row in sqlite3.connect('database.db').execute('select text from records order by rowid'):
    print(*row)
";

fn records(project: &Project) -> Vec<String> {
    let mut python = std::process::Command::new("python3");
    let output = python.args(["-c", READ]).current_dir(project.root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn ran_project() -> Project {
    let project = project().file("pipeline.py", PIPELINE).file("new_data.csv", "one\ntwo\n");
    project.pivot("run").succeeds();
    project
}

#[test]
fn a_stage_appends_to_what_it_wrote_before() {
    let project = ran_project();
    assert_eq!(records(&project), ["one", "two"]);
    project.write("new_data.csv", "three\n");
    project.pivot("run").succeeds();
    assert_eq!(records(&project), ["one", "two", "three"]);
    assert_eq!(project.pivot("run").succeeds().counts(), "1 stage: 1 unchanged ([time])");
}

#[test]
fn the_previous_version_is_restored_before_the_run() {
    let project = ran_project();
    project.remove("database.db");
    project.write("new_data.csv", "three\n");
    project.pivot("run").succeeds();
    assert_eq!(records(&project), ["one", "two", "three"]);
}

#[test]
fn the_workspace_has_a_copy_that_may_be_written() {
    let project = ran_project();
    let file = std::fs::symlink_metadata(project.path("database.db")).unwrap();
    assert!(file.is_file());
    assert_eq!(file.nlink(), 1, "it is linked to a cache object");
    assert_ne!(file.mode() & 0o200, 0, "its owner may not write it");

    project.remove("database.db");
    project.pivot("run").succeeds();
    let file = std::fs::symlink_metadata(project.path("database.db")).unwrap();
    assert!(file.is_file());
    assert_eq!((file.nlink(), file.mode() & 0o200), (1, 0o200), "after a restore");
}

#[test]
fn a_stage_that_fails_in_the_middle_appends_nothing() {
    let project = ran_project();
    project.write("new_data.csv", "three\n");
    project.replace(
        "pipeline.py",
        "    conn.close()\n",
        "    conn.close()\n    raise ValueError('late')\n",
    );
    project.pivot("run").exits(1).says("ValueError: late");
    project.replace("pipeline.py", "    raise ValueError('late')\n", "");
    project.pivot("run").succeeds();
    assert_eq!(records(&project), ["one", "two", "three"]);
}

#[test]
fn an_earlier_run_is_never_repeated_from_the_run_cache() {
    let project = ran_project();
    project.write("new_data.csv", "three\n");
    project.pivot("run").succeeds();
    project.write("new_data.csv", "one\ntwo\n");
    project.pivot("run").succeeds();
    assert_eq!(records(&project), ["one", "two", "three", "one", "two"]);
}

const APPEND: &str = "\
stages:
  append:
    cmd: cat more >>log
    deps: [more]
    outs: [{log: {incremental: true}}]
";

#[test]
fn an_incremental_output_that_is_lost_is_told() {
    let project = project().file("pivot.yaml", APPEND).file("more", "one\n");
    project.pivot("run").succeeds();
    // Without the cache, what is in the workspace is gone on from.
    project.remove(".pivot/cache");
    project.write("more", "two\n");
    project.pivot("run").succeeds();
    assert_eq!(project.read("log"), "one\ntwo\n");

    project.remove(".pivot/cache");
    project.write("log", "mine\n");
    project.write("more", "three\n");
    insta::assert_snapshot!(project.pivot("run").errors(), @r"
    exit: 1
    FAIL  append: its incremental output `log` cannot be brought back
    caused by: cache object [hash] is missing
    hint: `pivot pull` brings it from a remote; to begin anew without it, delete the stage's lock in `.pivot/stages`
    ");
    assert_eq!(project.read("log"), "mine\n");
    project.remove(".pivot/stages/append.lock");
    project.pivot("run").succeeds();
    assert_eq!(project.read("log"), "three\n");
    assert_eq!(project.read(".pivot/saved/log"), "mine\n");
}

#[test]
fn a_file_that_was_there_before_the_first_run_is_not_lost() {
    let project = project().file("pivot.yaml", APPEND).file("more", "new\n").file("log", "mine\n");
    project.pivot("run").succeeds();
    let kept = project.read("log") == "mine\nnew\n"
        || project.files_in(".pivot/saved").iter().any(|file| project.read(file) == "mine\n");
    assert!(kept, "the user's file is gone");
}

#[test]
fn what_a_killed_stage_left_beside_its_database_is_not_played_into_the_restored_one() {
    let project = project()
        .file(
            "pipeline.py",
            r#"
import os, sqlite3
from pivot import stage, IncrementalOut

@stage(deps=["in.txt"], outs=[IncrementalOut("rows.db")])
def add(source, database):
    rows = sqlite3.connect(database)
    rows.execute("pragma journal_mode = wal")
    rows.execute("create table if not exists t (x)")
    rows.execute("insert into t values (?)", (open(source).read(),))
    rows.commit()
    if os.path.exists("crash"):
        os.kill(os.getpid(), 9)
    with open("seen.txt", "w") as file:
        file.write(",".join(x for x, in rows.execute("select x from t")))
    rows.close()
"#,
        )
        .file("in.txt", "a");
    project.pivot("run").succeeds();
    project.write("in.txt", "b");
    project.write("crash", "");
    project.pivot("run").exits(1);
    project.remove("crash");
    project.pivot("run").succeeds();
    assert_eq!(project.read("seen.txt"), "a,b");
}
