//! The stages of a `pivot.yaml`.
//!
//! Reading is strict: a key that means nothing, a value of the wrong type or a name that nothing
//! stands for is an error with its place, since each of them is a stage that would not do what
//! its author thinks.

mod outs;
mod reader;

use std::cell::Cell;
use std::fmt;

use reader::StageReader;

use crate::error::{PipelineError, Problem};
use crate::matrix::Expander;
use crate::stage::Stage;
use crate::suggest::closest;
use crate::yaml::{Content, Document, Entry, Node};

/// Reads the text of a `pivot.yaml`, with every matrix expanded; `file` is the name for messages.
///
/// The params are those of this file; `params.yaml` and the defaults of a Python model come
/// later.
///
/// # Errors
///
/// When the text is not YAML or does not define stages.
pub fn parse_definition(file: &str, bytes: &[u8]) -> Result<Vec<Stage>, PipelineError> {
    let document = Document::parse(file, bytes)?;
    let Content::Map(top) = &document.root.content else {
        if document.root.is_null() {
            return Err(
                PipelineError::new(Problem::NoStages).at(document.place(document.root.mark))
            );
        }
        return Err(document.wrong_type(&document.root, "the file", "a mapping with `stages`"));
    };
    let top_level = |key: &str| key == "stages" || key.starts_with("x-");
    if let Some(entry) = top.iter().find(|entry| !top_level(entry.key.text())) {
        let problem = Problem::UnknownKey {
            key: entry.key.text().to_owned(),
            of: "the file".to_owned(),
            suggestion: closest(entry.key.text(), ["stages"]).map(str::to_owned),
            known: &["stages", "x-…"],
        };
        return Err(document.error(entry.key.mark, problem));
    }
    let Some(stages) = document.root.get("stages") else {
        return Err(document.error(document.root.mark, Problem::NoStages));
    };
    let entries = match &stages.value.content {
        Content::Map(entries) => entries.as_slice(),
        _ if stages.value.is_null() => &[],
        _ => {
            let expected = "a mapping of names to stages";
            return Err(document.wrong_type(&stages.value, "`stages`", expected));
        }
    };
    let mut expanded = Vec::with_capacity(entries.len());
    let mut expander = Expander::new(&document);
    let expanded_bytes = Cell::new(0);
    for Entry { key, value } in entries {
        if !matches!(value.content, Content::Map(_)) {
            let what = format!("stage `{}`", key.text());
            return Err(document.wrong_type(value, what, "a mapping with `python` or `cmd`"));
        }
        expander.expand(key, value, &mut |variant| {
            expanded.push(StageReader::read(&document, key.mark, variant, &expanded_bytes)?);
            Ok(())
        })?;
    }
    Ok(expanded)
}

impl Document {
    /// The error that `node` is not what was expected.
    pub(crate) fn wrong_type(
        &self,
        node: &Node,
        what: impl fmt::Display,
        expected: &'static str,
    ) -> PipelineError {
        let (what, found) = (what.to_string(), node.describe());
        self.error(node.mark, Problem::WrongType { what, expected, found })
    }
}
