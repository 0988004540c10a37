//! What all requests to a bucket share: the runtime, the library's store, the memory for bodies.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::{Either, select};
use object_store::path::Path as Key;
use object_store::{BackoffConfig, RetryConfig};
use pivot_cache::ObjectId;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure::Failure;
use super::place::Place;
use super::store::{Bucket, Store};
use super::wire::Wire;
use crate::credentials::Chain;
use crate::options::{Interrupt, RemoteOptions};

/// What uploads and ranges of downloads may hold in memory together.
const MEMORY_MIB: usize = 64;

/// How often a wish to end is looked for.
const INTERRUPT_EVERY: Duration = Duration::from_millis(50);

/// Made when the first request is due.
#[derive(Debug)]
pub(super) struct Engine {
    runtime: Runtime,
    store: Store,
    pub(super) wire: Wire,
    pub(super) credentials: Option<Arc<Chain>>,
    prefix: String,
    width: usize,
    #[cfg(test)]
    bucket_url: String,
    interrupt: Interrupt,
    memory: Semaphore,
    /// Set once the server has said that it knows no conditional writes.
    pub(super) no_conditions: AtomicBool,
}

impl Engine {
    pub(super) fn new(
        place: &Place,
        options: &RemoteOptions,
        width: usize,
    ) -> Result<Self, Failure> {
        // Sockets and TLS are the workers' business; files and hashes stay on the caller's thread.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("pivot-remote")
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start threads: {error}")))?;
        let wire = Wire::new(options, width)?;
        let retry = RetryConfig {
            // Requests are retried below; these are the attempts to go on with a broken body.
            max_retries: options.retries as usize,
            retry_timeout: Duration::from_secs(15 * 60),
            backoff: BackoffConfig {
                init_backoff: options.retry_delay,
                max_backoff: Duration::from_secs(20),
                base: 2.0,
            },
        };
        let (store, credentials) = Store::open(place, options, &wire, retry)?;
        Ok(Self {
            runtime,
            store,
            wire,
            credentials,
            prefix: place.prefix.clone(),
            width,
            #[cfg(test)]
            bucket_url: format!("{}/{}", place.endpoint.as_deref().unwrap_or(""), place.bucket),
            interrupt: options.interrupt.clone(),
            memory: Semaphore::new(MEMORY_MIB),
            no_conditions: AtomicBool::new(false),
        })
    }

    pub(super) fn store(&self) -> &dyn Bucket {
        &*self.store
    }

    /// How many objects are worth having under way at once.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The key of something below the remote.
    pub(super) fn key(&self, path: &str) -> Key {
        let text = if self.prefix.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.prefix)
        };
        Key::parse(&text).expect("a URL's prefix has no empty part, `.` or `..`")
    }

    pub(super) fn object_key(&self, id: ObjectId) -> Key {
        let digits = id.to_string();
        self.key(&format!("files/{}/{}", &digits[..2], &digits[2..]))
    }

    /// What a key is below the remote; `None` if it is elsewhere.
    pub(super) fn path_of_key<'k>(&self, key: &'k Key) -> Option<&'k str> {
        let rest = key.as_ref().strip_prefix(&self.prefix)?;
        if self.prefix.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// The object of a key; `None` for all that is not exactly where objects are.
    pub(super) fn id_of_key(&self, key: &Key) -> Option<ObjectId> {
        let path = self.path_of_key(key)?;
        let (fan_out, name) = path.strip_prefix("files/")?.split_once('/')?;
        if fan_out.len() != 2 {
            return None;
        }
        format!("{fan_out}{name}").parse().ok()
    }

    /// Whether "not found" is about the object, and not about all there is.
    pub(super) fn absence(&self, error: &object_store::Error) -> Result<(), Failure> {
        match Failure::of(error) {
            failure if failure.is_about_the_bucket => Err(failure),
            _ => Ok(()),
        }
    }

    /// Waits for room for a body of this size.
    pub(super) async fn room(&self, bytes: u64) -> SemaphorePermit<'_> {
        let mib = bytes.div_ceil(1024 * 1024).clamp(1, MEMORY_MIB as u64);
        self.memory.acquire_many(mib as u32).await.expect("the semaphore is never closed")
    }

    /// Goes on until it is done, or until the user wants no more.
    pub(super) async fn unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let interrupted = async {
            while !self.interrupt.is_set() {
                tokio::time::sleep(INTERRUPT_EVERY).await;
            }
        };
        match select(std::pin::pin!(work), std::pin::pin!(interrupted)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(((), _)) => None,
        }
    }

    /// Makes the bucket itself, as only tests need to.
    #[cfg(test)]
    pub(super) async fn make_bucket_for_tests(&self) -> Result<(), crate::remote::RemoteError> {
        let url = self.bucket_url.parse::<http::Uri>().expect("the endpoint was checked");
        let mut request = http::Request::put(url)
            .body(object_store::client::HttpRequestBody::empty())
            .expect("the endpoint was checked");
        let credential = match &self.credentials {
            Some(chain) => {
                use object_store::CredentialProvider;
                chain.get_credential().await.map_err(|e| Failure::of(&e).during("sign"))?
            }
            None => return Ok(()),
        };
        object_store::aws::AwsAuthorizer::new(&credential, "s3", "us-east-1")
            .try_authorize(&mut request, None)
            .map_err(|e| Failure::of(&e).during("sign"))?;
        let (status, _) = self.wire.ask(request).await.map_err(|f| f.during("make a bucket"))?;
        assert!(status.is_success(), "{status}");
        Ok(())
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupt.is_set()
    }
}
