//! A lock as text: YAML that is the same, byte for byte, for the same lock.
//!
//! Keys stand in a fixed order and lists are sorted, one item a line, so that git shows and
//! merges what changed. Digests are always quoted: `42707261230e3444` is a float to a YAML
//! reader, and one with ten digits and no letter an integer.

use std::fmt::Write;

use pivot_cache::ContentKind;
use serde_json::Value;

use crate::lock::{Artifact, Lock, SCHEMA_VERSION, sorted};
use crate::read::{self, FormatError};
use crate::scalar::{Colons, write_number, write_string};

/// Params up to this width are written on one line.
const WIDTH: usize = 80;

/// YAML limits a key on one line to 1024 characters; a longer one needs a `?` before it.
const LONGEST_SIMPLE_KEY: usize = 1000;

impl Lock {
    /// The text of the lock file.
    pub fn to_yaml(&self) -> String {
        // About what a line needs, to grow the text rarely.
        let artifacts = self.deps().len() + self.outs().len();
        let mut out = String::with_capacity(100 + 50 * self.code().len() + 80 * artifacts);
        let _ = writeln!(out, "schema_version: {SCHEMA_VERSION}");
        out.push_str("code_manifest:");
        if self.code().is_empty() {
            out.push_str(" {}");
        }
        out.push('\n');
        for (name, hash) in self.code() {
            write_key(&mut out, name, 2);
            let _ = writeln!(out, " '{hash}'");
        }
        out.push_str("params:");
        write_value(&mut out, self.params(), 2, "params: ".len());
        write_artifacts(&mut out, "deps", self.deps());
        write_artifacts(&mut out, "outs", self.outs());
        out
    }

    /// Reads the text of a lock file.
    ///
    /// The text may come from anyone: tags, anchors, aliases, repeated keys, paths that leave the
    /// project and whatever is not a lock of schema version 1 are errors.
    ///
    /// # Errors
    ///
    /// Fails with the line of the first thing that cannot be in a lock.
    pub fn from_yaml(text: &str) -> Result<Self, FormatError> {
        read::lock(text)
    }
}

fn write_artifacts(out: &mut String, key: &str, artifacts: &[Artifact]) {
    out.push_str(key);
    out.push_str(if artifacts.is_empty() { ": []\n" } else { ":\n" });
    for Artifact { path, content } in artifacts {
        out.push_str("- {path: ");
        write_string(out, path, Colons::Quoted);
        let _ = write!(out, ", hash: '{}', size: {}", content.id, content.size_bytes);
        match content.kind {
            ContentKind::Directory { files } => {
                let _ = write!(out, ", files: {files}");
            }
            ContentKind::File { executable: true } => out.push_str(", executable: true"),
            ContentKind::File { executable: false } => {}
        }
        out.push_str("}\n");
    }
}

/// Writes `key:` on a line of its own, indented.
fn write_key(out: &mut String, key: &str, indent: usize) {
    push_spaces(out, indent);
    let start = out.len();
    write_string(out, key, Colons::Bare);
    if out.len() - start > LONGEST_SIMPLE_KEY {
        out.insert_str(start, "? ");
        out.push('\n');
        push_spaces(out, indent);
    }
    out.push(':');
}

/// Writes what follows `key:` or `-`, with the end of the line; `column` is where it starts and
/// `indent` that of the lines below. The depth of a lock's params is bounded, so recursion is.
fn write_value(out: &mut String, value: &Value, indent: usize, column: usize) {
    let start = out.len();
    out.push(' ');
    let has_lines = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    let end = if has_lines { start + WIDTH.saturating_sub(column) } else { usize::MAX };
    if write_inline(out, value, end) {
        out.push('\n');
        return;
    }
    out.truncate(start);
    out.push('\n');
    match value {
        Value::Object(map) => {
            for (key, inner) in sorted(map) {
                write_key(out, key, indent);
                write_value(out, inner, indent + 2, indent + key.len() + 2);
            }
        }
        Value::Array(list) => {
            for inner in list {
                push_spaces(out, indent);
                out.push('-');
                write_value(out, inner, indent + 2, indent + 2);
            }
        }
        _ => unreachable!("a scalar has no end that it could reach"),
    }
}

