//! Processes that run below a warden, as the run sees them.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;

use crate::usage::Usage;
use crate::warden::{self, MAX_REQUEST_BYTES, REPORT_BYTES, REQUEST};

/// A process that runs below a warden. Dropping it kills it, and all that it has started.
#[derive(Debug)]
pub(crate) struct Warded {
    warden: Option<Warden>,
    leader: u32,
    /// Where the warden goes when the process has ended, if it may be asked again.
    pool: Option<Rc<Wardens>>,
}

/// A warden and the connection to it. It ends when it has nothing below it and this is dropped.
#[derive(Debug)]
struct Warden {
    process: Child,
    control: UnixStream,
}

/// The wardens of a run that have nothing below them, to be asked for the next command.
#[derive(Debug, Default)]
pub(crate) struct Wardens {
    idle: RefCell<Vec<Warden>>,
}

impl Wardens {
    /// Starts `command` with the shell below a warden, as the leader of a process group.
    pub(crate) fn shell(
        self: &Rc<Self>,
        command: &str,
        directory: &Path,
        streams: [OwnedFd; 2],
    ) -> io::Result<Warded> {
        let request = request(command, directory)?;
        loop {
            let idle = self.idle.borrow_mut().pop();
            let is_new = idle.is_none();
            let warden = idle.map_or_else(Warden::serve, Ok)?;
            match warden.ask(&request, &streams) {
                Ok(Ok(leader)) => {
                    return Ok(Warded {
                        warden: Some(warden),
                        leader,
                        pool: Some(Rc::clone(self)),
                    });
                }
                Ok(Err(refusal)) => {
                    self.idle.borrow_mut().push(warden);
                    return Err(refusal);
                }
                Err(error) if is_new => return Err(error),
                // Somebody has ended it, while it had nothing to do.
                Err(_) => {}
            }
        }
    }
}

impl Warden {
    /// Starts a warden that waits for requests.
    fn serve() -> io::Result<Self> {
        if warden::can_be_asked() {
            let (control, theirs) = UnixStream::pair()?;
            // Of its own path nothing need be left: the program may have been replaced.
            let mut command = Command::new("/proc/self/exe");
            command.arg(warden::ARGUMENT).process_group(0).stdin(OwnedFd::from(theirs));
            command.stdout(Stdio::null()).stderr(Stdio::null());
            if let Ok(process) = command.spawn() {
                return Ok(Self { process, control });
            }
        }
        // It never becomes this program.
        let command = Command::new("/bin/sh");
        // SAFETY: between fork and exec `serve` is given a process with one thread.
        Self::fork(command, |end| unsafe { warden::serve(end) })
    }

    /// Forks a warden that goes on with `life`, which is given its end of the connection.
    fn fork(
        mut command: Command,
        life: impl Fn(i32) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        // The warden's group is not that of the process: signals to the latter must not hit it.
        command.process_group(0);
        let end = theirs.as_raw_fd();
        // SAFETY: only system calls on memory of the stack follow, on both sides of the fork.
        unsafe { command.pre_exec(move || life(end)) };
        let process = command.spawn()?;
        Ok(Self { process, control })
    }

    /// Has the warden start a command. The inner error is the command's.
    fn ask(&self, request: &[u8], streams: &[OwnedFd; 2]) -> io::Result<io::Result<u32>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let streams = [streams[0].as_fd(), streams[1].as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&streams));
        let bytes = [IoSlice::new(request)];
        let sent = sendmsg(&self.control, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?;
        (&self.control).write_all(&request[sent..])?;
        self.answer()
    }

    fn answer(&self) -> io::Result<io::Result<u32>> {
        let mut number = [0; 4];
        (&self.control).read_exact(&mut number)?;
        let number = i32::from_le_bytes(number);
        Ok(u32::try_from(number).map_err(|_| io::Error::from_raw_os_error(-number)))
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        // It reads no more, and ends when nothing is left below it.
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

impl Warded {
    /// Starts `command` below a warden, as the leader of a process group.
    pub(crate) fn spawn(command: Command) -> io::Result<Self> {
        // SAFETY: between fork and exec it is given a process with one thread.
        let warden = Warden::fork(command, |end| unsafe { warden::fork_below(end) })?;
        let leader = warden.answer()??;
        Ok(Self { warden: Some(warden), leader, pool: None })
    }

    fn warden_of(&self) -> &Warden {
        self.warden.as_ref().expect("it is only given away when the process has ended")
    }

    /// The process, which leads its group.
    pub(crate) fn leader(&self) -> u32 {
        self.leader
    }

    /// The warden, which ends after all that is below it, unless it is asked again.
    pub(crate) fn warden(&self) -> u32 {
        self.warden_of().process.id()
    }

    /// What becomes readable when the process has ended, with all that it left.
    pub(crate) fn over(&self) -> BorrowedFd<'_> {
        self.warden_of().control.as_fd()
    }

    /// Sends a signal to the process group; [`Signal::KILL`] reaches everything that was started.
    pub(crate) fn signal(&self, signal: Signal) {
        let number = u8::try_from(signal.as_raw()).expect("signals are small numbers");
        // A warden that is gone has ended everything.
        let _ = self.warden.as_ref().map(|warden| (&warden.control).write(&[number]));
    }

    /// What [`wait`](Self::wait) tells, for those who only look at the process: it is told once.
    pub(crate) fn ending(&self) -> Option<(ExitStatus, Usage)> {
        self.report().map(|(ending, _)| ending)
    }

    /// How the process ended, and whether nothing is left of it. It waits until then.
    fn report(&self) -> Option<((ExitStatus, Usage), bool)> {
        let mut report = [0; REPORT_BYTES];
        // Without a report the warden itself was killed.
        let told = (&self.warden.as_ref()?.control).read_exact(&mut report);
        told.is_ok().then(|| parse(&report))
    }

    /// How the process ended and what it used. It waits until then.
    pub(crate) fn wait(&mut self) -> Option<(ExitStatus, Usage)> {
        let report = self.report();
        let warden = self.warden.take()?;
        let (ending, is_clean) = report?;
        if let (true, Some(pool)) = (is_clean, &self.pool) {
            pool.idle.borrow_mut().push(warden);
        }
        Some(ending)
    }
}

impl Drop for Warded {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

/// What [`warden::serve`] is asked.
fn request(command: &str, directory: &Path) -> io::Result<Vec<u8>> {
    let directory = directory.as_os_str().as_encoded_bytes();
    let length = directory.len() + command.len() + 2;
    if directory.contains(&0) || command.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it holds a zero"));
    }
    if length > MAX_REQUEST_BYTES {
        return Err(io::Error::from(rustix::io::Errno::TOOBIG));
    }
    let length = u32::try_from(length).expect("it is bounded").to_le_bytes();
    Ok([&[REQUEST][..], &length, directory, &[0], command.as_bytes(), &[0]].concat())
}

fn parse(report: &[u8; REPORT_BYTES]) -> ((ExitStatus, Usage), bool) {
    let (status, rest) = report.split_first_chunk::<4>().expect("it is longer");
    let number = |at: usize| {
        let bytes = rest[at * 8..][..8].try_into().expect("there are three");
        u64::from_le_bytes(bytes)
    };
    let usage = Usage {
        user: Duration::from_micros(number(0)),
        system: Duration::from_micros(number(1)),
        peak_bytes: number(2),
    };
    ((ExitStatus::from_raw(i32::from_le_bytes(*status)), usage), report[REPORT_BYTES - 1] == 1)
}
