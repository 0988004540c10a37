//! From the parser's events to the tree.
//!
//! The loader keeps its own stack, so depth costs no stack of ours, and refuses what a
//! definition has no use for: tags, several documents, directives, keys that are no scalars.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use granit_parser::{
    ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StructureStyle, options,
};

use super::{Content, Entry, Key, Mark, Node, Scalar};
use crate::error::{PipelineError, Problem};
use crate::place::Place;

/// How deep lists and mappings may nest.
pub(crate) const MAX_DEPTH: usize = 64;
/// The largest file that is read.
const MAX_BYTES: usize = 64 << 20;
/// What all copies made by anchors and aliases may weigh together: one a node, and one for each
/// 32 bytes of text.
const MAX_COPIES: usize = 1_000_000;

/// A file of YAML with one document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) file: Arc<str>,
    pub(crate) root: Node,
    /// Whether no list and no mapping is written by indentation.
    pub(crate) in_flow_style: bool,
}

impl Document {
    /// Reads `bytes`; `file` is the name for messages.
    ///
    /// # Errors
    ///
    /// When the bytes are not one document of YAML, or use what is refused here.
    pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Self, PipelineError> {
        let file: Arc<str> = file.into();
        let text = check_text(&file, bytes)?;
        let options = options! {
            emit_comments: false,
            disallow_directives: true,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        let mut loader = Loader::new(file);
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|error| loader.syntax_error(text, &error))?;
            loader.take(event, mark(&span.start))?;
        }
        let start = Mark { line: 1, column: 1 };
        Ok(Document {
            root: loader.root.unwrap_or_else(|| Node::null(start)),
            in_flow_style: loader.in_flow_style,
            file: loader.file,
        })
    }

    /// The place of `mark` in this file.
    pub(crate) fn place(&self, mark: Mark) -> Place {
        Place::new(Arc::clone(&self.file), mark.line, mark.column)
    }

    /// `problem` at `mark`.
    pub(crate) fn error(&self, mark: Mark, problem: Problem) -> PipelineError {
        PipelineError::new(problem).at(self.place(mark))
    }
}

struct Loader {
    file: Arc<str>,
    stack: Vec<Frame>,
    root: Option<Node>,
    documents: usize,
    anchors: HashMap<usize, Built>,
    copies: usize,
    in_flow_style: bool,
}

/// A list or mapping that is still open.
struct Frame {
    mark: Mark,
    anchor: usize,
    weight: usize,
    height: usize,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<Key>, merges: bool },
}

/// A finished node, what a copy of it weighs and how many levels it has below itself.
struct Built {
    node: Node,
    weight: usize,
    height: usize,
}

impl Loader {
    fn new(file: Arc<str>) -> Self {
        Self {
            file,
            stack: Vec::new(),
            root: None,
            documents: 0,
            anchors: HashMap::new(),
            copies: 0,
            in_flow_style: true,
        }
    }

    fn error(&self, mark: Mark, problem: Problem) -> PipelineError {
        PipelineError::new(problem).at(Place::new(Arc::clone(&self.file), mark.line, mark.column))
    }

    fn syntax_error(&self, text: &str, error: &ScanError) -> PipelineError {
        let (at, problem) = (mark(error.marker()), syntax_problem(error.kind()));
        match problem {
            Problem::Tab => self.error(tab_after(text, at), problem),
            _ => self.error(at, problem),
        }
    }

