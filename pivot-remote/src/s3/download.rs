//! Fetching one object: in one stream, or in ranges that come in together and are kept in order.

use std::io::Write;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, GetResult};
use pivot_cache::{Cache, CacheError, ObjectId, ObjectWriter};
use xxhash_rust::xxh64::Xxh64;

use super::engine::Engine;
use super::failure::Failure;
use super::upload::PART_BYTES;
use crate::remote::{RemoteError, Transfer};

/// How many ranges of one object are under way at once.
const RANGES_AT_ONCE: usize = 4;

impl Engine {
    /// Brings one object into the cache.
    pub(super) async fn fetch(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
        let mut writer = cache.writer()?;
        let mut write = |bytes: &[u8]| {
            writer.write_all(bytes).map_err(|source| {
                let path = cache.dir().to_path_buf();
                RemoteError::Io { action: "write an object to", path, source }
            })
        };
        self.read_object(id, &mut write).await?;
        let size_bytes = writer.size_bytes();
        finish(writer, id)?;
        Ok(Transfer::Moved { size_bytes })
    }

    /// How many bytes are on the other side, if they have the hash of their name.
    pub(super) async fn sound_size(&self, id: ObjectId) -> Result<Option<u64>, RemoteError> {
        let mut hasher = Xxh64::new(0);
        let mut size_bytes = 0;
        let mut hash = |bytes: &[u8]| {
            hasher.update(bytes);
            size_bytes += bytes.len() as u64;
            Ok(())
        };
        self.read_object(id, &mut hash).await?;
        Ok((ObjectId::from_u64(hasher.digest()) == id).then_some(size_bytes))
    }

    async fn read_object(
        &self,
        id: ObjectId,
        write: &mut dyn FnMut(&[u8]) -> Result<(), RemoteError>,
    ) -> Result<(), RemoteError> {
        let failed = |error| self.get_error(&error, id);
        let key = self.object_key(id);
        // Nobody can ask for a range of nothing.
        let first = (id != ObjectId::of_bytes(b"")).then_some(0..PART_BYTES);
        let answer = match self.get(&key, first.map(GetRange::Bounded), None).await {
            // Of an object that is not as it should be: there is nothing at all.
            Err(error) if Failure::of(&error).status == Some(416) => {
                self.get(&key, None, None).await
            }
            other => other,
        };
        let answer = answer.map_err(failed)?;
        let (size_bytes, e_tag) = (answer.meta.size, answer.meta.e_tag.clone());
        let start = answer.range.end;
        let mut body = answer.into_stream();
        while let Some(piece) = body.try_next().await.map_err(failed)? {
            write(&piece)?;
        }
        drop(body);
        let starts = (start..size_bytes).step_by(PART_BYTES as usize);
        let ranges = stream::iter(starts).map(|start| {
            let end = size_bytes.min(start + PART_BYTES);
            let (key, e_tag) = (&key, e_tag.clone());
            async move {
                // The rooms are asked for in the order of the ranges, so that the one that all
                // others wait for always has one.
                let room = self.room(end - start).await;
                let answer = self.get(key, Some(GetRange::Bounded(start..end)), e_tag).await?;
                let pieces: Vec<Bytes> = answer.into_stream().try_collect().await?;
                Ok::<_, object_store::Error>((room, pieces))
            }
        });
        let mut ranges = std::pin::pin!(ranges.buffered(RANGES_AT_ONCE));
        while let Some((_room, pieces)) = ranges.try_next().await.map_err(failed)? {
            for piece in &pieces {
                write(piece)?;
            }
        }
        Ok(())
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<GetRange>,
        if_match: Option<String>,
    ) -> object_store::Result<GetResult> {
        self.store().get_opts(key, GetOptions { range, if_match, ..GetOptions::default() }).await
    }

    fn get_error(&self, error: &object_store::Error, id: ObjectId) -> RemoteError {
        match error {
            object_store::Error::NotFound { .. } if self.absence(error).is_ok() => {
                RemoteError::Missing { id }
            }
            _ => Failure::of(error).during(format!("fetch object {id}")),
        }
    }

    /// Reads something small; `None` if it is not there or, as `Some(None)`, too large.
    pub(super) async fn get_small(
        &self,
        key: &Key,
        max_bytes: u64,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let read = async {
            let mut body = self.get(key, None, None).await?.into_stream();
            let mut bytes = Vec::new();
            while let Some(piece) = body.try_next().await? {
                bytes.extend_from_slice(&piece);
                if bytes.len() as u64 > max_bytes {
                    break;
                }
            }
            Ok::<_, object_store::Error>(bytes)
        };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error @ object_store::Error::NotFound { .. }) => {
                self.absence(&error).map(|()| None)
            }
            Err(error) => Err(Failure::of(&error)),
        }
    }
}

fn finish(writer: ObjectWriter<'_>, id: ObjectId) -> Result<(), RemoteError> {
    match writer.finish(id) {
        Err(CacheError::Mismatch { .. }) => Err(RemoteError::Corrupt { id }),
        other => Ok(other?),
    }
}
