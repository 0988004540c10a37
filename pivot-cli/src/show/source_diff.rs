//! What changed in the text of a function, class or constant since its stage last ran.
//!
//! A lock holds hashes, not texts, so the old text comes from git: from the commit that brought
//! the stage's lock, or from `HEAD` if the lock was written since.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pivot_fingerprint::SourcePlace;
use similar::{ChangeTag, TextDiff};

/// More changed lines of one component are not shown.
const MOST_LINES: usize = 20;

/// Old texts of a project's files.
pub(crate) struct History {
    root: PathBuf,
    texts: HashMap<(String, String), Option<String>>,
}

impl History {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), texts: HashMap::new() }
    }

    /// The commit whose code the stage's lock most likely describes; `None` without git.
    pub(crate) fn commit_of_lock(&self, stage: &str) -> Option<String> {
        let lock = format!(".pivot/stages/{stage}.lock");
        let is_committed = self.git(&["status", "--porcelain", "--", &lock])?.is_empty();
        let commit = if is_committed {
            self.git(&["log", "-1", "--format=%h", "--", &lock])?.trim().to_owned()
        } else {
            String::new()
        };
        if !commit.is_empty() {
            return Some(commit);
        }
        let head = self.git(&["rev-parse", "--short", "HEAD"])?.trim().to_owned();
        (!head.is_empty()).then_some(head)
    }

    /// The changed lines of what stands at `place` since `commit`, each with `-` or `+` before
    /// it; empty if nothing there changed or git does not have the file.
    pub(crate) fn changes(&mut self, commit: &str, place: &SourcePlace) -> Vec<String> {
        let Ok(new) = fs::read_to_string(self.root.join(&place.file)) else { return Vec::new() };
        let key = (commit.to_owned(), place.file.clone());
        if !self.texts.contains_key(&key) {
            let text = self.git(&["show", &format!("{commit}:./{}", place.file)]);
            self.texts.insert(key.clone(), text);
        }
        match &self.texts[&key] {
            Some(old) => changed_lines(old, &new, place.line as usize),
            None => Vec::new(),
        }
    }

    /// What a git command prints, if it succeeds.
    fn git(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.root).args(arguments).stdin(Stdio::null());
        let output = command.stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then_some(text)
    }
}

/// The lines that differ within the definition that begins at `line` of the new text.
fn changed_lines(old: &str, new: &str, line: usize) -> Vec<String> {
    let block = block_at(new, line);
    let diff = TextDiff::from_lines(old, new);
    let mut lines = Vec::new();
    let mut next_new = 0;
    for change in diff.iter_all_changes() {
        let at = change.new_index().unwrap_or(next_new);
        next_new = change.new_index().map_or(next_new, |index| index + 1);
        let mark = match change.tag() {
            ChangeTag::Equal => continue,
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        if block.contains(&at) {
            lines.push(format!("{mark}{}", change.value().trim_end_matches(['\n', '\r'])));
        }
    }
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("({more} more changed lines)"));
    }
    lines
}

/// The lines, counted from 0, of the definition that begins at `line`, counted from 1: all that
/// follow it and are indented deeper, decorators and closing brackets included.
fn block_at(text: &str, line: usize) -> std::ops::Range<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let first = line.saturating_sub(1).min(lines.len());
    let indent = |line: &str| line.len() - line.trim_start().len();
    let Some(outer) = lines.get(first).map(|line| indent(line)) else { return first..first };
    let mut is_before_body = true;
    let mut end = first;
    for (index, line) in lines.iter().enumerate().skip(first) {
        let text = line.trim();
        let is_deeper = indent(line) > outer;
        let closes = text.starts_with([')', ']', '}']);
        let decorated = is_before_body && index > first && lines[first].trim().starts_with('@');
        if index > first && !text.is_empty() && !is_deeper && !closes && !decorated {
            break;
        }
        if text.starts_with("def ") || text.starts_with("async def ") || text.starts_with("class ")
        {
            is_before_body = false;
        }
        if !text.is_empty() {
            end = index + 1;
        }
    }
    first..end
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "RATE = 1\n\n\ndef scale(x):\n    return x * 2\n\n\ndef other():\n    pass\n";

    #[test]
    fn only_the_lines_of_the_definition_are_shown() {
        let new = OLD.replace("x * 2", "x * 3").replace("pass", "return 1");
        assert_eq!(changed_lines(OLD, &new, 4), ["-    return x * 2", "+    return x * 3"]);
        let new = OLD.replace("RATE = 1", "RATE = 2");
        assert_eq!(changed_lines(OLD, &new, 1), ["-RATE = 1", "+RATE = 2"]);
        assert!(changed_lines(OLD, &new, 4).is_empty());
    }

    #[test]
    fn a_block_reaches_over_decorators_blank_lines_and_brackets() {
        let text = "@stage(\n    deps=[],\n)\ndef train(\n    a,\n):\n    x = 1\n\n    return x\n\nz = 1\n";
        assert_eq!(block_at(text, 1), 0..9);
        assert_eq!(block_at(text, 4), 3..9);
        assert_eq!(block_at("TABLE = {\n    1: 2,\n}\nx = 1\n", 1), 0..3);
        assert_eq!(block_at("x = 1\n", 9), 1..1);
    }
}
