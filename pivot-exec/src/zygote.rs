//! The process that warm stages are forked from.
//!
//! It has imported the third-party packages that the pipeline uses and nothing else: the user's
//! own modules are imported in the forked child, so an edit needs no restart, and no user code
//! can leave anything behind for the next stage. Importing a library and forking afterwards is
//! safe where *using* it before the fork is not.
//!
//! The children are the zygote's, so it reaps them and reports how each ended.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use pivot_fingerprint::{HelperError, Interpreter, Prepared, StartOptions, StreamTo, write_frame};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::json;

use crate::process::usual_environment;
use crate::usage::Usage;
use crate::warded::Warded;

/// A running zygote. Dropping it kills it, and its children with it.
#[derive(Debug)]
pub(crate) struct Zygote {
    warded: Warded,
    stream: UnixStream,
    next_id: Cell<u64>,
    is_dead: Cell<bool>,
    /// It has said that it is not to be used again.
    is_retired: Cell<bool>,
    /// What could not be sent yet: while it imports, the zygote reads nothing.
    outgoing: RefCell<VecDeque<Outgoing>>,
    incoming: RefCell<Vec<u8>>,
    started: RefCell<HashMap<u64, u32>>,
    ends: RefCell<HashMap<u64, End>>,
}

/// A frame on its way. The descriptors go with its first bytes, where the zygote expects them.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

/// One of the zygote's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child(u64);

/// What became of a child.
#[derive(Debug)]
pub(crate) enum End {
    /// It ended, and this is what it used.
    With(ExitStatus, Option<Usage>),
    /// It could not be made; this is why.
    NotStarted(String),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Frame {
    Started {
        id: u64,
        pid: u32,
    },
    Exit {
        id: u64,
        status: i32,
        error: Option<String>,
        /// Seconds in user code and in the kernel, and kilobytes at the peak.
        usage: Option<(f64, f64, u64)>,
        /// Why the process that tells this is not to be used again.
        retired: Option<String>,
    },
    #[serde(other)]
    Other,
}

impl Zygote {
    /// Starts Python and sends it the first request, which says what the process is for; nobody waits
    /// for either. What it prints by itself goes to `log`.
    pub(crate) fn start(
        python: &Interpreter,
        root: &Path,
        request: &serde_json::Value,
        log: &Path,
    ) -> Result<Self, HelperError> {
        let failed = |source| HelperError::Start { python: python.path.clone(), source };
        let file = File::create(log).or_else(|_| File::options().write(true).open("/dev/null"));
        let stdout: OwnedFd = file.map_err(failed)?.into();
        let stderr = stdout.try_clone().map_err(failed)?;
        let streams = StreamTo::Files { stdout, stderr };
        let environment = usual_environment();
        let options = StartOptions { directory: root.to_owned(), streams, environment };
        let Prepared { command, stream } = Prepared::new(python, options)?;
        let warded = Warded::spawn(command).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let zygote = Self {
            warded,
            stream,
            next_id: Cell::new(1),
            is_dead: Cell::new(false),
            is_retired: Cell::new(false),
            outgoing: RefCell::default(),
            incoming: RefCell::default(),
            started: RefCell::default(),
            ends: RefCell::default(),
        };
        zygote.send(request, Vec::new());
        Ok(zygote)
    }

    /// Forks a child with these descriptors: the socket from which it reads its request and to
    /// which it writes the result, standard output, standard error.
    pub(crate) fn fork(&self, descriptors: [OwnedFd; 3]) -> Child {
        let id = self.next_id.replace(self.next_id.get() + 1);
        self.send(&json!({ "type": "run", "id": id }), descriptors.into());
        Child(id)
    }

    /// Sends a frame when there is room for it.
    fn send(&self, frame: &serde_json::Value, descriptors: Vec<OwnedFd>) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, frame).expect("a small frame fits into memory");
        self.outgoing.borrow_mut().push_back(Outgoing { bytes, sent: 0, descriptors });
        self.flush();
    }

    fn flush(&self) {
        let mut outgoing = self.outgoing.borrow_mut();
        while let Some(frame) = outgoing.front_mut() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors: Vec<_> = frame.descriptors.iter().map(AsFd::as_fd).collect();
            if !descriptors.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            let bytes = [IoSlice::new(&frame.bytes[frame.sent..])];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.stream, &bytes, &mut ancillary, flags) {
                Ok(count) => {
                    frame.sent += count;
                    frame.descriptors.clear();
                    if frame.sent == frame.bytes.len() {
                        outgoing.pop_front();
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return,
                Err(_) => {
                    outgoing.clear();
                    self.lose();
                }
            }
        }
    }

    /// What to poll, for news of children or for room.
    pub(crate) fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags) {
        let has_all = self.outgoing.borrow().is_empty();
        let out = if has_all { PollFlags::empty() } else { PollFlags::OUT };
        (self.stream.as_fd(), PollFlags::IN | out)
    }

    /// The process that ends all that the zygote leaves.
    pub(crate) fn warden(&self) -> u32 {
        self.warded.warden()
    }

    /// Reads what the zygote has reported, without waiting.
    pub(crate) fn pump(&self) {
        self.flush();
        let mut buffer = [0_u8; 16 * 1024];
        let mut incoming = self.incoming.borrow_mut();
        // Of a dead one as well: what it told before still counts.
        loop {
            match recv(&self.stream, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.is_dead.set(true);
                    break;
                }
                Ok((count, _)) => incoming.extend_from_slice(&buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(_) => {
                    self.lose();
                    break;
                }
            }
        }
        let mut rest = incoming.as_slice();
        while let Some((header, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*header) as usize;
            let Some((frame, after)) = after.split_at_checked(length) else { break };
            rest = after;
            match serde_json::from_slice(frame) {
                Ok(Frame::Started { id, pid }) => drop(self.started.borrow_mut().insert(id, pid)),
                Ok(Frame::Exit { id, status, error, usage, retired }) => {
                    self.is_retired.set(retired.is_some());
                    let seconds =
                        |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
                    let usage = usage.map(|(user, system, peak)| Usage {
                        user: seconds(user),
                        system: seconds(system),
                        peak_bytes: peak.saturating_mul(1024),
                    });
                    let end = End::With(ExitStatus::from_raw(status), usage);
                    let end = error.map_or(end, End::NotStarted);
                    self.ends.borrow_mut().insert(id, end);
                }
                Ok(Frame::Other) | Err(_) => {}
            }
        }
        let kept = rest.to_vec();
        *incoming = kept;
    }

    /// The process id of a child, once, as soon as it is known.
    pub(crate) fn started(&self, child: Child) -> Option<u32> {
        self.started.borrow_mut().remove(&child.0)
    }

    /// What became of a child, once, if it is over.
    pub(crate) fn end_of(&self, child: Child) -> Option<End> {
        self.ends.borrow_mut().remove(&child.0)
    }

    /// Whether the zygote itself has ended, and with it all its children, but not what those have
    /// started.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.get()
    }

    /// Whether it has said that it is not to be used again.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.get()
    }

    /// The process itself.
    pub(crate) fn warded(&self) -> &Warded {
        &self.warded
    }

    /// Asks the zygote to send a signal to a child's group: only it knows for sure that the group
    /// still is the child's.
    pub(crate) fn signal(&self, child: Child, signal: Signal) {
        let frame = json!({ "type": "cancel", "id": child.0, "signal": signal.as_raw() });
        self.send(&frame, Vec::new());
    }

    /// Gives up a zygote that cannot be talked to any more: half a frame may be on its way.
    fn lose(&self) {
        self.is_dead.set(true);
        self.warded.signal(Signal::KILL);
    }
}
