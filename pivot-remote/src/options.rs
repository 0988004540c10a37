//! How to reach a remote: what its URL does not say.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How to reach a remote. A directory only heeds [`jobs`](RemoteOptions::jobs) and
/// [`interrupt`](RemoteOptions::interrupt).
///
/// What is `None` is taken from the environment, then from the profile in `~/.aws`, then from the
/// service's own defaults. There is no place for credentials in here: they come from where the AWS
/// tools have them.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// The server, such as `https://minio.example.com:9000`, if it is not that of AWS.
    pub endpoint_url: Option<String>,
    /// The region, such as `eu-central-1`.
    pub region: Option<String>,
    /// Which profile in `~/.aws` to use. Naming one here goes before credentials in the
    /// environment.
    pub profile: Option<String>,
    /// Whether the bucket stands in the host's name or in the path.
    pub addressing: Addressing,
    /// Requests are not signed: for buckets that anyone may read.
    pub anonymous: bool,
    /// The most requests, or threads for a directory, at once.
    pub jobs: Option<NonZeroUsize>,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a request may go without a byte moving.
    pub stall_timeout: Duration,
    /// How often a request is sent again after a failure that may pass.
    pub retries: u32,
    /// The wait before the first of these; the later ones wait longer.
    pub retry_delay: Duration,
    /// Ends transfers once it is set.
    pub interrupt: Interrupt,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            endpoint_url: None,
            region: None,
            profile: None,
            addressing: Addressing::Auto,
            anonymous: false,
            jobs: None,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            retries: 5,
            retry_delay: Duration::from_millis(200),
            interrupt: Interrupt::default(),
        }
    }
}

/// Where a bucket's name stands in the URL of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path if there is an [`endpoint_url`](RemoteOptions::endpoint_url), else in the host.
    #[default]
    Auto,
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    Virtual,
}

/// Asks transfers to end: set it from a signal handler.
///
/// What goes on is broken off within a moment, uploads in parts are taken back, and every object
/// that is not done counts as failed with [`RemoteError::Interrupted`](crate::RemoteError).
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// One that this flag sets.
    pub fn new(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Asks transfers to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether transfers were asked to end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
