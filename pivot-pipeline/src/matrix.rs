//! One definition, several stages: `matrix` and `variants`.
//!
//! Both end in the same thing: a name, the definition with that variant's overrides laid on it,
//! and the values for `${…}`. Combinations come in the order of the file, the last dimension
//! fastest, one at a time, so that a large matrix is never in memory as a whole.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::{PipelineError, Problem};
use crate::name::StageName;
use crate::suggest::closest;
use crate::yaml::{Content, Document, Entry, Key, Mark, Node, Scalar};

/// The most variants that one matrix may make.
const MAX_VARIANTS: u64 = 100_000;
/// How many bytes of text all variants of a file may have together.
const MAX_TEXT_BYTES: u64 = 512 << 20;

/// The keys that a variant may override, and those to which it may append.
const OVERRIDES: &[&str] = &[
    "python",
    "cmd",
    "deps",
    "outs",
    "metrics",
    "plots",
    "params",
    "mutex",
    "cwd",
    "resources",
    "timeout",
    "deps+",
    "outs+",
    "metrics+",
    "plots+",
    "mutex+",
];

/// One stage of a definition.
pub(crate) struct Variant<'n> {
    pub(crate) name: StageName,
    pub(crate) node: Cow<'n, Node>,
    pub(crate) variables: Vec<(&'n str, Scalar)>,
}

/// Expands the definitions of one document.
pub(crate) struct Expander<'d> {
    document: &'d Document,
    text_bytes: u64,
}

/// A dimension of a matrix.
struct Dimension<'n> {
    name: &'n str,
    values: Vec<DimensionValue<'n>>,
}

struct DimensionValue<'n> {
    mark: Mark,
    scalar: &'n Scalar,
    overrides: &'n [Entry],
}

impl<'d> Expander<'d> {
    pub(crate) fn new(document: &'d Document) -> Self {
        Self { document, text_bytes: 0 }
    }

    /// Hands each stage that `node`, defined as `key`, stands for to `each`.
    ///
    /// # Errors
    ///
    /// When the matrix or the variants are not what they should be, or `each` fails.
    pub(crate) fn expand<'n>(
        &mut self,
        key: &'n Key,
        node: &'n Node,
        each: &mut dyn FnMut(Variant<'n>) -> Result<(), PipelineError>,
    ) -> Result<(), PipelineError> {
        match (node.get("matrix"), node.get("variants")) {
            (None, None) => {
                let name = self.name(key.text(), key.mark)?;
                each(Variant { name, node: Cow::Borrowed(node), variables: Vec::new() })
            }
            (Some(_), Some(variants)) => {
                let problem = Problem::MatrixAndVariants { stage: key.text().to_owned() };
                Err(self.document.error(variants.key.mark, problem))
            }
            (Some(matrix), None) => {
                self.base_name(key)?;
                self.matrix(key, node, matrix, each)
            }
            (None, Some(variants)) => {
                self.base_name(key)?;
                self.variants(key, node, variants, each)
            }
        }
    }

    fn matrix<'n>(
        &mut self,
        key: &'n Key,
        node: &'n Node,
        matrix: &'n Entry,
        each: &mut dyn FnMut(Variant<'n>) -> Result<(), PipelineError>,
    ) -> Result<(), PipelineError> {
        let stage = key.text();
        let dimensions = self.dimensions(stage, &matrix.value)?;
        let count = dimensions
            .iter()
            .try_fold(1u64, |count, dimension| count.checked_mul(dimension.values.len() as u64))
            .unwrap_or(u64::MAX);
        let base = without(node, "matrix");
        let overrides = dimensions.iter().map(|dimension| {
            dimension.values.iter().map(|value| weight(value.overrides)).max().unwrap_or(0)
        });
        let text_bytes = count.saturating_mul(weight(&base) + overrides.sum::<u64>());
        self.check_size(stage, matrix.key.mark, count, text_bytes)?;

        let mut names = HashMap::new();
        let mut chosen = vec![0; dimensions.len()];
        loop {
            let values: Vec<_> =
                dimensions.iter().zip(&chosen).map(|(d, &index)| &d.values[index]).collect();
            let texts: Vec<_> = values.iter().map(|value| value.scalar.text.as_str()).collect();
            let variant = texts.join("_");
            let mark = values.last().map_or(matrix.key.mark, |value| value.mark);
            let name = self.name(&format!("{stage}@{variant}"), mark)?;
            if let Some(first) = names.insert(name.clone(), mark) {
                let problem = Problem::SameVariant { name: name.to_string() };
                return Err(self.document.error(mark, problem).and_at(self.document.place(first)));
            }
            let mut entries = base.clone();
            for value in &values {
                self.apply(stage, &mut entries, value.overrides)?;
            }
            let mut variables: Vec<_> = dimensions
                .iter()
                .zip(&values)
                .map(|(dimension, value)| (dimension.name, value.scalar.clone()))
                .collect();
            variables.push(("variant", Scalar::text(variant)));
            let node = Cow::Owned(Node { mark: node.mark, content: Content::Map(entries) });
            each(Variant { name, node, variables })?;

            // Count up like an odometer: the last dimension is the fastest.
            let Some(wheel) =
                (0..chosen.len()).rev().find(|&d| chosen[d] + 1 < dimensions[d].values.len())
            else {
                return Ok(());
            };
            chosen[wheel] += 1;
            chosen[wheel + 1..].fill(0);
        }
    }

