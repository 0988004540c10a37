//! From the mapping under a stage's name to the stage.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::outs::Section;
use crate::error::{PipelineError, Problem, with_article};
use crate::matrix::Variant;
use crate::name::StageName;
use crate::path::ProjectPath;
use crate::resources::amount;
use crate::stage::{Action, PythonAction, Resources, Stage};
use crate::suggest::closest;
use crate::template::Scope;
use crate::time_limit;
use crate::value::Params;
use crate::yaml::{Content, Document, Entry, Mark, Node, Scalar, ScalarKind};

const STAGE_KEYS: &[&str] = &[
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
    "matrix",
    "variants",
];
/// What people write who know another tool.
const STAGE_SYNONYMS: &[(&str, &str)] = &[
    ("wdir", "cwd"),
    ("workdir", "cwd"),
    ("command", "cmd"),
    ("run", "cmd"),
    ("shell", "cmd"),
    ("function", "python"),
    ("dependencies", "deps"),
    ("inputs", "deps"),
    ("outputs", "outs"),
    ("foreach", "matrix"),
    ("parameters", "params"),
    ("lock", "mutex"),
    ("time_limit", "timeout"),
];

/// Turns one variant of a definition into a stage.
pub(super) struct StageReader<'a> {
    pub(super) document: &'a Document,
    name: &'a StageName,
    scope: Scope<'a>,
}

impl<'a> StageReader<'a> {
    pub(super) fn read(
        document: &'a Document,
        mark: Mark,
        variant: Variant<'_>,
        expanded_bytes: &Cell<u64>,
    ) -> Result<Stage, PipelineError> {
        let Content::Map(entries) = &variant.node.content else {
            let what = format!("stage `{}`", variant.name);
            return Err(document.wrong_type(&variant.node, what, "a mapping"));
        };
        let scope = Scope {
            document,
            stage: variant.name.as_str(),
            variables: &variant.variables,
            expanded_bytes,
        };
        StageReader { document, name: &variant.name, scope }.stage(mark, entries)
    }

    fn stage(&self, mark: Mark, entries: &[Entry]) -> Result<Stage, PipelineError> {
        let mut action: Option<(&Entry, Action)> = None;
        let mut stage = Stage {
            name: self.name.clone(),
            place: self.document.place(mark),
            action: Action::Shell { command: String::new() },
            deps: Vec::new(),
            outs: Vec::new(),
            params: Params::default(),
            mutex: Vec::new(),
            cwd: None,
            resources: Resources::new(),
            timeout: None,
        };
        for entry in entries {
            let Entry { key, value } = entry;
            match key.text() {
                "python" | "cmd" => {
                    if let Some((first, _)) = action {
                        let problem = Problem::TwoActions { stage: self.name.to_string() };
                        let first = self.document.place(first.key.mark);
                        return Err(self.document.error(key.mark, problem).and_at(first));
                    }
                    let read = match key.text() {
                        "python" => self.python(value)?,
                        _ => self.command(value)?,
                    };
                    action = Some((entry, read));
                }
                "deps" => stage.deps = self.deps(value)?,
                "outs" | "metrics" | "plots" => {
                    let section = Section::of(key.text());
                    for item in self.list(value, key.text(), "a list of paths")? {
                        stage.outs.push(self.out(item, section)?);
                    }
                }
                "params" => stage.params = self.params(value)?,
                "mutex" => stage.mutex = self.mutex(value)?,
                "cwd" => stage.cwd = self.cwd(value)?,
                "resources" => stage.resources = self.resources(value)?,
                "timeout" => stage.timeout = self.timeout(value)?,
                "matrix" | "variants" => {}
                _ => {
                    let of = format!("stage `{}`", self.name);
                    return Err(self.unknown_key(entry, of, STAGE_KEYS, STAGE_SYNONYMS));
                }
            }
        }
        match action {
            Some((_, action)) => Ok(Stage { action, ..stage }),
            None => {
                let problem = Problem::NoAction { stage: self.name.to_string() };
                Err(self.document.error(mark, problem))
            }
        }
    }

