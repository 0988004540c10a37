//! The pipelines of `examples/` run, and run once.

use crate::support::{Project, project};

fn runs_and_then_rests(project: &Project, stages: usize) {
    let first = project.pivot("run").succeeds();
    assert_eq!(first.counts(), format!("{stages} stages: {stages} ran ([time])"));
    let second = project.pivot("run").succeeds();
    assert_eq!(second.counts(), format!("{stages} stages: {stages} unchanged ([time])"));
}

#[test]
fn penguins() {
    let project = project().copy_of("examples/penguins");
    runs_and_then_rests(&project, 6);
    assert!(project.read("metrics.json").contains("gentoo"));

    project.replace("params.yaml", "test_share: 0.3", "test_share: 0.4");
    let changed = project.pivot("run").succeeds().says("model@adelie: Params changed");
    assert!(changed.counts().ends_with("2 unchanged ([time])"), "{changed}");
}

#[test]
fn penguins_with_pandas() {
    let project = project().with_libraries().copy_of("examples/penguins-pandas");
    runs_and_then_rests(&project, 6);
    assert!(project.read("metrics.json").contains("rmse_g"));
}
