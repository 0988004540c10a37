//! Which objects are there: asked one by one, or by listing, whichever takes fewer requests.
//!
//! Objects are spread over 256 prefixes. Of each prefix as many pages are listed as single questions
//! would cost; a bucket with far more than that costs at most twice the cheaper of the two.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use pivot_cache::ObjectId;

use super::engine::Engine;
use super::failure::Failure;

/// So few objects are always asked for one by one.
const FEW: usize = 32;

/// What is known of an object on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is there and has this size in bytes.
    There(u64),
    /// It is not there.
    Absent,
    /// The server did not want to say.
    Unknown,
}

impl Engine {
    /// What the server says of each of these objects.
    pub(super) async fn presence(
        &self,
        ids: &[ObjectId],
    ) -> Result<HashMap<ObjectId, Presence>, Failure> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let is_few = ids.len() <= FEW;
        let groups: Vec<_> = if is_few {
            ids.chunks(1).collect()
        } else {
            ids.chunk_by(|a, b| fan_out(*a) == fan_out(*b)).collect()
        };
        let answers: Vec<_> = stream::iter(groups)
            .map(|group| async move {
                match group {
                    [id] => self.ask_for(*id).await.map(|presence| vec![(*id, presence)]),
                    _ => self.list_for(group).await,
                }
            })
            .buffer_unordered(self.width())
            .try_collect()
            .await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Asks for one object.
    pub(super) async fn ask_for(&self, id: ObjectId) -> Result<Presence, Failure> {
        match self.store().head(&self.object_key(id)).await {
            Ok(meta) => Ok(Presence::There(meta.size)),
            Err(object_store::Error::NotFound { source, path }) => {
                let error = object_store::Error::NotFound { source, path };
                self.absence(&error).map(|()| Presence::Absent)
            }
            Err(error) => match Failure::of(&error) {
                // Whoever may write but not list is told 403 of all that is not there.
                failure if failure.status == Some(403) => Ok(Presence::Unknown),
                failure => Err(failure),
            },
        }
    }

    /// Lists one prefix as far as it is worth it, and asks for the rest.
    async fn list_for(&self, ids: &[ObjectId]) -> Result<Vec<(ObjectId, Presence)>, Failure> {
        let (first, last) = (ids[0], ids[ids.len() - 1]);
        let before = first.as_u64().checked_sub(1).map(ObjectId::from_u64);
        let before = before.filter(|before| fan_out(*before) == fan_out(first));
        let folder = format!("files/{:02x}", fan_out(first));
        let mut pages = self.pages(&folder, before.map(|before| self.object_key(before)));
        let mut sizes = HashMap::new();
        let mut decided_to = None;
        // A page costs what a question costs.
        for _ in 0..ids.len() {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(failure) if failure.status.is_some_and(|s| matches!(s, 403 | 404 | 501)) => {
                    break;
                }
                Err(failure) => return Err(failure),
            };
            for meta in page {
                let id = self.id_of_key(&meta.location);
                if let Some(id) = id.filter(|id| fan_out(*id) == fan_out(first)) {
                    sizes.insert(id, meta.size);
                    decided_to = decided_to.max(Some(id));
                }
            }
            if decided_to >= Some(last) {
                break;
            }
        }
        let mut answers = Vec::with_capacity(ids.len());
        for &id in ids {
            let presence = match sizes.get(&id) {
                Some(size) => Presence::There(*size),
                None if pages.is_over || decided_to >= Some(id) => Presence::Absent,
                None => self.ask_for(id).await?,
            };
            answers.push((id, presence));
        }
        Ok(answers)
    }
}

fn fan_out(id: ObjectId) -> u8 {
    (id.as_u64() >> 56) as u8
}