    fn python(&self, node: &Node) -> Result<Action, PipelineError> {
        let target = self.text(node, "`python`", "the dotted name of a function")?;
        let part = |part: &str| {
            let first = |c: char| c.is_alphabetic() || c == '_';
            part.starts_with(first) && part.chars().all(|c| first(c) || c.is_numeric())
        };
        if !target.split('.').all(part) || !target.contains('.') {
            return Err(self.document.error(node.mark, Problem::PythonTarget { target }));
        }
        Ok(Action::Python(PythonAction::Target(target)))
    }

    fn command(&self, node: &Node) -> Result<Action, PipelineError> {
        let expected = "a shell command, or a list of them";
        let command = match &node.content {
            Content::List(items) => {
                let lines: Vec<_> = items
                    .iter()
                    .map(|item| self.text(item, "`cmd`", expected))
                    .collect::<Result<_, _>>()?;
                // One shell runs them all and stops at the first that fails.
                match lines.as_slice() {
                    [line] => line.clone(),
                    lines => format!("set -e\n{}", lines.join("\n")),
                }
            }
            _ => self.text(node, "`cmd`", expected)?,
        };
        if command.trim().is_empty() {
            return Err(self.document.wrong_type(
                &Node::null(node.mark),
                format!("`cmd` of stage `{}`", self.name),
                expected,
            ));
        }
        Ok(Action::Shell { command })
    }

    fn deps(&self, node: &Node) -> Result<Vec<ProjectPath>, PipelineError> {
        let items = self.list(node, "deps", "a list of paths")?;
        items
            .iter()
            .map(|item| match &item.content {
                Content::Scalar(scalar) => self.path(scalar, item.mark, "dependency"),
                _ => Err(self.wrong_type(item, "a dependency", "a path")),
            })
            .collect()
    }

    fn params(&self, node: &Node) -> Result<Params, PipelineError> {
        let entries = match &node.content {
            Content::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => return Err(self.wrong_type(node, "`params`", "a mapping of names to values")),
        };
        let resolve = |scalar: &Scalar, mark| self.scope.scalar(scalar, mark);
        Ok(Params::new(self.document.map(entries, &resolve)?))
    }

