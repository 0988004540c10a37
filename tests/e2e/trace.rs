//! `pivot trace`: the record of a run, drawn by other programs.

use crate::support::project;

#[test]
fn a_run_is_recorded_with_its_phases() {
    let project = project().file(
        "pivot.yaml",
        "stages: {a: {cmd: touch a, outs: [a]}, b: {cmd: cp a b, deps: [a], outs: [b]}}",
    );
    project.pivot("trace").exits(1).says("no run has been recorded");
    project.pivot("run").succeeds();
    project.pivot("run").succeeds();
    assert_eq!(project.files_in(".pivot/runs").len(), 1, "a run without work leaves no record");
    let trace = project.pivot("trace").succeeds().json();
    let events = trace["traceEvents"].as_array().unwrap();
    let spans = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    for (name, count) in [("a", 1), ("b", 1), ("prepare", 2), ("run", 2), ("store", 2)] {
        assert_eq!(spans(name), count, "{name}: {trace}");
    }
    let a = events.iter().find(|event| event["name"] == "a").unwrap();
    assert_eq!(a["args"]["outcome"], "ran");
    assert!(a["args"]["peak_memory_bytes"].as_u64().unwrap() > 0);
    let list = project.pivot("trace --list").succeeds();
    assert!(list.stdout().contains("2 of 2 ran, done"), "{list}");
    project.pivot("trace never").exits(1).says("there is no record of a run `never`");
}

#[test]
fn records_may_be_missing_damaged_or_unwritable() {
    let project = project().file("pivot.yaml", "stages: {a: {cmd: touch a, outs: [a]}}");
    project.write(".pivot/runs", "a file in the way");
    project.pivot("run").succeeds();
    project.remove(".pivot/runs");
    project.write(".pivot/runs/x.json", "{");
    project.pivot("trace --list").succeeds();
    project.pivot("trace x").exits(1).says("cannot read the record of run `x`");
}
