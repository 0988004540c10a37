//! This machine's memory: small values by key, which may vanish at any time.
//!
//! Losing the state costs time, never correctness, and so nothing in here fails: a database that is
//! missing, damaged, foreign or out of reach reads as empty, and what cannot be written is forgotten.

mod database;
mod precheck;
mod seal;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use database::{Database, Trouble};

/// How much may wait in memory before it is written unasked.
const MAX_PENDING_BYTES: usize = 64 * 1024 * 1024;

/// LMDB takes keys of at most this length.
const MAX_KEY_BYTES: usize = 511;

/// The first byte of every stored value; others are not understood and read as nothing.
const VALUE_VERSION: u8 = 1;

/// Version and checksum, before every stored value.
const VALUE_HEADER_BYTES: usize = 9;

/// The independent key spaces of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Table {
    /// What files were when they were last hashed.
    Files = 1,
    /// What directories were when they were last hashed.
    Directories = 2,
    /// Finished runs by their inputs.
    Runs = 3,
    /// The definition of the pipeline as it was last loaded.
    Pipeline = 4,
    /// Parsed lock files.
    Locks = 5,
    /// How long stages took.
    Durations = 6,
    /// How often outputs were rewritten.
    Generations = 7,
    /// What remotes are known to hold.
    Remote = 8,
    /// What can run in an interpreter of its own.
    Interpreters = 9,
}

/// A key-value store in a directory, shared with other processes.
///
/// Values that were put are seen at once by this process, and by others after [`State::flush`].
///
/// ```
/// use pivot_cache::{State, Table};
///
/// let dir = tempfile::tempdir()?;
/// let state = State::open(&dir.path().join("state.lmdb"));
/// state.put(Table::Durations, b"train", b"12.5");
/// assert_eq!(state.get(Table::Durations, b"train").as_deref(), Some(&b"12.5"[..]));
/// state.flush();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    map_bytes: usize,
    database: RwLock<Option<Database>>,
    pending: RwLock<Pending>,
    /// Held while pending values are written.
    flushing: Mutex<()>,
    /// Set when this directory cannot have a database; everything stays in memory then.
    memory_only: OnceLock<()>,
    notice: OnceLock<String>,
}

/// A value to be written, or `None` for one to be deleted.
type Changes = HashMap<Box<[u8]>, Option<Box<[u8]>>>;

#[derive(Debug, Default)]
struct Pending {
    fresh: Changes,
    fresh_bytes: usize,
    /// What is being written right now.
    in_flight: Option<Arc<Changes>>,
}

impl State {
    /// The state in `dir`. Reads what is there; makes nothing until the first [`State::flush`].
    pub fn open(dir: &Path) -> State {
        // Reserving addresses costs nothing; growing later costs a pause.
        State::open_with_map(dir, 1 << 30)
    }

    fn open_with_map(dir: &Path, map_bytes: usize) -> State {
        let state = State {
            dir: dir.to_path_buf(),
            map_bytes,
            database: RwLock::new(None),
            pending: RwLock::default(),
            flushing: Mutex::new(()),
            memory_only: OnceLock::new(),
            notice: OnceLock::new(),
        };
        match Database::open(dir, map_bytes) {
            Ok(database) => *write(&state.database) = database,
            Err(trouble) => state.give_up(trouble),
        }
        state
    }

    /// The directory that it was opened with.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the user may want to know: that an earlier state was dropped, or that none is kept.
    pub fn notice(&self) -> Option<&str> {
        self.notice.get().map(String::as_str)
    }

