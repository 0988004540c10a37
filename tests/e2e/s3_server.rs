//! The server of the tests as the remote of a project.

use std::ops::Deref;
use std::path::PathBuf;

use pivot_s3_server::Server;
pub(crate) use pivot_s3_server::{KEY_ID, SECRET};

use crate::support::{Project, eventually};

/// The remote that tests use: the bucket is there.
pub(crate) const URL: &str = "s3://bucket/team";

/// The server; it ends with this value.
pub(crate) struct S3Server(Server);

impl Deref for S3Server {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl S3Server {
    pub(crate) fn start() -> Self {
        Self(Server::start())
    }

    /// A server at this address, if there is such a one here.
    pub(crate) fn start_at(address: &str) -> Option<Self> {
        Server::start_at(address).map(Self)
    }

    /// Adds this server to a project as `origin`, with credentials that fit.
    pub(crate) fn added_to(&self, project: Project) -> Project {
        let project = with_keys(project, KEY_ID, SECRET);
        self.add(&project, URL);
        project
    }

    pub(crate) fn add(&self, project: &Project, url: &str) {
        let endpoint = self.endpoint();
        project.pivot(&format!("remote add origin {url} --endpoint-url {endpoint}")).succeeds();
    }

    /// Where the bucket keeps what has this key below the remote's prefix.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.bucket().join("team").join(key)
    }

    /// How many files the bucket has below this key.
    pub(crate) fn files(&self, key: &str) -> usize {
        let shards = std::fs::read_dir(self.path(key)).into_iter().flatten().flatten();
        shards.map(|shard| std::fs::read_dir(shard.path()).unwrap().count()).sum()
    }

    /// Waits until a request has come that will not be answered.
    pub(crate) fn wait_until_ignoring(&self) {
        eventually("a request is not answered", || self.ignored() > 0);
    }
}

/// A project whose commands have these credentials and no others.
pub(crate) fn with_keys(project: Project, key_id: &str, secret: &str) -> Project {
    let home = project.path("no-home").display().to_string();
    project
        .env("AWS_ACCESS_KEY_ID", key_id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", &home)
}
