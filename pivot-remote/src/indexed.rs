//! What a remote is known to hold, so that it need not be asked again.
//!
//! The index lies in the state and may be lost or wrong: an entry is only made when the remote has
//! confirmed an object, goes when the remote says that there is none, and counts for a day.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pivot_cache::{Cache, ObjectId, State, Table};

use crate::diagnosis::Diagnosis;
use crate::options::Interrupt;
use crate::record::RecordKey;
use crate::remote::{Remote, RemoteError, Report, Step, Transfer};
use crate::url::RemoteUrl;

/// For so long an entry is proof enough.
const VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A remote that is not asked again for objects that it was known to hold less than a day ago.
///
/// Only [`send_all`](Remote::send_all) trusts the index: [`contains`](Remote::contains) and
/// [`present`](Remote::present) ask, and refresh it.
///
/// ```
/// use pivot_cache::{Cache, State};
/// use pivot_remote::{Indexed, RemoteUrl, open, push};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let cache = Cache::open(&dir.join("cache"));
/// let id = cache.put_bytes(b"model")?;
/// let state = State::open(&dir.join("state.lmdb"));
/// let remote = Indexed::new(open(&RemoteUrl::parse("shared")?, dir)?, &state);
/// push(&cache, &remote, &[id], &mut |_| {});
/// // Sends nothing and asks nothing.
/// assert_eq!(push(&cache, &remote, &[id], &mut |_| {}).already_there, 1);
/// state.flush();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Indexed<'s> {
    inner: Box<dyn Remote>,
    state: &'s State,
    place: String,
    is_trusted: bool,
    now: fn() -> SystemTime,
}

impl<'s> Indexed<'s> {
    /// `inner` with its index in `state`, which the caller flushes.
    pub fn new(inner: Box<dyn Remote>, state: &'s State) -> Self {
        Self { place: inner.place(), inner, state, is_trusted: true, now: SystemTime::now }
    }

    /// The same, but the remote is asked for every object, and the index only learns.
    #[must_use]
    pub fn asking(self) -> Self {
        Self { is_trusted: false, ..self }
    }

    fn key(&self, id: ObjectId) -> Vec<u8> {
        let mut key = id.as_u64().to_be_bytes().to_vec();
        key.extend_from_slice(self.place.as_bytes());
        key
    }

    /// Whether the remote has confirmed the object, however long ago: good for leaving it where it is
    /// while nobody can be asked, no proof for anything else.
    pub fn has_confirmed(&self, id: ObjectId) -> bool {
        self.state.get_with(Table::Remote, &self.key(id), |_| ()).is_some()
    }

