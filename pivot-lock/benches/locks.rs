//! Locks as files, as text and as bytes of the state: those of 176 stages, a pipeline of usual size.

use pivot_cache::{Content, ContentKind, ObjectId};
use pivot_fingerprint::{CodeHash, Component, Manifest};
use pivot_lock::{Artifact, Facts, Found, Lock, LockFiles, Observed, verdict};
use serde_json::json;

const STAGES: u64 = 176;

fn main() {
    divan::main();
}

fn content(number: u64) -> Content {
    let kind = ContentKind::File { executable: false };
    Content {
        id: ObjectId::from_u64(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        size_bytes: number,
        kind,
    }
}

/// A lock with a dozen parts of code, three params, three dependencies and an output.
fn lock(stage: u64) -> Lock {
    let code =
        (0..12).map(|part| (format!("func:helper_{part:02}"), CodeHash::from_u64(part * stage)));
    let deps = (0..3).map(|dep| Artifact::new(format!("data/{stage}/{dep}.csv"), content(dep)));
    let outs = vec![Artifact::new(format!("out/{stage}.pkl"), content(stage))];
    let params = json!({"lr": 0.01, "layers": [64, 32], "name": "adam"});
    Lock::new(code, params, deps.collect(), outs).expect("a good lock")
}

fn names() -> impl Iterator<Item = (String, Lock)> {
    (0..STAGES).map(|stage| (format!("stage_{stage}"), lock(stage)))
}

#[divan::bench]
fn write_new(bencher: divan::Bencher<'_, '_>) {
    let all: Vec<_> = names().collect();
    // All stay to the end: on ext4, files that were just removed make new ones expensive.
    let dir = tempfile::tempdir().expect("a directory");
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        let files = LockFiles::new(dir.path().join(turn.to_string()));
        for (name, lock) in &all {
            files.write(name, lock).expect("writable");
        }
    });
}

#[divan::bench]
fn write_changed(bencher: divan::Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    let files = LockFiles::new(dir.path());
    let all: Vec<_> = names().collect();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        for (index, (name, _)) in all.iter().enumerate() {
            files.write(name, &all[(index + turn) % all.len()].1).expect("writable");
        }
    });
}

#[divan::bench]
fn write_unchanged(bencher: divan::Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    let files = LockFiles::new(dir.path());
    let all: Vec<_> = names().collect();
    let write = || all.iter().for_each(|(name, lock)| drop(files.write(name, lock)));
    write();
    bencher.bench_local(write);
}

#[divan::bench]
fn read_files(bencher: divan::Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    let files = LockFiles::new(dir.path());
    let all: Vec<_> = names().collect();
    all.iter().for_each(|(name, lock)| drop(files.write(name, lock)));
    bencher.bench_local(|| {
        for (name, _) in &all {
            assert!(matches!(files.read(name), Ok(Found::Usable(_))));
        }
    });
}

#[divan::bench]
fn print_yaml(bencher: divan::Bencher<'_, '_>) {
    let all: Vec<_> = names().collect();
    bencher.bench_local(|| all.iter().map(|(_, lock)| lock.to_yaml().len()).sum::<usize>());
}

#[divan::bench]
fn parse_yaml(bencher: divan::Bencher<'_, '_>) {
    let all: Vec<_> = names().map(|(_, lock)| lock.to_yaml()).collect();
    bencher.bench_local(|| all.iter().filter_map(|text| Lock::from_yaml(text).ok()).count());
}

#[divan::bench]
fn parse_stored(bencher: divan::Bencher<'_, '_>) {
    let all: Vec<_> = names().map(|(_, lock)| lock.to_cache_bytes()).collect();
    bencher.bench_local(|| all.iter().filter_map(|bytes| Lock::from_cache_bytes(bytes)).count());
}

fn observed(artifact: &Artifact) -> Observed<'_> {
    Observed::present(&artifact.path, artifact.content)
}

#[divan::bench]
fn compare(bencher: divan::Bencher<'_, '_>) {
    let lock = lock(7);
    let component = |(name, hash): &(String, CodeHash)| Component {
        name: name.clone(),
        hash: *hash,
        place: None,
    };
    let code = Manifest::new(lock.code().iter().map(component).collect());
    let deps: Vec<_> = lock.deps().iter().map(observed).collect();
    let outs: Vec<_> = lock.outs().iter().map(observed).collect();
    let params = lock.params().clone();
    let found = Found::Usable(lock.clone());
    bencher.bench_local(|| {
        let facts = Facts { code: &code, params: &params, deps: &deps, outs: &outs, force: false };
        (0..STAGES).filter(|_| verdict(&found, &facts).reasons().is_empty()).count()
    });
}
