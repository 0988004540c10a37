//! `fingerprint.packages` says how much of an installed package's version counts.

use crate::support::{Project, project};

const PIPELINE: &str = r#"
import acme
from pivot import stage

@stage(deps=["in.txt"], outs=["out.txt"])
def build(source, out):
    with open(out, "w") as file:
        file.write(acme.KIND)
"#;

/// A project that uses an installed package.
fn using_a_package(configuration: &str) -> Project {
    let project = project()
        .file("pipeline.py", PIPELINE)
        .file("in.txt", "1")
        .file("site-packages/acme.py", "KIND = 'a'\n")
        .file(".pivot/config.yaml", configuration);
    let site = project.path("site-packages").display().to_string();
    let project = project.env("PYTHONPATH", &site);
    install(&project, "1.2.3");
    project.pivot("run").succeeds().says("1 ran");
    project
}

fn install(project: &Project, version: &str) {
    for older in ["1.2.3", "1.2.4"].map(|v| format!("site-packages/acme-{v}.dist-info")) {
        if project.exists(&older) {
            project.remove(&older);
        }
    }
    let info = format!("site-packages/acme-{version}.dist-info");
    project.write(&format!("{info}/METADATA"), &format!("Name: acme\nVersion: {version}\n"));
    project.write(&format!("{info}/RECORD"), &format!("acme.py,sha256={version},1\n"));
}

#[test]
fn a_setting_says_how_much_of_a_version_counts() {
    for (configuration, after_patch, after_minor) in [
        ("", "1 ran", "1 ran"),
        ("fingerprint: {packages: minor}\n", "1 unchanged", "1 ran"),
        ("fingerprint: {packages: ignore}\n", "1 unchanged", "1 unchanged"),
    ] {
        let project = using_a_package(configuration);
        install(&project, "1.2.4");
        project.pivot("run").succeeds().says(after_patch);
        install(&project, "1.3.0");
        project.pivot("run").succeeds().says(after_minor);
    }
}

#[test]
fn another_setting_counts_at_once() {
    let project = using_a_package("fingerprint: {packages: ignore}\n");
    assert!(!project.lock("build").contains("package:"));
    project.write(".pivot/config.yaml", "fingerprint: {packages: some}\n");
    project.pivot("run").exits(1);
    project.write(".pivot/config.yaml", "");
    project.pivot("run --explain").succeeds().says("package:acme");
}
