//! `${name}` in the texts of a stage definition.
//!
//! A stage with a matrix or with variants is written once, as a template. Names stand for what
//! is different: the value of a dimension, and `variant` for the variant's whole name.

use std::borrow::Cow;
use std::cell::Cell;

use crate::error::{PipelineError, Problem};
use crate::suggest::closest;
use crate::yaml::{Document, Mark, Scalar, ScalarKind};

/// What the names in one stage's texts stand for.
pub(crate) struct Scope<'a> {
    pub(crate) document: &'a Document,
    pub(crate) stage: &'a str,
    pub(crate) variables: &'a [(&'a str, Scalar)],
    /// How many bytes all templates of the file have become so far.
    pub(crate) expanded_bytes: &'a Cell<u64>,
}

/// How many bytes all templates of a file may become.
const MAX_EXPANDED_BYTES: u64 = 512 << 20;

impl Scope<'_> {
    /// `scalar`'s text with the values of its names in it; `$${` stands for `${`.
    ///
    /// # Errors
    ///
    /// When a name is unknown or its brace is not closed.
    pub(crate) fn text<'s>(
        &self,
        scalar: &'s Scalar,
        mark: Mark,
    ) -> Result<Cow<'s, str>, PipelineError> {
        let source = scalar.text.as_str();
        let Some(first) = source.find("${") else { return Ok(Cow::Borrowed(source)) };
        let mut text = String::with_capacity(source.len() + 16);
        let (mut rest, mut dollar) = (source, first);
        loop {
            if rest[..dollar].ends_with('$') {
                text.push_str(&rest[..dollar]);
                text.push('{');
                rest = &rest[dollar + 2..];
            } else {
                text.push_str(&rest[..dollar]);
                let inner = &rest[dollar + 2..];
                let Some(end) = inner.find('}') else {
                    let stage = self.stage.to_owned();
                    return Err(self.document.error(mark, Problem::UnclosedVariable { stage }));
                };
                text.push_str(&self.lookup(&inner[..end], mark)?.text);
                rest = &inner[end + 1..];
            }
            match rest.find("${") {
                Some(next) => dollar = next,
                None => break,
            }
        }
        text.push_str(rest);
        // A name is shorter than what it stands for, so the size of the file alone is no bound.
        self.expanded_bytes.update(|bytes| bytes + text.len() as u64);
        if self.expanded_bytes.get() > MAX_EXPANDED_BYTES {
            let (stage, limit_mib) = (self.stage.to_owned(), MAX_EXPANDED_BYTES >> 20);
            return Err(self.document.error(mark, Problem::VariantsTooLarge { stage, limit_mib }));
        }
        Ok(Cow::Owned(text))
    }

    /// The scalar that `scalar` stands for, or `None` if it stands for itself.
    ///
    /// A text that is a single `${name}` becomes the value with its type, so a number stays one.
    pub(crate) fn scalar(
        &self,
        scalar: &Scalar,
        mark: Mark,
    ) -> Result<Option<Scalar>, PipelineError> {
        if scalar.kind != ScalarKind::Text || !scalar.text.contains("${") {
            return Ok(None);
        }
        let alone = scalar.text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        match alone.filter(|name| !name.contains('}')) {
            Some(name) => self.lookup(name, mark).map(|value| Some(value.clone())),
            None => Ok(Some(Scalar::text(self.text(scalar, mark)?.into_owned()))),
        }
    }

    fn lookup(&self, name: &str, mark: Mark) -> Result<&Scalar, PipelineError> {
        let name = name.trim();
        if let Some((_, value)) = self.variables.iter().find(|(known, _)| *known == name) {
            return Ok(value);
        }
        let known = || self.variables.iter().map(|(known, _)| *known);
        let suggestion = closest(name, known()).map(str::to_owned);
        let known = known().map(str::to_owned).collect();
        let (stage, name) = (self.stage.to_owned(), name.to_owned());
        Err(self.document.error(mark, Problem::UnknownVariable { stage, name, suggestion, known }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_scope<T>(check: impl FnOnce(&Scope<'_>) -> T) -> T {
        let document = Document::parse("pivot.yaml", b"").unwrap();
        let variables =
            [("model", Scalar::text("bert".into())), ("lr", Scalar::plain("1e-3".into()))];
        let expanded_bytes = &Cell::new(0);
        check(&Scope { document: &document, stage: "train", variables: &variables, expanded_bytes })
    }

    const MARK: Mark = Mark { line: 1, column: 1 };

    #[test]
    fn replaces_names_in_texts() {
        let cases = [
            ("plain", "plain"),
            ("${model}", "bert"),
            ("a/${model}_${ lr }.pkl", "a/bert_1e-3.pkl"),
            ("$${model} $HOME $$ ${model}", "${model} $HOME $$ bert"),
            ("$$${model}", "$${model}"),
            ("${model}$${x}${model}", "bert${x}bert"),
            ("{model}", "{model}"),
            ("ü${model}ü", "übertü"),
        ];
        with_scope(|scope| {
            for (source, expected) in cases {
                let scalar = Scalar::text(source.to_owned());
                assert_eq!(scope.text(&scalar, MARK).unwrap(), expected, "{source}");
            }
        });
    }

    #[test]
    fn a_name_alone_keeps_the_type() {
        with_scope(|scope| {
            let scalar = |text: &str| scope.scalar(&Scalar::text(text.to_owned()), MARK).unwrap();
            assert_eq!(scalar("${lr}").unwrap().kind, ScalarKind::Float(0.001));
            assert_eq!(scalar("${lr}0").unwrap(), Scalar::text("1e-30".into()));
            assert_eq!(scalar("${lr}${lr}").unwrap(), Scalar::text("1e-31e-3".into()));
            assert_eq!(scalar("$${lr}").unwrap(), Scalar::text("${lr}".into()));
            assert_eq!(scalar("lr"), None);
        });
    }

    #[test]
    fn unknown_names_are_errors() {
        with_scope(|scope| {
            for source in ["${modell}", "${}", "${model", "x${a.b}", "${HOME:-x}"] {
                let scalar = Scalar::text(source.to_owned());
                assert!(scope.text(&scalar, MARK).is_err(), "accepted {source}");
            }
        });
    }
}
