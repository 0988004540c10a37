//! How many requests may be under way: more while all goes well, half when the server is busy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What to begin with; grows by one with every success until the server complains.
const FIRST_LIMIT: f64 = 8.0;

/// A limit for requests that adapts: additive increase, multiplicative decrease.
#[derive(Debug)]
pub(crate) struct Pace {
    max: f64,
    now: Mutex<Now>,
    freed: Notify,
    slowdowns: AtomicU64,
}

#[derive(Debug)]
struct Now {
    limit: f64,
    in_flight: usize,
    /// Raised at every decrease: complaints about requests that began before it say nothing new.
    epoch: u64,
    has_complained: bool,
}

/// The right to have one request under way.
#[derive(Debug)]
pub(crate) struct Permit {
    pace: Arc<Pace>,
    epoch: u64,
}

impl Pace {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let max = max.max(1) as f64;
        let now =
            Now { limit: FIRST_LIMIT.min(max), in_flight: 0, epoch: 0, has_complained: false };
        Arc::new(Self {
            max,
            now: Mutex::new(now),
            freed: Notify::new(),
            slowdowns: AtomicU64::new(0),
        })
    }

    /// Waits until there is room for one more request.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Permit {
        loop {
            let freed = self.freed.notified();
            if let Some(permit) = self.try_acquire() {
                return permit;
            }
            freed.await;
        }
    }

    fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let mut now = self.lock();
        if now.in_flight as f64 + 1.0 > now.limit {
            return None;
        }
        now.in_flight += 1;
        Some(Permit { pace: Arc::clone(self), epoch: now.epoch })
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the limit was halved.
    #[cfg(test)]
    pub(crate) fn slowdowns(&self) -> u64 {
        self.slowdowns.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// The request succeeded: there may be more of them.
    pub(crate) fn succeeded(&self) {
        let mut now = self.pace.lock();
        let step = if now.has_complained { 1.0 / now.limit } else { 1.0 };
        now.limit = (now.limit + step).min(self.pace.max);
        drop(now);
        self.pace.freed.notify_one();
    }

    /// The server cannot keep up: there must be fewer.
    pub(crate) fn throttled(&self) {
        let mut now = self.pace.lock();
        if self.epoch == now.epoch && now.limit > 1.0 {
            now.limit = (now.limit / 2.0).max(1.0);
            now.epoch += 1;
            now.has_complained = true;
            self.pace.slowdowns.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pace.lock().in_flight -= 1;
        self.pace.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(pace: &Arc<Pace>) -> Vec<Permit> {
        std::iter::from_fn(|| pace.try_acquire()).collect()
    }

    #[test]
    fn it_grows_with_success_and_halves_once_for_a_burst_of_complaints() {
        let pace = Pace::new(32);
        let permits = take_all(&pace);
        assert_eq!(permits.len(), 8);
        permits.iter().for_each(Permit::succeeded);
        drop(permits);
        let permits = take_all(&pace);
        assert_eq!(permits.len(), 16);
        permits.iter().for_each(Permit::throttled);
        drop(permits);
        assert_eq!(pace.slowdowns(), 1);
        let permits = take_all(&pace);
        assert_eq!(permits.len(), 8);
        // From now on one more for each round of successes.
        permits.iter().for_each(Permit::succeeded);
        drop(permits);
        assert_eq!(take_all(&pace).len(), 8);
        for _ in 0..20 {
            take_all(&pace).iter().for_each(Permit::throttled);
        }
        assert_eq!(take_all(&pace).len(), 1);
        for _ in 0..1000 {
            take_all(&pace).iter().for_each(Permit::succeeded);
        }
        assert_eq!(take_all(&pace).len(), 32);
    }
}