    fn mutex(&self, node: &Node) -> Result<Vec<String>, PipelineError> {
        let expected = "a name or a list of names";
        let items = match &node.content {
            Content::List(items) => items.as_slice(),
            _ if node.is_null() => &[],
            _ => std::slice::from_ref(node),
        };
        let mut names = Vec::with_capacity(items.len());
        let mut seen = HashSet::new();
        for item in items {
            let name = self.text(item, "`mutex`", expected)?;
            if name.is_empty() {
                return Err(self.wrong_type(&Node::null(item.mark), "`mutex`", expected));
            }
            if seen.insert(name.clone()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn cwd(&self, node: &Node) -> Result<Option<ProjectPath>, PipelineError> {
        let Content::Scalar(scalar) = &node.content else {
            return Err(self.wrong_type(node, "`cwd`", "a folder inside the project"));
        };
        if scalar.kind == ScalarKind::Null || matches!(scalar.text.as_str(), "." | "./") {
            return Ok(None);
        }
        self.path(scalar, node.mark, "working folder").map(Some)
    }

    fn resources(&self, node: &Node) -> Result<Resources, PipelineError> {
        let entries = match &node.content {
            Content::Map(entries) => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => return Err(self.wrong_type(node, "`resources`", "a mapping of names to amounts")),
        };
        let mut resources = BTreeMap::new();
        for Entry { key, value } in entries {
            let what = format!("resource `{}`", key.text());
            let Content::Scalar(scalar) = &value.content else {
                return Err(self.wrong_type(value, &what, "an amount"));
            };
            let resolved = self.scope.scalar(scalar, value.mark)?;
            let scalar = resolved.as_ref().unwrap_or(scalar);
            let Some(amount) = amount(key.text(), &scalar.to_value()) else {
                let problem = Problem::ResourceAmount {
                    stage: self.name.to_string(),
                    name: key.text().to_owned(),
                    amount: scalar.text.clone(),
                };
                return Err(self.document.error(value.mark, problem));
            };
            resources.insert(key.text().to_owned(), amount);
        }
        Ok(resources)
    }

    fn timeout(&self, node: &Node) -> Result<Option<Duration>, PipelineError> {
        let expected = "a duration such as 90s, 15m or 2h";
        let Content::Scalar(scalar) = &node.content else {
            return Err(self.wrong_type(node, "`timeout`", expected));
        };
        if node.is_null() {
            return Ok(None);
        }
        let resolved = self.scope.scalar(scalar, node.mark)?;
        let scalar = resolved.as_ref().unwrap_or(scalar);
        match time_limit::of_value(&scalar.to_value()) {
            Some(limit) => Ok(Some(limit)),
            None => {
                let (stage, text) = (self.name.to_string(), scalar.text.clone());
                Err(self.document.error(node.mark, Problem::TimeLimit { stage, text }))
            }
        }
    }

    pub(super) fn list<'n>(
        &self,
        node: &'n Node,
        key: &str,
        expected: &'static str,
    ) -> Result<&'n [Node], PipelineError> {
        match &node.content {
            Content::List(items) => Ok(items),
            _ if node.is_null() => Ok(&[]),
            _ => Err(self.wrong_type(node, format!("`{key}`"), expected)),
        }
    }

    pub(super) fn text(
        &self,
        node: &Node,
        what: &str,
        expected: &'static str,
    ) -> Result<String, PipelineError> {
        match &node.content {
            Content::Scalar(scalar) if scalar.kind == ScalarKind::Text => {
                Ok(self.scope.text(scalar, node.mark)?.into_owned())
            }
            _ => Err(self.wrong_type(node, what, expected)),
        }
    }

    pub(super) fn boolean(
        &self,
        node: &Node,
        what: &dyn Fn() -> String,
    ) -> Result<bool, PipelineError> {
        if let Content::Scalar(scalar) = &node.content {
            let resolved = self.scope.scalar(scalar, node.mark)?;
            if let ScalarKind::Bool(value) = resolved.as_ref().unwrap_or(scalar).kind {
                return Ok(value);
            }
        }
        Err(self.document.wrong_type(node, what(), "`true` or `false`"))
    }

    pub(super) fn path(
        &self,
        scalar: &Scalar,
        mark: Mark,
        role: &'static str,
    ) -> Result<ProjectPath, PipelineError> {
        if scalar.kind != ScalarKind::Text {
            let node = Node { mark, content: Content::Scalar(scalar.clone()) };
            return Err(self.wrong_type(
                &node,
                format!("the path of {}", with_article(role)),
                "a string",
            ));
        }
        let text = self.scope.text(scalar, mark)?;
        ProjectPath::new(&text).map_err(|reason| {
            let (stage, path) = (self.name.to_string(), text.into_owned());
            self.document.error(mark, Problem::Path { stage, role, path, reason })
        })
    }

    pub(super) fn wrong_type(
        &self,
        node: &Node,
        what: impl fmt::Display,
        expected: &'static str,
    ) -> PipelineError {
        self.document.wrong_type(node, format!("{what} of stage `{}`", self.name), expected)
    }

    pub(super) fn unknown_key(
        &self,
        entry: &Entry,
        of: String,
        known: &'static [&'static str],
        synonyms: &[(&str, &str)],
    ) -> PipelineError {
        let key = entry.key.text();
        let synonym = synonyms.iter().find(|(other, _)| *other == key).map(|(_, ours)| *ours);
        let suggestion = synonym.or_else(|| closest(key, known.iter().copied())).map(str::to_owned);
        let problem = Problem::UnknownKey { key: key.to_owned(), of, suggestion, known };
        self.document.error(entry.key.mark, problem)
    }
}
