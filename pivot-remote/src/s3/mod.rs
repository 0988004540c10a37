//! A remote in a bucket: of S3, of anything that speaks its protocol, of Google or of Microsoft.
//!
//! Below PREFIX, the URL's path, lie `files/ab/cdef0123456789` and `runs/ab/cdef…`, and nothing else
//! of ours. Requests are asynchronous in here and nowhere else; threads begin with the first one.

mod download;
mod engine;
pub(crate) mod failure;
mod listing;
pub(crate) mod pace;
pub(crate) mod place;
mod presence;
mod store;
mod upload;
pub(crate) mod wire;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{self, StreamExt};
use object_store::CredentialProvider;
use pivot_cache::{Cache, ObjectId};

use crate::credentials::Env;
use crate::diagnosis::Diagnosis;
use crate::options::{Interrupt, RemoteOptions};
use crate::record::{self, MAX_SEALED_BYTES, RecordKey};
use crate::remote::{Remote, RemoteError, Report, Step, Transfer};
use crate::url::RemoteUrl;
use engine::Engine;
use failure::Failure;
use place::{Place, Service};
use presence::Presence;

/// More requests than this at once are only made if the user says so.
const MAX_REQUESTS: usize = 64;

/// How often the bytes that moved are told.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How long transfers that are to end have to take back what they began.
const GRACE: Duration = Duration::from_secs(5);

/// So many failures in a row, without any success, are taken for the end of the server.
const HOPELESS: usize = 16;

/// A remote in a bucket of S3, Google Cloud Storage or Azure Blob Storage.
///
/// Credentials are looked for where the tools of each have them, and only when they are needed.
#[derive(Debug)]
pub struct S3Remote {
    place: Place,
    options: RemoteOptions,
    engine: OnceLock<Result<Engine, Failure>>,
}

impl S3Remote {
    /// The remote in the bucket of a URL.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Setup`] if the URL is that of a directory, or if the options, the environment
    /// or the profile name an endpoint, a region or an account that cannot be.
    pub fn new(url: &RemoteUrl, options: &RemoteOptions) -> Result<Self, RemoteError> {
        let env: Env = Arc::new(|name| std::env::var(name).ok());
        Self::with_env(url, options, env)
    }

    /// The same with another environment than that of this process.
    pub(crate) fn with_env(
        url: &RemoteUrl,
        options: &RemoteOptions,
        env: Env,
    ) -> Result<Self, RemoteError> {
        let place = Place::resolve(url, options, env)?;
        Ok(Self { place, options: options.clone(), engine: OnceLock::new() })
    }

    fn engine(&self) -> Result<&Engine, RemoteError> {
        let make = || Engine::new(&self.place, &self.options, self.jobs().get());
        let made = self.engine.get_or_init(make);
        made.as_ref().map_err(|failure| RemoteError::Setup { problem: failure.to_string() })
    }

    /// Does one thing, unless the user wants no more.
    fn alone<T>(
        &self,
        work: impl AsyncFnOnce(&Engine) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let engine = self.engine()?;
        let done = engine.block_on(engine.unless_interrupted(work(engine)));
        done.unwrap_or(Err(RemoteError::Interrupted))
    }

