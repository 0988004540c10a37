//! Changes to a file of YAML that leave everything else in it as it is.
//!
//! A person's comments, order and formatting are worth keeping, so the text is never written
//! anew: the parser tells where a value stands, and only those bytes are replaced. Each change is
//! checked: the new text is read again, and unless it says what the old one did, but for the one
//! value, the change is refused.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle, options};

use super::write::{INDENT, flow, inline, lines};
use super::{Content, Document, Mark};
use crate::error::{PipelineError, Problem};
use crate::value::{Map, Value};

/// The text of a YAML file that holds a mapping, or nothing yet.
///
/// ```
/// use pivot_pipeline::{Value, YamlText};
///
/// let text = "# ours\nremotes:\n  origin: s3://old  # moved in May\n";
/// let mut file = YamlText::parse("config.yaml", text.to_owned())?;
/// file.set(&["remotes", "origin"], &Value::from("s3://new/prefix"))?;
/// file.set(&["default_remote"], &Value::from("origin"))?;
/// assert_eq!(
///     file.text(),
///     "# ours\nremotes:\n  origin: s3://new/prefix  # moved in May\ndefault_remote: origin\n"
/// );
/// # Ok::<(), pivot_pipeline::PipelineError>(())
/// ```
#[derive(Clone, Debug)]
pub struct YamlText {
    file: String,
    text: String,
    value: Value,
}

