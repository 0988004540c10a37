//! Asking Python about a pipeline of 50 modules, and finding out that it need not be asked.

use std::fs;

use pivot_fingerprint::{
    Entry, Holds, InspectRequest, Inspection, Interpreter, Manifest, Search, inspect,
};

const MODULES: usize = 50;

fn main() {
    divan::main();
}

/// A project in which each module calls a function of the one before.
fn project() -> (tempfile::TempDir, Interpreter) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pipeline = "from pivot import Pipeline\n\npipeline = Pipeline()\n".to_owned();
    for number in 0..MODULES {
        let (import, call) = match number.checked_sub(1) {
            Some(before) => (format!("import m{before}\n\n"), format!("m{before}.helper(x)")),
            None => (String::new(), "x".to_owned()),
        };
        let text = format!(
            "{import}RATE = {number}\n\n\ndef helper(x):\n    return {call} + RATE\n\n\n\
             def stage(out):\n    with open(out, 'w') as file:\n        print(helper(1), file=file)\n"
        );
        fs::write(dir.path().join(format!("m{number}.py")), text).expect("writable");
        pipeline += &format!(
            "import m{number}\npipeline.add_stage(m{number}.stage, name='s{number}', \
             deps=[], outs=['s{number}.txt'])\n"
        );
    }
    fs::write(dir.path().join("pipeline.py"), pipeline).expect("writable");
    let python = Interpreter::find(&Search::from_environment(dir.path())).expect("a Python");
    (dir, python)
}

fn look(dir: &tempfile::TempDir, python: &Interpreter) -> Inspection {
    let request = InspectRequest::new(dir.path(), Entry::File("pipeline.py".into()));
    inspect(python, &request).expect("a good pipeline")
}

#[divan::bench(sample_count = 10)]
fn ask_python(bencher: divan::Bencher<'_, '_>) {
    let (dir, python) = project();
    bencher.bench_local(|| look(&dir, &python).stages.len());
}

#[divan::bench]
fn replay_witness(bencher: divan::Bencher<'_, '_>) {
    let (dir, python) = project();
    // Stamps that are too fresh to prove anything are replaced once the files are read again.
    let mut witness = look(&dir, &python).witness;
    if let Ok(Holds::Refreshed(newer)) = witness.check() {
        witness = *newer;
    }
    bencher.bench_local(|| witness.check().expect("nothing has changed"));
}

#[divan::bench]
fn parse_manifests(bencher: divan::Bencher<'_, '_>) {
    let (dir, python) = project();
    let manifests: Vec<Manifest> =
        look(&dir, &python).stages.into_iter().map(|s| s.manifest).collect();
    let text = serde_json::to_string(&manifests).expect("plain data");
    bencher.bench_local(|| serde_json::from_str::<Vec<Manifest>>(&text).expect("as written").len());
}
