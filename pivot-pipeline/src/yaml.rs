//! YAML text as a tree in which every node knows its place.
//!
//! The tree is what a person wrote, before any meaning: mappings keep their order and their keys
//! are unique, aliases and merge keys are already resolved, depth and size are bounded. Untyped
//! scalars read as in the core schema of YAML 1.2, so `no` is a text and `017` is seventeen.

mod edit;
mod load;
mod scalar;
mod write;

pub use edit::YamlText;
pub(crate) use load::Document;
pub(crate) use scalar::{Scalar, ScalarKind, is_plain_text};

use crate::error::{PipelineError, Problem};
use crate::value::{Map, Value};

/// A line and a column, both counted from 1; the file is known to the [`Document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// One node and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// The key of a mapping; only scalars are keys, and they are compared by their text.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) mark: Mark,
    pub(crate) scalar: Scalar,
}

impl Key {
    pub(crate) fn text(&self) -> &str {
        &self.scalar.text
    }
}

impl Node {
    /// A node with nothing in it.
    pub(crate) fn null(mark: Mark) -> Self {
        Self { mark, content: Content::Scalar(Scalar::null()) }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.kind == ScalarKind::Null)
    }

    /// What the node is, as a message says it.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.content {
            Content::Scalar(scalar) => scalar.describe(),
            Content::List(items) if items.is_empty() => "an empty list",
            Content::Map(entries) if entries.is_empty() => "an empty mapping",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// The value of `key`, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key.text() == key),
            _ => None,
        }
    }

    /// How many bytes of text a copy of this node costs, counting 16 for each node.
    pub(crate) fn weight(&self) -> u64 {
        let mut weight = 0;
        let mut open = vec![self];
        while let Some(node) = open.pop() {
            weight += 16;
            match &node.content {
                Content::Scalar(scalar) => weight += scalar.text.len() as u64,
                Content::List(items) => open.extend(items),
                Content::Map(entries) => {
                    weight += entries.iter().map(|e| e.key.text().len() as u64).sum::<u64>();
                    open.extend(entries.iter().map(|entry| &entry.value));
                }
            }
        }
        weight
    }
}

impl Document {
    /// The param value that `node` stands for, after `resolve` has seen each scalar.
    ///
    /// # Errors
    ///
    /// When `resolve` fails, or a number is not one that JSON can carry.
    pub(crate) fn value<R>(&self, node: &Node, resolve: &R) -> Result<Value, PipelineError>
    where
        R: Fn(&Scalar, Mark) -> Result<Option<Scalar>, PipelineError>,
    {
        // The loader bounds the depth, so this recursion is shallow.
        Ok(match &node.content {
            Content::Scalar(scalar) => {
                let resolved = resolve(scalar, node.mark)?;
                self.scalar_value(resolved.as_ref().unwrap_or(scalar), node.mark)?
            }
            Content::List(items) => Value::List(
                items.iter().map(|item| self.value(item, resolve)).collect::<Result<_, _>>()?,
            ),
            Content::Map(entries) => Value::Map(self.map(entries, resolve)?),
        })
    }

    /// The values of `entries` by name; see [`Self::value`].
    pub(crate) fn map<R>(&self, entries: &[Entry], resolve: &R) -> Result<Map, PipelineError>
    where
        R: Fn(&Scalar, Mark) -> Result<Option<Scalar>, PipelineError>,
    {
        entries
            .iter()
            .map(|entry| Ok((entry.key.text().to_owned(), self.value(&entry.value, resolve)?)))
            .collect()
    }

    fn scalar_value(&self, scalar: &Scalar, mark: Mark) -> Result<Value, PipelineError> {
        let text = || scalar.text.clone();
        match scalar.kind {
            ScalarKind::HugeInt => Err(self.error(mark, Problem::HugeInteger { text: text() })),
            ScalarKind::Float(value) if !value.is_finite() => {
                Err(self.error(mark, Problem::NotFinite { text: text() }))
            }
            _ => Ok(scalar.to_value()),
        }
    }
}

impl Value {
    /// Reads a value in one line of YAML: a scalar, or a list or mapping in brackets.
    ///
    /// # Errors
    ///
    /// When the text is something else, or a number that JSON cannot carry.
    pub fn from_yaml(text: &str) -> Result<Self, PipelineError> {
        let document = Document::parse("value", text.as_bytes())?;
        if !document.in_flow_style {
            return Err(PipelineError::new(Problem::NotInline));
        }
        document.value(&document.root, &|_, _| Ok(None))
    }
}
