//! One open LMDB environment.
//!
//! Opening, writing and starting afresh are serialized between processes by a lock on the directory,
//! so nobody opens a file that somebody else is replacing. Reading needs no lock.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use heed::types::Bytes;
use heed::{CommitOrAbort, EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{lock, precheck, seal};
use crate::filesystem;
use crate::stamp::Stamp;
use crate::temporary::remove_tree;

const DATA: &str = "data.mdb";
/// All files in the directory; the data last, since without it the others mean nothing.
const FILES: [&str; 3] = ["seal", "lock.mdb", DATA];

/// How long to wait for another process that is opening or writing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Read transactions that threads share, so that none waits for another.
const READERS: usize = 8;

/// Beyond this the state has stopped being a small thing, and is started afresh.
const MAX_MAP_BYTES: usize = 1 << 40;

/// Why there is no database to use.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was unusable and has been removed.
    Damaged,
    /// Memory maps and locks do not work on this file system, or not between hosts.
    Network,
    /// Another process holds the lock for too long.
    Busy,
    /// This process has it open already.
    Open,
    /// The system does not let us.
    Io(io::Error),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        Trouble::Io(errno.into())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

impl From<heed::Error> for Trouble {
    fn from(error: heed::Error) -> Trouble {
        match error {
            heed::Error::EnvAlreadyOpened => Trouble::Open,
            heed::Error::Io(error) => Trouble::Io(error),
            heed::Error::Mdb(MdbError::Other(code)) => {
                Trouble::Io(io::Error::from_raw_os_error(code))
            }
            heed::Error::Mdb(MdbError::ReadersFull) => Trouble::Busy,
            _ => Trouble::Damaged,
        }
    }
}

/// An open environment with its one table of bytes.
pub(super) struct Database {
    // Before `env`: transactions end before the environment does.
    readers: [Mutex<Option<RoTxn<'static, WithoutTls>>>; READERS],
    table: heed::Database<'static, Bytes, Bytes>,
    env: heed::Env<WithoutTls>,
    /// Which file is mapped.
    dev_ino: (u64, u64),
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("env", &self.env).finish_non_exhaustive()
    }
}

impl Database {
    /// The database in `dir`, if there is one.
    pub(super) fn open(dir: &Path, map_bytes: usize) -> Result<Option<Database>, Trouble> {
        let locked = match DirLock::take(dir, FlockOperation::NonBlockingLockShared) {
            Ok(locked) => locked,
            Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(start_afresh(dir, None));
            }
            Err(trouble) => return Err(trouble),
        };
        match data_stamp(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        match Database::open_checked(dir, map_bytes) {
            Err(Trouble::Damaged) => Err(start_afresh(dir, Some(locked))),
            result => result.map(Some),
        }
    }

    /// The database in `dir`, made if there is none.
    pub(super) fn create(dir: &Path, map_bytes: usize) -> Result<Database, Trouble> {
        match fs::create_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                drop(start_afresh(dir, None));
                fs::create_dir_all(dir)?;
            }
            result => result?,
        }
        let locked = DirLock::take(dir, FlockOperation::NonBlockingLockExclusive)?;
        if data_stamp(dir).is_ok() {
            match Database::open_checked(dir, map_bytes) {
                Err(Trouble::Damaged) => remove_files(dir)?,
                result => return result,
            }
        }
        // Nothing is there, or nothing that belongs together.
        remove_files(dir)?;
        let database = Database::open_env(dir, map_bytes)?;
        seal::write(dir, &data_stamp(dir)?)?;
        drop(locked);
        Ok(database)
    }

    /// Opens a file that is there. The directory must be locked.
    fn open_checked(dir: &Path, map_bytes: usize) -> Result<Database, Trouble> {
        let data = match seal::open_at_once(&dir.join(DATA)) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(error.into());
            }
            Err(_) => return Err(Trouble::Damaged),
        };
        let stamp = Stamp::of(&rustix::fs::fstat(&data)?);
        let regular = data.metadata()?.is_file();
        if !regular || !seal::is_valid(dir, &stamp) || !precheck::is_mappable(&data, stamp.size) {
            return Err(Trouble::Damaged);
        }
        Database::open_env(dir, map_bytes)
    }

    fn open_env(dir: &Path, map_bytes: usize) -> Result<Database, Trouble> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        // SAFETY: what this leaves out is to wait for the disk after the meta page is written. Losing
        // power may then undo the last commit, but pages still reach the disk before what names them.
        unsafe { options.flags(EnvFlags::NO_META_SYNC) };
        let mut map_bytes = map_bytes;
        let env = loop {
            // SAFETY: the file is one that LMDB wrote last (see `seal`) and is as long as its pages
            // say (see `precheck`). Processes that start it afresh unlink it; none truncates it.
            let opened = unsafe { options.map_size(map_bytes).open(dir) };
            match opened.map_err(Trouble::from) {
                // Little address space is allowed (ulimit -v).
                Err(Trouble::Io(error))
                    if error.raw_os_error() == Some(Errno::NOMEM.raw_os_error())
                        && map_bytes > 1 << 24 =>
                {
                    map_bytes /= 4;
                }
                result => break result?,
            }
        };
        let stamp = data_stamp(dir)?;
        let table = env
            .open_databases_and_commit(env.read_txn()?, |opener, txn| {
                opener.open_database::<Bytes, Bytes>(txn, None).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .commit()
            .flatten()
            .ok_or(Trouble::Damaged)?;
        let readers = Default::default();
        Ok(Database { readers, table, env, dev_ino: (stamp.dev, stamp.ino) })
    }

    /// Calls `read` with the value under `key`.
    pub(super) fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let first = rayon::current_thread_index().unwrap_or(0);
        let mut reader = (0..READERS)
            .find_map(|offset| match self.readers[(first + offset) % READERS].try_lock() {
                Ok(reader) => Some(reader),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            })
            .unwrap_or_else(|| lock(&self.readers[first % READERS]));
        if reader.is_none() {
            // A failure reads as nothing: the caller finds out the slow way.
            *reader = Some(self.env.clone().static_read_txn().ok()?);
        }
        let txn = reader.as_ref()?;
        self.table.get(txn, key).ok()?.map(read)
    }

    /// Ends all read transactions that are not in use at this moment.
    pub(super) fn release(&self) {
        for reader in &self.readers {
            *lock(reader) = None;
        }
    }

    /// Whether the file that is mapped is the one that `dir` has now.
    pub(super) fn is_current(&self, dir: &Path) -> bool {
        data_stamp(dir).is_ok_and(|stamp| (stamp.dev, stamp.ino) == self.dev_ino)
    }

    /// Writes all changes in one transaction.
    pub(super) fn write<'a>(
        &mut self,
        dir: &Path,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Result<(), Trouble> {
        let locked = DirLock::take(dir, FlockOperation::NonBlockingLockExclusive)?;
        if !self.is_current(dir) || !seal::is_valid(dir, &data_stamp(dir)?) {
            remove_files(dir)?;
            return Err(Trouble::Damaged);
        }
        self.release();
        self.env.clear_stale_readers()?;
        if let Err(trouble) = self.commit(changes) {
            if data_stamp(dir).is_ok_and(|stamp| !seal::is_valid(dir, &stamp)) {
                // Half of it was written. The next process would drop it; so do we.
                remove_files(dir)?;
            }
            return Err(trouble);
        }
        let page_bytes = self.env.unnamed_database_stat().page_size as u64;
        let needed = (self.env.info().last_page_number as u64 + 1) * page_bytes;
        if data_stamp(dir)?.size < needed {
            // Pages that were allocated and freed again at the end are not written.
            File::options().write(true).open(dir.join(DATA))?.set_len(needed)?;
        }
        seal::write(dir, &data_stamp(dir)?)?;
        drop(locked);
        Ok(())
    }

    fn commit<'a>(
        &self,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Result<(), Trouble> {
        loop {
            let written = self.env.write_txn().and_then(|mut txn| {
                self.apply(&mut txn, changes.clone())?;
                txn.commit()
            });
            let map_bytes = match written {
                Ok(()) => return Ok(()),
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.env.info().map_size * 2,
                // Another process has made it larger: 0 means as large as that.
                Err(heed::Error::Mdb(MdbError::MapResized)) => 0,
                Err(error) => return Err(error.into()),
            };
            if map_bytes > MAX_MAP_BYTES {
                return Err(Trouble::Damaged);
            }
            // SAFETY: no transaction is active. The write transaction has ended, the read transactions
            // were released, and `&mut self` in `write` keeps others from beginning one.
            unsafe { self.env.resize(map_bytes)? };
        }
    }

    fn apply<'a>(
        &self,
        txn: &mut RwTxn<'_>,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> heed::Result<()> {
        for (key, value) in changes {
            match value {
                Some(value) => self.table.put(txn, key, value)?,
                None => drop(self.table.delete(txn, key)?),
            }
        }
        Ok(())
    }
}

