//! The text of a lock, read as data that someone else may have written.
//!
//! Only what a lock needs of YAML is accepted: mappings, lists and scalars. The nesting is
//! bounded, and a list is held open on a stack of our own, so no text exhausts the thread's.

use std::borrow::Cow;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use pivot_cache::{Content, ContentKind};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::lock::{
    Artifact, Lock, LockContentError, MAX_PARAMS_DEPTH, SCHEMA_VERSION, check_out_path, check_path,
    shown,
};
use crate::scalar::resolve_plain;

/// The params begin one level below the document's own mapping.
const MAX_DEPTH: usize = MAX_PARAMS_DEPTH + 1;

/// Why a text is not a lock.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {why}")]
pub struct FormatError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there, such as "`hash` is not 16 hexadecimal digits".
    pub why: String,
}

/// Reads a lock; see [`Lock::from_yaml`].
pub(crate) fn lock(text: &str) -> Result<Lock, FormatError> {
    if let Some(line) = conflict_marker(text) {
        return Err(error(line, "git conflict markers: the lock was not merged"));
    }
    let root = document(text)?;
    let line = root.line;
    let NodeKind::Mapping(entries) = root.kind else {
        return Err(error(line, "this is not a lock, which is a mapping"));
    };
    let [mut version, mut code, mut params, mut deps, mut outs] = [const { None }; 5];
    for (key, node) in entries {
        match key.as_ref() {
            "schema_version" => version = Some(node),
            "code_manifest" => code = Some(node),
            "params" => params = Some(node),
            "deps" => deps = Some(node),
            "outs" => outs = Some(node),
            // A field of a later program that reads the same version: see `SCHEMA_VERSION`.
            _ => {}
        }
    }
    // First, since any other complaint about a later version would mislead.
    check_version(required(version, "schema_version", line)?)?;
    let code = code_manifest(required(code, "code_manifest", line)?)?;
    let params = value(required(params, "params", line)?)?;
    let deps = artifacts(required(deps, "deps", line)?, check_path)?;
    let outs = artifacts(required(outs, "outs", line)?, check_out_path)?;
    Lock::new(code, params, deps, outs).map_err(|problem| error(line, problem.to_string()))
}

fn check_version(node: Node<'_>) -> Result<(), FormatError> {
    match node.kind.plain().map(resolve_plain) {
        Some(Ok(Value::Number(version))) if version.as_u64() == Some(SCHEMA_VERSION) => Ok(()),
        Some(Ok(Value::Number(version))) => Err(error(
            node.line,
            format!("schema version {version}, but this program knows only {SCHEMA_VERSION}"),
        )),
        _ => Err(error(node.line, "`schema_version` is not a number")),
    }
}

fn code_manifest(
    node: Node<'_>,
) -> Result<Vec<(String, pivot_fingerprint::CodeHash)>, FormatError> {
    let line = node.line;
    let NodeKind::Mapping(entries) = node.kind else {
        return Err(error(line, "`code_manifest` is not a mapping"));
    };
    let entry = |(name, node): (Cow<'_, str>, Node<'_>)| {
        let hash = node.kind.text().and_then(|text| text.parse().ok());
        let problem = || format!("the hash of `{}` is not 16 hexadecimal digits", shown(&name));
        let hash = hash.ok_or_else(|| error(node.line, problem()))?;
        Ok((name.into_owned(), hash))
    };
    entries.into_iter().map(entry).collect()
}

/// [`Lock::new`] checks the paths too, but knows no lines.
fn artifacts(
    node: Node<'_>,
    check: fn(&str) -> Result<(), LockContentError>,
) -> Result<Vec<Artifact>, FormatError> {
    let NodeKind::List(items) = node.kind else {
        return Err(error(node.line, "`deps` and `outs` are lists"));
    };
    let checked = |item: Node<'_>| {
        let line = item.line;
        let artifact = artifact(item)?;
        check(&artifact.path).map_err(|problem| error(line, problem.to_string()))?;
        Ok(artifact)
    };
    items.into_iter().map(checked).collect()
}

