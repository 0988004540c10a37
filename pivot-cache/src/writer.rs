//! Objects whose bytes come from somewhere else, such as a remote.
//!
//! What is written lies under no object's name until it has been hashed and found to be right.

use std::io::{self, Write};
use std::path::Path;

use crate::error::CacheError;
use crate::object_id::{Hasher, ObjectId};
use crate::store::Cache;
use crate::temporary::TemporaryFile;

/// Takes the bytes of one object; made by [`Cache::writer`].
///
/// Dropping it without [`ObjectWriter::finish`] leaves nothing behind.
pub struct ObjectWriter<'c> {
    cache: &'c Cache,
    temporary: TemporaryFile,
    hasher: Hasher,
    size_bytes: u64,
}

impl std::fmt::Debug for ObjectWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectWriter").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl<'c> ObjectWriter<'c> {
    pub(crate) fn new(cache: &'c Cache) -> Result<ObjectWriter<'c>, CacheError> {
        let temporary = TemporaryFile::create(cache.tmp())?;
        Ok(ObjectWriter { cache, temporary, hasher: Hasher::new(), size_bytes: 0 })
    }

    /// How many bytes were written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Files what was written under `expected`.
    ///
    /// # Errors
    ///
    /// [`CacheError::Mismatch`] if the bytes have another hash: nothing is kept then. Also if the
    /// cache cannot be written, or if a different object has the same hash.
    pub fn finish(self, expected: ObjectId) -> Result<(), CacheError> {
        let found = self.hasher.id();
        if found != expected {
            return Err(CacheError::Mismatch { expected, found });
        }
        self.cache.publish(found, self.temporary, Path::new("(received bytes)"))
    }
}

impl Write for ObjectWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.temporary.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
