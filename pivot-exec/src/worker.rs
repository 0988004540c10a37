//! A process that runs one stage, watched without ever blocking on it.
//!
//! Output comes through two pipes, the result of a Python stage through a socket of its own,
//! and the end through a process descriptor. A stage is over when its process is, never when
//! a pipe reaches its end: a child that it left behind may hold the pipe for hours.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pivot_fingerprint::{CodeHash, HelperError, Interpreter, write_frame};
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::process::Signal;
use serde::Deserialize;

use crate::keeper::Keeper;
use crate::orphans::{self, Traces};
use crate::outcome::StageFailure;
use crate::process::{Gone, Process, start_python};
use crate::usage::Usage;
use crate::warded::Wardens;
use crate::zygote::Zygote;

/// How much of a stage's output is kept in memory for the message when it fails.
const TAIL_BYTES: usize = 64 * 1024;

/// What a worker shall execute.
#[derive(Debug)]
pub(crate) enum Work<'a> {
    /// A Python function in a fresh process, as a `run` request for the helper.
    Python { interpreter: &'a Interpreter, request: serde_json::Value },
    /// The same in a fork of the zygote.
    Forked { zygote: Rc<Zygote>, request: serde_json::Value },
    /// The same in a process that runs one stage after the other.
    Kept { keeper: Rc<Keeper>, request: serde_json::Value },
    /// A shell command, in a directory.
    Shell { wardens: Rc<Wardens>, command: Cow<'a, str>, directory: PathBuf },
}

/// One of a stage's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a worker ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// What the stage reported, if it succeeded.
    pub(crate) result: Result<StageReport, StageFailure>,
    /// Why it failed where it ran, and need not fail elsewhere.
    pub(crate) refusal: Option<Refusal>,
    /// The last part of what it printed.
    pub(crate) tail: String,
    pub(crate) elapsed: Duration,
    /// What it used, where that could be told.
    pub(crate) usage: Option<Usage>,
    /// The process, where it may run another stage.
    pub(crate) kept: Option<Rc<Keeper>>,
}

/// What a stage needs and an interpreter of its own does not have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", tag = "what")]
pub(crate) enum Refusal {
    /// A module of compiled code.
    Module { name: String },
    /// Something else, such as a fork.
    Feature { why: String },
}

/// What a Python stage reports about its own run; empty for a shell stage.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct StageReport {
    /// The digest of each source file that was executed, by its path in the project.
    #[serde(default)]
    pub(crate) sources: std::collections::BTreeMap<String, String>,
    /// What it did beyond the manifest that it was started with.
    #[serde(default)]
    pub(crate) extras: Vec<ExtraFrame>,
}

/// A component that only the run has shown; see [`crate::extras`].
#[derive(Debug, Deserialize)]
pub(crate) struct ExtraFrame {
    pub(crate) name: String,
    pub(crate) hash: CodeHash,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

/// A stage's process while it runs. Dropping it kills the process and its group.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Process,
    streams: [Capture; 2],
    /// What is left to send of the request.
    outgoing: VecDeque<u8>,
    frames: Vec<u8>,
    has_all_frames: bool,
    log: Option<File>,
    tail: VecDeque<u8>,
    started: Instant,
    pub(crate) was_cancelled: bool,
    /// It was stopped, since it took longer than this.
    pub(crate) timed_out: Option<Duration>,
    is_over: bool,
}

