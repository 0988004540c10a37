//! Finished runs by what went into them, so that going back to an earlier state of the code or
//! the data executes nothing.
//!
//! The key holds no path of this machine and no stage name: code, params, the contents of the
//! dependencies and the declared outputs. It is stored whole beside its digest and compared,
//! so no collision can bring the outputs of another run.

use pivot_cache::{Content, State, Table};
use pivot_fingerprint::Manifest;
use pivot_lock::Artifact;
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

impl RunKey {
    pub(crate) fn new(
        code: &Manifest,
        params: &serde_json::Value,
        deps: &[(&str, Content)],
        outs: &[Out],
    ) -> Self {
        let mut deps = deps.to_vec();
        deps.sort_by_key(|(path, _)| *path);
        let mut outs: Vec<_> = outs.iter().map(|out| out.path.as_str()).collect();
        outs.sort_unstable();
        let code =
            code.components().iter().map(|c| (c.name.as_str(), c.hash.to_string())).collect();
        let parts = KeyParts { version: 1, code, params: canonical(params), deps, outs };
        let text = serde_json::to_string(&parts).expect("strings and numbers can be written");
        Self { text }
    }

    fn digest(&self) -> [u8; 16] {
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
    let bytes = state.get(Table::Runs, &key.digest())?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    let same = record.key == key.text;
    same.then(|| {
        record.outs.into_iter().map(|(path, content)| Artifact::new(path, content)).collect()
    })
}

/// Remembers what a run with this key wrote.
pub(crate) fn remember(state: &State, key: &RunKey, outs: &[Artifact]) {
    let outs = outs.iter().map(|out| (out.path.clone(), out.content)).collect();
    let record = Record { key: key.text.clone(), outs };
    let bytes = serde_json::to_vec(&record).expect("strings and numbers can be written");
    state.put(Table::Runs, &key.digest(), &bytes);
}
