//! The records of finished runs on a remote, so that others skip what somebody has run.
//!
//! A record is asked for by its key and is data of strangers: it only counts if it holds the whole
//! key, names exactly the outputs that the stage declares, and each of these arrives with the
//! hash that it is named by.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pivot_cache::Table;
use pivot_lock::Lock;
use pivot_remote::{MAX_RECORD_BYTES, RecordKey, Remote, RemoteError};

use crate::project::OpenProject;
use crate::run_cache::{self, RunKey};

/// For so long a record that was sent is not sent again.
const VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends the records of the runs that wrote these locks; how many, and why some were not sent.
///
/// Only a run that this machine's run cache knows has one: of a stage with an incremental output,
/// equal inputs do not mean equal outputs.
pub(crate) fn send<'l>(
    project: &OpenProject,
    remote: &dyn Remote,
    locks: impl Iterator<Item = &'l Lock>,
) -> (u64, Option<RemoteError>) {
    let state = &project.state;
    let mut records = Vec::new();
    for lock in locks {
        let key = RunKey::of_lock(lock);
        let outs = run_cache::look_up(state, &key);
        if outs.as_deref() != Some(lock.outs()) || was_sent(project, remote, &key) {
            continue;
        }
        let bytes = run_cache::record(&key, lock.outs());
        if bytes.len() <= MAX_RECORD_BYTES {
            records.push((RecordKey::from_digest(&key.digest()), bytes, key));
        }
    }
    if records.is_empty() {
        return (0, None);
    }
    let wire: Vec<_> = records.iter().map(|(id, bytes, _)| (id.clone(), bytes.clone())).collect();
    let failed = remote.put_records(&wire);
    let unsent: HashSet<&RecordKey> = failed.iter().map(|(id, _)| id).collect();
    for (id, _, key) in &records {
        if !unsent.contains(id) {
            state.put(Table::Remote, &sent_key(remote, key), &now_seconds().to_le_bytes());
        }
    }
    let sent = records.len().saturating_sub(failed.len());
    (sent as u64, failed.into_iter().next().map(|(_, error)| error))
}

fn sent_key(remote: &dyn Remote, key: &RunKey) -> Vec<u8> {
    [b"run ", &key.digest()[..], remote.place().as_bytes()].concat()
}

fn was_sent(project: &OpenProject, remote: &dyn Remote, key: &RunKey) -> bool {
    let sent = project.state.get(Table::Remote, &sent_key(remote, key));
    let sent: Option<[u8; 8]> = sent.and_then(|bytes| bytes.try_into().ok());
    let age = sent.and_then(|sent| now_seconds().checked_sub(u64::from_le_bytes(sent)));
    age.is_some_and(|age| age < VALID_FOR.as_secs())
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
