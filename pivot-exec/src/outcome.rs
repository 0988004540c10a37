//! How stages end, and what a run tells while it goes on.

use std::io;
use std::time::Duration;

use pivot_cache::CacheError;
use pivot_fingerprint::HelperError;
use pivot_lock::LockError;
use thiserror::Error;

use crate::capacity::CapacityError;
use crate::outlook::Remaining;
use crate::plan::Cause;
use crate::signals::Interrupt;
use crate::supply::Fetched;
use crate::usage::Usage;
use crate::worker::Stream;

/// Why a stage failed.
#[derive(Debug, Error)]
pub enum StageFailure {
    /// The stage's process could not be started.
    #[error("the stage's process could not be started")]
    Start(#[source] io::Error),
    /// The system could not tell how the stage's process ended.
    #[error("the stage's process could not be watched")]
    Watch(#[source] io::Error),
    /// Python could not be started.
    #[error(transparent)]
    Helper(HelperError),
    /// The stage's code raised an exception.
    #[error("{kind}: {message}")]
    Raised {
        /// The exception's type.
        kind: String,
        /// Its message.
        message: String,
        /// What to do about it, when Pivot knows.
        hint: Option<String>,
        /// The user's own frames, as Python prints them.
        traceback: Option<String>,
    },
    /// The process ended with a code other than 0.
    #[error("ended with exit code {code}")]
    Exit {
        /// The code.
        code: i32,
    },
    /// A signal ended the process.
    #[error("was killed by signal {signal} ({})", signal_name(*.signal))]
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The process ended with code 0 in the middle of the stage.
    #[error("ended without a result: did it call `os._exit`?")]
    NoResult,
    /// The process that it was forked from ended in the middle of the stage.
    #[error("was lost: the process that stages are forked from ended")]
    Lost,
    /// It took longer than it may.
    #[error("was stopped after {}, its time limit", crate::words::duration(*.limit))]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The run was interrupted.
    #[error("was stopped")]
    Cancelled,
    /// The stage did not write what it declares.
    #[error(
        "did not write its {} {}",
        if .paths.len() == 1 { "output" } else { "outputs" },
        crate::words::quoted_list(.paths)
    )]
    OutputsMissing {
        /// The outputs, relative to the project.
        paths: Vec<String>,
    },
    /// Writing an output would change something outside of the project.
    #[error("may not write its output `{path}`: the link `{link}` leads out of the project")]
    OutputOutside {
        /// The output, relative to the project.
        path: String,
        /// The part of it that is a link.
        link: String,
    },
    /// A dependency is not what it was when the stage started.
    #[error("its dependency `{path}` changed while it ran")]
    InputChanged {
        /// The dependency, relative to the project.
        path: String,
    },
    /// A source file is not what the fingerprint was taken of.
    #[error("`{path}` was edited after the run began")]
    SourceChanged {
        /// The file, relative to the project.
        path: String,
    },
    /// A dependency does not exist when the stage is about to start.
    #[error("its dependency `{path}` does not exist")]
    InputMissing {
        /// The dependency, relative to the project.
        path: String,
    },
    /// An incremental output cannot be brought back to where the stage left it.
    #[error("its incremental output `{path}` cannot be brought back")]
    PreviousLost {
        /// The output, relative to the project.
        path: String,
        /// What is wrong with the cache.
        source: CacheError,
    },
    /// A dependency that was left on the remote cannot be had.
    #[error("its dependency `{path}`, which is on the remote only, cannot be brought")]
    AwayLost {
        /// The dependency, relative to the project.
        path: String,
        /// What is wrong with the cache without it.
        source: CacheError,
    },
    /// It needs more than there is.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// The remote had to answer and did not.
    #[error("{0}")]
    Remote(String),
    /// Another process runs the stage.
    #[error("another process runs it{}", .pid.map(|pid| format!(": {pid}")).unwrap_or_default())]
    Held {
        /// The process, where it could be read.
        pid: Option<u32>,
    },
    /// The cache could not do its part.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The lock could not be read or written.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What the stage did cannot be written down in a lock.
    #[error("cannot be recorded: {0}")]
    Unlockable(String),
    /// A file in the project could not be changed.
    #[error("cannot {action} `{path}`")]
    Workspace {
        /// Completes "cannot …".
        action: &'static str,
        /// Relative to the project where it lies inside.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

fn signal_name(number: i32) -> &'static str {
    match number {
        libc::SIGSEGV => "segmentation fault",
        libc::SIGKILL => "killed; was the machine out of memory?",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "arithmetic error",
        libc::SIGILL => "illegal instruction",
        libc::SIGTERM => "terminated",
        libc::SIGINT => "interrupted",
        _ => "signal",
    }
}

/// How one stage of a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was executed.
    Ran {
        /// Wall-clock time of its process.
        elapsed: Duration,
    },
    /// Nothing was to be done.
    Unchanged,
    /// Nothing was to be done, and outputs that nobody needs here stay on the remote.
    Away,
    /// Its outputs came from the cache; the lock was right.
    Restored {
        /// What the cache did not hold before.
        fetched: Option<Fetched>,
    },
    /// An earlier run with the same code, params and dependencies was found.
    FromRunCache {
        /// What the cache did not hold before.
        fetched: Option<Fetched>,
    },
    /// It failed.
    Failed(Box<StageFailure>),
    /// It ran when the run was interrupted; what it had written is gone.
    Stopped,
    /// It was not started, since a stage that it needs failed.
    Blocked {
        /// The name of the stage that failed.
        upstream: String,
    },
    /// It was not started, since the run ended before its turn.
    NotStarted,
}

