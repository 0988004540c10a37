//! Sending one object: whole, or in parts that are taken back if it does not work out.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use pivot_cache::{Cache, CacheError, Content, ObjectId};
use xxhash_rust::xxh64::Xxh64;

use super::engine::Engine;
use super::failure::Failure;
use super::presence::Presence;
use crate::remote::{RemoteError, Transfer};

/// Objects larger than this are sent in parts of this size, and fetched in such ranges.
pub(super) const PART_BYTES: u64 = 8 * 1024 * 1024;

/// S3 takes 10,000 parts of an object.
const MAX_PARTS: u64 = 9_000;

/// How many parts of one object are under way at once.
const PARTS_AT_ONCE: usize = 4;

/// The pieces that a body is handed over in: each tells that the upload moves.
const PIECE_BYTES: usize = 64 * 1024;

impl Engine {
    /// Sends an object of which so much is known on the other side.
    pub(super) async fn send(
        &self,
        cache: &Cache,
        id: ObjectId,
        presence: Presence,
    ) -> Result<Transfer, RemoteError> {
        let size_bytes = cache.size_bytes(id).ok_or(CacheError::Missing { id })?;
        let mut mode = PutMode::Create;
        match presence {
            Presence::There(there) if there == size_bytes => return Ok(Transfer::AlreadyThere),
            Presence::There(_) => match self.sound_size(id).await {
                // The server told a wrong size.
                Ok(Some(there)) if there == size_bytes => return Ok(Transfer::AlreadyThere),
                Ok(Some(_)) => {
                    // Either ours is damaged or two contents share a hash.
                    cache.verify(&Content::file(id, size_bytes))?;
                    return Err(RemoteError::Collision { id });
                }
                // What is there is damaged, so that writing over it heals it.
                Ok(None) => mode = PutMode::Overwrite,
                Err(RemoteError::Missing { .. }) => {}
                Err(error) => return Err(error),
            },
            Presence::Absent | Presence::Unknown => {}
        }
        let mut object = cache.open_object(id)?;
        if size_bytes <= PART_BYTES {
            let _room = self.room(size_bytes).await;
            let body = read_part(&mut object, size_bytes, cache, id)?;
            if ObjectId::of_bytes(&body) != id {
                return Err(damaged(cache, id, size_bytes));
            }
            self.put(&self.object_key(id), &body, mode, id).await
        } else {
            self.send_parts(cache, object, id, size_bytes).await?;
            Ok(Transfer::Moved { size_bytes })
        }
    }

    async fn put(
        &self,
        key: &Key,
        body: &Bytes,
        mut mode: PutMode,
        id: ObjectId,
    ) -> Result<Transfer, RemoteError> {
        let size_bytes = body.len() as u64;
        if self.no_conditions.load(Ordering::Relaxed) {
            mode = PutMode::Overwrite;
        }
        loop {
            let is_conditional = !matches!(mode, PutMode::Overwrite);
            let options = PutOptions::from(mode);
            match self.store().put_opts(key, payload(body), options).await {
                Ok(_) => return Ok(Transfer::Moved { size_bytes }),
                // Somebody was faster; perhaps we, in an attempt whose answer was lost.
                Err(object_store::Error::AlreadyExists { .. }) => {
                    return Ok(Transfer::AlreadyThere);
                }
                Err(error) => {
                    let failure = Failure::of(&error);
                    if is_conditional && failure.status == Some(501) {
                        self.no_conditions.store(true, Ordering::Relaxed);
                        mode = PutMode::Overwrite;
                        continue;
                    }
                    return Err(failure.during(format!("send object {id}")));
                }
            }
        }
    }

