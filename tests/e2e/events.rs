//! `pivot run --json`: an event a line, for programs.

use serde_json::Value;

use crate::support::project;

const PIPELINE: &str = "\
stages:
  one: {cmd: 'echo hello; cp data.txt one.txt', deps: [data.txt], outs: [one.txt]}
  two: {cmd: 'echo oh no >&2; exit 4', deps: [one.txt], outs: [two.txt]}
  three: {cmd: cp two.txt three.txt, deps: [two.txt], outs: [three.txt]}
";

/// An event in short; the schema version is checked on the way.
fn short(event: &Value) -> String {
    assert_eq!(event["schema_version"], 1, "{event}");
    let word = |key: &str| event[key].as_str().unwrap_or("-").to_owned();
    format!("{} {} {}", word("event"), word("stage"), word("outcome"))
}

#[test]
fn every_line_is_an_event_and_the_last_one_sums_up() {
    let project = project().file("pivot.yaml", PIPELINE).file("data.txt", "1");
    let finished = project.pivot("run --json --show-output").exits(1);
    let events = finished.json_lines();
    let lines: Vec<String> = events.iter().map(short).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    started one -
    printed one -
    ended one ran
    started two -
    printed two -
    ended two failed
    ended three not started
    summary - -
    ");
    assert_eq!(finished.stderr(), "", "a program reads standard output only");

    let of = |outcome: &str| events.iter().find(|event| event["outcome"] == outcome).unwrap();
    for key in ["seconds", "cpu_seconds", "peak_memory_bytes"] {
        assert!(of("ran")[key].as_f64().unwrap() >= 0.0, "{key}");
        assert!(of("failed")[key].as_f64().unwrap() >= 0.0, "{key}");
    }
    assert_eq!(of("failed")["error"], "ended with exit code 4");
    assert_eq!(of("failed")["output"], "oh no\n");
    assert_eq!(of("not started")["upstream"], "two");
    let printed: Vec<_> = events.iter().filter(|event| event["event"] == "printed").collect();
    assert_eq!((&printed[0]["stream"], &printed[0]["line"]), (&"stdout".into(), &"hello".into()));
    assert_eq!((&printed[1]["stream"], &printed[1]["line"]), (&"stderr".into(), &"oh no".into()));
    let summary = events.last().unwrap();
    assert_eq!(summary["success"], false);
    assert_eq!(summary["stages"].as_array().unwrap().len(), 3);
}

#[test]
fn the_reasons_are_data() {
    let project = project()
        .file(
            "pivot.yaml",
            "stages: {one: {cmd: cp data.txt one.txt, deps: [data.txt], outs: [one.txt]}}",
        )
        .file("data.txt", "1");
    project.pivot("run").succeeds();
    project.write("data.txt", "2");
    let events = project.pivot("run --json").succeeds().json_lines();
    let reason = &events[0]["reasons"][0];
    assert_eq!(reason["reason"], "Input dependencies changed");
    assert_eq!(reason["changes"][0]["path"], "data.txt");
    assert_eq!(reason["changes"][0]["new"].as_str().map(str::len), Some(16));

    let events = project.pivot("run --json").succeeds().json_lines();
    let summary = events.last().unwrap();
    assert_eq!(summary["stages"][0]["outcome"], "unchanged");
    assert_eq!(summary["success"], true);
}

#[test]
fn a_stage_that_ran_before_is_expected_to_take_as_long() {
    let project = project().file("pivot.yaml", PIPELINE).file("data.txt", "1");
    let expected = || {
        let events = project.pivot("run --json").exits(1).json_lines();
        let started =
            events.iter().find(|event| event["event"] == "started" && event["stage"] == "one");
        started.expect("the stage starts")["expected_seconds"].clone()
    };
    assert_eq!(expected(), Value::Null, "nothing is known of the first run");
    project.write("data.txt", "2");
    assert!(expected().as_f64().expect("the second run knows the first") > 0.0);
}

#[test]
fn what_is_left_is_told_as_far_as_it_is_known() {
    let yaml = "\
stages:
  one: {cmd: cp data.txt one.txt, deps: [data.txt], outs: [one.txt]}
  two: {cmd: cp one.txt two.txt, deps: [one.txt], outs: [two.txt]}
";
    let project = project().file("pivot.yaml", yaml).file("data.txt", "1");
    let remaining = || {
        let events = project.pivot("run --json").succeeds().json_lines();
        events.iter().map(|event| event["remaining"].clone()).collect::<Vec<_>>()
    };
    let first = remaining();
    let counts: Vec<_> = first.iter().map(|left| left["stages"].as_u64()).collect();
    assert_eq!(counts, [Some(2), Some(1), Some(1), Some(0), None]);
    assert_eq!((&first[0]["unknown_stages"], &first[0]["seconds"]), (&2.into(), &Value::Null));

    project.write("data.txt", "2");
    let second = remaining();
    assert_eq!(second[0]["unknown_stages"], 0);
    let seconds = |index: usize| second[index]["seconds"].as_f64().expect("both stages ran before");
    assert!(seconds(0) > seconds(1) && seconds(1) > 0.0, "{second:?}");
}
