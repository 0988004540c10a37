//! How the program ends.

use std::process::ExitCode;

/// The meaning of an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything that was asked for is done.
    Done,
    /// Something failed, or the project, its configuration or its Python is at fault.
    NotDone,
    /// The command line was not understood.
    Usage,
    /// A signal ended the run.
    Interrupted { signal: i32 },
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::NotDone => 1,
            Exit::Usage => 2,
            Exit::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(1),
        })
    }
}
