//! What is sent to a remote and what never is, kind by kind; and what a second clone does with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::sharing::{object_in, object_of};
use crate::support::{Project, project};

const PIPELINE: &str = "\
from pivot import IncrementalOut, Metric, Out, Plot, stage


@stage(
    deps=['raw/input.csv', 'notes.txt'],
    outs=['parts', Out('scratch.txt', cache=False), Metric('score.json'), Plot('curve.csv')],
)
def split():
    import os
    open('ran.log', 'a').write('split\\n')
    print('a line for the log')
    os.makedirs('parts/inner', exist_ok=True)
    text = open('raw/input.csv').read()
    open('parts/first.txt', 'w').write(text[:1])
    open('parts/inner/rest.txt', 'w').write(text[1:])
    open('scratch.txt', 'w').write('scratch ' + text)
    open('score.json', 'w').write('{\"score\": 0.5}')
    open('curve.csv', 'w').write('x,y\\n1,2\\n')


@stage(deps=['parts/first.txt'], outs=[IncrementalOut('history.txt')])
def append():
    open('ran.log', 'a').write('append\\n')
    open('history.txt', 'a').write('seen ' + open('parts/first.txt').read())


@stage(deps=['history.txt', 'parts/inner'], outs=['result.txt'])
def last():
    open('ran.log', 'a').write('last\\n')
    inner = open('parts/inner/rest.txt').read()
    open('result.txt', 'w').write('result ' + inner + open('history.txt').read())
";

const MACHINE_ONLY: [&str; 6] = [
    ".pivot/cache",
    ".pivot/state.lmdb",
    ".pivot/run",
    ".pivot/logs",
    ".pivot/config.yaml",
    "ran.log",
];

/// Outputs and tracked data: git has none of them.
const IGNORED: [&str; 6] =
    ["parts", "scratch.txt", "curve.csv", "history.txt", "result.txt", "raw"];

fn pushed() -> Project {
    let project = project()
        .file("pipeline.py", PIPELINE)
        .file("raw/input.csv", "9 some raw data\n")
        .file("raw/unused.csv", "another file\n")
        .file("notes.txt", "notes\n")
        .file("params.yaml", "nobody: {}\n");
    project.pivot("track raw").succeeds();
    project.pivot("run").succeeds();
    assert_eq!(project.ran(), ["append", "last", "split"]);
    project.pivot("remote add origin remote").succeeds();
    project
}

fn clone_of(project: &Project) -> Project {
    let clone = project.cloned_without(&[&MACHINE_ONLY[..], &IGNORED, &["remote"]].concat());
    let url = project.path("remote");
    clone.pivot(&format!("remote add origin {}", url.display())).succeeds();
    clone
}

/// The bytes of all files below a directory.
fn contents(project: &Project, dir: &str) -> BTreeSet<Vec<u8>> {
    let files = project.files_in(dir);
    files.iter().map(|path| fs::read(project.path(path)).unwrap()).collect()
}

#[test]
fn the_table_of_what_is_transferred() {
    let project = pushed();
    project.pivot("push").succeeds().says("split: scratch.txt is not kept in the cache");
    let sent = contents(&project, "remote/files");
    for (what, path) in [
        ("a file in an output directory", "parts/first.txt"),
        ("a file below one", "parts/inner/rest.txt"),
        ("a metric", "score.json"),
        ("a plot", "curve.csv"),
        ("an incremental output", "history.txt"),
        ("an output", "result.txt"),
        ("tracked data", "raw/input.csv"),
        ("tracked data that no stage reads", "raw/unused.csv"),
    ] {
        assert!(sent.contains(&fs::read(project.path(path)).unwrap()), "{what} was not sent");
    }
    for (what, path) in [
        ("an output with `cache: false`", "scratch.txt"),
        ("a lock", ".pivot/stages/split.lock"),
        ("a log", ".pivot/logs/split.log"),
        ("the configuration", ".pivot/config.yaml"),
        ("code", "pipeline.py"),
        ("params", "params.yaml"),
        ("a dependency that git keeps", "notes.txt"),
    ] {
        assert!(!sent.contains(&fs::read(project.path(path)).unwrap()), "{what} was sent");
    }
    // Manifests name their hash; and beside objects and records there is nothing.
    let manifest = object_of(&project, "split", "parts");
    assert!(project.path("remote").join(manifest).exists());
    let all = project.files_in("remote");
    let known =
        |path: &&String| path.starts_with("remote/files/") || path.starts_with("remote/runs/");
    assert!(all.iter().all(|path| known(&path)), "{all:?}");
    assert_eq!(sent.len(), 8 + 2, "eight files and the manifests of two directories");
    let state = project.path(".pivot/state.lmdb/data.mdb");
    assert!(!sent.contains(&fs::read(state).unwrap()), "the state was sent");

    // Pulled: the same, and nothing else comes into being.
    let clone = clone_of(&project);
    let locks = contents(&clone, ".pivot/stages");
    clone.pivot("pull -n").succeeds().says("split: scratch.txt is not kept in the cache");
    clone.remove(".pivot/state.lmdb");
    clone.pivot("pull").succeeds().says("split: scratch.txt is not kept in the cache");
    for path in ["parts/inner/rest.txt", "curve.csv", "history.txt", "result.txt", "raw/unused.csv"]
    {
        assert_eq!(clone.read(path), project.read(path));
    }
    assert!(!clone.exists("scratch.txt") && !clone.exists(".pivot/logs/split.log"));
    assert_eq!(contents(&clone, ".pivot/stages"), locks);
    let mut brought = contents(&clone, ".pivot/cache/files");
    assert!(brought.insert(clone.read("score.json").into()), "git had the metric already");
    assert_eq!(brought, sent);
}

