//! Who may remove objects, and when: never while somebody relies on them.
//!
//! Everyone who brings objects in or back shares the cache; collecting garbage needs it alone. The
//! kernel frees the lock when its holder dies.

use std::fs::{self, File, OpenOptions};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::CacheError;
use crate::store::Cache;

/// The cache is shared, or is one's own, until this is dropped.
#[derive(Debug)]
pub struct CacheGuard {
    _file: Option<File>,
}

impl Cache {
    /// Keeps others from removing objects until the guard is dropped. If someone removes objects
    /// right now, `on_wait` is called and then their end is awaited.
    ///
    /// Where nothing can be locked, such as in a cache that one may only read, the guard is empty:
    /// whoever removes objects spares the young ones too.
    pub fn share(&self, on_wait: impl FnOnce()) -> CacheGuard {
        let Ok(file) = self.guard_file() else { return CacheGuard { _file: None } };
        if flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
            on_wait();
            while flock(&file, FlockOperation::LockShared) == Err(Errno::INTR) {}
        }
        CacheGuard { _file: Some(file) }
    }

    /// Has the cache alone, if nobody shares it; `None` if somebody does.
    ///
    /// # Errors
    ///
    /// If the guard's file cannot be made, as in a cache that one may only read.
    pub fn try_exclusive(&self) -> Result<Option<CacheGuard>, CacheError> {
        let file = self.guard_file()?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            // On a file system without locks, the age of objects has to do.
            _ => Ok(Some(CacheGuard { _file: Some(file) })),
        }
    }

    fn guard_file(&self) -> Result<File, CacheError> {
        let path = self.dir().join("guard.flock");
        fs::create_dir_all(self.dir()).map_err(CacheError::io("create", self.dir()))?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
        opened.or_else(|_| File::open(&path)).map_err(CacheError::io("open", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_and_having_it_alone_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache"));
        let one = cache.share(|| panic!("nobody is there"));
        let two = cache.share(|| panic!("others share it"));
        assert!(cache.try_exclusive().unwrap().is_none());
        drop((one, two));
        let alone = cache.try_exclusive().unwrap().unwrap();
        assert!(cache.try_exclusive().unwrap().is_none());
        std::thread::scope(|scope| {
            let (told, waits) = std::sync::mpsc::channel();
            let cache = &cache;
            let waiting = scope.spawn(move || cache.share(|| told.send(()).unwrap()));
            waits.recv().unwrap();
            drop(alone);
            drop(waiting.join().unwrap());
        });
    }
}
