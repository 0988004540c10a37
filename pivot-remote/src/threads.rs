//! Many objects at once for a remote that does one after the other.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use pivot_cache::ObjectId;

use crate::options::Interrupt;
use crate::remote::{RemoteError, Report, Step, Transfer};

/// Does `work` for each object on up to `jobs` threads; `report` is called on this one.
pub(crate) fn in_threads(
    jobs: NonZeroUsize,
    interrupt: &Interrupt,
    ids: &[ObjectId],
    work: impl Fn(ObjectId) -> Result<Transfer, RemoteError> + Sync,
    report: &mut Report<'_>,
) {
    let work = |id| if interrupt.is_set() { Err(RemoteError::Interrupted) } else { work(id) };
    let threads = jobs.get().min(ids.len());
    if threads <= 1 {
        for &id in ids {
            report(Step::Ended { id, result: work(id) });
        }
        return;
    }
    let next = AtomicUsize::new(0);
    // Bounded, so that threads do not run far ahead of a slow listener.
    let (sender, receiver) = mpsc::sync_channel(4 * threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some(&id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send((id, work(id))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (id, result) in receiver {
            report(Step::Ended { id, result });
        }
    });
}
