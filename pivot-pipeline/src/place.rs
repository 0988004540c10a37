//! Where in a project's files something was written.
//!
//! Every stage, and every problem with one, carries a [`Place`], so that a message can name the
//! line to look at.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A position in a text file, written `file:line:column`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file, relative to the project, with `/` between its parts.
    pub file: Arc<str>,
    /// The line, counted from 1; 0 where only the file is known.
    pub line: u32,
    /// The column in characters, counted from 1; 0 where only the line is known.
    pub column: u32,
}

impl Place {
    /// The place at `line` and `column` of `file`.
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Self { file: file.into(), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.file),
            (line, 0) => write!(f, "{}:{line}", self.file),
            (line, column) => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_is_known() {
        assert_eq!(Place::new("pivot.yaml", 3, 7).to_string(), "pivot.yaml:3:7");
        assert_eq!(Place::new("pipeline.py", 12, 0).to_string(), "pipeline.py:12");
        assert_eq!(Place::new("pipeline.py", 0, 0).to_string(), "pipeline.py");
    }
}
