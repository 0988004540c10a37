//! `pivot verify --rerun`: which stages do not write the same twice, and nothing of the project is
//! touched.

use std::collections::BTreeMap;

use crate::support::{Project, eventually, project};

const PIPELINE: &str = "\
stages:
  upper:
    cmd: tr a-z A-Z <data.txt >upper.txt
    deps: [data.txt]
    outs: [upper.txt]
  noise:
    cmd: mkdir -p noise; head -c 8 /dev/urandom >noise/random; cp upper.txt noise/copy
    deps: [upper.txt]
    outs: [noise]
  count:
    cmd: cat noise/random noise/copy | wc -c >count.txt
    deps: [noise]
    outs: [count.txt]
";

fn ran_project() -> Project {
    let project = project().file("pivot.yaml", PIPELINE).file("data.txt", "abc");
    project.pivot("run").succeeds();
    project
}

/// The bytes of all files but those of this machine's memory.
fn files(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let own = [".pivot/state.lmdb", ".pivot/run/", ".pivot/rerun/", ".pivot/cache/guard.flock"];
    let files = project.files_in("").into_iter();
    let files = files.filter(|file| !own.iter().any(|own| file.starts_with(own)));
    files.map(|file| (file.clone(), std::fs::read(project.path(&file)).unwrap())).collect()
}

