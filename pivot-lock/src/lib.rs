//! Per-stage lock files: what was true when a stage last ran, and the verdict with its reasons.
//!
//! A *lock* records the code, the params, the dependencies and the outputs of one stage at the
//! moment it last succeeded. Each stage has a small YAML file of its own, so that stages never
//! wait for one another and a change to one stage is a change to one file in git.
//!
//! ```
//! use pivot_cache::{Content, ContentKind, ObjectId};
//! use pivot_fingerprint::{Component, Manifest};
//! use pivot_lock::{Artifact, Facts, Found, Lock, LockFiles, Observed, Verdict, verdict};
//! use serde_json::json;
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let file = |bytes: &[u8]| Content {
//!     id: ObjectId::of_bytes(bytes),
//!     size_bytes: bytes.len() as u64,
//!     kind: ContentKind::File { executable: false },
//! };
//! let (data, model) = (file(b"a,b\n1,2\n"), file(b"model"));
//! let part = |hash: &str| Component {
//!     name: "self:train".to_owned(),
//!     hash: hash.parse().expect("16 digits"),
//!     place: None,
//! };
//! let code = Manifest::new(vec![part("c2966b8ef5d26588")]);
//! let params = json!({"lr": 0.01});
//!
//! // The stage has run: write down what was true.
//! let locks = LockFiles::new(dir.join(".pivot/stages"));
//! let lock = Lock::new(
//!     code.components().iter().map(|part| (part.name.clone(), part.hash)),
//!     params.clone(),
//!     vec![Artifact::new("data.csv", data)],
//!     vec![Artifact::new("model.pkl", model)],
//! )?;
//! locks.write("train", &lock)?;
//!
//! // Later: would it run again?
//! let found = locks.read("train")?;
//! let mut facts = Facts {
//!     code: &code,
//!     params: &params,
//!     deps: &[Observed::present("data.csv", data)],
//!     outs: &[Observed::present("model.pkl", model)],
//!     force: false,
//! };
//! assert_eq!(verdict(&found, &facts), Verdict::Unchanged);
//!
//! let params = json!({"lr": 0.1});
//! facts.params = &params;
//! assert_eq!(verdict(&found, &facts).words(), "Params changed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Deciding is pure: [`verdict`] turns a lock and [`Facts`] into a [`Verdict`] and touches no
//! file. What happens next, running or restoring, is the caller's business.

mod file;
mod format;
mod lock;
mod params;
mod read;
mod scalar;
mod stored;
mod verdict;

pub use file::{Found, LockError, LockFiles, Written, validate_stage_name};
pub use lock::{Artifact, Lock, LockContentError, MAX_PARAMS_DEPTH, SCHEMA_VERSION};
pub use params::{ParamChange, param_changes};
/// What a [`Lock`] holds and [`Facts`] are made of, so that this crate is all that one needs.
pub use pivot_cache::{Content, ObjectId};
pub use pivot_fingerprint::{CodeHash, Component, Manifest};
pub use read::FormatError;
pub use verdict::{
    ArtifactState, CodeChange, DepChange, Facts, Observed, Reason, Verdict, verdict, words,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