#[derive(Debug)]
struct Capture {
    kind: Stream,
    pipe: Option<File>,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Worker {
    /// Starts the process. Call this on the run's main thread: the worker dies with it.
    pub(crate) fn start(work: Work<'_>, root: &Path, log: &Path) -> Result<Self, StageFailure> {
        let (out_read, out_write) = pipe()?;
        let (err_read, err_write) = pipe()?;
        // The helper reads the request when it is up; nobody waits for that, or for its greeting.
        let mut outgoing = Vec::new();
        if let Work::Python { request, .. }
        | Work::Forked { request, .. }
        | Work::Kept { request, .. } = &work
        {
            write_frame(&mut outgoing, request)
                .map_err(|error| StageFailure::Helper(HelperError::Frame(error)))?;
        }
        let process = match work {
            Work::Python { interpreter, .. } => {
                start_python(interpreter, root, out_write, err_write)?
            }
            Work::Forked { zygote, .. } => {
                let (socket, theirs) = UnixStream::pair().map_err(StageFailure::Start)?;
                socket.set_nonblocking(true).map_err(StageFailure::Start)?;
                let child = zygote.fork([theirs.into(), out_write, err_write]);
                Process::Forked { zygote, child, group: None, socket }
            }
            Work::Kept { keeper, .. } => {
                let (socket, theirs) = UnixStream::pair().map_err(StageFailure::Start)?;
                socket.set_nonblocking(true).map_err(StageFailure::Start)?;
                let child = keeper.run([theirs.into(), out_write, err_write]);
                Process::Kept { keeper, child, socket }
            }
            Work::Shell { wardens, command, directory } => {
                let warded = wardens.shell(&command, &directory, [out_write, err_write]);
                Process::Own { warded: warded.map_err(StageFailure::Start)?, socket: None }
            }
        };
        let capture = |kind, pipe| Capture { kind, pipe: Some(File::from(pipe)), partial: vec![] };
        Ok(Self {
            process,
            streams: [capture(Stream::Stdout, out_read), capture(Stream::Stderr, err_read)],
            outgoing: outgoing.into(),
            frames: Vec::new(),
            has_all_frames: false,
            // A log that cannot be written must not fail the stage.
            log: File::create(log).ok(),
            tail: VecDeque::new(),
            started: Instant::now(),
            was_cancelled: false,
            timed_out: None,
            is_over: false,
        })
    }

    /// What the next holder of the stage's guard has to know, should this run be killed; that of
    /// a fork is only heard of later.
    pub(crate) fn traces(&self) -> Option<Traces> {
        match &self.process {
            Process::Own { warded, .. } => {
                Some(Traces { leader: warded.leader(), warden: warded.warden() })
            }
            Process::Kept { keeper, .. } => Some(keeper.traces()),
            Process::Forked { .. } => None,
        }
    }

    /// Takes in what the zygote has reported, of this child and of all others, and returns the
    /// worker's traces when they have just become known.
    ///
    /// Only this reads from the zygote. Call it on all workers before [`Worker::poll_end`] on any:
    /// a report that is read between two calls of that would wake nobody any more.
    pub(crate) fn hear(&mut self) -> Option<Traces> {
        let (zygote, child, group) = match &mut self.process {
            Process::Forked { zygote, child, group, .. } => (zygote, child, group),
            Process::Kept { keeper, .. } => {
                keeper.pump();
                return None;
            }
            Process::Own { .. } => return None,
        };
        zygote.pump();
        let leader = zygote.started(*child)?;
        *group = orphans::note(leader);
        Some(Traces { leader, warden: zygote.warden() })
    }

    /// Everything that may have news, or room for what is to be sent.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let pipes = self.streams.iter().filter_map(|s| s.pipe.as_ref().map(AsFd::as_fd));
        // At its end the socket would be readable for ever.
        let socket = self.process.socket().filter(|_| !self.has_all_frames).map(|socket| {
            let out = if self.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            (socket.as_fd(), PollFlags::IN | out)
        });
        let pipes = pipes.map(|pipe| (pipe, PollFlags::IN));
        pipes.chain(socket).chain(std::iter::once(self.process.over()))
    }

    /// Reads what has come so far and hands on whole lines.
    pub(crate) fn pump(&mut self, on_line: &mut dyn FnMut(Stream, &str)) {
        let mut buffer = [0_u8; 64 * 1024];
        for capture in &mut self.streams {
            // A bounded number of reads a turn: a stage that prints without end must not
            // keep the others, or a Ctrl-C, waiting.
            for _ in 0..16 {
                let Some(pipe) = &mut capture.pipe else { break };
                match pipe.read(&mut buffer) {
                    Ok(0) => capture.pipe = None,
                    Ok(count) => {
                        let bytes = &buffer[..count];
                        if let Some(log) = &mut self.log {
                            let _ = log.write_all(bytes);
                        }
                        remember(&mut self.tail, bytes);
                        capture.lines(bytes, on_line);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => capture.pipe = None,
                }
            }
        }
        self.pump_frames(&mut buffer);
    }

    fn pump_frames(&mut self, buffer: &mut [u8]) {
        let Some(mut socket) = self.process.socket() else { return };
        while !self.outgoing.is_empty() {
            match socket.write(self.outgoing.as_slices().0) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Why nobody reads it will be seen from the process's end.
                Err(_) => self.outgoing.clear(),
            }
        }
        while !self.has_all_frames {
            match socket.read(buffer) {
                Ok(0) => self.has_all_frames = true,
                Ok(count) => self.frames.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.has_all_frames = true,
            }
        }
    }