    fn take(&mut self, event: Event<'_>, mark: Mark) -> Result<(), PipelineError> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.error(mark, Problem::SecondDocument));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    return Err(self.error(mark, Problem::Tag));
                }
                let weight = 1 + text.len() / 32;
                let scalar = match style {
                    ScalarStyle::Plain => Scalar::plain(text.into_owned()),
                    _ => Scalar::text(text.into_owned()),
                };
                let is_merge = style == ScalarStyle::Plain && scalar.text == "<<";
                let node = Node { mark, content: Content::Scalar(scalar) };
                self.finish(Built { node, weight, height: 0 }, anchor, is_merge)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.open(mark, anchor, style, tag.is_some(), Open::List(Vec::new()))?;
            }
            Event::MappingStart(style, anchor, tag) => {
                let open = Open::Map { entries: Vec::new(), key: None, merges: false };
                self.open(mark, anchor, style, tag.is_some(), open)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => self.alias(id, mark)?,
            _ => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        mark: Mark,
        anchor: usize,
        style: StructureStyle,
        tagged: bool,
        open: Open,
    ) -> Result<(), PipelineError> {
        if tagged {
            return Err(self.error(mark, Problem::Tag));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.error(mark, Problem::TooDeep { limit: MAX_DEPTH }));
        }
        self.in_flow_style &= style == StructureStyle::Flow;
        self.stack.push(Frame { mark, anchor, weight: 1, height: 0, open });
        Ok(())
    }

    fn close(&mut self) -> Result<(), PipelineError> {
        let frame = self.stack.pop().expect("the parser closes only what it opened");
        let content = match frame.open {
            Open::List(items) => Content::List(items),
            Open::Map { entries, merges, .. } => {
                self.check_keys(&entries)?;
                Content::Map(if merges { self.merge(entries)? } else { entries })
            }
        };
        let node = Node { mark: frame.mark, content };
        let built = Built { node, weight: frame.weight, height: frame.height + 1 };
        self.finish(built, frame.anchor, false)
    }

    fn alias(&mut self, id: usize, mark: Mark) -> Result<(), PipelineError> {
        let Some(built) = self.anchors.get(&id) else {
            return Err(self.error(mark, Problem::AliasOfItself));
        };
        let (weight, height) = (built.weight, built.height);
        if self.copies + weight > MAX_COPIES {
            return Err(self.error(mark, Problem::TooManyCopies));
        }
        if self.stack.len() + height > MAX_DEPTH {
            return Err(self.error(mark, Problem::TooDeep { limit: MAX_DEPTH }));
        }
        self.copies += weight;
        // The copy keeps the places of the original, where its text can be seen.
        let node = built.node.clone();
        self.finish(Built { node, weight, height }, 0, false)
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, built: Built, anchor: usize, is_merge: bool) -> Result<(), PipelineError> {
        if anchor != 0 {
            if self.copies + built.weight > MAX_COPIES {
                return Err(self.error(built.node.mark, Problem::TooManyCopies));
            }
            self.copies += built.weight;
            let Built { weight, height, .. } = built;
            self.anchors.insert(anchor, Built { node: built.node.clone(), weight, height });
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(built.node);
            return Ok(());
        };
        frame.weight += built.weight;
        frame.height = frame.height.max(built.height);
        match &mut frame.open {
            Open::List(items) => items.push(built.node),
            Open::Map { entries, key, merges } => match key.take() {
                Some(key) => entries.push(Entry { key, value: built.node }),
                None => {
                    let mark = built.node.mark;
                    let Content::Scalar(scalar) = built.node.content else {
                        return Err(self.error(mark, Problem::KeyNotScalar));
                    };
                    *merges |= is_merge;
                    *key = Some(Key { mark, scalar });
                }
            },
        }
        Ok(())
    }

    fn check_keys(&self, entries: &[Entry]) -> Result<(), PipelineError> {
        let twice = |first: &Entry, second: &Entry| {
            let key = first.key.text().to_owned();
            let first =
                Place::new(Arc::clone(&self.file), first.key.mark.line, first.key.mark.column);
            Err(self.error(second.key.mark, Problem::DuplicateKey { key }).and_at(first))
        };
        if entries.len() <= 8 {
            for (index, second) in entries.iter().enumerate() {
                let same = |first: &&Entry| first.key.text() == second.key.text();
                if let Some(first) = entries[..index].iter().find(same) {
                    return twice(first, second);
                }
            }
            return Ok(());
        }
        let mut seen = HashMap::with_capacity(entries.len());
        for second in entries {
            if let Some(first) = seen.insert(second.key.text(), second) {
                return twice(first, second);
            }
        }
        Ok(())
    }

    /// Replaces the entry `<<` by the entries of the mappings that it names.
    ///
    /// As in YAML 1.1, a key of the mapping itself wins, then that of the first one named.
    fn merge(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, PipelineError> {
        let own: HashSet<String> = entries.iter().map(|e| e.key.text().to_owned()).collect();
        let mut merged = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.key.text() != "<<" {
                merged.push(entry);
                continue;
            }
            let sources = match entry.value.content {
                Content::List(items) => items,
                _ => vec![entry.value],
            };
            let mut taken = HashSet::new();
            for source in sources {
                let Content::Map(inherited) = source.content else {
                    let found = source.describe();
                    return Err(self.error(source.mark, Problem::MergeOfNoMapping { found }));
                };
                for entry in inherited {
                    if !own.contains(entry.key.text()) && taken.insert(entry.key.text().to_owned())
                    {
                        merged.push(entry);
                    }
                }
            }
        }
        Ok(merged)
    }
}