fn artifact(node: Node<'_>) -> Result<Artifact, FormatError> {
    let line = node.line;
    let NodeKind::Mapping(fields) = node.kind else {
        return Err(error(line, "an item of `deps` and `outs` is a mapping"));
    };
    let [mut path, mut hash, mut size, mut files, mut executable] = [const { None }; 5];
    for (key, node) in fields {
        match key.as_ref() {
            "path" => path = Some(node),
            "hash" => hash = Some(node),
            "size" => size = Some(node),
            "files" => files = Some(node),
            "executable" => executable = Some(node),
            _ => {}
        }
    }
    let path = match required(path, "path", line)?.kind {
        NodeKind::Scalar { text, .. } => text.into_owned(),
        _ => return Err(error(line, "`path` is not a string")),
    };
    // Digests are read as the text that stands there, since a bare one may look like a number.
    let id = required(hash, "hash", line)?.kind.text().and_then(|text| text.parse().ok());
    let id = id.ok_or_else(|| error(line, "`hash` is not 16 hexadecimal digits"))?;
    let size_bytes = count(&required(size, "size", line)?, "size")?;
    let executable = executable.map(|node| match node.kind.plain() {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(error(node.line, "`executable` is neither true nor false")),
    });
    let kind = match (files, executable.transpose()?) {
        (None, executable) => ContentKind::File { executable: executable.unwrap_or(false) },
        (Some(files), None) => ContentKind::Directory { files: count(&files, "files")? },
        (Some(_), Some(_)) => {
            return Err(error(line, "a directory, which has `files`, is not `executable`"));
        }
    };
    Ok(Artifact { path, content: Content { id, size_bytes, kind } })
}

fn count(node: &Node<'_>, name: &str) -> Result<u64, FormatError> {
    let text = node.kind.plain().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| error(node.line, format!("`{name}` is not a whole number")))
}

fn required<'t>(node: Option<Node<'t>>, name: &str, line: usize) -> Result<Node<'t>, FormatError> {
    node.ok_or_else(|| error(line, format!("`{name}` is missing")))
}

/// The JSON value of a node, whose depth [`document`] has bounded.
fn value(node: Node<'_>) -> Result<Value, FormatError> {
    Ok(match node.kind {
        NodeKind::Scalar { text, is_plain: false } => Value::String(text.into_owned()),
        NodeKind::Scalar { text, is_plain: true } => resolve_plain(&text)
            .map_err(|problem| error(node.line, format!("`{}` {problem}", shown(&text))))?,
        NodeKind::List(items) => {
            Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?)
        }
        NodeKind::Mapping(entries) => {
            let entry = |(key, node): (Cow<'_, str>, _)| Ok((key.into_owned(), value(node)?));
            Value::Object(entries.into_iter().map(entry).collect::<Result<Map<_, _>, _>>()?)
        }
    })
}

/// A piece of the document and the line where it begins.
struct Node<'t> {
    line: usize,
    kind: NodeKind<'t>,
}

enum NodeKind<'t> {
    Scalar { text: Cow<'t, str>, is_plain: bool },
    List(Vec<Node<'t>>),
    Mapping(Vec<(Cow<'t, str>, Node<'t>)>),
}

impl NodeKind<'_> {
    /// A scalar's text, however it is quoted.
    fn text(&self) -> Option<&str> {
        match self {
            NodeKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar without quotes.
    fn plain(&self) -> Option<&str> {
        match self {
            NodeKind::Scalar { text, is_plain: true } => Some(text),
            _ => None,
        }
    }
}

/// A list or mapping whose end has not come yet.
struct Open<'t> {
    line: usize,
    kind: NodeKind<'t>,
    /// In a mapping, the key whose value comes next.
    key: Option<Cow<'t, str>>,
}

/// Reads the one document of a text.
fn document(text: &str) -> Result<Node<'_>, FormatError> {
    let options = granit_parser::options! { emit_comments: false, disallow_directives: true };
    let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut root = None;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|problem| {
            error(problem.marker().line(), shown(&problem.kind().to_string()))
        })?;
        let line = span.start.line();
        refuse_what_no_lock_has(&event, &span, root.is_some())?;
        let done = match event {
            Event::Scalar(text, style, ..) => {
                // The key of a mapping's next entry, unless there is one already.
                if let Some(Open { kind: NodeKind::Mapping(_), key: key @ None, .. }) =
                    open.last_mut()
                {
                    *key = Some(text);
                    continue;
                }
                Node {
                    line,
                    kind: NodeKind::Scalar { text, is_plain: style == ScalarStyle::Plain },
                }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() == MAX_DEPTH {
                    return Err(error(line, format!("nested more than {MAX_DEPTH} levels deep")));
                }
                if let Some(Open { kind: NodeKind::Mapping(_), key: None, .. }) = open.last() {
                    return Err(error(line, "a key is a list or a mapping"));
                }
                let kind = match event {
                    Event::SequenceStart(..) => NodeKind::List(Vec::new()),
                    _ => NodeKind::Mapping(Vec::new()),
                };
                open.push(Open { line, kind, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, kind, .. }) = open.pop() else { continue };
                if let NodeKind::Mapping(entries) = &kind {
                    refuse_duplicates(entries)?;
                }
                Node { line, kind }
            }
            _ => continue,
        };
        match open.last_mut() {
            None => root = Some(done),
            Some(Open { kind: NodeKind::Mapping(entries), key, .. }) => {
                let key = key.take().expect("a mapping's value follows its key");
                entries.push((key, done));
            }
            Some(Open { kind: NodeKind::List(items), .. }) => items.push(done),
            Some(Open { kind: NodeKind::Scalar { .. }, .. }) => {
                unreachable!("only lists and mappings are opened")
            }
        }
    }
    root.ok_or_else(|| error(1, "the file is empty"))
}