/// Writes a value on one line and gives up, `false`, as soon as the text is longer than `end`.
fn write_inline(out: &mut String, value: &Value, end: usize) -> bool {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text, Colons::Quoted),
        Value::Array(list) => {
            out.push('[');
            for (index, inner) in list.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                if !write_inline(out, inner, end) {
                    return false;
                }
            }
            out.push(']');
        }
        Value::Object(map) => {
            // Not even the shortest entries, `a: 1, `, would fit: spare the sorting.
            if map.len() > WIDTH {
                return false;
            }
            out.push('{');
            for (index, (key, inner)) in sorted(map).into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_string(out, key, Colons::Quoted);
                out.push_str(": ");
                if !write_inline(out, inner, end) {
                    return false;
                }
            }
            out.push('}');
        }
    }
    out.len() <= end
}

fn push_spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

#[cfg(test)]
mod tests {
    use pivot_cache::{Content, ObjectId};
    use pivot_fingerprint::CodeHash;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn with_params(params: Value) -> String {
        let text = Lock::new([], params, vec![], vec![]).unwrap().to_yaml();
        let (_, params) = text.split_once("params:").unwrap();
        params.split_once("\ndeps:").unwrap().0.to_owned()
    }

    #[test]
    fn a_lock_looks_like_this() {
        let content =
            |id, size_bytes, kind| Content { id: ObjectId::from_u64(id), size_bytes, kind };
        let file = ContentKind::File { executable: false };
        let lock = Lock::new(
            [
                ("self:train".to_owned(), CodeHash::from_u64(0xc2966b8ef5d26588)),
                ("func:helper_a".to_owned(), CodeHash::from_u64(0x42707261230e3444)),
                ("func:<lambda>".to_owned(), CodeHash::from_u64(1)),
            ],
            json!({"lr": 0.01, "epochs": 3}),
            vec![
                Artifact::new("raw", content(2, 99, ContentKind::Directory { files: 3 })),
                Artifact::new("data.csv", content(0x328592d381e297f9, 1024, file)),
            ],
            vec![Artifact::new(
                "bin/tool: x",
                content(3, 1, ContentKind::File { executable: true }),
            )],
        )
        .unwrap();
        let expected = "\
schema_version: 1
code_manifest:
  'func:<lambda>': '0000000000000001'
  func:helper_a: '42707261230e3444'
  self:train: 'c2966b8ef5d26588'
params: {epochs: 3, lr: 0.01}
deps:
- {path: data.csv, hash: '328592d381e297f9', size: 1024}
- {path: raw, hash: '0000000000000002', size: 99, files: 3}
outs:
- {path: 'bin/tool: x', hash: '0000000000000003', size: 1, executable: true}
";
        assert_eq!(lock.to_yaml(), expected);
        assert_eq!(Lock::from_yaml(expected), Ok(lock));
    }

    #[test]
    fn an_empty_lock_is_whole() {
        let lock = Lock::new([], Value::Null, vec![], vec![]).unwrap();
        let text = "schema_version: 1\ncode_manifest: {}\nparams: {}\ndeps: []\nouts: []\n";
        assert_eq!(lock.to_yaml(), text);
        assert_eq!(Lock::from_yaml(text), Ok(lock));
    }

    #[test]
    fn long_params_stand_one_on_a_line() {
        let long = "x".repeat(70);
        assert_eq!(
            with_params(
                json!({"b": long, "a": {"deep": [1, {"no": "no"}]}, "l": [long, [long, 1]]})
            ),
            format!(
                "\n  a: {{deep: [1, {{'no': 'no'}}]}}\n  b: {long}\n  l:\n    - {long}\n    -\n      - {long}\n      - 1"
            )
        );
    }