/// The bytes as text without control characters.
fn check_text<'b>(file: &Arc<str>, bytes: &'b [u8]) -> Result<&'b str, PipelineError> {
    let error = |line, column, problem| {
        Err(PipelineError::new(problem).at(Place::new(Arc::clone(file), line, column)))
    };
    if bytes.len() > MAX_BYTES {
        return error(0, 0, Problem::FileTooLarge { limit_mib: MAX_BYTES >> 20 });
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(utf8) => {
            let good = std::str::from_utf8(&bytes[..utf8.valid_up_to()])
                .expect("valid up to there, as the error says");
            let (line, column) = end_of(good);
            return error(line, column, Problem::NotUtf8);
        }
    };
    let control = |c: u8| (c < 0x20 && !matches!(c, b'\t' | b'\n' | b'\r')) || c == 0x7f;
    if let Some(position) = bytes.iter().position(|&c| control(c)) {
        let (line, column) = end_of(&text[..position]);
        return error(line, column, Problem::ControlCharacter { code: bytes[position] });
    }
    Ok(text)
}

/// Line and column just behind `text`.
fn end_of(text: &str) -> (u32, u32) {
    let line = text.bytes().filter(|&c| c == b'\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (saturate(line), saturate(column))
}

/// The first tab that indents a line, from the line of `mark` on; the parser's own mark may be
/// that of the value before.
fn tab_after(text: &str, mark: Mark) -> Mark {
    let first = mark.line.saturating_sub(1) as usize;
    let tab = text.lines().enumerate().skip(first).find_map(|(index, line)| {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        line[..indent].find('\t').map(|column| (index, column))
    });
    tab.map_or(mark, |(line, column)| Mark {
        line: saturate(line + 1),
        column: saturate(column + 1),
    })
}

fn mark(marker: &Marker) -> Mark {
    Mark { line: saturate(marker.line()), column: saturate(marker.col() + 1) }
}

fn saturate(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn syntax_problem(kind: &ErrorKind) -> Problem {
    match kind {
        ErrorKind::RecursionLimitExceeded => Problem::TooDeep { limit: MAX_DEPTH },
        ErrorKind::UndeclaredTagHandle => Problem::Tag,
        ErrorKind::DirectiveDisallowed => Problem::Directive,
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => Problem::Tab,
        ErrorKind::UnknownAnchor => Problem::UnknownAlias,
        ErrorKind::UnexpectedCharacter { character } => Problem::Syntax {
            message: format!(
                "`{}` cannot begin a value; put the value in quotes",
                character.escape_default()
            ),
        },
        kind => {
            let text = kind.to_string();
            let message = match text.split_once(", ") {
                Some((context, message)) if context.starts_with("while ") => message.to_owned(),
                _ => text,
            };
            Problem::Syntax { message }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::printed;
    use crate::value::Value;

    fn shown(yaml: &str) -> String {
        let value = Document::parse("x.yaml", yaml.as_bytes())
            .and_then(|document| document.value(&document.root, &|_, _| Ok(None)));
        value.map_or_else(|error| printed(&error), |value| value.to_string())
    }

    fn fails(yaml: &[u8], expected: &str) {
        let error = Document::parse("x.yaml", yaml).unwrap_err();
        let printed = printed(&error);
        assert!(printed.starts_with(expected), "{printed}");
    }

    #[test]
    fn nodes_know_their_places() {
        let document = Document::parse("x.yaml", "a: 1\nü:\n  - [x, \"y\"]\n".as_bytes()).unwrap();
        let a = document.root.get("a").unwrap();
        assert_eq!(document.place(a.key.mark).to_string(), "x.yaml:1:1");
        assert_eq!(document.place(a.value.mark).to_string(), "x.yaml:1:4");
        let Content::List(items) = &document.root.get("ü").unwrap().value.content else {
            panic!()
        };
        let Content::List(items) = &items[0].content else { panic!() };
        assert_eq!(document.place(items[1].mark).to_string(), "x.yaml:3:9");
    }

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("", "null"),
            ("# only a comment\n", "null"),
            ("---\na: 1\n...\n", "{a: 1}"),
            ("a: 1\r\nb: [x,\r\n y]\r\n", "{a: 1, b: [x, y]}"),
            ("\u{feff}a: 1\n", "{a: 1}"),
            ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", "{a: \"x\\ny\\n\", b: \"x y\"}"),
            ("a: 'it''s'\nb: \"\\u00fc\\x41\\t\"\n", "{a: \"it's\", b: \"üA\\t\"}"),
            ("a:\n- 1\n-\n- ~\n", "{a: [1, null, null]}"),
            ("1: a\ntrue: b\n~: c\n", "{\"1\": a, \"true\": b, \"~\": c}"),
            ("a: &x [1]\nb: *x\n", "{a: [1], b: [1]}"),
            ("a: &x 1\nb: &x 2\nc: *x\n", "{a: 1, b: 2, c: 2}"),
        ];
        for (yaml, expected) in cases {
            assert_eq!(shown(yaml), expected, "{yaml:?}");
        }
    }

    #[test]
    fn merge_keys_give_defaults() {
        let cases = [
            ("a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}\n", "{x: 1, y: 2}"),
            ("a: &a {x: 1, y: 1}\nb: {y: 2, <<: *a}\n", "{y: 2, x: 1}"),
            ("a: &a {x: 1}\nc: &c {x: 2, z: 2}\nb: {<<: [*a, *c]}\n", "{x: 1, z: 2}"),
            ("a: &a {x: 1}\nc: &c {<<: *a, z: 2}\nb: {<<: *c}\n", "{x: 1, z: 2}"),
            ("b: {\"<<\": 1}\n", "{\"<<\": 1}"),
        ];
        for (yaml, expected) in cases {
            let document = Document::parse("x.yaml", yaml.as_bytes()).unwrap();
            let value = document.value(&document.root, &|_, _| Ok(None)).unwrap();
            assert_eq!(value.get(&["b"]).unwrap().to_string(), expected, "{yaml:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        fails(b"a: 1\nb: \xff", "error: the file is not UTF-8 text\n  --> x.yaml:2:4\nhint: save");
        fails(
            b"a: 1\nb: x\0y",
            "error: the file contains the control character 0x00\n  --> x.yaml:2:5",
        );
        fails(b"\x1b[0m", "error: the file contains the control character 0x1b\n  --> x.yaml:1:1");
    }

    #[test]
    fn many_keys_are_compared_in_linear_time() {
        let keys: String = (0..100_000).map(|n| format!("k{n}: {n}\n")).collect();
        let document = Document::parse("x.yaml", keys.as_bytes()).unwrap();
        assert_eq!(document.root.get("k99999").unwrap().key.mark.line, 100_000);
        let again = format!("{keys}k7: 1\n");
        fails(
            again.as_bytes(),
            "error: the key `k7` occurs twice in this mapping\n  --> x.yaml:100001:1\n  --> x.yaml:8:1",
        );
    }

    #[test]
    fn deep_nesting_is_refused_without_using_the_stack() {
        let deep = "error: lists and mappings nest deeper than 64 levels\n  --> x.yaml:";
        let cases = [
            "[".repeat(100_000),
            "{a: ".repeat(100_000),
            "- ".repeat(100_000),
            format!("{}x", "[".repeat(100_000)) + &"]".repeat(100_000),
            (0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
            format!("{}{}{}", "- ".repeat(40), "[".repeat(40), "]".repeat(40)),
        ];
        for text in cases {
            fails(text.as_bytes(), deep);
        }
        let most = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert_eq!(shown(&most), most);
    }

    #[test]
    fn aliases_cannot_blow_up() {
        // Ten levels of ten: a billion copies of one text.
        let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            let aliases = vec![alias; 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        fails(
            bomb.as_bytes(),
            "error: the aliases of the file stand for too much text\n  --> x.yaml:",
        );
        // One large text, many times.
        let large = format!("a: &a {}\nb: [{}x]\n", "x".repeat(1 << 20), "*a , ".repeat(10_000));
        fails(
            large.as_bytes(),
            "error: the aliases of the file stand for too much text\n  --> x.yaml:2:",
        );
        // Anchors inside of anchors.
        let anchors = (0..60).map(|n| format!("&a{n} [")).collect::<String>();
        let text = format!("{anchors}{}{}", "x, ".repeat(100_000), "]".repeat(60));
        fails(text.as_bytes(), "error: the aliases of the file stand for too much text");
        // Depth by aliases.
        let mut deep = String::from("a0: &a0 [x]\n");
        for level in 1..100 {
            deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        fails(
            deep.as_bytes(),
            "error: lists and mappings nest deeper than 64 levels\n  --> x.yaml:64:",
        );
        // What people write is fine.
        let shared = format!("a: &a {{x: 1}}\nb: [{}]\n", vec!["*a"; 10_000].join(", "));
        assert!(shown(&shared).starts_with("{a: {x: 1}, b: [{x: 1}, "));
    }

    #[test]
    fn no_text_panics() {
        use proptest::prelude::*;
        proptest!(|(text in "[-a-c0-9:,#&*!|>'\"%@`{}\\[\\]<~ \t\n\r\\\\\\.?$]{0,40}")| {
            let _ = shown(&text);
        });
        proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..60))| {
            let _ = Document::parse("x.yaml", &bytes);
        });
        assert_eq!(
            Value::from_yaml("a: b").unwrap_err().to_string(),
            "the value is not written in one line"
        );
    }
}