fn refuse_what_no_lock_has(
    event: &Event<'_>,
    span: &Span,
    is_after_document: bool,
) -> Result<(), FormatError> {
    let problem = match event {
        Event::Alias(_) => "an alias (`*name`)",
        _ if event.anchor_id().is_some() => "an anchor (`&name`)",
        _ if event.tag().is_some() => "a tag (`!name`)",
        Event::DocumentStart(..) if is_after_document => "a second document",
        _ => return Ok(()),
    };
    Err(error(span.start.line(), format!("{problem}, which no lock has")))
}

fn refuse_duplicates(entries: &[(Cow<'_, str>, Node<'_>)]) -> Result<(), FormatError> {
    // What we wrote ourselves is sorted, save for the fields of the lock and its items.
    if entries.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Ok(());
    }
    let mut keys: Vec<_> = entries.iter().map(|(key, node)| (key.as_ref(), node.line)).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            Err(error(pair[1].1, format!("the key `{}` is there twice", shown(pair[1].0))))
        }
        None => Ok(()),
    }
}

/// The line of the first marker that git leaves in a file which it could not merge.
///
/// No line of ours begins like one, and a string that does is quoted.
fn conflict_marker(text: &str) -> Option<usize> {
    const MARKERS: [&str; 4] = ["<<<<<<< ", "||||||| ", "=======", ">>>>>>> "];
    let is_marker = |line: &str| MARKERS.iter().any(|marker| line.starts_with(marker));
    text.lines().position(is_marker).map(|index| index + 1)
}