impl YamlText {
    /// Reads `text`; `file` is its name for messages.
    ///
    /// # Errors
    /// When the text is not one document of YAML that holds a mapping or nothing.
    pub fn parse(file: &str, text: String) -> Result<Self, PipelineError> {
        let document = Document::parse(file, text.as_bytes())?;
        let value = match document.value(&document.root, &|_, _| Ok(None))? {
            Value::Null => Value::Map(Map::new()),
            value @ Value::Map(_) => value,
            _ => {
                let found = document.root.describe();
                let (what, expected) = ("the file".to_owned(), "a mapping");
                let problem = Problem::WrongType { what, expected, found };
                return Err(document.error(document.root.mark, problem));
            }
        };
        Ok(Self { file: file.to_owned(), text, value })
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the text says: a mapping.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The key, such as `core.jobs`, that `line` and `column` belong to, both counted from 1.
    pub fn key_at(&self, line: u64, column: u64) -> Option<String> {
        let document = Document::parse(&self.file, self.text.as_bytes()).ok()?;
        let is_before =
            |mark: &Mark| (u64::from(mark.line), u64::from(mark.column)) <= (line, column);
        let (mut node, mut path) = (&document.root, Vec::new());
        // Of a list, its own key says enough.
        while let Content::Map(entries) = &node.content {
            let Some(entry) = entries.iter().rev().find(|e| is_before(&e.key.mark)) else { break };
            path.push(entry.key.text());
            node = &entry.value;
        }
        (!path.is_empty()).then(|| path.join("."))
    }

    /// Gives the key at the end of `path` this value, and makes the mappings around it.
    ///
    /// # Errors
    /// When something on the path is no mapping, or the text cannot be changed in this place
    /// without changing more than that. The text is then as it was.
    pub fn set(&mut self, path: &[&str], value: &Value) -> Result<(), PipelineError> {
        if self.value.get(path) == Some(value) {
            return Ok(());
        }
        let mut expected = self.value.clone();
        let edits = place_value(&mut expected, path, value)
            .and_then(|()| Layout::of(&self.text)?.set(path, value));
        self.change(path, edits, expected)
    }

    /// Removes the key at the end of `path`, with mappings that it leaves empty; says whether
    /// there was one.
    ///
    /// # Errors
    /// When the text cannot be changed in this place without changing more than that. The text is
    /// then as it was.
    pub fn unset(&mut self, path: &[&str]) -> Result<bool, PipelineError> {
        if self.value.get(path).is_none() {
            return Ok(false);
        }
        let mut expected = self.value.clone();
        remove_value(&mut expected, path);
        let edits = Layout::of(&self.text).and_then(|layout| layout.unset(path));
        self.change(path, edits, expected)?;
        Ok(true)
    }

    fn change(
        &mut self,
        path: &[&str],
        edits: Option<Vec<Edit>>,
        expected: Value,
    ) -> Result<(), PipelineError> {
        let refused = || PipelineError::new(Problem::CannotEdit { key: path.join(".") });
        let mut edits = edits.ok_or_else(refused)?;
        edits.sort_by_key(|edit| std::cmp::Reverse(edit.range.start));
        let mut text = self.text.clone();
        for Edit { range, with } in edits {
            if text.get(range.clone()).is_none() {
                return Err(refused());
            }
            text.replace_range(range, &with);
        }
        match Self::parse(&self.file, text) {
            Ok(changed) if without_empty(changed.value.clone()) == without_empty(expected) => {
                *self = changed;
                Ok(())
            }
            _ => Err(refused()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

/// The mapping without entries that hold an empty mapping or nothing: a key without a value is
/// the same as none for whoever reads settings.
fn without_empty(value: Value) -> Value {
    // The loader bounds the depth, so this recursion is shallow.
    let Value::Map(map) = value else { return value };
    let kept = map.into_iter().map(|(key, value)| (key, without_empty(value)));
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Map(map) => map.is_empty(),
        _ => false,
    };
    Value::Map(kept.filter(|(_, value)| !is_empty(value)).collect())
}

/// What the text shall say; `None` if something on the way is no mapping.
fn place_value(root: &mut Value, path: &[&str], value: &Value) -> Option<()> {
    let mut at = root;
    for key in path {
        if *at == Value::Null {
            *at = Value::Map(Map::new());
        }
        let Value::Map(map) = at else { return None };
        at = map.entry((*key).to_owned()).or_default();
    }
    *at = value.clone();
    Some(())
}

fn remove_value(root: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = root;
    for key in parents {
        let Value::Map(map) = at else { return };
        let Some(next) = map.get_mut(*key) else { return };
        at = next;
    }
    if let Value::Map(map) = at {
        map.shift_remove(*last);
    }
}

/// One replacement of bytes.
#[derive(Debug)]
struct Edit {
    range: Range<usize>,
    with: String,
}

/// Where everything stands in a text.
struct Layout<'t> {
    text: &'t str,
    root: Option<Span>,
    /// Where comments begin.
    comments: Vec<usize>,
}

/// Where a node stands, in bytes.
#[derive(Debug)]
struct Span {
    range: Range<usize>,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// Nothing is written, as behind `key:`.
    Absent,
    /// On its line or lines.
    Scalar,
    /// A list, an alias or a block of text.
    Other,
    Block(Vec<EntrySpan>),
    Flow(Vec<EntrySpan>),
}

#[derive(Debug)]
struct EntrySpan {
    key: String,
    key_range: Range<usize>,
    column: usize,
    value: Span,
}

/// A list or mapping of which the end has not been seen.
struct Open {
    start: usize,
    is_flow: bool,
    /// `None` for a list.
    entries: Option<Vec<EntrySpan>>,
    key: Option<(String, Range<usize>, usize)>,
    end: usize,
}

impl<'t> Layout<'t> {
    /// `None` where the parser does not say where something is.
    fn of(text: &'t str) -> Option<Self> {
        let mut stack: Vec<Open> = Vec::new();
        let (mut root, mut comments) = (None, Vec::new());
        for event in Parser::new_from_str_with_options(text, options! { emit_comments: true }) {
            let (event, span) = event.ok()?;
            let start = span.start.byte_offset()?;
            let end = span.end.byte_offset()?;
            let column = span.start.col();
            let open = |style, entries| {
                let is_flow = style == StructureStyle::Flow;
                Open { start, is_flow, entries, key: None, end }
            };
            let (node, text_of) = match event {
                Event::Scalar(value, style, ..) => {
                    let shape = match style {
                        ScalarStyle::Literal | ScalarStyle::Folded => Shape::Other,
                        ScalarStyle::Plain if start == end => Shape::Absent,
                        _ => Shape::Scalar,
                    };
                    (Span { range: start..end, shape }, Some(value.into_owned()))
                }
                Event::Alias(_) => (Span { range: start..end, shape: Shape::Other }, None),
                Event::SequenceStart(style, ..) => {
                    stack.push(open(style, None));
                    continue;
                }
                Event::MappingStart(style, ..) => {
                    stack.push(open(style, Some(Vec::new())));
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let closed = stack.pop()?;
                    // Of a block, the parser tells the end of what follows it.
                    let end = if closed.is_flow { end } else { closed.end };
                    let shape = match closed.entries {
                        None => Shape::Other,
                        Some(entries) if closed.is_flow => Shape::Flow(entries),
                        Some(entries) => Shape::Block(entries),
                    };
                    (Span { range: closed.start..end, shape }, None)
                }
                Event::Comment(..) => {
                    comments.push(start);
                    continue;
                }
                _ => continue,
            };
            let Some(parent) = stack.last_mut() else {
                root = Some(node);
                continue;
            };
            parent.end = parent.end.max(node.range.end);
            match (&mut parent.entries, parent.key.take()) {
                (Some(entries), Some((key, key_range, column))) => {
                    entries.push(EntrySpan { key, key_range, column, value: node });
                }
                (Some(_), None) => parent.key = Some((text_of?, node.range, column)),
                (None, _) => {}
            }
        }
        Some(Self { text, root, comments })
    }

    fn newline(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// Just behind the colon of a key.
    fn behind_colon(&self, entry: &EntrySpan) -> Option<usize> {
        let rest = self.text.get(entry.key_range.end..)?;
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        rest[blanks..].starts_with(':').then_some(entry.key_range.end + blanks + 1)
    }

    /// Where the value of an entry ends, or its colon if it has none.
    fn end_of(&self, entry: &EntrySpan) -> Option<usize> {
        match entry.value.shape {
            Shape::Absent => self.behind_colon(entry),
            _ => Some(entry.value.range.end),
        }
    }

    /// The start of the line after the one that holds the byte before `at`; the end of the text if
    /// there is none.
    fn line_after(&self, at: usize) -> usize {
        // A block of text ends where the next line begins.
        let at = if self.text[..at].ends_with('\n') { at - 1 } else { at };
        self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// New lines at the start of the line at `at`.
    fn insert_lines(&self, at: usize, mut lines: String) -> Edit {
        if at > 0 && !self.text[..at].ends_with('\n') {
            lines.insert_str(0, self.newline());
        }
        Edit { range: at..at, with: lines }
    }

    fn set(&self, path: &[&str], value: &Value) -> Option<Vec<Edit>> {
        let Some(mut at) = self.root.as_ref() else {
            let lines = lines(0, path, value, self.newline())?;
            return Some(vec![self.insert_lines(self.text.len(), lines)]);
        };
        let mut rest = path;
        loop {
            let (entries, is_flow) = match &at.shape {
                Shape::Block(entries) => (entries, false),
                Shape::Flow(entries) => (entries, true),
                _ => return None,
            };
            let (key, inner) = rest.split_first()?;
            let Some(entry) = entries.iter().find(|entry| entry.key == *key) else {
                return self.insert(at, entries, is_flow, rest, value);
            };
            if inner.is_empty() {
                return self.replace(entry, is_flow, value);
            }
            rest = inner;
            match (&entry.value.shape, is_flow) {
                (Shape::Block(_) | Shape::Flow(_), _) => at = &entry.value,
                // A key without a value: what is below it comes on lines of its own.
                (Shape::Absent, false) => {
                    let below = lines(entry.column + INDENT, rest, value, self.newline())?;
                    let after = self.line_after(self.behind_colon(entry)?);
                    return Some(vec![self.insert_lines(after, below)]);
                }
                (Shape::Scalar, _) => {
                    let with = flow(rest, value)?;
                    return Some(vec![Edit { range: entry.value.range.clone(), with }]);
                }
                _ => return None,
            }
        }
    }

    /// A new entry at the end of a mapping.
    fn insert(
        &self,
        mapping: &Span,
        entries: &[EntrySpan],
        is_flow: bool,
        path: &[&str],
        value: &Value,
    ) -> Option<Vec<Edit>> {
        if is_flow {
            let with = flow(path, value)?;
            let with = with.strip_prefix('{')?.strip_suffix('}')?;
            let (at, with) = match entries.last() {
                Some(last) => (self.end_of(last)?, format!(", {with}")),
                None => (mapping.range.start + 1, with.to_owned()),
            };
            return Some(vec![Edit { range: at..at, with }]);
        }
        let (first, last) = (entries.first()?, entries.last()?);
        let lines = lines(first.column, path, value, self.newline())?;
        Some(vec![self.insert_lines(self.line_after(self.end_of(last)?), lines)])
    }

    fn replace(&self, entry: &EntrySpan, is_flow: bool, value: &Value) -> Option<Vec<Edit>> {
        let range = match &entry.value.shape {
            Shape::Scalar | Shape::Flow(_) => {
                let with = inline(value)?;
                return Some(vec![Edit { range: entry.value.range.clone(), with }]);
            }
            Shape::Absent => {
                let at = self.behind_colon(entry)?;
                at..at
            }
            Shape::Block(_) => self.behind_colon(entry)?..entry.value.range.end,
            Shape::Other => return None,
        };
        let with = match value {
            Value::Map(map) if !map.is_empty() && !is_flow => {
                let below = lines(entry.column + INDENT, &[], value, self.newline())?;
                format!("{}{}", self.newline(), below.trim_end())
            }
            _ => format!(" {}", inline(value)?),
        };
        Some(vec![Edit { range, with }])
    }

    fn unset(&self, path: &[&str]) -> Option<Vec<Edit>> {
        // The entries on the way, each with its siblings.
        let mut way: Vec<(&EntrySpan, &[EntrySpan], bool)> = Vec::new();
        let mut at = self.root.as_ref()?;
        for key in path {
            let (entries, is_flow) = match &at.shape {
                Shape::Block(entries) => (entries, false),
                Shape::Flow(entries) => (entries, true),
                _ => return None,
            };
            let entry = entries.iter().find(|entry| entry.key == *key)?;
            way.push((entry, entries, is_flow));
            at = &entry.value;
        }
        let mut removed = way.pop()?;
        // What it leaves empty goes too, unless somebody's comment would go with it.
        while let (true, Some((parent, ..))) = (removed.1.len() == 1, way.last()) {
            let inside = self.behind_colon(parent)?..parent.value.range.end;
            if self.comments.iter().any(|comment| inside.contains(comment)) {
                let at = self.behind_colon(parent)?;
                let mut edits = self.remove(removed)?;
                if !removed.2 {
                    edits.push(Edit { range: at..at, with: " {}".to_owned() });
                }
                return Some(edits);
            }
            removed = way.pop()?;
        }
        self.remove(removed)
    }

    fn remove(&self, (entry, _, is_flow): (&EntrySpan, &[EntrySpan], bool)) -> Option<Vec<Edit>> {
        let (start, end) = (entry.key_range.start, self.end_of(entry)?);
        let range = if is_flow {
            let behind = &self.text[end..];
            let blanks = behind.len() - behind.trim_start().len();
            match behind[blanks..].strip_prefix(',') {
                Some(rest) => start..end + blanks + 1 + (rest.len() - rest.trim_start().len()),
                None => {
                    let before = self.text[..start].trim_end();
                    before.strip_suffix(',').map_or(start, |before| before.trim_end().len())..end
                }
            }
        } else {
            let line = self.line_start(start);
            if !self.text[line..start].trim().is_empty() {
                return None;
            }
            line..self.line_after(end)
        };
        Some(vec![Edit { range, with: String::new() }])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(text: &str, change: impl FnOnce(&mut YamlText)) -> String {
        let mut file = YamlText::parse("config.yaml", text.to_owned()).unwrap();
        change(&mut file);
        file.text().to_owned()
    }

    fn set(text: &str, path: &str, value: &str) -> String {
        let path: Vec<&str> = path.split('.').collect();
        edited(text, |file| file.set(&path, &Value::from_yaml(value).unwrap()).unwrap())
    }

    fn unset(text: &str, path: &str) -> String {
        let path: Vec<&str> = path.split('.').collect();
        edited(text, |file| assert!(file.unset(&path).unwrap()))
    }

    #[test]
    fn a_value_is_set_and_nothing_else_changes() {
        for (before, path, value, after) in [
            ("", "a", "1", "a: 1\n"),
            ("# only this\n", "a.b", "x", "# only this\na:\n  b: x\n"),
            ("# no end", "a", "x", "# no end\na: x\n"),
            ("a: 1  # one\n", "a", "2", "a: 2  # one\n"),
            ("a: 'x'\nb: 1", "a", "'no'", "a: no\nb: 1"),
            ("a: x\nb: 1", "b", "'1'", "a: x\nb: \"1\""),
            ("a: 1 # one", "b", "2", "a: 1 # one\nb: 2\n"),
            ("a:\nb: 1\n", "a", "x", "a: x\nb: 1\n"),
            ("a:   # none yet\nb: 1\n", "a.c.d", "x", "a:   # none yet\n  c:\n    d: x\nb: 1\n"),
            ("a: null # none\n", "a.c", "x", "a: {c: x} # none\n"),
            ("a: ~\n", "a", "x", "a: x\n"),
            (
                "r:\n    o: s3://x # why\n    # after\n\nz: 1\n",
                "r.p",
                "s3://y/z",
                "r:\n    o: s3://x # why\n    p: s3://y/z\n    # after\n\nz: 1\n",
            ),
            ("r: {}\n", "r.o", "x", "r: {o: x}\n"),
            ("r: {o: x, }\n", "r.p", "y", "r: {o: x, p: y, }\n"),
            ("{r: {o: x}}", "r.p.q", "y", "{r: {o: x, p: {q: y}}}"),
            ("r:\n  o:\n    url: x\n    b: 1\nz: 1\n", "r.o", "y", "r:\n  o: y\nz: 1\n"),
            (
                "r:\n  o: x\n",
                "r.o",
                "{url: y, e: 'a b'}",
                "r:\n  o: {\"url\":\"y\",\"e\":\"a b\"}\n",
            ),
            ("a: 1\n", "r.o", "{url: y, e: 'a b'}", "a: 1\nr:\n  o:\n    url: y\n    e: \"a b\"\n"),
            ("a: 1\r\nb: 2\r\n", "c", "3", "a: 1\r\nb: 2\r\nc: 3\r\n"),
            ("a: &x 1\nb: *x\n", "c", "3", "a: &x 1\nb: *x\nc: 3\n"),
            ("a: |\n  text\n  more\nb: 1\n", "b", "2", "a: |\n  text\n  more\nb: 2\n"),
            ("é: 1\nb: 1\n", "b", "2", "é: 1\nb: 2\n"),
            ("l: [1, 2]\n", "m", "[a, b]", "l: [1, 2]\nm: [\"a\",\"b\"]\n"),
        ] {
            assert_eq!(set(before, path, value), after, "{path}={value} in {before:?}");
        }
    }

    #[test]
    fn a_key_is_removed_with_what_it_leaves_empty() {
        for (before, path, after) in [
            ("a: 1\n", "a", ""),
            ("# keep\na: 1 # gone\n# this too\nb: 2\n", "a", "# keep\n# this too\nb: 2\n"),
            ("r:\n  o: x\n  p: y\n", "r.o", "r:\n  p: y\n"),
            ("r:\n  o: x\nz: 1\n", "r.o", "z: 1\n"),
            ("r:\n  o:\n    url: x\n    e: y\nz: 1", "r.o", "z: 1"),
            ("r:\n  # ours\n  o: x\nz: 1\n", "r.o", "r: {}\n  # ours\nz: 1\n"),
            ("r: {o: x, p: y}\n", "r.o", "r: {p: y}\n"),
            ("r: {o: x, p: y}\n", "r.p", "r: {o: x}\n"),
            ("r: {o: x}\nz: 1\n", "r.o", "z: 1\n"),
            ("r:\nz: 1\n", "r", "z: 1\n"),
        ] {
            assert_eq!(unset(before, path), after, "without {path} in {before:?}");
        }
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_refused_and_left() {
        for (text, path) in [
            ("a: [1]\n", "a.b"),
            ("a: 1\n", "a.b"),
            ("a: &x {b: 1}\nc: *x\n", "c.b"),
            ("a: |\n  text\n", "a"),
            ("x: &x {b: 1}\na: {<<: *x}\n", "a.c.d.<<"),
        ] {
            let mut file = YamlText::parse("config.yaml", text.to_owned()).unwrap();
            let path: Vec<&str> = path.split('.').collect();
            if file.set(&path, &Value::Int(7)).is_err() {
                assert_eq!(file.text(), text);
            } else {
                assert_eq!(file.value().get(&path), Some(&Value::Int(7)), "{text:?}");
            }
        }
        let mut file = YamlText::parse("config.yaml", "a: [1]\n".to_owned()).unwrap();
        assert!(file.set(&["a", "b"], &Value::Int(7)).is_err());
    }

    #[test]
    fn a_place_belongs_to_the_innermost_key() {
        let text = "core:\n  jobs: 2\nremotes:\n  a: {url: s3://b, anonymous: x}\n  b: [1]\n";
        let file = YamlText::parse("config.yaml", text.to_owned()).unwrap();
        for (line, column, key) in [
            (1, 1, "core"),
            (2, 9, "core.jobs"),
            (4, 6, "remotes.a"),
            (4, 22, "remotes.a.anonymous"),
            (4, 33, "remotes.a.anonymous"),
            (5, 8, "remotes.b"),
            (9, 9, "remotes.b"),
        ] {
            assert_eq!(file.key_at(line, column).as_deref(), Some(key), "{line}:{column}");
        }
        assert_eq!(YamlText::parse("c", String::new()).unwrap().key_at(1, 1), None);
    }

    #[test]
    fn a_file_that_is_no_mapping_is_refused() {
        for text in ["- a\n", "text", "a: 1\na: 2\n", "a: {", "a:\n\tb: 1"] {
            assert!(YamlText::parse("config.yaml", text.to_owned()).is_err(), "{text:?}");
        }
    }

    proptest! {
        /// Whatever is set is read back, everything else stays, and removing it brings back what
        /// was there.
        #[test]
        fn setting_is_read_back(
            before in proptest::collection::btree_map("[a-c]", "[ -~é]{0,8}", 0..3),
            key in "[d-f]",
            inner in proptest::option::of("[a-z -]{1,4}"),
            value in "[ -~é]{0,12}",
        ) {
            let map: Map = before.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
            let mut text = lines(0, &[], &Value::Map(map.clone()), "\n").unwrap();
            text.insert_str(0, "# first\n");
            let mut file = YamlText::parse("x", text.clone()).unwrap();
            let path: Vec<&str> = std::iter::once(key.as_str()).chain(inner.as_deref()).collect();
            file.set(&path, &Value::from(value.as_str())).unwrap();
            prop_assert_eq!(file.value().get(&path), Some(&Value::String(value)));
            for (key, value) in &map {
                prop_assert_eq!(file.value().get(&[key]), Some(value));
            }
            prop_assert!(file.unset(&path).unwrap());
            prop_assert_eq!(file.text(), text);
        }
    }
}