    fn dimensions<'n>(
        &self,
        stage: &str,
        matrix: &'n Node,
    ) -> Result<Vec<Dimension<'n>>, PipelineError> {
        let wrong_type =
            |node: &Node, what: String, expected| self.document.wrong_type(node, what, expected);
        let entries = match &matrix.content {
            Content::Map(entries) if !entries.is_empty() => entries,
            _ => {
                let what = format!("`matrix` of stage `{stage}`");
                return Err(wrong_type(matrix, what, "a mapping of dimensions to their values"));
            }
        };
        entries.iter().map(|entry| self.dimension(stage, entry)).collect()
    }

    fn dimension<'n>(&self, stage: &str, entry: &'n Entry) -> Result<Dimension<'n>, PipelineError> {
        let name = entry.key.text();
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        let valid = name.starts_with(letter)
            && name.chars().all(|c| letter(c) || c.is_ascii_digit() || c == '-')
            && name != "variant";
        if !valid {
            let problem = Problem::DimensionName { stage: stage.into(), name: name.into() };
            return Err(self.document.error(entry.key.mark, problem));
        }
        let wrong_type = |node: &Node, expected| {
            let what = format!("dimension `{name}` of stage `{stage}`");
            Err(self.document.wrong_type(node, what, expected))
        };
        let mut values = Vec::new();
        match &entry.value.content {
            Content::List(items) => {
                for item in items {
                    let Content::Scalar(scalar) = &item.content else {
                        let what = format!("a value of dimension `{name}`");
                        return Err(self.document.wrong_type(item, what, "a plain value"));
                    };
                    values.push(DimensionValue { mark: item.mark, scalar, overrides: &[] });
                }
            }
            Content::Map(entries) => {
                for Entry { key, value } in entries {
                    let overrides: &[Entry] = match &value.content {
                        Content::Map(overrides) => overrides,
                        _ if value.is_null() => &[],
                        _ => {
                            let what = format!("value `{}` of dimension `{name}`", key.text());
                            let expected = "a mapping of what it overrides";
                            return Err(self.document.wrong_type(value, what, expected));
                        }
                    };
                    values.push(DimensionValue { mark: key.mark, scalar: &key.scalar, overrides });
                }
            }
            Content::Scalar(_) => return wrong_type(&entry.value, "a list or a mapping of values"),
        }
        if values.is_empty() {
            let problem = Problem::EmptyDimension { stage: stage.into(), name: name.into() };
            return Err(self.document.error(entry.value.mark, problem));
        }
        for value in &values {
            // Checked here for the sake of a message about the value, not the whole name.
            if let Err(reason) = StageName::new(format!("x@{}", value.scalar.text)) {
                let (dimension, value_text) = (name.to_owned(), value.scalar.text.clone());
                let problem = Problem::DimensionValue { dimension, value: value_text, reason };
                return Err(self.document.error(value.mark, problem));
            }
        }
        Ok(Dimension { name, values })
    }

    fn variants<'n>(
        &mut self,
        key: &'n Key,
        node: &'n Node,
        variants: &'n Entry,
        each: &mut dyn FnMut(Variant<'n>) -> Result<(), PipelineError>,
    ) -> Result<(), PipelineError> {
        let stage = key.text();
        let items = match &variants.value.content {
            Content::List(items) if !items.is_empty() => items,
            _ => {
                let what = format!("`variants` of stage `{stage}`");
                let expected = "a list of mappings, each with a `name`";
                return Err(self.document.wrong_type(&variants.value, what, expected));
            }
        };
        let base = without(node, "variants");
        let count = items.len() as u64;
        let text_bytes = count.saturating_mul(weight(&base)) + variants.value.weight();
        self.check_size(stage, variants.key.mark, count, text_bytes)?;
        let mut names = HashMap::new();
        for item in items {
            let Content::Map(entries) = &item.content else {
                let what = format!("a variant of stage `{stage}`");
                return Err(self.document.wrong_type(item, what, "a mapping with a `name`"));
            };
            let named = entries.iter().find(|entry| entry.key.text() == "name");
            let Some(Entry { value: Node { mark, content: Content::Scalar(scalar) }, .. }) = named
            else {
                let mark = named.map_or(item.mark, |entry| entry.value.mark);
                let problem = Problem::VariantWithoutName { stage: stage.to_owned() };
                return Err(self.document.error(mark, problem));
            };
            let name = self.name(&format!("{stage}@{}", scalar.text), *mark)?;
            if let Some(first) = names.insert(scalar.text.as_str(), *mark) {
                let problem = Problem::SameVariant { name: name.to_string() };
                return Err(self.document.error(*mark, problem).and_at(self.document.place(first)));
            }
            let overrides: Vec<_> =
                entries.iter().filter(|entry| entry.key.text() != "name").cloned().collect();
            let mut entries = base.clone();
            self.apply(stage, &mut entries, &overrides)?;
            let node = Cow::Owned(Node { mark: node.mark, content: Content::Map(entries) });
            each(Variant { name, node, variables: vec![("variant", scalar.clone())] })?;
        }
        Ok(())
    }

    /// Lays `overrides` on a definition: `key+` appends, mappings merge, all else is replaced.
    fn apply(
        &self,
        stage: &str,
        entries: &mut Vec<Entry>,
        overrides: &[Entry],
    ) -> Result<(), PipelineError> {
        for over in overrides {
            let key = over.key.text();
            if !OVERRIDES.contains(&key) {
                let same_end = |known: &&str| known.ends_with('+') == key.ends_with('+');
                let problem = Problem::UnknownKey {
                    key: key.to_owned(),
                    of: format!("a variant of stage `{stage}`"),
                    suggestion: match key {
                        "params+" | "resources+" => Some(&key[..key.len() - 1]),
                        _ => closest(key, OVERRIDES.iter().copied().filter(same_end)),
                    }
                    .map(str::to_owned),
                    known: OVERRIDES,
                };
                return Err(self.document.error(over.key.mark, problem));
            }
            let name = key.strip_suffix('+').unwrap_or(key);
            let known = entries.iter_mut().find(|entry| entry.key.text() == name);
            match known {
                None => {
                    let mut added = over.clone();
                    added.key.scalar.text.truncate(name.len());
                    entries.push(added);
                }
                Some(known) if name != key => {
                    let mut items = self.items(stage, key, &known.value)?;
                    items.extend(self.items(stage, key, &over.value)?);
                    known.value.content = Content::List(items);
                }
                Some(known) => lay_over(&mut known.value, &over.value),
            }
        }
        Ok(())
    }

    /// The items of a list to which something is appended; a single text counts as one item.
    fn items(&self, stage: &str, key: &str, node: &Node) -> Result<Vec<Node>, PipelineError> {
        match &node.content {
            Content::List(items) => Ok(items.clone()),
            Content::Scalar(_) if node.is_null() => Ok(Vec::new()),
            Content::Scalar(_) if key == "mutex+" => Ok(vec![node.clone()]),
            _ => {
                let what = format!("`{}` of stage `{stage}`", key.trim_end_matches('+'));
                Err(self.document.wrong_type(node, what, "a list"))
            }
        }
    }

    fn check_size(
        &mut self,
        stage: &str,
        mark: Mark,
        count: u64,
        text_bytes: u64,
    ) -> Result<(), PipelineError> {
        let stage = || stage.to_owned();
        if count > MAX_VARIANTS {
            let problem = Problem::TooManyVariants { stage: stage(), count, limit: MAX_VARIANTS };
            return Err(self.document.error(mark, problem));
        }
        self.text_bytes = self.text_bytes.saturating_add(text_bytes);
        if self.text_bytes > MAX_TEXT_BYTES {
            let limit_mib = MAX_TEXT_BYTES >> 20;
            let problem = Problem::VariantsTooLarge { stage: stage(), limit_mib };
            return Err(self.document.error(mark, problem));
        }
        Ok(())
    }

    fn base_name(&self, key: &Key) -> Result<(), PipelineError> {
        self.name(key.text(), key.mark)?;
        if key.text().contains('@') {
            let problem = Problem::VariantOfVariant { stage: key.text().to_owned() };
            return Err(self.document.error(key.mark, problem));
        }
        Ok(())
    }

    fn name(&self, name: &str, mark: Mark) -> Result<StageName, PipelineError> {
        StageName::new(name).map_err(|reason| {
            self.document.error(mark, Problem::StageName { name: name.to_owned(), reason })
        })
    }
}

fn weight(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.value.weight()).sum()
}

/// The entries of a mapping except `key`.
fn without(node: &Node, key: &str) -> Vec<Entry> {
    match &node.content {
        Content::Map(entries) => {
            entries.iter().filter(|entry| entry.key.text() != key).cloned().collect()
        }
        _ => Vec::new(),
    }
}

/// Mappings merge by key, at every depth; all else is replaced.
fn lay_over(below: &mut Node, above: &Node) {
    let (Content::Map(known), Content::Map(over)) = (&mut below.content, &above.content) else {
        *below = above.clone();
        return;
    };
    let index: HashMap<String, usize> =
        known.iter().enumerate().map(|(index, e)| (e.key.text().to_owned(), index)).collect();
    for entry in over {
        match index.get(entry.key.text()) {
            Some(&index) => lay_over(&mut known[index].value, &entry.value),
            None => known.push(entry.clone()),
        }
    }
}