/// The lock on the database's directory, until it is dropped.
struct DirLock {
    _dir: OwnedFd,
}

impl DirLock {
    fn take(path: &Path, operation: FlockOperation) -> Result<DirLock, Trouble> {
        let start = Instant::now();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            let dir = rustix::fs::open(path, flags, Mode::empty())?;
            if filesystem::is_shared_between_hosts(&dir) {
                return Err(Trouble::Network);
            }
            match rustix::fs::flock(&dir, operation) {
                Ok(()) => {
                    let (held, now) = (rustix::fs::fstat(&dir)?, rustix::fs::stat(path));
                    if now.is_ok_and(|now| (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino)) {
                        return Ok(DirLock { _dir: dir });
                    }
                    // The directory was replaced while we waited.
                }
                Err(Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(1)),
                Err(Errno::INTR) => {}
                Err(Errno::NOLCK | Errno::NOTSUP | Errno::INVAL) => return Err(Trouble::Network),
                Err(error) => return Err(error.into()),
            }
            if start.elapsed() > PATIENCE {
                return Err(Trouble::Busy);
            }
        }
    }
}

fn data_stamp(dir: &Path) -> io::Result<Stamp> {
    Ok(Stamp::of(&rustix::fs::lstat(dir.join(DATA))?))
}

/// Removes an unusable database, unless another process has just done so.
fn start_afresh(dir: &Path, shared: Option<DirLock>) -> Trouble {
    let Some(shared) = shared else {
        // Something that is no directory is in its place.
        return remove_tree(dir).map_or_else(Trouble::Io, |()| Trouble::Damaged);
    };
    drop(shared);
    let removed = DirLock::take(dir, FlockOperation::NonBlockingLockExclusive).and_then(|_lock| {
        let sound = data_stamp(dir).is_ok_and(|stamp| {
            seal::open_at_once(&dir.join(DATA)).is_ok_and(|data| {
                seal::is_valid(dir, &stamp) && precheck::is_mappable(&data, stamp.size)
            })
        });
        if sound { Ok(()) } else { Ok(remove_files(dir)?) }
    });
    removed.map_or_else(|trouble| trouble, |()| Trouble::Damaged)
}

/// Processes that have the files open keep theirs; nothing is written over.
fn remove_files(dir: &Path) -> io::Result<()> {
    for name in FILES {
        match remove_tree(&dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
