//! Commands that only read: list, dag, status, doctor.

use crate::support::{Project, project};

fn new_project() -> Project {
    project()
        .file(
            "pivot.yaml",
            "\
stages:
  load:
    cmd: cp raw.csv table.csv
    deps: [raw.csv]
    outs: [table.csv]
  train:
    cmd: cp table.csv ${size}.bin
    deps: [table.csv]
    outs: ['${size}.bin']
    params: {seed: 1}
    matrix: {size: [s, l]}
  report:
    cmd: cat s.bin l.bin >metrics.json
    deps: [s.bin, l.bin]
    metrics: [metrics.json]
    mutex: [disk]
",
        )
        .file("raw.csv", "1\n")
}

#[test]
fn list_shows_what_stages_read_and_write() {
    insta::assert_snapshot!(new_project().pivot("list"), @r"
    exit: 0
    load  (cp raw.csv table.csv, pivot.yaml:2:3)
      <- raw.csv
      -> table.csv
    train@s  (cp table.csv s.bin, pivot.yaml:6:3)
      <- table.csv
      -> s.bin
    train@l  (cp table.csv l.bin, pivot.yaml:6:3)
      <- table.csv
      -> l.bin
    report  (cat s.bin l.bin >metrics.json, pivot.yaml:12:3)
      <- s.bin
      <- l.bin
      -> metrics.json  (metric)
    ");
    insta::assert_snapshot!(new_project().pivot("list report --json"), @r#"
    exit: 0
    {
      "schema_version": 1,
      "stages": [
        {
          "stage": "report",
          "action": "cat s.bin l.bin >metrics.json",
          "file": "pivot.yaml",
          "line": 12,
          "deps": [
            "s.bin",
            "l.bin"
          ],
          "outs": [
            {
              "path": "metrics.json",
              "kind": "metric",
              "cache": false
            }
          ],
          "params": {},
          "mutex": [
            "disk"
          ],
          "cwd": null
        }
      ]
    }
    "#);
}

#[test]
fn dag_shows_who_needs_whom() {
    let project = new_project();
    insta::assert_snapshot!(project.pivot("dag"), @r"
    exit: 0
    load
    train@s <- load
    train@l <- load
    report <- train@s, train@l
    ");
    insta::assert_snapshot!(project.pivot("dag train@s --format dot"), @r#"
    exit: 0
    digraph pipeline {
        rankdir = LR;
        "load";
        "train@s";
        "load" -> "train@s";
    }
    "#);
    insta::assert_snapshot!(project.pivot("dag --format mermaid"), @r#"
    exit: 0
    flowchart LR
        s0["load"]
        s1["train@s"]
        s0 --> s1
        s2["train@l"]
        s0 --> s2
        s3["report"]
        s1 --> s3
        s2 --> s3
    "#);
    let json = project.pivot("dag --json").succeeds().json();
    assert_eq!(json["stages"][3]["upstream"], serde_json::json!(["train@s", "train@l"]));
}

#[test]
fn status_shows_what_a_run_would_do() {
    let project = new_project();
    project.pivot("run").succeeds();
    project.write("raw.csv", "2\n");
    project.remove("s.bin");
    insta::assert_snapshot!(project.pivot("status"), @r"
    exit: 0
    load     WILL RUN      Input dependencies changed
    train@s  MAY RUN       upstream 'load' may change
    train@l  MAY RUN       upstream 'load' may change
    report   MAY RUN       upstream 'train@s', 'train@l' may change
    ");
    project.write("raw.csv", "1\n");
    insta::assert_snapshot!(project.pivot("status"), @r"
    exit: 0
    load     UNCHANGED     unchanged
    train@s  WILL RESTORE  Outputs missing
    train@l  UNCHANGED     unchanged
    report   UNCHANGED     unchanged
    ");
    project.pivot("run").succeeds();
    insta::assert_snapshot!(project.pivot("status train@l"), @r"
    exit: 0
    load     UNCHANGED     unchanged
    train@l  UNCHANGED     unchanged
    ");
}

#[test]
fn doctor_finds_all_well() {
    let finished = new_project().pivot("doctor").succeeds();
    finished.says("ok      stages in the pipeline: 4").does_not_say("problem");
}

#[test]
fn doctor_names_what_is_wrong() {
    let project = new_project().env("PIVOT_PYTHON", "/no/such/python");
    project.pivot("doctor").exits(1).says("problem python /no/such/python");
}

#[test]
fn reading_commands_write_no_lock_and_no_output() {
    let project = new_project();
    for command in [
        "list",
        "dag",
        "status",
        "status --json",
        "params show",
        "run -n",
        "run --explain",
        "doctor",
    ] {
        project.pivot(command).succeeds();
    }
    assert!(!project.exists("table.csv") && !project.exists(".pivot/stages/load.lock"));
    assert!(!project.exists(".pivot/cache/files"));
}
