//! The process that warm stages are forked from.
//!
//! It has imported the third-party packages that the pipeline uses and nothing else: the user's
//! own modules are imported in the forked child, so an edit needs no restart, and no user code
//! can leave anything behind for the next stage. Importing a library and forking afterwards is
//! safe where *using* it before the fork is not.
//!
//! The children are the zygote's, so it reaps them and reports how each ended.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use pivot_fingerprint::{Helper, HelperError, Interpreter, StartOptions, StreamTo, write_frame};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, send, sendmsg,
};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::json;

/// A running zygote. Dropping it kills it, and its children with it.
#[derive(Debug)]
pub(crate) struct Zygote {
    helper: Helper,
    next_id: Cell<u64>,
    is_dead: Cell<bool>,
    incoming: RefCell<Vec<u8>>,
    started: RefCell<HashMap<u64, u32>>,
    ends: RefCell<HashMap<u64, End>>,
}

/// One of the zygote's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child(u64);

/// What became of a child.
#[derive(Debug)]
pub(crate) enum End {
    /// It ended.
    With(ExitStatus),
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
    },
    #[serde(other)]
    Other,
}

impl Zygote {
    /// Starts Python and tells it what to import; nobody waits for either. What the imports print
    /// goes to `log`.
    pub(crate) fn start(
        python: &Interpreter,
        root: &Path,
        preload: &[String],
        log: &Path,
    ) -> Result<Self, HelperError> {
        let failed = |source| HelperError::Start { python: python.path.clone(), source };
        let file = File::create(log).or_else(|_| File::options().write(true).open("/dev/null"));
        let stdout: OwnedFd = file.map_err(failed)?.into();
        let stderr = stdout.try_clone().map_err(failed)?;
        let mut environment = Vec::new();
        if std::env::var_os("PYTHONHASHSEED").is_none() {
            environment.push(("PYTHONHASHSEED".into(), "0".into()));
        }
        let streams = StreamTo::Files { stdout, stderr };
        let options = StartOptions { directory: root.to_owned(), streams, environment };
        let mut helper = Helper::start(python, options)?;
        helper.send(&json!({ "type": "serve", "preload": preload }))?;
        Ok(Self {
            helper,
            next_id: Cell::new(1),
            is_dead: Cell::new(false),
            incoming: RefCell::default(),
            started: RefCell::default(),
            ends: RefCell::default(),
        })
    }

    /// Forks a child that runs `request` with these descriptors: result socket, standard output,
    /// standard error.
    pub(crate) fn fork(
        &self,
        request: &serde_json::Value,
        descriptors: [BorrowedFd<'_>; 3],
    ) -> io::Result<Child> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let mut message = Vec::new();
        let frame = json!({ "type": "run", "id": id, "request": request });
        write_frame(&mut message, &frame).map_err(io::Error::other)?;
        // The descriptors travel with the first bytes, where the zygote expects them.
        let (header, body) = message.split_at(4);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let stream = self.helper.stream();
        let header_bytes = [IoSlice::new(header)];
        let sent =
            retry_on_intr(|| sendmsg(stream, &header_bytes, &mut ancillary, SendFlags::NOSIGNAL));
        let sent = sent.and_then(|count| send_all(stream.as_fd(), &header[count..]));
        let sent = sent.and_then(|()| send_all(stream.as_fd(), body));
        if let Err(error) = sent {
            self.lose();
            return Err(error.into());
        }
        Ok(Child(id))
    }

    /// What to poll for news of children.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.helper.stream().as_fd()
    }

    /// Reads what the zygote has reported, without waiting.
    pub(crate) fn pump(&self) {
        let mut buffer = [0_u8; 16 * 1024];
        let mut incoming = self.incoming.borrow_mut();
        // Of a dead one as well: what it told before still counts.
        loop {
            match recv(self.helper.stream(), &mut buffer, RecvFlags::DONTWAIT) {
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
                Ok(Frame::Exit { id, status, error }) => {
                    let status = ExitStatus::from_raw(status);
                    let end = error.map_or(End::With(status), End::NotStarted);
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

    /// Asks the zygote to send a signal to a child's group: only it knows for sure that the group
    /// still is the child's.
    pub(crate) fn signal(&self, child: Child, signal: Signal) {
        let frame = json!({ "type": "cancel", "id": child.0, "signal": signal.as_raw() });
        if write_frame(&mut self.helper.stream(), &frame).is_err() {
            self.lose();
        }
    }

    /// Gives up a zygote that cannot be talked to any more: half a frame may be on its way.
    fn lose(&self) {
        self.is_dead.set(true);
        self.helper.signal(Signal::KILL);
    }
}

fn send_all(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
