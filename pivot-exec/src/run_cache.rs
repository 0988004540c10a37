//! Finished runs by what went into them, so that going back to an earlier state of the code or
//! the data executes nothing.
//!
//! The key holds no path of this machine and no stage name: code, params, the contents of the
//! dependencies and the declared outputs. It is stored whole beside its digest and compared,
//! so no collision can bring the outputs of another run.

use pivot_cache::{Content, State, Table};
use pivot_fingerprint::Manifest;
use pivot_lock::{Artifact, Lock};
use pivot_pipeline::Out;
use serde::{Deserialize, Serialize};

/// Everything that decides what a run writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunKey {
    text: String,
}

#[derive(Serialize)]
struct KeyParts<'a> {
    version: u32,
    code: Vec<(&'a str, String)>,
    params: String,
    deps: Vec<(&'a str, Content)>,
    outs: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    key: String,
    outs: Vec<(String, Content)>,
}

/// The part of a key's text that a record is checked against.
#[derive(Deserialize)]
struct DeclaredOuts {
    outs: Vec<String>,
}

impl RunKey {
    pub(crate) fn new(
        code: &Manifest,
        params: &serde_json::Value,
        deps: &[(&str, Content)],
        outs: &[Out],
    ) -> Self {
        let outs = outs.iter().map(|out| out.path.as_str()).collect();
        let code =
            code.components().iter().map(|c| (c.name.as_str(), c.hash.to_string())).collect();
        Self::of_parts(code, params, deps.to_vec(), outs)
    }

    /// The key of the run that wrote this lock.
    pub(crate) fn of_lock(lock: &Lock) -> Self {
        let code = lock.code().iter().map(|(name, hash)| (name.as_str(), hash.to_string()));
        let deps = lock.deps().iter().map(|dep| (dep.path.as_str(), dep.content));
        let outs = lock.outs().iter().map(|out| out.path.as_str());
        Self::of_parts(code.collect(), lock.params(), deps.collect(), outs.collect())
    }

    fn of_parts(
        code: Vec<(&str, String)>,
        params: &serde_json::Value,
        mut deps: Vec<(&str, Content)>,
        mut outs: Vec<&str>,
    ) -> Self {
        deps.sort_by_key(|(path, _)| *path);
        outs.sort_unstable();
        let parts = KeyParts { version: 1, code, params: canonical(params), deps, outs };
        let text = serde_json::to_string(&parts).expect("strings and numbers can be written");
        Self { text }
    }

    pub(crate) fn digest(&self) -> [u8; 16] {
        xxhash_rust::xxh3::xxh3_128(self.text.as_bytes()).to_be_bytes()
    }
}

/// JSON with sorted keys: the order in which params are written does not matter.
fn canonical(params: &serde_json::Value) -> String {
    match pivot_pipeline::Value::from_json(params) {
        Ok(value) => value.canonical(),
        Err(_) => params.to_string(),
    }
}

/// The outputs of an earlier run with this key.
pub(crate) fn look_up(state: &State, key: &RunKey) -> Option<Vec<Artifact>> {
    parse_record(key, &state.get(Table::Runs, &key.digest())?)
}

/// The outputs in a record, which may come from anywhere, if it is the one of `key`: exactly those
/// that the key names, in the order of their paths.
pub(crate) fn parse_record(key: &RunKey, bytes: &[u8]) -> Option<Vec<Artifact>> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    if record.key != key.text {
        return None;
    }
    let mut outs: Vec<_> =
        record.outs.into_iter().map(|(path, content)| Artifact::new(path, content)).collect();
    outs.sort_by(|a, b| a.path.cmp(&b.path));
    let declared: DeclaredOuts = serde_json::from_str(&key.text).ok()?;
    outs.iter().map(|out| &out.path).eq(&declared.outs).then_some(outs)
}

/// Remembers what a run with this key wrote.
pub(crate) fn remember(state: &State, key: &RunKey, outs: &[Artifact]) {
    state.put(Table::Runs, &key.digest(), &record(key, outs));
}

/// What is kept of a run with this key that wrote `outs`.
pub(crate) fn record(key: &RunKey, outs: &[Artifact]) -> Vec<u8> {
    let outs = outs.iter().map(|out| (out.path.clone(), out.content)).collect();
    let record = Record { key: key.text.clone(), outs };
    serde_json::to_vec(&record).expect("strings and numbers can be written")
}
