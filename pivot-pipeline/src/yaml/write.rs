//! Values as YAML: in one line, or as the lines of a block.

use crate::value::Value;

/// How far an entry is indented below its parent, where the file shows no habit of its own.
pub(crate) const INDENT: usize = 2;

/// The entries that give the key at the end of `path` this value, a line each.
pub(crate) fn lines(indent: usize, path: &[&str], value: &Value, newline: &str) -> Option<String> {
    let mut text = String::new();
    let mut waiting: Vec<(usize, Option<String>, &Value)> = Vec::new();
    let (last, parents) = match path.split_last() {
        Some((last, parents)) => (Some((*last).to_owned()), parents),
        None => (None, path),
    };
    for (depth, key) in parents.iter().enumerate() {
        let blanks = " ".repeat(indent + depth * INDENT);
        text.push_str(&format!("{blanks}{}:{newline}", inline(&Value::from(*key))?));
    }
    waiting.push((indent + parents.len() * INDENT, last, value));
    while let Some((indent, key, value)) = waiting.pop() {
        let below = if key.is_some() { indent + INDENT } else { indent };
        let blanks = " ".repeat(indent);
        match value {
            Value::Map(map) if !map.is_empty() => {
                if let Some(key) = key {
                    text.push_str(&format!("{blanks}{}:{newline}", inline(&Value::String(key))?));
                }
                let entries = map.iter().map(|(key, value)| (below, Some(key.clone()), value));
                waiting.extend(entries.rev());
            }
            Value::Map(_) if key.is_none() => {}
            value => {
                let key = inline(&Value::String(key?))?;
                text.push_str(&format!("{blanks}{key}: {}{newline}", inline(value)?));
            }
        }
    }
    Some(text)
}

/// `{a: {b: value}}` for the path `a`, `b`.
pub(crate) fn flow(path: &[&str], value: &Value) -> Option<String> {
    let mut text = inline(value)?;
    for key in path.iter().rev() {
        text = format!("{{{}: {text}}}", inline(&Value::from(*key))?);
    }
    Some(text)
}

/// A value in one line.
pub(crate) fn inline(value: &Value) -> Option<String> {
    let is_plain = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_/.$-+@=:~%".contains(c);
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || "_/.$".contains(c))
            && text.chars().all(allowed)
            && !text.ends_with(':')
            && !text.starts_with("...")
            && Value::from_yaml(text).is_ok_and(|read| read == Value::from(text))
    };
    match value {
        Value::String(text) if is_plain(text) => Some(text.clone()),
        // JSON is YAML, but for a control character that JSON may write as it is.
        value => serde_json::to_string(&value.to_json()).ok(),
    }
}