#[test]
fn a_stage_that_writes_something_else_is_named_and_no_other() {
    let project = ran_project();
    let before = files(&project);
    insta::assert_snapshot!(project.pivot("verify --rerun -j1"), @r"
    exit: 1
    same         upper
    differs      noise
                 noise: [hash] recorded, now [hash]
    same         count
    3 stages: 2 same, 1 differs
    --- stderr
    run   upper: Forced
    done  upper in [time]
    run   noise: Forced
    done  noise in [time]
    run   count: Forced
    done  count in [time]
    ");
    assert_eq!(files(&project), before);
    assert!(!project.exists(".pivot/rerun"));
    project.pivot("verify --rerun upper count").succeeds().says("2 stages: 2 same");
    let finished = project.pivot("verify --rerun --json noise").exits(1);
    let json = finished.json();
    assert_eq!(json["stages"][0]["result"], "differs");
    assert_eq!(json["stages"][0]["differs"][0]["path"], "noise");
    assert_eq!(files(&project), before);
    project.pivot("run").succeeds().says("3 unchanged");
}

#[test]
fn python_stages_run_again_in_the_copy_with_their_modules() {
    let pipeline = "import time, pathlib, helper\nfrom pivot import Pipeline\n\
        def same(source, out):\n    pathlib.Path(out).write_text(helper.twice(source))\n\
        def clock(out):\n    pathlib.Path(out).write_text(str(time.time_ns()))\n\
        pipeline = Pipeline()\n\
        pipeline.add_stage(same, deps=['in.txt'], outs=['same.txt'])\n\
        pipeline.add_stage(clock, outs=['clock.txt'])\n";
    let helper = "import pathlib\nHERE = pathlib.Path(__file__).parent\n\
        def twice(path):\n    return (HERE / path).read_text() * 2\n";
    let project = project().file("pipeline.py", pipeline).file("helper.py", helper);
    project.write("in.txt", "x");
    project.pivot("run").succeeds();
    let before = files(&project);
    let finished = project.pivot("verify --rerun").exits(1);
    finished.says("same         same").says("differs      clock").says("clock.txt: ");
    assert_eq!(files(&project), before);
    project.pivot("verify --rerun same").succeeds();
}

#[test]
fn inputs_are_what_the_lock_records_and_not_what_lies_there() {
    let project = ran_project();
    project.remove("upper.txt");
    project.write("count.txt", "mine");
    project.pivot("verify --rerun noise count").exits(1).says("1 differs, 1 same");
    assert_eq!(project.read("count.txt"), "mine");
    assert!(!project.exists("upper.txt"));
    // Another content of a source file is in no cache.
    project.write("data.txt", "xyz");
    let finished = project.pivot("verify --rerun upper").exits(1);
    finished.says("not checked  upper: its dependency `data.txt` cannot be had as recorded");
    project.write("data.txt", "abc");
    project.replace("pivot.yaml", "tr a-z A-Z", "tr '[a-z]' '[A-Z]'");
    let finished = project.pivot("verify --rerun upper").exits(1);
    finished.says("not checked  upper: Code dependency changed; `pivot run` brings it up to date");
    project.remove(".pivot/stages/upper.lock");
    project.pivot("verify --rerun upper").exits(1).says("not checked  upper: No previous run");
}

#[test]
fn a_stage_that_fails_the_second_time_does_not_stop_the_others() {
    let pipeline = "stages: {once: {cmd: 'mkdir \"$MARK\" && echo 1 >once.txt', outs: [once.txt]}, \
        two: {cmd: 'cp once.txt two.txt', deps: [once.txt], outs: [two.txt]}}\n";
    let mark = tempfile::tempdir().unwrap();
    let project = project().file("pivot.yaml", pipeline);
    let project = project.env("MARK", &mark.path().join("mark").display().to_string());
    project.pivot("run").succeeds();
    let finished = project.pivot("verify --rerun").exits(1);
    finished.says("failed       once: ended with exit code 1").says("same         two");
    assert_eq!(project.read("two.txt"), "1\n");
}

#[test]
fn a_stage_that_writes_to_its_input_harms_only_the_copy() {
    let pipeline = "stages: {bad: {cmd: 'test -e out.txt || echo y >out.txt; test ! -e \"$MARK\" || \
        echo more >>data/in.txt', deps: [data], outs: [out.txt]}}\n";
    let mark = tempfile::NamedTempFile::new().unwrap();
    let path = mark.path().to_owned();
    let project = project().file("pivot.yaml", pipeline).file("data/in.txt", "x\n");
    let project = project.env("MARK", &path.display().to_string());
    let kept = mark.into_temp_path();
    std::fs::remove_file(&kept).unwrap();
    project.pivot("track data").succeeds();
    project.pivot("run").succeeds();
    std::fs::write(&path, "").unwrap();
    let before = files(&project);
    let finished = project.pivot("verify --rerun").exits(1);
    finished.says("failed       bad: its dependency `data` changed while it ran");
    assert_eq!(files(&project), before);
}

#[test]
fn incremental_outputs_are_passed_over() {
    let pipeline = "import os\nfrom pivot import Pipeline, IncrementalOut\n\
        def add(log):\n    open(log, 'a').write('x')\n\
        pipeline = Pipeline()\n\
        pipeline.add_stage(add, outs=[IncrementalOut('log.txt')])\n";
    let project = project().file("pipeline.py", pipeline);
    project.pivot("run").succeeds();
    let finished = project.pivot("verify --rerun").succeeds();
    finished.says("passed over  add: `log.txt` goes on from what it held before");
    assert_eq!(project.read("log.txt"), "x");
}

#[test]
fn what_a_stage_writes_to_an_absolute_path_of_the_project_is_told() {
    let project = project();
    let out = project.path("out.txt");
    let cmd = format!("date +%s%N >{}", out.display());
    project.write("pivot.yaml", &format!("stages: {{s: {{cmd: '{cmd}', outs: [out.txt]}}}}\n"));
    project.pivot("run").succeeds();
    let finished = project.pivot("verify --rerun").exits(1);
    finished.says("changed in the project meanwhile: `out.txt`").says("did not write its output");
}

#[test]
fn killed_at_any_moment_it_leaves_the_project_as_it_was() {
    let pipeline = "stages: {wait: {cmd: 'test ! -e \"$HOLD\" || { touch \"$HOLD.begun\"; sleep 100; }; \
        echo x >out.txt', outs: [out.txt]}}\n";
    let hold = tempfile::tempdir().unwrap();
    let held = hold.path().join("hold");
    let project = project().file("pivot.yaml", pipeline).env("HOLD", &held.display().to_string());
    project.pivot("run").succeeds();
    let before = files(&project);
    std::fs::write(&held, "").unwrap();
    let running = project.start("verify --rerun");
    eventually("the stage begins", || held.with_extension("begun").exists());
    project.pivot("verify --rerun").exits(1).says("another process runs it");
    running.signal(libc::SIGKILL);
    drop(running.finish());
    assert_eq!(files(&project), before);
    assert!(project.exists(".pivot/rerun"));
    std::fs::remove_file(&held).unwrap();
    project.pivot("run").succeeds().says("1 unchanged");
    project.pivot("verify --rerun").succeeds();
    assert!(!project.exists(".pivot/rerun"));
    assert_eq!(files(&project), before);

    std::fs::write(&held, "").unwrap();
    std::fs::remove_file(held.with_extension("begun")).unwrap();
    let running = project.start("verify --rerun");
    eventually("the stage begins", || held.with_extension("begun").exists());
    running.signal(libc::SIGINT);
    running.finish().exits(130);
    assert!(!project.exists(".pivot/rerun"));
    assert_eq!(files(&project), before);
}

#[test]
fn an_older_gitignore_gets_the_lines_that_it_lacks() {
    let project = project().file("pivot.yaml", PIPELINE).file("data.txt", "abc");
    project.write(".pivot/.gitignore", "/cache/\n# mine\n*.bak");
    project.pivot("run").succeeds();
    let ignored = project.read(".pivot/.gitignore");
    assert!(ignored.starts_with("/cache/\n# mine\n*.bak\n/"), "{ignored}");
    assert_eq!(ignored.lines().filter(|line| *line == "/cache/").count(), 1);
    assert!(ignored.contains("\n/rerun/\n"), "{ignored}");
    project.pivot("run -f").succeeds();
    assert_eq!(project.read(".pivot/.gitignore"), ignored);
}
