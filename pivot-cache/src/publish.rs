//! Giving bytes their name in the store.
//!
//! A name is given once and never taken over: who finds it taken compares all bytes. So the same
//! contents stored twice are one object, different contents are never confused, and a damaged object
//! gives way to a sound one.

use std::fs::File;
use std::io::{self, Seek};
use std::path::Path;

use crate::error::CacheError;
use crate::object_id::ObjectId;
use crate::source::{self, ATTEMPTS, At, BUFFER_BYTES, Links};
use crate::stamp::size;
use crate::store::Cache;
use crate::temporary::TemporaryFile;

impl Cache {
    /// Stores bytes under their hash.
    pub(crate) fn publish_bytes(
        &self,
        bytes: &[u8],
        origin: &Path,
    ) -> Result<ObjectId, CacheError> {
        let id = ObjectId::of_bytes(bytes);
        // Most small files of a directory are in the cache already: comparing costs no write.
        if let Ok((object, stat)) = At::path(&self.object_path(id)).open(Links::Keep)
            && size(&stat) == bytes.len() as u64
            && equals(&object, bytes)
        {
            return Ok(id);
        }
        let temporary = TemporaryFile::create(self.tmp())?;
        io::Write::write_all(&mut &temporary.file, bytes)
            .map_err(CacheError::io("write", temporary.path()))?;
        self.publish(id, temporary, origin)?;
        Ok(id)
    }

    /// Gives a temporary the name `id`, which must be the hash of its bytes. `origin` is what to name
    /// if a different object has that name.
    pub(crate) fn publish(
        &self,
        id: ObjectId,
        mut temporary: TemporaryFile,
        origin: &Path,
    ) -> Result<(), CacheError> {
        let object = self.object_path(id);
        self.sync_bytes(&temporary.file, temporary.path())?;
        for _ in 0..ATTEMPTS {
            if temporary.publish(&object)? {
                return self.sync_name(&object);
            }
            if self.same_as_object(&temporary.file, id, origin)? {
                return Ok(());
            }
        }
        // Only if other processes keep putting bad objects in the place that we clear.
        Err(self.corrupt(id))
    }

    /// Whether the object that has this name has the same bytes as `file`. One that is damaged is
    /// moved aside, and the answer is no.
    pub(crate) fn same_as_object(
        &self,
        file: &File,
        id: ObjectId,
        origin: &Path,
    ) -> Result<bool, CacheError> {
        let path = self.object_path(id);
        let object = match self.open_object(id) {
            Ok(object) => object,
            // Gone in the meantime, or no file at all and moved aside.
            Err(CacheError::Missing { .. } | CacheError::Corrupt { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if same_bytes(file, &object).map_err(CacheError::io("read", &path))? {
            return Ok(true);
        }
        let rewind = |mut file: &File| file.rewind().map_err(CacheError::io("read", &path));
        rewind(&object)?;
        let (found, _) = source::hash_all(&object).map_err(CacheError::io("read", &path))?;
        if found == id {
            return Err(CacheError::Collision { id, path: origin.to_path_buf(), object: path });
        }
        drop(self.corrupt(id));
        Ok(false)
    }
}

fn equals(mut object: &File, bytes: &[u8]) -> bool {
    let mut buffer = [0; 16 * 1024];
    let mut rest = bytes;
    while !rest.is_empty() {
        match source::read_some(&mut object, &mut buffer) {
            Ok(count) if count > 0 && rest.starts_with(&buffer[..count]) => rest = &rest[count..],
            _ => return false,
        }
    }
    true
}

/// Compares two files from their beginnings.
fn same_bytes(mut a: &File, mut b: &File) -> io::Result<bool> {
    a.rewind()?;
    b.rewind()?;
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let half = BUFFER_BYTES / 2;
    source::with_buffer(|buffer| {
        let (from_a, from_b) = buffer.split_at_mut(half);
        loop {
            let count_a = source::fill(&mut a, from_a)?;
            let count_b = source::fill(&mut b, from_b)?;
            if from_a[..count_a] != from_b[..count_b] {
                return Ok(false);
            }
            if count_a == 0 {
                return Ok(true);
            }
        }
    })
}
