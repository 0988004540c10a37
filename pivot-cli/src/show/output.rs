//! Standard output and standard error that survive a closed pipe.

use std::io::{self, Write};
use std::sync::OnceLock;

/// Why data did not reach standard output; the first time counts.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Writes data to standard output, with its colors removed where it is no terminal.
///
/// A reader that has gone away, such as `head`, is no error; any other failure is kept for
/// [`failure`], so that what was begun is finished first.
pub(crate) fn data(text: &str) {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => drop(FAILURE.set(error)),
        Ok(()) | Err(_) => {}
    }
}

/// Why some of the data did not reach standard output, as on a full disk.
pub(crate) fn failure() -> Option<&'static io::Error> {
    FAILURE.get()
}

/// Writes one line about what goes on to standard error.
pub(crate) fn note(text: &str) {
    let mut stderr = anstream::stderr().lock();
    // Nobody is left to be told of a failure of the very stream for telling.
    drop(stderr.write_all(format!("{text}\n").as_bytes()));
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
