//! Standard output and standard error that survive a closed pipe.

use std::io::{self, Write};

/// Writes data to standard output, with its colors removed where it is no terminal.
///
/// A reader that has gone away, such as `head`, is no error.
pub(crate) fn data(text: &str) {
    ignore_closed(anstream::stdout().lock().write_all(text.as_bytes()));
}

/// Writes one line about what goes on to standard error.
pub(crate) fn note(text: &str) {
    let mut stderr = anstream::stderr().lock();
    ignore_closed(stderr.write_all(format!("{text}\n").as_bytes()));
}

/// Writes a JSON value with a line's end to standard output.
pub(crate) fn json(value: &serde_json::Value) {
    let text = serde_json::to_string_pretty(value).expect("a JSON value can be written");
    data(&format!("{text}\n"));
}

/// Writes a JSON value as one line to standard output.
pub(crate) fn json_line(value: &serde_json::Value) {
    data(&format!("{value}\n"));
}

fn ignore_closed(written: io::Result<()>) {
    // Nobody is left to be told of a failure of the very stream for telling.
    drop(written);
}
