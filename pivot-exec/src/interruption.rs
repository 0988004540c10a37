//! Signals that end a transfer, as a flag that it looks at.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::SigId;
use signal_hook::{flag, low_level};

use crate::signals::{Interrupt, is_ignored};

/// Hears Ctrl-C and the like for as long as it lives. The first one asks the transfer to end, the
/// second one ends the program.
#[derive(Debug)]
pub struct Interruption {
    flag: Arc<AtomicBool>,
    number: Arc<AtomicUsize>,
    ids: Vec<SigId>,
}

const KINDS: [Interrupt; 3] = [Interrupt::Interrupt, Interrupt::Terminate, Interrupt::HangUp];

impl Interruption {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> io::Result<Self> {
        let (is_set, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut ids = Vec::new();
        for kind in KINDS.into_iter().filter(|kind| !is_ignored(kind.number())) {
            let signal = kind.number();
            // Before the flag is set, so that only the second signal finds it set.
            ids.push(flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(&is_set),
            )?);
            let value = usize::try_from(signal).unwrap_or_default();
            ids.push(flag::register_usize(signal, Arc::clone(&number), value)?);
            ids.push(flag::register(signal, Arc::clone(&is_set))?);
        }
        Ok(Self { flag: is_set, number, ids })
    }

    /// What transfers look at.
    pub fn flag(&self) -> pivot_remote::Interrupt {
        pivot_remote::Interrupt::new(Arc::clone(&self.flag))
    }

    /// The signal that came, if one did.
    pub fn came(&self) -> Option<Interrupt> {
        let number = self.number.load(Ordering::Relaxed);
        KINDS.into_iter().find(|kind| usize::try_from(kind.number()) == Ok(number))
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        for id in &self.ids {
            low_level::unregister(*id);
        }
    }
}
