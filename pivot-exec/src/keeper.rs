//! A Python process that runs one stage after the other, for `--executor=reuse`; for
//! `--executor=interpreter` each in an interpreter of its own.
//!
//! It speaks the zygote's protocol, but runs the stages itself: so it is the process that is stopped
//! when a stage is, and its end is the stage's end. After each stage it sets itself back, and says
//! when it cannot; it is not used again then.

use std::cell::Cell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use pivot_fingerprint::{HelperError, Interpreter};
use rustix::event::PollFlags;
use rustix::process::Signal;

use crate::orphans::Traces;
use crate::process::{Gone, is_readable};
use crate::usage::Usage;
use crate::zygote::{Child, End, Zygote};

/// A kept process. Dropping it kills it, and all that it has started.
#[derive(Debug)]
pub(crate) struct Keeper {
    process: Zygote,
    /// What the stages before have used.
    used: Cell<Usage>,
}

impl Keeper {
    /// Starts Python and sends it the first request, which says how it runs stages; nobody waits
    /// for either.
    pub(crate) fn start(
        python: &Interpreter,
        root: &Path,
        request: &serde_json::Value,
        log: &Path,
    ) -> Result<Self, HelperError> {
        let process = Zygote::start(python, root, request, log)?;
        Ok(Self { process, used: Cell::default() })
    }

    /// Runs a stage with these descriptors, as [`Zygote::fork`] does.
    pub(crate) fn run(&self, descriptors: [OwnedFd; 3]) -> Child {
        self.process.fork(descriptors)
    }

    /// Whether it may run another stage.
    pub(crate) fn is_usable(&self) -> bool {
        !self.process.is_dead() && !self.process.is_retired()
    }

    pub(crate) fn traces(&self) -> Traces {
        let warded = self.process.warded();
        Traces { leader: warded.leader(), warden: warded.warden() }
    }

    /// Reads what it has told, without waiting.
    pub(crate) fn pump(&self) {
        self.process.pump();
    }

    /// What to poll, for news or, when it tells nothing any more, for its end.
    pub(crate) fn descriptor(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self.process.is_dead() {
            true => (self.process.warded().over(), PollFlags::IN),
            false => self.process.descriptor(),
        }
    }

    /// Sends a signal to the stage, which is this process.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.warded().signal(signal);
    }

    /// How the stage ended, once, if it has: as told, or together with the process.
    pub(crate) fn end_of(&self, child: Child) -> io::Result<Option<Gone>> {
        match self.process.end_of(child) {
            Some(End::With(status, usage)) => {
                if let Some(usage) = usage {
                    let before = self.used.get();
                    let (user, system) = (before.user + usage.user, before.system + usage.system);
                    self.used.set(Usage { user, system, ..usage });
                }
                Ok(Some(Gone::With(status, usage)))
            }
            Some(End::NotStarted(why)) => Ok(Some(Gone::NotStarted(why))),
            None if !self.process.is_dead() || !is_readable(self.process.warded().over())? => {
                Ok(None)
            }
            None => {
                Ok(Some(self.process.warded().ending().map_or(Gone::Lost, |(status, usage)| {
                    let before = self.used.get();
                    let user = usage.user.saturating_sub(before.user);
                    let system = usage.system.saturating_sub(before.system);
                    Gone::With(status, Some(Usage { user, system, ..usage }))
                })))
            }
        }
    }
}
