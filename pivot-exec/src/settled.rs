//! Whether there is anything to do at all, answered without planning.
//!
//! A plan follows from the definition, the code, the locks and the files. When it says that
//! everything is to be kept, all of these are taken down by their contents. As long as none of
//! them has changed the plan would say the same again, so it is not made.

use std::borrow::Cow;
use std::time::Instant;

use pivot_cache::{Content, Table, Workspace};
use pivot_fingerprint::{Holds, Witness};
use serde::{Deserialize, Serialize};

use crate::load::{LoadOptions, Loaded};
use crate::outcome::{Outcome, Summary};
use crate::project::OpenProject;
use crate::question::Question;

/// A pipeline in which nothing is to be done.
#[derive(Debug)]
pub struct Settled {
    /// Things that the user should know, as in [`Loaded::notices`].
    pub notices: Vec<String>,
    /// What a run of all stages would come to.
    pub summary: Summary,
}

const KEY: &[u8] = b"settled";

/// What a plan was made from, but for the contents of files: a snapshot of those follows.
#[derive(Serialize, Deserialize)]
struct Record<'r, Text> {
    question: Text,
    witness: Cow<'r, Witness>,
    /// In the plan's order.
    stages: Vec<Text>,
    notices: Vec<Text>,
}

/// Whether a run of all stages would do nothing, if that is known; `None` if a plan has to be
/// made to find out.
pub fn settled(project: &OpenProject, options: &LoadOptions) -> Option<Settled> {
    let started = Instant::now();
    let question = Question::of(project, options).ok()?;
    let bytes = project.state.get(Table::Pipeline, KEY)?;
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (record, snapshot) = rest.split_at_checked(length)?;
    let record: Record<'_, String> = serde_json::from_slice(record).ok()?;
    if record.question != question.text {
        return None;
    }
    // If something was touched, planning brings the witness and the record up to date.
    let Ok(Holds::AsItIs) = record.witness.check() else { return None };
    if !project.workspace().is_as_in(snapshot) {
        return None;
    }
    let outcomes = record.stages.into_iter().map(|stage| (stage, Outcome::Unchanged)).collect();
    let summary = Summary { outcomes, interrupted: None, elapsed: started.elapsed() };
    Some(Settled { notices: record.notices, summary })
}

/// Takes down that all stages of `loaded` are to be kept, in the order of `stages`, because
/// `contents` are what they are: those of their locks, dependencies and outputs.
pub(crate) fn remember_settled<'p>(
    project: &OpenProject,
    workspace: &Workspace<'_>,
    loaded: &Loaded,
    stages: Vec<&str>,
    contents: impl IntoIterator<Item = (&'p str, Content)>,
) {
    let Some(question) = loaded.question.as_deref() else { return };
    if !loaded.witness.obstacles().is_empty() {
        return;
    }
    let record = Record {
        question,
        witness: Cow::Borrowed(&loaded.witness),
        stages,
        notices: loaded.notices.iter().map(String::as_str).collect(),
    };
    let record = serde_json::to_vec(&record).expect("strings and numbers can be written");
    let before = [&(record.len() as u64).to_le_bytes()[..], &record].concat();
    let Some(bytes) = workspace.snapshot(contents, before) else { return };
    let is_known = project.state.get_with(Table::Pipeline, KEY, |known| known == bytes);
    if is_known != Some(true) {
        project.state.put(Table::Pipeline, KEY, &bytes);
    }
}
