//! Remotes on the server of the tests.

use std::sync::Arc;
use std::time::Duration;

use pivot_s3_server::Server;
pub(super) use pivot_s3_server::{KEY_ID, SECRET, TOKEN};

use crate::options::RemoteOptions;
use crate::s3::S3Remote;

/// What tests want of a server that stands for a remote.
pub(super) trait Remotes {
    /// Options that do not wait for long before they try again.
    fn options(&self) -> RemoteOptions;

    fn remote_with(&self, options: &RemoteOptions) -> S3Remote;

    fn remote(&self) -> S3Remote;

    /// A remote that takes a second of silence for a failure. A busy machine may be silent
    /// for as long, so this is only for tests of silence.
    fn impatient_remote(&self) -> S3Remote;
}

impl Remotes for Server {
    fn options(&self) -> RemoteOptions {
        RemoteOptions {
            endpoint_url: Some(self.endpoint()),
            retry_delay: Duration::from_millis(2),
            ..RemoteOptions::default()
        }
    }

    fn remote_with(&self, options: &RemoteOptions) -> S3Remote {
        S3Remote::with_env(&super::s3("bucket", "some/prefix"), options, env(&keys())).unwrap()
    }

    fn remote(&self) -> S3Remote {
        self.remote_with(&self.options())
    }

    fn impatient_remote(&self) -> S3Remote {
        let stall_timeout = Duration::from_secs(1);
        self.remote_with(&RemoteOptions { stall_timeout, ..self.options() })
    }
}

/// The keys of the server.
pub(super) fn keys() -> [(&'static str, &'static str); 2] {
    [("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)]
}

/// An environment of these variables.
pub(super) fn env(variables: &[(&str, &str)]) -> crate::credentials::Env {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let variables: Vec<_> = variables.iter().map(owned).collect();
    Arc::new(move |name| {
        variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    })
}