    fn now_seconds(&self) -> u64 {
        (self.now)().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn is_known(&self, id: ObjectId) -> bool {
        if !self.is_trusted {
            return false;
        }
        let seconds = self
            .state
            .get_with(Table::Remote, &self.key(id), |value| {
                value.try_into().ok().map(u64::from_le_bytes)
            })
            .flatten();
        // A clock that was set back makes entries of the future: they prove nothing.
        seconds
            .and_then(|seconds| self.now_seconds().checked_sub(seconds))
            .is_some_and(|age| age < VALID_FOR.as_secs())
    }

    fn learn(&self, id: ObjectId, is_there: bool) {
        if is_there {
            self.state.put(Table::Remote, &self.key(id), &self.now_seconds().to_le_bytes());
        } else {
            self.state.delete(Table::Remote, &self.key(id));
        }
    }

    fn learn_from(&self, id: ObjectId, result: &Result<Transfer, RemoteError>) {
        match result {
            Ok(_) => self.learn(id, true),
            // Where the whole remote is gone, nothing is known to be there.
            Err(
                RemoteError::Missing { .. }
                | RemoteError::Corrupt { .. }
                | RemoteError::Setup { .. },
            ) => self.learn(id, false),
            Err(_) => {}
        }
    }
}

impl Remote for Indexed<'_> {
    fn url(&self) -> RemoteUrl {
        self.inner.url()
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn contains(&self, id: ObjectId) -> Result<bool, RemoteError> {
        let is_there = self.inner.contains(id)?;
        self.learn(id, is_there);
        Ok(is_there)
    }

    fn present(&self, ids: &[ObjectId]) -> Result<Vec<ObjectId>, RemoteError> {
        let present = self.inner.present(ids)?;
        for &id in ids {
            self.learn(id, present.binary_search(&id).is_ok());
        }
        Ok(present)
    }

    fn list(&self) -> Result<Vec<ObjectId>, RemoteError> {
        self.inner.list()
    }

    fn send(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
        let result = self.inner.send(cache, id);
        self.learn_from(id, &result);
        result
    }

    fn fetch(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
        let result = self.inner.fetch(cache, id);
        self.learn_from(id, &result);
        result
    }

    fn jobs(&self) -> NonZeroUsize {
        self.inner.jobs()
    }

    fn interrupt(&self) -> Interrupt {
        self.inner.interrupt()
    }

    fn send_all(&self, cache: &Cache, ids: &[ObjectId], report: &mut Report<'_>) {
        let (known, unknown): (Vec<_>, Vec<_>) = ids.iter().partition(|id| self.is_known(**id));
        for id in known {
            report(Step::Ended { id, result: Ok(Transfer::AlreadyThere) });
        }
        self.inner.send_all(cache, &unknown, &mut |step| {
            if let Step::Ended { id, result } = &step {
                self.learn_from(*id, result);
            }
            report(step);
        });
    }

    fn fetch_all(&self, cache: &Cache, ids: &[ObjectId], report: &mut Report<'_>) {
        self.inner.fetch_all(cache, ids, &mut |step| {
            if let Step::Ended { id, result } = &step {
                self.learn_from(*id, result);
            }
            report(step);
        });
    }

    fn put_records(&self, records: &[(RecordKey, Vec<u8>)]) -> Vec<(RecordKey, RemoteError)> {
        self.inner.put_records(records)
    }

    fn get_records(&self, keys: &[RecordKey]) -> Vec<(RecordKey, Result<Vec<u8>, RemoteError>)> {
        self.inner.get_records(keys)
    }

    fn list_records(&self) -> Result<Vec<RecordKey>, RemoteError> {
        self.inner.list_records()
    }

    fn diagnose(&self) -> Diagnosis {
        self.inner.diagnose()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::directory::DirectoryRemote;
    use crate::transfer::{fetch, push};

    fn tomorrow() -> SystemTime {
        SystemTime::now() + VALID_FOR
    }

    #[test]
    fn a_wish_to_end_is_heard_through_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.lmdb"));
        let interrupt = Interrupt::default();
        let inner = DirectoryRemote::new(dir.path()).with_interrupt(interrupt.clone());
        let remote = Indexed::new(Box::new(inner), &state);
        interrupt.set();
        assert!(remote.interrupt().is_set());
    }

    #[test]
    fn an_entry_counts_for_a_day_and_goes_when_it_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache"));
        let id = cache.put_bytes(b"model").unwrap();
        let state = State::open(&dir.path().join("state.lmdb"));
        let place = dir.path().join("remote");
        let indexed = || Indexed::new(Box::new(DirectoryRemote::new(&place)), &state);
        let count = |remote: &dyn Remote| {
            let summary = push(&cache, remote, &[id], &mut |_| {});
            assert!(summary.failed.is_empty());
            (summary.moved, summary.already_there)
        };
        assert_eq!(count(&indexed()), (1, 0));
        fs::remove_dir_all(&place).unwrap();
        // Believed, for it was confirmed a moment ago.
        assert_eq!(count(&indexed()), (0, 1));
        let later = Indexed { now: tomorrow, ..indexed() };
        assert_eq!(count(&later), (1, 0));
        // The entry is from tomorrow now, which proves nothing today.
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(count(&indexed()), (1, 0));

        // Another place has other entries.
        let other = Indexed::new(Box::new(DirectoryRemote::new(dir.path().join("two"))), &state);
        assert_eq!(count(&other), (1, 0));

        fs::remove_dir_all(&place).unwrap();
        let empty = Cache::open(&dir.path().join("empty"));
        assert_eq!(fetch(&empty, &indexed(), &[id], &mut |_| {}).failed.len(), 1);
        assert_eq!(count(&indexed()), (1, 0));
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(indexed().present(&[id]).unwrap(), []);
        assert_eq!(count(&indexed()), (1, 0));
    }
}
