//! A Python process that answers requests: start it, talk to it, end it.
//!
//! The protocol runs over a socket of its own, so nothing that user code prints can disturb
//! it. The process is the leader of a group and dies with the thread that started it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::frame::{FrameError, read_frame, write_frame};
use crate::interpreter::Interpreter;
use crate::package::{self, PackageError};

/// The version of the protocol; both sides come from one build, so a difference means that
/// a foreign `pivot` package was found first.
const PROTOCOL: u32 = 1;

/// The status that a Python ends with when it is too old for the helper; see `build.rs`.
const TOO_OLD: i32 = 64;

/// Where a helper's standard output and standard error go.
#[derive(Debug)]
pub enum StreamTo {
    /// Both to this process's standard error.
    StandardError,
    /// To these two pipes or files.
    Files {
        /// Takes what is written to descriptor 1.
        stdout: OwnedFd,
        /// Takes what is written to descriptor 2.
        stderr: OwnedFd,
    },
}

/// How to start a helper.
#[derive(Debug)]
pub struct StartOptions {
    /// The directory it starts in: the project's root.
    pub directory: PathBuf,
    /// Where its prints go.
    pub streams: StreamTo,
    /// Variables that are added to the environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// What the helper says of itself when it has started.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Hello {
    proto: u32,
    /// Python's version: major, minor, micro.
    pub py: (u32, u32, u32),
}

/// Why a helper could not be started or did not answer.
#[derive(Debug, Error)]
pub enum HelperError {
    /// The package could not be unpacked.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The interpreter could not be executed.
    #[error("cannot start `{}`", .python.display())]
    Start {
        /// The interpreter.
        python: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The interpreter is older than the helper needs.
    #[error("`{}` is too old: Pivot needs Python 3.10 or newer", .python.display())]
    TooOld {
        /// The interpreter.
        python: PathBuf,
    },
    /// The interpreter ended before the helper could speak.
    #[error("`{}` did not start Pivot's helper ({status})", .python.display())]
    NoHello {
        /// The interpreter.
        python: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// The two sides do not speak the same protocol.
    #[error("`{}` runs another version of Pivot's helper", .python.display())]
    Foreign {
        /// The interpreter.
        python: PathBuf,
    },
    /// The conversation broke off.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A running Python process and the connection to it.
///
/// Dropping it kills the process's group, so no helper outlives its use.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    stream: UnixStream,
    python: PathBuf,
    is_reaped: bool,
}

/// A helper that its user starts by means of its own: the command, and our end of the connection.
///
/// The command leads a process group of its own. Nothing ends it when this process ends; that is
/// the user's to see to.
#[derive(Debug)]
pub struct Prepared {
    /// Starts the helper.
    pub command: Command,
    /// The connection, on which the helper greets first. Drop `command` after it has been
    /// started: only then does this end see when the helper has ended.
    pub stream: UnixStream,
}

impl Prepared {
    /// Unpacks the package and puts the command together.
    ///
    /// # Errors
    /// When the package cannot be unpacked or the system gives no socket.
    pub fn new(python: &Interpreter, options: StartOptions) -> Result<Self, HelperError> {
        let package = package::unpack()?;
        let start_error = |source| HelperError::Start { python: python.path.clone(), source };
        let (stream, theirs) = UnixStream::pair().map_err(start_error)?;
        let mut command = Command::new(&python.path);
        command.arg(&package).arg("--fd").arg(theirs.as_raw_fd().to_string());
        command.current_dir(&options.directory).envs(options.environment);
        command.stdin(Stdio::null()).process_group(0);
        match options.streams {
            StreamTo::StandardError => {
                let stderr = || rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3);
                command.stdout(stderr().map_err(io::Error::from).map_err(start_error)?);
                command.stderr(stderr().map_err(io::Error::from).map_err(start_error)?);
            }
            StreamTo::Files { stdout, stderr } => {
                command.stdout(stdout).stderr(stderr);
            }
        }
        // SAFETY: between fork and exec only a system call that is safe there is made.
        unsafe {
            command.pre_exec(move || {
                use rustix::io::{FdFlags, fcntl_setfd};
                Ok(fcntl_setfd(&theirs, FdFlags::empty())?)
            });
        }
        Ok(Self { command, stream })
    }
}

impl Helper {
    /// Starts Python. It does not wait for it: see [`Helper::hello`].
    ///
    /// The process is killed when the calling *thread* ends, so call this on one that lives
    /// as long as the helper is needed.
    ///
    /// # Errors
    /// When the package cannot be unpacked or the interpreter cannot be executed.
    pub fn start(python: &Interpreter, options: StartOptions) -> Result<Self, HelperError> {
        Self::spawn(python, Prepared::new(python, options)?)
    }

    /// As [`Helper::start`], with a question about an edit to come first.
    pub(crate) fn start_for_edit(
        python: &Interpreter,
        options: StartOptions,
        question: [&OsStr; 3],
    ) -> Result<Self, HelperError> {
        let mut prepared = Prepared::new(python, options)?;
        prepared.command.arg("--edited").args(question);
        Self::spawn(python, prepared)
    }

    fn spawn(python: &Interpreter, prepared: Prepared) -> Result<Self, HelperError> {
        let Prepared { mut command, stream } = prepared;
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only system calls that are safe there are made.
        unsafe {
            command.pre_exec(move || {
                use rustix::process::{Signal, getppid, set_parent_process_death_signal};
                set_parent_process_death_signal(Some(Signal::KILL))?;
                if getppid() != Some(parent) {
                    // The parent died before the request: nobody would ever kill this process.
                    return Err(io::Error::from(rustix::io::Errno::SRCH));
                }
                Ok(())
            });
        }
        let start_error = |source| HelperError::Start { python: python.path.clone(), source };
        let child = command.spawn().map_err(start_error)?;
        Ok(Self { child, stream, python: python.path.clone(), is_reaped: false })
    }

    /// Waits until the helper speaks and checks that it is ours.
    ///
    /// # Errors
    /// When Python ends before, is too old, or runs a foreign helper.
    pub fn hello(&mut self) -> Result<Hello, HelperError> {
        let frame = match read_frame(&mut self.stream) {
            Err(FrameError::Closed) => {
                let status = self.wait().map_err(FrameError::Io)?;
                let python = self.python.clone();
                return Err(match status.code() {
                    Some(TOO_OLD) => HelperError::TooOld { python },
                    _ => HelperError::NoHello { python, status },
                });
            }
            other => other?,
        };
        let hello: Hello = serde_json::from_slice(&frame).map_err(FrameError::Malformed)?;
        if hello.proto != PROTOCOL {
            return Err(HelperError::Foreign { python: self.python.clone() });
        }
        Ok(hello)
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When the helper is gone.
    pub fn send(&mut self, request: &impl Serialize) -> Result<(), HelperError> {
        Ok(write_frame(&mut self.stream, request)?)
    }

    /// Waits for the next frame and returns its JSON text.
    ///
    /// # Errors
    /// When the helper ends before it answers.
    pub fn receive(&mut self) -> Result<Vec<u8>, HelperError> {
        Ok(read_frame(&mut self.stream)?)
    }

    /// The connection, to be waited on together with other descriptors.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The process's id, which is also its group's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The interpreter that runs.
    pub fn python(&self) -> &Path {
        &self.python
    }

    /// Waits for the process's end.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.is_reaped = true;
        Ok(status)
    }

    /// Sends a signal to the process and everything that it started in its group.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let (false, Some(group)) = (self.is_reaped, self.group()) {
            // A group that is already gone needs no signal.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    fn group(&self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(rustix::process::Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