    /// The value under `key`, if there is one.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        self.get_with(table, key, <[u8]>::to_vec)
    }

    /// Calls `read` with the value under `key`, which is not copied.
    ///
    /// `read` must not use this state.
    pub fn get_with<R>(
        &self,
        table: Table,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let mut space = [0; MAX_KEY_BYTES];
        let stored_key = StoredKey::new(table, key, &mut space);
        {
            let pending = self.read_pending();
            if let Some(value) = pending.get(stored_key.bytes) {
                return value.and_then(|value| stored_key.check(value)).map(read);
            }
        }
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.as_ref()?.get(stored_key.bytes, |value| stored_key.check(value).map(read))?
    }

    /// Remembers a value.
    pub fn put(&self, table: Table, key: &[u8], value: &[u8]) {
        let mut space = [0; MAX_KEY_BYTES];
        let stored_key = StoredKey::new(table, key, &mut space);
        let mut stored = Vec::with_capacity(VALUE_HEADER_BYTES + value.len());
        stored.push(VALUE_VERSION);
        stored.extend_from_slice(&stored_key.checksum(value).to_le_bytes());
        stored.extend_from_slice(value);
        self.change(stored_key.bytes, Some(stored.into_boxed_slice()));
    }

    /// Forgets a value.
    pub fn delete(&self, table: Table, key: &[u8]) {
        let mut space = [0; MAX_KEY_BYTES];
        self.change(StoredKey::new(table, key, &mut space).bytes, None);
    }

    fn change(&self, key: &[u8], value: Option<Box<[u8]>>) {
        let full = {
            let mut pending = self.write_pending();
            pending.fresh_bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
            pending.fresh.insert(key.into(), value);
            pending.fresh_bytes > MAX_PENDING_BYTES
        };
        if full && self.memory_only.get().is_none() {
            self.flush();
        }
    }

    /// Writes everything that was put, in one transaction. Without anything to write it costs nothing
    /// and makes nothing.
    pub fn flush(&self) {
        let _one_at_a_time = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.memory_only.get().is_some() {
            return;
        }
        let changes = {
            let mut pending = self.write_pending();
            if pending.fresh.is_empty() {
                return;
            }
            pending.fresh_bytes = 0;
            let changes = Arc::new(std::mem::take(&mut pending.fresh));
            pending.in_flight = Some(Arc::clone(&changes));
            changes
        };
        let mut written = self.write(&changes);
        if matches!(written, Err(Trouble::Damaged)) {
            // Once more, on a new database in the place of the damaged one.
            self.note("the state database was damaged and has been started afresh");
            written = self.write(&changes);
        }
        match written {
            Ok(()) => self.write_pending().in_flight = None,
            Err(trouble) => {
                self.give_up(trouble);
                let mut pending = self.write_pending();
                pending.in_flight = None;
                let newer = std::mem::take(&mut pending.fresh);
                pending.fresh = Arc::try_unwrap(changes).unwrap_or_else(|shared| (*shared).clone());
                pending.fresh.extend(newer);
            }
        }
    }

    fn write(&self, changes: &Changes) -> Result<(), Trouble> {
        let mut database = write(&self.database);
        if !database.as_ref().is_some_and(|database| database.is_current(&self.dir)) {
            // None yet, or another process has started a new one in its place.
            *database = None;
            *database = Some(Database::create(&self.dir, self.map_bytes)?);
        }
        let current = database.as_mut().expect("the database was opened just above");
        let changes = changes.iter().map(|(key, value)| (&**key, value.as_deref()));
        let written = current.write(&self.dir, changes);
        if written.is_err() {
            *database = None;
        }
        written
    }

    /// Ends the read transactions, so that other processes can reuse space. For long waits; the next
    /// read begins new ones.
    pub fn release(&self) {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = database.as_ref() {
            database.release();
        }
    }

    fn give_up(&self, trouble: Trouble) {
        let text = match trouble {
            // Reading goes on with nothing; the next flush starts a new one.
            Trouble::Damaged => {
                self.note("the state database was damaged and has been started afresh");
                return;
            }
            Trouble::Network => "no state is kept: it does not work on this kind of file system",
            Trouble::Busy => "no state is kept: another process holds its lock",
            Trouble::Open => "no state is kept: it is in use elsewhere in this process",
            Trouble::Io(error) => {
                self.note(&format!("no state is kept: {error}"));
                let _ = self.memory_only.set(());
                return;
            }
        };
        self.note(text);
        let _ = self.memory_only.set(());
    }

    fn note(&self, text: &str) {
        let _ = self.notice.set(text.to_owned());
    }

    fn read_pending(&self) -> RwLockReadGuard<'_, Pending> {
        self.pending.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_pending(&self) -> RwLockWriteGuard<'_, Pending> {
        write(&self.pending)
    }
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pending {
    /// `Some(None)`: the value is about to be deleted.
    fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let in_flight = || self.in_flight.as_ref().and_then(|changes| changes.get(key));
        self.fresh.get(key).or_else(in_flight).map(|value| value.as_deref())
    }
}

/// A key as LMDB sees it: the table, and the caller's key or a hash of it.
struct StoredKey<'a> {
    bytes: &'a [u8],
    /// Derived from the caller's whole key: two keys with one hash do not share values.
    seed: u64,
}

impl<'a> StoredKey<'a> {
    fn new(table: Table, key: &[u8], space: &'a mut [u8; MAX_KEY_BYTES]) -> StoredKey<'a> {
        let seed = xxh3_64_with_seed(key, table as u64);
        let length = if key.len() < MAX_KEY_BYTES {
            space[0] = table as u8;
            space[1..=key.len()].copy_from_slice(key);
            1 + key.len()
        } else {
            space[0] = table as u8 | 0x80;
            space[1..17].copy_from_slice(&xxh3_128(key).to_le_bytes());
            17
        };
        StoredKey { bytes: &space[..length], seed }
    }

    fn checksum(&self, value: &[u8]) -> u64 {
        xxh3_64_with_seed(value, self.seed)
    }

    /// The value without its header, if it is what was stored under this key.
    fn check<'v>(&self, stored: &'v [u8]) -> Option<&'v [u8]> {
        let (header, value) = stored.split_at_checked(VALUE_HEADER_BYTES)?;
        let (version, checksum) = header.split_first()?;
        (*version == VALUE_VERSION && checksum == self.checksum(value).to_le_bytes())
            .then_some(value)
    }
}

#[cfg(test)]
mod tests;