    #[test]
    fn a_long_list_of_long_lists_is_written_in_linear_time() {
        let inner: Vec<_> = (0..1000).collect();
        let mut value = json!(inner);
        for _ in 0..MAX_NESTING {
            value = json!([value, "x".repeat(80)]);
        }
        let lock = Lock::new([], json!({ "deep": value }), vec![], vec![]).unwrap();
        assert_eq!(Lock::from_yaml(&lock.to_yaml()), Ok(lock));
    }

    const MAX_NESTING: usize = crate::lock::MAX_PARAMS_DEPTH - 2;

    /// Characters and words that have ended other people's lock files.
    fn nasty_string() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>().prop_map(String::from),
            "[a-z0-9_.]{0,6}",
            prop::sample::select(vec![
                "no",
                "null",
                "~",
                "1_000",
                "1:30",
                "=",
                "<<",
                ": ",
                " #",
                "- ",
                "? ",
                "'",
                "\"",
                "\\",
                "\n",
                "\r\n",
                "\t",
                "\0",
                "\u{85}",
                "\u{2028}",
                "\u{feff}",
                "---",
                "...",
                "%YAML",
                "{",
                "}",
                "[",
                "]",
                ",",
                "&",
                "*",
                "!",
                "|",
                ">",
                "@",
                "`",
                " ",
                "<<<<<<< HEAD",
            ])
            .prop_map(String::from),
            Just("k".repeat(1100)),
        ];
        prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    fn params() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            nasty_string().prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((nasty_string(), inner), 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        });
        prop::collection::vec((nasty_string(), value), 0..6)
            .prop_map(|entries| Value::Object(entries.into_iter().collect()))
    }

    fn content() -> impl Strategy<Value = Content> {
        let kind = prop_oneof![
            any::<bool>().prop_map(|executable| ContentKind::File { executable }),
            any::<u64>().prop_map(|files| ContentKind::Directory { files }),
        ];
        (any::<u64>(), any::<u64>(), kind).prop_map(|(id, size_bytes, kind)| Content {
            id: ObjectId::from_u64(id),
            size_bytes,
            kind,
        })
    }

    fn artifacts() -> impl Strategy<Value = Vec<Artifact>> {
        let artifact = (nasty_string(), content())
            .prop_map(|(name, content)| Artifact::new(format!("d/x{name}"), content));
        prop::collection::vec(artifact, 0..5)
    }

    prop_compose! {
        fn lock()(
            code in prop::collection::vec((nasty_string(), any::<u64>()), 0..5),
            params in params(),
            deps in artifacts(),
            outs in artifacts(),
        ) -> Option<Lock> {
            let code = code.into_iter().map(|(name, hash)| (name, CodeHash::from_u64(hash)));
            Lock::new(code, params, deps, outs).ok()
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(lock in lock()) {
            let Some(lock) = lock else { return Ok(()) };
            let text = lock.to_yaml();
            prop_assert_eq!(Lock::from_yaml(&text), Ok(lock.clone()), "{}", text);
            let stored = Lock::from_cache_bytes(&lock.to_cache_bytes());
            prop_assert_eq!(stored.map(|lock| lock.to_yaml()), Some(text));
        }

        #[test]
        fn a_truncated_lock_never_reads_as_the_whole(lock in lock(), cut in any::<prop::sample::Index>()) {
            let Some(lock) = lock else { return Ok(()) };
            let text = lock.to_yaml();
            // Without the last line break nothing is lost.
            let mut end = cut.index(text.len() - 1);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            if let Ok(read) = Lock::from_yaml(&text[..end]) {
                prop_assert_ne!(read, lock, "{}", &text[..end]);
            }
        }

        #[test]
        fn no_text_makes_reading_panic(text in "[-:?,\\[\\]{}&*!|>'\"%@ \na-f0-9]{0,200}") {
            let _ = Lock::from_yaml(&text);
            let _ = Lock::from_yaml(&format!("schema_version: 1\nparams: {text}"));
        }
    }
}
