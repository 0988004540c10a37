//! Libraries with threads of their own, under the default executor: each forks a process that has
//! imported them, and all of them would hang in a fork of a process that has used them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{Project, project, target};

/// A module of the user's that works with the libraries as soon as it is imported.
const PREPARED: &str = r#"
import numpy as np
import polars as pl
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier

POINTS = np.arange(4000.0).reshape(1000, 4) % 17
LABELS = (POINTS.sum(axis=1) > 30).astype(int)
CLUSTERS = KMeans(n_clusters=3, n_init=2, random_state=0).fit(POINTS)
FOREST = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(POINTS, LABELS)
FRAME = pl.DataFrame({"key": [n % 7 for n in range(1000)], "value": list(range(1000))})
MEANS = FRAME.lazy().group_by("key").agg(pl.col("value").mean()).sort("key").collect()
"#;

const PIPELINE: &str = r#"
import numpy as np
import polars as pl
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier

from pivot import stage
from prepared import CLUSTERS, FOREST, LABELS, MEANS, POINTS


def polars_again(out):
    frame = pl.DataFrame({"key": [n % 5 for n in range(500)], "value": list(range(500))})
    found = frame.lazy().group_by("key").agg(pl.col("value").sum()).sort("key").collect()
    with open(out, "w") as file:
        file.write(f"{found['value'].to_list()} {MEANS['value'].to_list()}")


def forest_again(out):
    forest = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(POINTS, LABELS)
    clusters = KMeans(n_clusters=3, n_init=2, random_state=0).fit(POINTS)
    with open(out, "w") as file:
        file.write(f"{forest.score(POINTS, LABELS)} {FOREST.score(POINTS, LABELS)} ")
        file.write(f"{clusters.inertia_:.6f} {CLUSTERS.inertia_:.6f} {np.dot(POINTS.T, POINTS).sum()}")


@stage(outs=["p1.txt"])
def p1(out):
    polars_again(out)


@stage(outs=["p2.txt"])
def p2(out):
    polars_again(out)


@stage(outs=["f1.txt"])
def f1(out):
    forest_again(out)


@stage(outs=["f2.txt"])
def f2(out):
    forest_again(out)
"#;

/// Uses the libraries in the stages' functions only.
const PLAIN: &str = r#"
from pivot import stage


@stage(outs=["p.txt"])
def p(out):
    import polars as pl
    frame = pl.DataFrame({"key": [1, 1, 2], "value": [1, 2, 3]})
    found = frame.lazy().group_by("key").agg(pl.col("value").sum()).sort("key").collect()
    with open(out, "w") as file:
        file.write(str(found["value"].to_list()))


@stage(outs=["f.txt"])
def f(out):
    from sklearn.cluster import KMeans
    with open(out, "w") as file:
        file.write(str(KMeans(n_clusters=2, n_init=1, random_state=0).fit([[0.0], [0.1], [9.0]]).labels_))
"#;

fn with_threads() -> Project {
    project().env("PIVOT_PYTHON", &python_with_threads().display().to_string())
}

#[test]
fn libraries_with_threads_finish_in_forks() {
    let project = with_threads().file("pipeline.py", PLAIN);
    project.pivot("run -j 2 --timeout 50s").succeeds();
    assert_eq!(project.read("p.txt"), "[3, 3]");
}

#[test]
fn a_module_that_uses_them_when_it_is_imported_finishes_and_computes_the_same() {
    let project = with_threads().file("pipeline.py", PIPELINE).file("prepared.py", PREPARED);
    let outputs = |executor: &str| {
        project.pivot(&format!("run -f -j 2 --timeout 50s --executor {executor}")).succeeds();
        ["p1.txt", "p2.txt", "f1.txt", "f2.txt"].map(|path| project.read(path))
    };
    let found = outputs("warm");
    assert_eq!((&found[0], &found[2]), (&found[1], &found[3]));
    assert_eq!(found, outputs("spawn"));
}

/// The interpreter of a virtual environment with polars and scikit-learn, which are too large for
/// the one that the other tests use; made on first use and kept.
fn python_with_threads() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let dir = target().join("test-venv-threads");
        let python = dir.join("bin/python");
        if !dir.join("complete").exists() {
            let _ = fs::remove_dir_all(&dir);
            let run = |program: &Path, arguments: &[&str]| {
                let status = Command::new(program).args(arguments).status();
                assert!(status.is_ok_and(|s| s.success()), "{program:?} {arguments:?} failed");
            };
            run(Path::new("python3"), &["-m", "venv", &dir.display().to_string()]);
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            let packages = ["polars==2.1.0", "scikit-learn==1.9.1"];
            run(&python, &[&install[..], &packages[..]].concat());
            fs::write(dir.join("complete"), "").expect("mark the environment as complete");
        }
        python
    })
}
