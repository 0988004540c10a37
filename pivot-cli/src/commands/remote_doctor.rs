//! `pivot doctor --remote`: does the remote answer, and with which credentials?

use std::time::{Duration, Instant};

use pivot_exec::OpenProject;
use pivot_remote::{
    CredentialAttempt, CredentialOutcome, RecordKey, Remote, RemoteError, RemoteOptions,
};

use crate::report::with_causes;
use crate::show::transfer::remote_hint;

/// The record that is written to find out whether anything can be: always the same one.
const PROBE: &[u8; 16] = b"pivot doctor was";

/// What to do when no place had credentials that work.
const CREDENTIALS_HINT: &str = "\nhint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in ~/.aws: \
     `pivot remote add --profile`";

/// Looks at the remote `name`, or the default one, and tells each finding: whether it is good, and
/// what it is.
pub(crate) fn examine(project: &OpenProject, name: Option<&str>, say: &dyn Fn(bool, String)) {
    // Whoever asks a doctor waits for the answer: one that does not come at once is one.
    let options = RemoteOptions { retries: 1, ..RemoteOptions::default() };
    let opened = pivot_exec::open_remote_with(project, name, options);
    let (name, remote) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            return say(false, format!("{}{hint}", with_causes(&error)));
        }
    };
    let started = Instant::now();
    let diagnosis = remote.diagnose();
    let elapsed = started.elapsed();
    say(true, format!("remote `{name}` is {}", diagnosis.place));
    if let Some(region) = &diagnosis.region {
        say(true, format!("region {region}"));
    }
    for attempt in &diagnosis.credentials {
        let (is_good, what) = match &attempt.outcome {
            CredentialOutcome::Used(kind) => (true, format!("used: {kind}")),
            CredentialOutcome::Absent(why) => (true, format!("none: {why}")),
            CredentialOutcome::Failed(why) => (false, format!("failed: {why}")),
        };
        say(is_good, format!("credentials from {}: {what}", attempt.source));
    }
    if let Err(error) = diagnosis.answer {
        if lacks_credentials(&diagnosis.credentials) {
            let problem = with_causes(&error);
            return say(false, format!("it was not asked: {problem}{CREDENTIALS_HINT}"));
        }
        return say(false, told(&error, "does not answer"));
    }
    say(true, format!("it answers ({})", milliseconds(elapsed)));
    let key = RecordKey::from_digest(PROBE);
    let started = Instant::now();
    match remote.put_records(&[(key.clone(), b"probe".to_vec())]).into_iter().next() {
        Some((_, error)) => return say(false, told(&error, "cannot be written to")),
        None => say(true, format!("it can be written to ({})", milliseconds(started.elapsed()))),
    }
    let started = Instant::now();
    match remote.get_records(&[key]).into_iter().next() {
        Some((_, Ok(bytes))) if bytes == b"probe" => {
            say(true, format!("what is written can be read ({})", milliseconds(started.elapsed())));
        }
        Some((_, Err(error))) => say(false, told(&error, "cannot be read from")),
        _ => say(false, "what was written a moment ago is not there".to_owned()),
    }
}

/// Whether credentials were looked for in vain, so that no request was sent.
fn lacks_credentials(attempts: &[CredentialAttempt]) -> bool {
    let is_used =
        |attempt: &CredentialAttempt| matches!(attempt.outcome, CredentialOutcome::Used(_));
    !attempts.is_empty() && !attempts.iter().any(is_used)
}

fn milliseconds(elapsed: Duration) -> String {
    format!("{}ms", elapsed.as_millis())
}

/// The error with what can be done about it.
fn told(error: &RemoteError, what: &str) -> String {
    let hint = match error {
        RemoteError::Request { status: None, problem, .. }
            if !problem.contains("the environment names none") =>
        {
            Some("is the `endpoint_url` right, and the network there?")
        }
        other => remote_hint(other),
    };
    let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("it {what}: {}{hint}", with_causes(error))
}