impl Outcome {
    /// The word for it in the last line of a run, and in records and events.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ran { .. } => "ran",
            Self::Unchanged => pivot_lock::words::UNCHANGED,
            Self::Away => pivot_lock::words::UNCHANGED_REMOTE,
            Self::Restored { .. } => "restored",
            Self::FromRunCache { .. } => pivot_lock::words::UNCHANGED_RUN_CACHE,
            Self::Failed(_) => "failed",
            Self::Stopped => "stopped",
            Self::Blocked { .. } | Self::NotStarted => "not started",
        }
    }
}

/// What the process of a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// From its start to its end, by the clock on the wall.
    pub elapsed: Duration,
    /// What it used of the machine, where the system could tell.
    pub usage: Option<Usage>,
}

/// What a run tells while it goes on. Names are stage names.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stage's process starts.
    Started {
        /// The stage.
        stage: &'a str,
        /// Why it runs.
        causes: &'a [Cause],
        /// How long it takes, to judge by its past runs; unknown for one that never ran.
        expected: Option<Duration>,
        /// What is left of the run, with this stage.
        remaining: Remaining,
    },
    /// A stage printed a line.
    Printed {
        /// The stage.
        stage: &'a str,
        /// Where it printed to.
        stream: Stream,
        /// The line without its end.
        line: &'a str,
    },
    /// A stage came to its end.
    Ended {
        /// The stage.
        stage: &'a str,
        /// How it ended.
        outcome: &'a Outcome,
        /// Why it ran, if it ran.
        causes: &'a [Cause],
        /// The last part of what it printed.
        tail: &'a str,
        /// What its process took, if it had one.
        effort: Option<Effort>,
        /// What is left of the run.
        remaining: Remaining,
    },
    /// Something that the user should know, although all goes on.
    Notice {
        /// One sentence.
        text: String,
    },
}

/// The end of a run.
#[derive(Debug)]
pub struct Summary {
    /// The selected stages with their outcomes, in the graph's order.
    pub outcomes: Vec<(String, Outcome)>,
    /// The signal that ended the run early.
    pub interrupted: Option<Interrupt>,
    /// Wall-clock time of the whole run.
    pub elapsed: Duration,
}

impl Summary {
    /// Whether everything that was asked for is done.
    pub fn is_success(&self) -> bool {
        let done = |outcome: &Outcome| {
            !matches!(
                outcome,
                Outcome::Failed(_)
                    | Outcome::Stopped
                    | Outcome::Blocked { .. }
                    | Outcome::NotStarted
            )
        };
        self.interrupted.is_none() && self.outcomes.iter().all(|(_, outcome)| done(outcome))
    }
}