    /// The ending, if the process is over.
    pub(crate) fn poll_end(
        &mut self,
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> io::Result<Option<Ending>> {
        let Some(gone) = self.process.reap()? else { return Ok(None) };
        self.is_over = true;
        let elapsed = self.started.elapsed();
        self.pump(on_line);
        for capture in &mut self.streams {
            let rest = std::mem::take(&mut capture.partial);
            if !rest.is_empty() {
                on_line(capture.kind, &String::from_utf8_lossy(&rest));
            }
        }
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        let tail = String::from_utf8_lossy(&tail).into_owned();
        let usage = if let Gone::With(_, usage) = &gone { *usage } else { None };
        let result = self.verdict(gone);
        let refusal = result_frames(&self.frames).find_map(|frame| frame.refusal);
        let was_stopped = self.was_cancelled || self.timed_out.is_some();
        let kept = match &self.process {
            Process::Kept { keeper, .. } if !was_stopped && keeper.is_usable() => {
                Some(Rc::clone(keeper))
            }
            _ => None,
        };
        Ok(Some(Ending { result, refusal, tail, elapsed, usage, kept }))
    }

    fn verdict(&self, gone: Gone) -> Result<StageReport, StageFailure> {
        if self.was_cancelled {
            return Err(StageFailure::Cancelled);
        }
        if let Some(limit) = self.timed_out {
            return Err(StageFailure::TimedOut { limit });
        }
        let status = match gone {
            Gone::With(status, _) => status,
            Gone::NotStarted(why) => return Err(StageFailure::Start(io::Error::other(why))),
            Gone::Lost => return Err(StageFailure::Lost),
        };
        let report = match &self.process {
            Process::Own { socket: None, .. } => Some(Ok(StageReport::default())),
            _ => last_result(&self.frames),
        };
        match (report, status.signal(), status.code()) {
            (Some(Err(failure)), _, _) => Err(failure),
            (_, Some(signal), _) => Err(StageFailure::Signal { signal }),
            (_, None, Some(code @ 1..)) => Err(StageFailure::Exit { code }),
            (Some(Ok(report)), None, _) => Ok(report),
            (None, None, _) => Err(StageFailure::NoResult),
        }
    }

    /// Sends a signal to the process and everything that it started in its group.
    pub(crate) fn signal(&self, signal: Signal) {
        if !self.is_over {
            self.process.signal(signal);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.signal(Signal::KILL);
        self.hear();
        // A process of its own is reaped when it is dropped. A zygote reaps its children, unless it
        // is gone, or is killed before it reads what it is told.
        if let Process::Forked { group, .. } = &self.process {
            group.iter().for_each(|note| orphans::end(note));
        }
    }
}

impl Capture {
    fn lines(&mut self, bytes: &[u8], on_line: &mut dyn FnMut(Stream, &str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            // A line without an end is handed on in pieces rather than kept without bound.
            if piece.ends_with(b"\n") || self.partial.len() > TAIL_BYTES {
                let line = String::from_utf8_lossy(&self.partial);
                on_line(self.kind, line.trim_end_matches(['\n', '\r']));
                self.partial.clear();
            }
        }
    }
}

fn remember(tail: &mut VecDeque<u8>, bytes: &[u8]) {
    let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
    let excess = (tail.len() + bytes.len()).saturating_sub(TAIL_BYTES);
    tail.drain(..excess);
    tail.extend(bytes);
}

fn start_failure(error: rustix::io::Errno) -> StageFailure {
    StageFailure::Start(error.into())
}

/// A pipe whose reading end does not block; the writing end is inherited by nobody but the
/// process that it is given to.
fn pipe() -> Result<(OwnedFd, OwnedFd), StageFailure> {
    use rustix::fs::{fcntl_getfl, fcntl_setfl};
    let made = || {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        fcntl_setfl(&read, fcntl_getfl(&read)? | OFlags::NONBLOCK)?;
        Ok((read, write))
    };
    made().map_err(start_failure)
}

#[derive(Deserialize)]
struct ResultFrame {
    ok: bool,
    #[serde(flatten)]
    report: StageReport,
    error: Option<RaisedFrame>,
    #[serde(default)]
    refusal: Option<Refusal>,
}

#[derive(Deserialize)]
struct RaisedFrame {
    #[serde(rename = "type", default)]
    kind: String,
    message: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    traceback: Option<String>,
}

/// What the last `result` frame says.
fn last_result(bytes: &[u8]) -> Option<Result<StageReport, StageFailure>> {
    let result = result_frames(bytes).last()?;
    Some(match result.error {
        None if result.ok => Ok(result.report),
        None => Err(StageFailure::NoResult),
        Some(raised) => Err(StageFailure::Raised {
            kind: raised.kind,
            message: raised.message,
            hint: raised.hint,
            traceback: raised.traceback,
        }),
    })
}

/// The `result` frames among everything that the helper sent.
fn result_frames(mut bytes: &[u8]) -> impl Iterator<Item = ResultFrame> {
    let frames = std::iter::from_fn(move || {
        let (header, rest) = bytes.split_first_chunk::<4>()?;
        let (frame, rest) = rest.split_at_checked(u32::from_le_bytes(*header) as usize)?;
        bytes = rest;
        Some(frame)
    });
    frames.filter_map(|frame| serde_json::from_slice(frame).ok())
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, poll};

    use super::*;

    fn run_shell(command: &str) -> (Ending, Vec<(Stream, String)>) {
        let dir = tempfile::tempdir().unwrap();
        let wardens = Rc::default();
        let work =
            Work::Shell { wardens, command: command.into(), directory: dir.path().to_owned() };
        let mut worker = Worker::start(work, dir.path(), &dir.path().join("log")).unwrap();
        let mut lines = Vec::new();
        let mut on_line = |stream, line: &str| lines.push((stream, line.to_owned()));
        let ending = loop {
            let mut polled: Vec<_> = worker
                .descriptors()
                .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
                .collect();
            poll(&mut polled, None).unwrap();
            drop(polled);
            worker.pump(&mut on_line);
            if let Some(ending) = worker.poll_end(&mut on_line).unwrap() {
                break ending;
            }
        };
        (ending, lines)
    }

    #[test]
    fn both_streams_are_captured_and_kept_apart() {
        let (ending, lines) = run_shell("echo out; printf 'no newline' >&2");
        assert!(ending.result.is_ok());
        assert!(lines.contains(&(Stream::Stdout, "out".into())));
        assert!(lines.contains(&(Stream::Stderr, "no newline".into())));
    }

    #[test]
    fn exit_codes_and_signals_are_told_apart() {
        let (ending, _) = run_shell("exit 3");
        assert!(matches!(ending.result, Err(StageFailure::Exit { code: 3 })));
        let (ending, _) = run_shell("kill -SEGV $$");
        assert!(matches!(ending.result, Err(StageFailure::Signal { signal: 11 })));
    }

    #[test]
    fn a_child_left_behind_does_not_hold_the_stage() {
        let (ending, _) = run_shell("sleep 1000 & echo done");
        assert!(ending.result.is_ok());
        assert!(ending.elapsed < Duration::from_secs(100));
        assert_eq!(ending.tail, "done\n");
    }

    #[test]
    fn the_tail_is_bounded() {
        let (ending, _) = run_shell("head -c 1000000 /dev/zero | tr '\\0' 'x'; echo end");
        assert!(ending.tail.len() <= TAIL_BYTES);
        assert!(ending.tail.ends_with("xend\n"));
    }
}
