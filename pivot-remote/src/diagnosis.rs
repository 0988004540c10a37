//! What became of the attempt to reach a remote, for people who wonder why it does not work.

use crate::remote::RemoteError;

/// How a remote is reached and whether it answers. Holds no secrets.
#[derive(Debug)]
pub struct Diagnosis {
    /// The place in full, such as `s3://bucket/prefix at https://minio.example.com`.
    pub place: String,
    /// The region that requests are signed for, and where it came from.
    pub region: Option<String>,
    /// The places where credentials were looked for, in order. The search ends at the first that
    /// has some.
    pub credentials: Vec<CredentialAttempt>,
    /// Whether it answered a question for an object.
    pub answer: Result<(), RemoteError>,
}

/// One place where credentials were looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialAttempt {
    /// Where, such as "environment" or "profile `work`".
    pub source: String,
    /// What was found there.
    pub outcome: CredentialOutcome,
}

/// What was found at a place where credentials may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialOutcome {
    /// These are in use; the text tells their kind, such as "static keys".
    Used(String),
    /// There are none; the text tells what was missing.
    Absent(String),
    /// There is something, but it does not work.
    Failed(String),
}