fn error(line: usize, why: impl Into<String>) -> FormatError {
    FormatError { line, why: why.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WHOLE: &str = "\
schema_version: 1
code_manifest:
  self:train: c2966b8ef5d26588
params: {lr: 0.01}
deps:
- {path: data.csv, hash: 328592d381e297f9, size: 1024}
outs:
- {path: model.pkl, hash: 9160f87a8374feb1, size: 2048}
";

    fn why(text: &str) -> String {
        lock(text).expect_err(text).to_string()
    }

    #[test]
    fn digests_are_read_as_text_quoted_or_not() {
        let read = lock(WHOLE).unwrap();
        for hash in ["42707261230e3444", "1234567890123456", "0000000000000000"] {
            let text = WHOLE.replace("328592d381e297f9", hash);
            assert_eq!(lock(&text).unwrap().deps()[0].content.id.to_string(), hash);
        }
        assert_eq!(lock(&WHOLE.replace("328592d381e297f9", "\"328592d381e297f9\"")), Ok(read));
    }

    #[test]
    fn order_style_comments_and_unknown_fields_do_not_matter() {
        let text = r#"# merged by hand
outs: [{"size": 2048, "hash": "9160f87a8374feb1", "path": "model.pkl", "mode": 4}]
deps:
  - path: data.csv
    size: 1024
    hash: 328592d381e297f9
later: [1, {2: 3}]
params:
  lr: 1e-2
code_manifest: {'self:train': c2966b8ef5d26588}
schema_version: 1
"#;
        assert_eq!(lock(text), lock(WHOLE));
        assert_eq!(lock(&WHOLE.replace('\n', "\r\n")), lock(WHOLE));
        assert_eq!(lock(&format!("\u{feff}---\n{WHOLE}...\n")), lock(WHOLE));
    }

    #[test]
    fn params_are_core_schema_scalars() {
        let text =
            WHOLE.replace("{lr: 0.01}", "{a: no, b: 1, c: 1.0, d: ~, e: '1', f: [on, true]}");
        assert_eq!(
            lock(&text).unwrap().params(),
            &json!({"a": "no", "b": 1, "c": 1.0, "d": null, "e": "1", "f": ["on", true]})
        );
        assert!(lock(&text).unwrap().params()["b"] != json!(1.0));
    }

    #[test]
    fn what_is_not_a_lock_says_why() {
        let replaced = |from, to| {
            assert!(WHOLE.contains(from));
            why(&WHOLE.replace(from, to))
        };
        for (text, expected) in [
            (why(""), "line 1: the file is empty"),
            (why("# nothing\n"), "line 1: the file is empty"),
            (why("just words"), "line 1: this is not a lock, which is a mapping"),
            (why("[]"), "line 1: this is not a lock, which is a mapping"),
            (why("{}"), "line 1: `schema_version` is missing"),
            (
                replaced("schema_version: 1", "schema_version: 2"),
                "line 1: schema version 2, but this program knows only 1",
            ),
            (
                replaced("schema_version: 1", "schema_version: '1'"),
                "line 1: `schema_version` is not a number",
            ),
            (replaced("deps:", "dependencies:"), "line 1: `deps` is missing"),
            (replaced("deps:\n-", "deps:\n#"), "line 5: `deps` and `outs` are lists"),
            (replaced("{lr: 0.01}", "{lr: 1, lr: 2}"), "line 4: the key `lr` is there twice"),
            (replaced("outs:", "deps: []\nouts:"), "line 7: the key `deps` is there twice"),
            (replaced("{lr: 0.01}", "[1]"), "line 1: the params are not a mapping"),
            (replaced("0.01", ".nan"), "line 4: `.nan` is not a number, which params cannot hold"),
            (
                replaced("0.01", "99999999999999999999"),
                "line 4: `99999999999999999999` does not fit into 64 bits",
            ),
            (replaced("0.01", "!!float 1"), "line 4: a tag (`!name`), which no lock has"),
            (replaced("0.01", "&a 1"), "line 4: an anchor (`&name`), which no lock has"),
            (replaced("{lr: 0.01}", "{? [a] : 1}"), "line 4: a key is a list or a mapping"),
            (
                replaced("c2966b8ef5d26588", "C2966B8EF5D26588"),
                "line 3: the hash of `self:train` is not 16 hexadecimal digits",
            ),
            (
                replaced("328592d381e297f9", "../../etc/passwd"),
                "line 6: `hash` is not 16 hexadecimal digits",
            ),
            (replaced("size: 1024", "size: -1"), "line 6: `size` is not a whole number"),
            (replaced("size: 1024", "size: '1'"), "line 6: `size` is not a whole number"),
            (replaced(", size: 1024", ""), "line 6: `size` is missing"),
            (
                replaced("size: 1024", "size: 1, files: 1, executable: false"),
                "line 6: a directory, which has `files`, is not `executable`",
            ),
            (
                replaced("size: 1024", "size: 1, executable: yes"),
                "line 6: `executable` is neither true nor false",
            ),
            (
                replaced("path: model.pkl", "path: ../../victim"),
                "line 8: the path `../../victim` leads out of its folder with `..`",
            ),
            (
                replaced("path: model.pkl", "path: .git/hooks/post-checkout"),
                "line 8: the path `.git/hooks/post-checkout` lies in `.git`",
            ),
            (
                replaced("  self:train", "<<<<<<< HEAD\n  self:train"),
                "line 3: git conflict markers: the lock was not merged",
            ),
            (why(&format!("{WHOLE}---\n{WHOLE}")), "line 9: a second document, which no lock has"),
        ] {
            assert_eq!(text, expected);
        }
        // The words of these are the parser's.
        for text in ["%YAML 1.1\n---\n{}", "a: *b", "a: [", "a: 'b", "a:\n\t- b", "\0", "a: b: c"] {
            assert!(why(text).starts_with("line "), "{text:?}");
        }
    }

    #[test]
    fn hostile_text_is_refused_in_no_time() {
        let deep = 200_000;
        let bomb: String = (1..20)
            .map(|level| {
                format!("a{level}: &a{level} [{}]\n", format!("*a{},", level - 1).repeat(10))
            })
            .collect();
        for text in [
            "[".repeat(deep),
            "{a: ".repeat(deep),
            "- ".repeat(deep),
            "? ".repeat(deep),
            "a:\n".repeat(deep),
            format!("a0: &a0 x\n{bomb}"),
            format!("schema_version: {}", "9".repeat(deep)),
        ] {
            assert!(why(&text).len() < 200, "{}", &text[..40]);
        }
        let many: String = (0..deep).map(|index| format!("k{}: 1\n", index % 1000)).collect();
        assert!(why(&many).contains("is there twice"));
    }
}
