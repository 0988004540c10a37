//! Reading locks, mostly without parsing them again.
//!
//! A lock file is known again by its content like any other file, and what was parsed from that
//! content is remembered: the file itself stays the only truth.

use pivot_cache::{Content, ObjectId, Table, Workspace};
use pivot_lock::{Found, Lock, LockError};

use crate::project::{LOCKS_DIR, OpenProject};

/// Larger ones, with some ten thousand paths, are read each time.
const MAX_REMEMBERED_BYTES: u64 = 1 << 20;

/// What there is under a stage's name.
#[derive(Debug)]
pub(crate) struct SeenLock {
    pub(crate) found: Found,
    /// The content of the lock file from which that follows, if it is known.
    pub(crate) content: Option<Content>,
}

/// The lock file of `stage`, relative to the project.
pub(crate) fn lock_path(stage: &str) -> String {
    [LOCKS_DIR, "/", stage, ".lock"].concat()
}

/// Reads the lock of `stage`.
///
/// # Errors
/// When the system refuses to read it.
pub(crate) fn read_lock(
    project: &OpenProject,
    workspace: &Workspace<'_>,
    stage: &str,
) -> Result<SeenLock, LockError> {
    let path = lock_path(stage);
    if let Ok(Some(content)) = workspace.content(&path) {
        let parsed = |record: &[u8]| parsed_from(record, content.id);
        let lock = project.state.get_with(Table::Locks, stage.as_bytes(), parsed).flatten();
        if let Some(lock) = lock {
            return Ok(SeenLock { found: Found::Usable(lock), content: Some(content) });
        }
    }
    match workspace.read(&path, MAX_REMEMBERED_BYTES) {
        Ok(Some((content, bytes))) => {
            let found = Found::of_bytes(&bytes);
            if let Found::Usable(lock) = &found {
                remember_parsed(project, stage, content.id, lock);
            }
            Ok(SeenLock { found, content: Some(content) })
        }
        // Nothing there, or something unusual: the lock files know what to say about it.
        Ok(None) | Err(_) => Ok(SeenLock { found: project.locks.read(stage)?, content: None }),
    }
}

/// Writes the lock of `stage`, and spares the next run parsing it.
///
/// # Errors
/// When the system refuses to write it.
pub(crate) fn write_lock(project: &OpenProject, stage: &str, lock: &Lock) -> Result<(), LockError> {
    project.locks.write(stage, lock)?;
    // If another process writes a lock of its own now, that has another content.
    remember_parsed(project, stage, ObjectId::of_bytes(lock.to_yaml().as_bytes()), lock);
    Ok(())
}

fn remember_parsed(project: &OpenProject, stage: &str, id: ObjectId, lock: &Lock) {
    let record = [&id.as_u64().to_le_bytes()[..], &lock.to_cache_bytes()].concat();
    project.state.put(Table::Locks, stage.as_bytes(), &record);
}

/// The lock in `record`, if it was parsed from a file with the content `id`.
fn parsed_from(record: &[u8], id: ObjectId) -> Option<Lock> {
    let (from, lock) = record.split_first_chunk()?;
    if u64::from_le_bytes(*from) != id.as_u64() {
        return None;
    }
    Lock::from_cache_bytes(lock)
}
