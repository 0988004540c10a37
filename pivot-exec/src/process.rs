//! The process behind a stage: one of its own, a fork of the zygote, or one that is kept.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitStatus;
use std::rc::Rc;

use pivot_fingerprint::{HelperError, Interpreter, Prepared, StartOptions, StreamTo};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::keeper::Keeper;
use crate::orphans;
use crate::outcome::StageFailure;
use crate::usage::Usage;
use crate::warded::Warded;
use crate::zygote::{self, Zygote};

/// What runs a stage.
#[derive(Debug)]
pub(crate) enum Process {
    /// A process of its own; a Python stage reports over the socket.
    Own { warded: Warded, socket: Option<UnixStream> },
    /// `group` is a note about the child's process group, as soon as it is known.
    Forked { zygote: Rc<Zygote>, child: zygote::Child, group: Option<String>, socket: UnixStream },
    /// A process that runs other stages afterwards.
    Kept { keeper: Rc<Keeper>, child: zygote::Child, socket: UnixStream },
}

/// How a stage's process ended.
#[derive(Debug)]
pub(crate) enum Gone {
    With(ExitStatus, Option<Usage>),
    /// It never came to be; this is why.
    NotStarted(String),
    /// Together with the process that should have told.
    Lost,
}

impl Process {
    pub(crate) fn socket(&self) -> Option<&UnixStream> {
        match self {
            Self::Own { socket, .. } => socket.as_ref(),
            Self::Forked { socket, .. } | Self::Kept { socket, .. } => Some(socket),
        }
    }

    /// What becomes readable when the process may be over.
    pub(crate) fn over(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self {
            Self::Own { warded, .. } => (warded.over(), PollFlags::IN),
            Self::Forked { zygote, .. } => zygote.descriptor(),
            Self::Kept { keeper, .. } => keeper.descriptor(),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        match self {
            Self::Own { warded, .. } => warded.signal(signal),
            Self::Forked { zygote, child, .. } => zygote.signal(*child, signal),
            Self::Kept { keeper, .. } => keeper.signal(signal),
        }
    }

    /// How the process ended, if it has. Nothing that it started is left then: it would go on
    /// writing to the stage's outputs.
    pub(crate) fn reap(&mut self) -> io::Result<Option<Gone>> {
        match self {
            Self::Own { warded, .. } => {
                if !is_readable(warded.over())? {
                    return Ok(None);
                }
                let lost = Gone::Lost;
                Ok(Some(
                    warded.wait().map_or(lost, |(status, used)| Gone::With(status, Some(used))),
                ))
            }
            Self::Forked { zygote, child, group, .. } => Ok(match zygote.end_of(*child) {
                Some(zygote::End::With(status, used)) => Some(Gone::With(status, used)),
                Some(zygote::End::NotStarted(why)) => Some(Gone::NotStarted(why)),
                None if zygote.is_dead() => {
                    group.iter().for_each(|note| orphans::end(note));
                    Some(Gone::Lost)
                }
                None => None,
            }),
            Self::Kept { keeper, child, .. } => keeper.end_of(*child),
        }
    }
}

pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut polled, Some(&now))? > 0)
}

pub(crate) fn start_python(
    interpreter: &Interpreter,
    root: &Path,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Process, StageFailure> {
    let streams = StreamTo::Files { stdout, stderr };
    let options =
        StartOptions { directory: root.to_owned(), streams, environment: usual_environment() };
    let Prepared { command, stream } =
        Prepared::new(interpreter, options).map_err(StageFailure::Helper)?;
    let warded = Warded::spawn(command).map_err(|source| {
        StageFailure::Helper(HelperError::Start { python: interpreter.path.clone(), source })
    })?;
    stream.set_nonblocking(true).map_err(StageFailure::Start)?;
    Ok(Process::Own { warded, socket: Some(stream) })
}

/// What every Python that runs stages finds in its environment.
pub(crate) fn usual_environment() -> Vec<(OsString, OsString)> {
    match std::env::var_os("PYTHONHASHSEED") {
        // The order of sets then is the same in each run of a stage.
        None => vec![("PYTHONHASHSEED".into(), "0".into())],
        Some(_) => Vec::new(),
    }
}