    /// Does the same for many objects at once and tells how it goes.
    fn batch<'e, F>(
        &'e self,
        ids: &[ObjectId],
        report: &mut Report<'_>,
        work: impl Fn(&'e Engine, ObjectId) -> F,
    ) where
        F: Future<Output = Result<Transfer, RemoteError>>,
    {
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(RemoteError::Setup { problem }) => {
                return fail_all(ids, report, || RemoteError::Setup { problem: problem.clone() });
            }
            Err(_) => unreachable!("an engine that cannot be made is a matter of setup"),
        };
        engine.block_on(async {
            let mut waiting = ids.iter().copied();
            let mut told = engine.wire.moved_bytes();
            let mut under_way = stream::FuturesUnordered::new();
            let mut unfinished = HashSet::new();
            let mut failures_in_a_row = 0;
            let mut tick = Box::pin(tokio::time::sleep(REPORT_EVERY));
            let mut last_call = None;
            loop {
                let goes_on = !engine.is_interrupted() && failures_in_a_row < HOPELESS;
                while goes_on && under_way.len() < engine.width() {
                    let Some(id) = waiting.next() else { break };
                    let work = work(engine, id);
                    unfinished.insert(id);
                    under_way.push(async move { (id, work.await) });
                }
                if under_way.is_empty() {
                    break;
                }
                match select(under_way.next(), &mut tick).await {
                    Either::Left((Some((id, result)), _)) => {
                        match &result {
                            Err(RemoteError::Request { status: None, .. }) => {
                                failures_in_a_row += 1;
                            }
                            _ => failures_in_a_row = 0,
                        }
                        unfinished.remove(&id);
                        report(Step::Ended { id, result });
                    }
                    Either::Left((None, _)) => break,
                    Either::Right(((), _)) => {
                        let moved = engine.wire.moved_bytes();
                        if moved > told {
                            report(Step::Bytes { count: moved - told });
                            told = moved;
                        }
                        let now = tokio::time::Instant::now();
                        tick.as_mut().reset(now + REPORT_EVERY);
                        if engine.is_interrupted() && now > *last_call.get_or_insert(now) + GRACE {
                            break;
                        }
                    }
                }
            }
            let moved = engine.wire.moved_bytes();
            if moved > told {
                report(Step::Bytes { count: moved - told });
            }
            let is_interrupted = engine.is_interrupted();
            // What has not ended by the end of its grace counts as failed too.
            let rest: Vec<_> = unfinished.into_iter().chain(waiting).collect();
            fail_all(&rest, report, || {
                if is_interrupted {
                    return RemoteError::Interrupted;
                }
                let text = "not tried, since the server has not been heard of for a while";
                Failure::new(text).during("reach the remote")
            });
        });
    }
}

/// Tells of each object that it failed.
fn fail_all(ids: &[ObjectId], report: &mut Report<'_>, error: impl Fn() -> RemoteError) {
    for &id in ids {
        report(Step::Ended { id, result: Err(error()) });
    }
}

impl Remote for S3Remote {
    fn url(&self) -> RemoteUrl {
        self.place.url.clone()
    }

    fn place(&self) -> String {
        self.place.to_string()
    }

    fn jobs(&self) -> NonZeroUsize {
        let usual = NonZeroUsize::new(MAX_REQUESTS).expect("it is not zero");
        self.options.jobs.unwrap_or(usual)
    }

    fn interrupt(&self) -> Interrupt {
        self.options.interrupt.clone()
    }

    fn contains(&self, id: ObjectId) -> Result<bool, RemoteError> {
        Ok(!self.present(&[id])?.is_empty())
    }

    fn present(&self, ids: &[ObjectId]) -> Result<Vec<ObjectId>, RemoteError> {
        let known = self.alone(async |engine| {
            engine.presence(ids).await.map_err(|failure| failure.during("ask for objects"))
        })?;
        if known.values().any(|presence| *presence == Presence::Unknown) {
            let text = "the server says neither that they are there nor that they are not (403)";
            return Err(Failure::forbidden(text).during("ask for objects"));
        }
        let is_there = |(_, presence): &(_, Presence)| matches!(presence, Presence::There(_));
        let mut present: Vec<_> = known.into_iter().filter(is_there).map(|(id, _)| id).collect();
        present.sort_unstable();
        Ok(present)
    }

    fn list(&self) -> Result<Vec<ObjectId>, RemoteError> {
        self.alone(async |engine| {
            let ids = engine.list_all("files", |key| engine.id_of_key(key)).await;
            ids.map_err(|failure| failure.during("list objects"))
        })
    }

    fn send(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
        let engine = self.engine()?;
        engine.block_on(async {
            let presence = engine.unless_interrupted(engine.ask_for(id)).await;
            let presence = presence.ok_or(RemoteError::Interrupted)?;
            let presence = presence.map_err(|f| f.during(format!("ask for object {id}")))?;
            engine.send(cache, id, presence).await
        })
    }

    fn fetch(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
        self.alone(async |engine| engine.fetch(cache, id).await)
    }

    fn send_all(&self, cache: &Cache, ids: &[ObjectId], report: &mut Report<'_>) {
        if ids.is_empty() {
            return;
        }
        let known = self.alone(async |engine| {
            engine.presence(ids).await.map_err(|failure| failure.during("ask for objects"))
        });
        let known: HashMap<_, _> = match known {
            Ok(known) => known,
            // What keeps the server from answering this keeps it from taking objects.
            Err(error) => return fail_all(ids, report, || again(&error)),
        };
        self.batch(ids, report, |engine, id| {
            let presence = known.get(&id).copied().unwrap_or(Presence::Unknown);
            async move {
                // Whole objects are let go of; those in parts take care of themselves.
                if cache.size_bytes(id).is_some_and(|size| size > upload::PART_BYTES) {
                    return engine.send(cache, id, presence).await;
                }
                let sent = engine.unless_interrupted(engine.send(cache, id, presence)).await;
                sent.unwrap_or(Err(RemoteError::Interrupted))
            }
        });
    }

