//! Which objects nobody names any more. What is named, the caller knows: the cache reads no lock.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use crate::error::CacheError;
use crate::object_id::ObjectId;
use crate::stamp::{Instant, Stamp};
use crate::store::Cache;

/// The objects of a cache, divided into those that may go and those that stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// What nobody names and is old enough, with sizes in bytes, sorted by name.
    pub objects: Vec<(ObjectId, u64)>,
    /// How many objects are named.
    pub kept: u64,
    /// The sizes of those, in bytes.
    pub kept_bytes: u64,
    /// How many objects are not named but young.
    pub young: u64,
    /// The sizes of those, in bytes.
    pub young_bytes: u64,
}

impl Garbage {
    /// How many bytes would be free without it. A file in a workspace that is linked to its object
    /// keeps its bytes all the same.
    pub fn size_bytes(&self) -> u64 {
        self.objects.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Cache {
    /// Finds the objects that are not in `named` and came into the cache longer than `grace` ago.
    /// Nothing is removed.
    ///
    /// # Errors
    ///
    /// If the cache cannot be listed.
    pub fn garbage(
        &self,
        named: &HashSet<ObjectId>,
        grace: Duration,
    ) -> Result<Garbage, CacheError> {
        let ids: Vec<ObjectId> = self.objects().collect::<Result<_, _>>()?;
        let seen: Vec<(ObjectId, u64, Option<Duration>)> =
            ids.into_par_iter().with_min_len(256).filter_map(|id| self.age(id)).collect();
        let mut garbage = Garbage::default();
        for (id, bytes, age) in seen {
            if named.contains(&id) {
                garbage.kept += 1;
                garbage.kept_bytes += bytes;
            // A time in the future says nothing; then it stays.
            } else if age.is_some_and(|age| age >= grace) {
                garbage.objects.push((id, bytes));
            } else {
                garbage.young += 1;
                garbage.young_bytes += bytes;
            }
        }
        garbage.objects.sort_unstable();
        Ok(garbage)
    }

    /// The object's size, and how long it has been there.
    fn age(&self, id: ObjectId) -> Option<(ObjectId, u64, Option<Duration>)> {
        let stat = rustix::fs::lstat(self.object_path(id)).ok()?;
        let stamp = Stamp::of(&stat);
        // `ctime` is of the moment when it got its name; a file that was linked in may be older.
        let Instant { seconds, nanoseconds } = stamp.ctime.max(stamp.mtime);
        let since_epoch = Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some((id, stamp.size, now.checked_sub(since_epoch)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_not_named_is_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let named = cache.put_bytes(b"named").unwrap();
        let other = cache.put_bytes(b"other").unwrap();
        let keep = HashSet::from([named]);
        let garbage = cache.garbage(&keep, Duration::ZERO).unwrap();
        assert_eq!((garbage.objects.as_slice(), garbage.kept), (&[(other, 5)][..], 1));
        let garbage = cache.garbage(&keep, Duration::from_secs(3600)).unwrap();
        assert_eq!((garbage.objects.len(), garbage.young, garbage.young_bytes), (0, 1, 5));
    }
}