#[test]
fn a_clone_needs_no_tracked_data_to_execute_nothing() {
    let project = pushed();
    project.pivot("push").succeeds();
    // Nobody has this one: without it, `split` has to run.
    let scratch = project.read("scratch.txt");
    let clone = clone_of(&project);
    clone.write("scratch.txt", &scratch);
    let ended = clone.pivot("run --json").succeeds();
    assert!(clone.ran().is_empty(), "{ended}");
    let size = |path: &str| project.read(path).len();
    let on_remote =
        |object: PathBuf| fs::metadata(project.path("remote").join(object)).unwrap().len() as usize;
    let summary = ended.json_lines().pop().unwrap();
    // `result.txt` and `curve.csv` were asked for; what is in `parts` and in `raw` is known by their
    // manifests. The metric is in git.
    let manifests = on_remote(object_of(&project, "split", "parts"))
        + on_remote(object_in(&project.read(&project.files_in(".pivot/tracked")[0]), "raw"));
    let expected = size("result.txt") + size("curve.csv") + manifests;
    assert_eq!(summary["fetched"]["bytes"], expected, "{summary}");
    assert!(!clone.exists("raw") && !clone.exists("parts") && !clone.exists("history.txt"));

    // A stage that runs gets what it reads.
    clone.replace("pipeline.py", "'result ' +", "'Result ' +");
    clone.pivot("run").succeeds();
    assert_eq!(clone.ran(), ["last"]);
    assert!(clone.read("result.txt").starts_with("Result  some raw data"));
    assert!(clone.exists("parts/first.txt") && !clone.exists("raw"));
    clone.write("notes.txt", "other notes\n");
    clone.pivot("run").succeeds();
    assert_eq!(clone.ran(), ["split"]);
    assert_eq!(clone.read("raw/unused.csv"), "another file\n");
}

#[test]
fn a_stage_alone_gets_what_others_made() {
    let project = pushed();
    project.pivot("push").succeeds();
    let clone = clone_of(&project);
    clone.replace("pipeline.py", "'result ' +", "'Result ' +");
    clone.pivot("run -s last").succeeds();
    assert_eq!(clone.ran(), ["last"]);
    assert!(clone.read("result.txt").ends_with(&project.read("history.txt")));
    // An incremental output is the stage's own, to be written to.
    clone.pivot("run append").succeeds();
    assert!(!fs::metadata(clone.path("history.txt")).unwrap().permissions().readonly());
}

#[test]
fn data_that_nobody_pushed_is_named() {
    let project = pushed();
    project.pivot("push split append last").succeeds();
    let clone = clone_of(&project);
    clone
        .pivot("run")
        .exits(1)
        .says("`raw/input.csv`, which stage `split` reads")
        .says("`pivot push raw` where it is");
    project.pivot("push raw").succeeds();
    // What somebody has removed from a directory that is there is missing.
    clone.write("raw/mine.csv", "mine");
    clone.pivot("run").exits(1).says("`raw/input.csv`, which stage `split` reads");
    assert_eq!(clone.read("raw/mine.csv"), "mine");
    clone.remove("raw");
    clone.write("scratch.txt", &project.read("scratch.txt"));
    clone.pivot("run").succeeds();
    assert!(clone.ran().is_empty());
}
