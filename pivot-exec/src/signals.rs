//! The signals that end a run, as something to wait on.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A signal that asks the program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Ctrl-C.
    Interrupt,
    /// A polite request to end.
    Terminate,
    /// The terminal is gone.
    HangUp,
}

impl Interrupt {
    /// The signal's number, as the shell's exit codes count (128 plus it).
    pub fn number(self) -> i32 {
        match self {
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
            Self::HangUp => SIGHUP,
        }
    }
}

pub(crate) fn is_ignored(number: i32) -> bool {
    // SAFETY: `sigaction` only writes to the zeroed structure, which any bytes make valid.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut current) == 0
            && current.sa_sigaction == libc::SIG_IGN
    }
}

/// Receives the ending signals for as long as it lives.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(Interrupt, UnixStream, SigId)>,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [Interrupt::Interrupt, Interrupt::Terminate, Interrupt::HangUp];
        // Under `nohup`, and behind `&` in a script, the caller has said which not to heed.
        let kinds = kinds.into_iter().filter(|kind| !is_ignored(kind.number()));
        let listen = |kind: Interrupt| {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let id = signal_hook::low_level::pipe::register(kind.number(), theirs)?;
            Ok((kind, ours, id))
        };
        Ok(Self { streams: kinds.map(listen).collect::<io::Result<_>>()? })
    }

    /// What to poll for reading.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|(_, stream, _)| stream.as_fd())
    }

    /// The signals that came since the last call.
    pub(crate) fn take(&mut self) -> Vec<Interrupt> {
        let mut came = Vec::new();
        for (kind, stream, _) in &mut self.streams {
            let mut bytes = [0_u8; 16];
            let count = stream.read(&mut bytes).unwrap_or(0);
            came.extend(std::iter::repeat_n(*kind, count));
        }
        came
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (_, _, id) in &self.streams {
            signal_hook::low_level::unregister(*id);
        }
    }
}