    async fn send_parts(
        &self,
        cache: &Cache,
        object: File,
        id: ObjectId,
        size_bytes: u64,
    ) -> Result<(), RemoteError> {
        let failed = |error| Failure::of(&error).during(format!("send object {id}"));
        let mut upload = self.store().put_multipart(&self.object_key(id)).await.map_err(failed)?;
        let sent = self.fill_upload(upload.as_mut(), cache, object, id, size_bytes);
        let sent = self.unless_interrupted(sent).await.unwrap_or(Err(RemoteError::Interrupted));
        if sent.is_err() {
            // Parts that stay cost money and are seen by nobody. If this fails too, the bucket's
            // own rule for abandoned uploads has to see to it.
            let _ = upload.abort().await;
        }
        sent
    }

    async fn fill_upload(
        &self,
        upload: &mut dyn MultipartUpload,
        cache: &Cache,
        mut object: File,
        id: ObjectId,
        size_bytes: u64,
    ) -> Result<(), RemoteError> {
        let failed = |error| Failure::of(&error).during(format!("send object {id}"));
        let part_bytes = PART_BYTES.max(size_bytes.div_ceil(MAX_PARTS));
        let mut hasher = Xxh64::new(0);
        let mut rest = size_bytes;
        let mut under_way = FuturesUnordered::new();
        while rest > 0 {
            if under_way.len() == PARTS_AT_ONCE {
                under_way.next().await.unwrap_or(Ok(())).map_err(failed)?;
            }
            let count = rest.min(part_bytes);
            // Waiting for room must not keep the parts that hold it from being sent.
            let room = loop {
                let room = std::pin::pin!(self.room(count));
                if under_way.is_empty() {
                    break room.await;
                }
                match futures_util::future::select(room, under_way.next()).await {
                    futures_util::future::Either::Left((room, _)) => break room,
                    futures_util::future::Either::Right((done, _)) => {
                        done.unwrap_or(Ok(())).map_err(failed)?;
                    }
                }
            };
            let part = read_part(&mut object, count, cache, id)?;
            if part.len() as u64 != count {
                return Err(damaged(cache, id, size_bytes));
            }
            hasher.update(&part);
            rest -= count;
            let sent = upload.put_part(payload(&part));
            drop(part);
            under_way.push(async move {
                let _room = room;
                sent.await
            });
        }
        while let Some(sent) = under_way.next().await {
            sent.map_err(failed)?;
        }
        if ObjectId::from_u64(hasher.digest()) != id {
            return Err(damaged(cache, id, size_bytes));
        }
        match upload.complete().await.map_err(failed) {
            Ok(_) => Ok(()),
            // The answer may have been lost, after which nobody knows of such an upload.
            Err(error) => match self.ask_for(id).await {
                Ok(Presence::There(there)) if there == size_bytes => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Writes something small over what is there.
    pub(super) async fn put_small(&self, key: &Key, body: Vec<u8>) -> Result<(), Failure> {
        let body = Bytes::from(body);
        let put = self.store().put_opts(key, payload(&body), PutOptions::default()).await;
        put.map(|_| ()).map_err(|error| Failure::of(&error))
    }
}

/// Reads so much of an object, or less if it ends.
fn read_part(
    object: &mut File,
    bytes: u64,
    cache: &Cache,
    id: ObjectId,
) -> Result<Bytes, RemoteError> {
    let mut part = Vec::with_capacity(bytes as usize);
    let read: io::Result<_> = Read::take(object, bytes).read_to_end(&mut part);
    read.map_err(|source| RemoteError::Io { action: "read", path: cache.object_path(id), source })?;
    Ok(part.into())
}

/// Moves the object aside and says so; if it is sound now, it was being changed.
fn damaged(cache: &Cache, id: ObjectId, size_bytes: u64) -> RemoteError {
    match cache.verify(&Content::file(id, size_bytes)) {
        Err(error) => error.into(),
        Ok(()) => CacheError::Changing { path: cache.object_path(id) }.into(),
    }
}

fn payload(body: &Bytes) -> PutPayload {
    (0..body.len())
        .step_by(PIECE_BYTES)
        .map(|start| body.slice(start..body.len().min(start + PIECE_BYTES)))
        .collect()
}