    fn fetch_all(&self, cache: &Cache, ids: &[ObjectId], report: &mut Report<'_>) {
        if ids.is_empty() {
            return;
        }
        self.batch(ids, report, |engine, id| async move {
            let fetched = engine.unless_interrupted(engine.fetch(cache, id)).await;
            fetched.unwrap_or(Err(RemoteError::Interrupted))
        });
    }

    fn put_records(&self, records: &[(RecordKey, Vec<u8>)]) -> Vec<(RecordKey, RemoteError)> {
        let put = self.alone(async |engine| {
            let failures = stream::iter(records).map(|(key, bytes)| async move {
                let Some(text) = record::sealed(key, bytes) else {
                    return Some((key.clone(), RemoteError::LargeRecord { key: key.clone() }));
                };
                let put = engine.put_small(&engine.key(&key.relative_path()), text).await;
                let failure = put.err()?.during(format!("send record {key}"));
                Some((key.clone(), failure))
            });
            let failures = failures.buffer_unordered(engine.width());
            Ok(failures.filter_map(std::future::ready).collect::<Vec<_>>().await)
        });
        put.unwrap_or_else(|error| {
            records.iter().map(|(key, _)| (key.clone(), again(&error))).collect()
        })
    }

    fn get_records(&self, keys: &[RecordKey]) -> Vec<(RecordKey, Result<Vec<u8>, RemoteError>)> {
        let got = self.alone(async |engine| {
            let answers = stream::iter(keys).map(|key| async move {
                let path = engine.key(&key.relative_path());
                let answer = match engine.get_small(&path, MAX_SEALED_BYTES).await {
                    Ok(None) => return None,
                    Ok(Some(text)) => record::unsealed(key, &text)
                        .ok_or_else(|| RemoteError::CorruptRecord { key: key.clone() }),
                    Err(failure) => Err(failure.during(format!("fetch record {key}"))),
                };
                Some((key.clone(), answer))
            });
            let answers = answers.buffer_unordered(engine.width());
            Ok(answers.filter_map(std::future::ready).collect::<Vec<_>>().await)
        });
        got.unwrap_or_else(|error| {
            keys.iter().map(|key| (key.clone(), Err(again(&error)))).collect()
        })
    }

    fn list_records(&self) -> Result<Vec<RecordKey>, RemoteError> {
        self.alone(async |engine| {
            let meaning = |key: &_| engine.path_of_key(key).and_then(RecordKey::of_path);
            let keys = engine.list_all("runs", meaning).await;
            keys.map_err(|failure| failure.during("list records"))
        })
    }

    fn diagnose(&self) -> Diagnosis {
        let answer = self.alone(async |engine| {
            if let Some(chain) = &engine.credentials {
                let found = chain.get_credential().await;
                found.map_err(|error| Failure::of(&error).during("find credentials"))?;
            }
            let asked = engine.ask_for(ObjectId::of_bytes(b"")).await;
            match asked.map_err(|failure| failure.during("ask for an object"))? {
                // Only the answer to another question has the server's words in it.
                Presence::Unknown => {
                    let key = engine.object_key(ObjectId::of_bytes(b""));
                    let read = engine.get_small(&key, 0).await;
                    read.map(drop).map_err(|failure| failure.during("ask for an object"))
                }
                Presence::There(_) | Presence::Absent => Ok(()),
            }
        });
        let credentials = match self.engine.get() {
            Some(Ok(Engine { credentials: Some(chain), .. })) => chain.attempts(),
            _ => Vec::new(),
        };
        let region = match &self.place.service {
            Service::Amazon(amazon) => Some(format!("{} ({})", amazon.region, amazon.region_from)),
            _ => None,
        };
        Diagnosis { place: self.place(), region, credentials, answer }
    }
}

/// The same error once more, for another object.
fn again(error: &RemoteError) -> RemoteError {
    match error {
        RemoteError::Interrupted => RemoteError::Interrupted,
        RemoteError::Request { action, problem, status } => RemoteError::Request {
            action: action.clone(),
            problem: problem.clone(),
            status: *status,
        },
        RemoteError::Setup { problem } => RemoteError::Setup { problem: problem.clone() },
        other => RemoteError::Setup { problem: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
