//! An error as people read it: what, where, why, and what to do next.

use std::error::Error;
use std::fmt::Write as _;

use crate::show::output;

/// An error message in its parts.
///
/// ```text
/// error: stages `train` and `tune` both write `model.pkl`
///   --> pivot.yaml:14:7
/// hint: give one of them another output, or merge the two stages
/// ```
#[derive(Debug, Default)]
pub(crate) struct Report {
    message: String,
    places: Vec<String>,
    body: Option<String>,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Report {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// The message of `error` and of all that caused it.
    pub(crate) fn of(error: &dyn Error) -> Self {
        let report = Self::new(error.to_string());
        match error.source() {
            Some(source) => report.caused_by(source),
            None => report,
        }
    }

    /// Adds a line of a file, shown as `--> file:line`.
    #[must_use]
    pub(crate) fn at(mut self, place: impl ToString) -> Self {
        self.places.push(place.to_string());
        self
    }

    /// Adds text that stands for itself, such as a traceback.
    #[must_use]
    pub(crate) fn body(mut self, text: impl Into<String>) -> Self {
        self.body = Some(text.into());
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // A cause that its effect already quotes would only be read twice.
            if !self.message.ends_with(&text) && self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn maybe_hint(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        let mut line = |words: std::fmt::Arguments<'_>| {
            text.write_fmt(words).expect("a string takes any text");
        };
        for place in &self.places {
            line(format_args!("  --> {place}\n"));
        }
        if let Some(body) = &self.body {
            line(format_args!("{}\n", body.trim_end()));
        }
        for cause in &self.causes {
            line(format_args!("caused by: {cause}\n"));
        }
        if let Some(hint) = &self.hint {
            line(format_args!("hint: {hint}\n"));
        }
        text
    }

    pub(crate) fn print(&self) {
        output::note(self.text().trim_end());
    }
}

/// An error with all that caused it, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn the_parts_come_in_a_fixed_order() {
        let report = Report::new("cannot read `x`")
            .hint("look again")
            .caused_by(&std::io::Error::other("too far away"))
            .at("pivot.yaml:3:1");
        assert_eq!(
            report.text(),
            "error: cannot read `x`\n  --> pivot.yaml:3:1\ncaused by: too far away\nhint: look again\n"
        );
    }
}
