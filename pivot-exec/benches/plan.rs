//! What a run costs that finds nothing to do: reading the definition, and the plan.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;

use pivot_exec::{
    Executor, LoadOptions, Loaded, OnFailure, OpenProject, Planned, Reach, RunOptions,
};
use pivot_pipeline::Project;

const SIZES: [usize; 2] = [176, 1_000];

fn main() {
    // Shell commands run below this very program, started anew.
    pivot_exec::be_warden_if_asked();
    divan::main();
}

/// A pipeline of shell stages that read up to three outputs of the row above, all of which have run.
fn ran(stages: usize) -> (tempfile::TempDir, OpenProject) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let width = stages.isqrt();
    let mut yaml = String::from("stages:\n");
    for stage in 0..stages {
        let above = (0..3).filter_map(|n| stage.checked_sub(width + n));
        let deps: Vec<_> = above.map(|dep| format!("out/{dep}.txt")).collect();
        let deps = deps.join(", ");
        let out = format!("out/{stage}.txt");
        writeln!(yaml, "  s{stage}: {{cmd: echo {stage} > {out}, deps: [{deps}], outs: [{out}]}}")
            .expect("a string takes all text");
    }
    std::fs::write(dir.path().join("pivot.yaml"), yaml).expect("the directory is ours");
    let project = open(dir.path());
    let loaded = load(&project);
    let options = RunOptions {
        jobs: NonZeroUsize::new(2).expect("not zero"),
        on_failure: OnFailure::Stop,
        executor: Executor::Warm,
        timeout: None,
        resources: Default::default(),
    };
    let planned = plan(&project, &loaded);
    let summary = pivot_exec::run(&project, &loaded, planned, &options, &mut |_| {});
    assert!(summary.expect("the run began").is_success());
    (dir, project)
}

fn open(root: &Path) -> OpenProject {
    let project = Project::discover(root).expect("it has a pivot.yaml");
    OpenProject::open(project).expect("the project can be opened")
}

fn load(project: &OpenProject) -> Loaded {
    pivot_exec::load(project, &LoadOptions::default()).expect("the definition is right")
}

fn plan(project: &OpenProject, loaded: &Loaded) -> Planned {
    let selected = pivot_exec::select(&loaded.pipeline, &[], Reach::WithUpstream)
        .expect("all stages can be selected");
    pivot_exec::make_plan(project, loaded, &selected, &|_| false).expect("all can be read")
}

#[divan::bench(args = SIZES)]
fn read_the_definition(bencher: divan::Bencher<'_, '_>, stages: usize) {
    let (_dir, project) = ran(stages);
    bencher.bench_local(|| load(&project));
}

#[divan::bench(args = SIZES)]
fn plan_with_nothing_to_do(bencher: divan::Bencher<'_, '_>, stages: usize) {
    let (_dir, project) = ran(stages);
    let loaded = load(&project);
    bencher.bench_local(|| plan(&project, &loaded));
}
