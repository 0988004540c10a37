//! What people see of a transfer: progress while it goes on, and what came of it.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use pivot_cache::CacheError;
use pivot_exec::{Outlook, Shared};
use pivot_remote::{Progress, RemoteError, Transfer};
use serde_json::{Value, json};

use crate::report::with_causes;
use crate::show::output;

/// How often a long transfer says how far it is where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows how far a transfer is: a bar on a terminal, else a line now and then.
pub(crate) struct TransferProgress {
    bar: Option<ProgressBar>,
    /// Such as "sent".
    verb: &'static str,
    objects: u64,
    done: u64,
    bytes: u64,
    moved_bytes: u64,
    /// Bytes of objects that were told while they were on their way.
    told_bytes: u64,
    next_line: Instant,
}

impl TransferProgress {
    pub(crate) fn new(verb: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "  {spinner} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}",
            )
            .expect("the template is right");
            let bar = ProgressBar::new(0).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let next_line = Instant::now() + PLAIN_EVERY;
        let (objects, done, bytes, moved_bytes, told_bytes) = (0, 0, 0, 0, 0);
        Self { bar, verb, objects, done, bytes, moved_bytes, told_bytes, next_line }
    }

    pub(crate) fn show(&mut self, event: &Progress<'_>) {
        match event {
            Progress::Planned { objects, bytes } => {
                self.objects += objects;
                self.bytes += bytes;
            }
            Progress::Bytes { count } => self.told_bytes += count,
            Progress::Done { transfer, .. } => {
                self.done += 1;
                if let Transfer::Moved { size_bytes } = transfer {
                    self.moved_bytes += size_bytes;
                }
            }
            Progress::Failed { .. } => self.done += 1,
            _ => {}
        }
        let moved = self.told_bytes.max(self.moved_bytes);
        if let Some(bar) = &self.bar {
            bar.set_length(self.bytes.max(moved));
            bar.set_position(moved);
            bar.set_message(format!("{}/{} objects", self.done, self.objects));
        } else if Instant::now() >= self.next_line {
            self.next_line = Instant::now() + PLAIN_EVERY;
            let (done, objects) = (self.done, self.objects);
            let (moved, all) = (HumanBytes(moved), HumanBytes(self.bytes));
            output::note(&format!("{}: {done} of {objects} objects, {moved} of {all}", self.verb));
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Names each output that failed, and why, on standard error; where nothing went well, and all for
/// one reason, that is told once.
pub(crate) fn tell_failures(shared: &Shared) {
    let failed = &shared.summary.failed;
    let reason = common_reason(shared);
    if let Some(reason) = &reason {
        let outputs = match shared.failed.as_slice() {
            [out] => format!("{}: {}", out.stage, out.path),
            outs => format!("all {} outputs", outs.len()),
        };
        output::note(&format!("FAIL  {outputs}: {reason}"));
    }
    for out in shared.failed.iter().filter(|_| reason.is_none()) {
        for (number, cause) in out.causes.iter().enumerate() {
            if number == 3 && out.causes.len() > 4 {
                let more = out.causes.len() - number;
                output::note(&format!("FAIL  {}: {}: and {more} more", out.stage, out.path));
                break;
            }
            let (id, error) = &failed[*cause];
            let text = with_causes(error);
            let object = if text.contains(&id.to_string()) {
                String::new()
            } else {
                format!("object {id}: ")
            };
            output::note(&format!("FAIL  {}: {}: {object}{text}", out.stage, out.path));
        }
    }
    if let Some(error) = &shared.record_failure {
        output::note(&format!("FAIL  records of runs: {}", with_causes(error)));
    }
    let is_damaged = |error: &RemoteError| matches!(error, RemoteError::Corrupt { .. });
    let is_missing = |error: &RemoteError| matches!(error, RemoteError::Missing { .. });
    let is_missing_here = |error: &RemoteError| match error {
        RemoteError::Cache(error) => matches!(error, CacheError::Missing { .. }),
        _ => false,
    };
    let stage = shared.failed.first().map_or("STAGE", |out| &out.stage);
    if failed.iter().any(|(_, error)| is_missing(error)) {
        output::note(&format!(
            "hint: `pivot push {stage}` where the stage was run, or run it here: \
             `pivot run --pull never`",
        ));
    } else if failed.iter().any(|(_, error)| is_damaged(error)) {
        output::note(&format!(
            "hint: delete it on the remote and `pivot push {stage}` where the stage was run, or run it \
             here: `pivot run --pull never`",
        ));
    } else if failed.iter().any(|(_, error)| is_missing_here(error)) {
        output::note("hint: `pivot run` makes what is missing, then push again");
    } else if let Some(hint) = failed.iter().find_map(|(_, error)| remote_hint(error)) {
        output::note(&format!("hint: {hint}"));
    }
}

/// Why nothing could be transferred at all, if it is the remote and the same for all objects.
fn common_reason(shared: &Shared) -> Option<String> {
    let summary = &shared.summary;
    if summary.moved > 0 || summary.already_there > 0 || summary.failed.len() < 2 {
        return None;
    }
    let mut common: Option<(String, String)> = None;
    for (id, error) in &summary.failed {
        let text = with_causes(error);
        // What is in the way is often the same for many files, of which one is named.
        let kind = match error {
            RemoteError::Incomplete { .. } => continue,
            RemoteError::Request { .. } | RemoteError::Setup { .. } => text.clone(),
            RemoteError::Io { action, source, .. }
            | RemoteError::Cache(CacheError::Io { action, source, .. }) => {
                format!("{action}: {source}")
            }
            _ => return None,
        };
        let general = |text: &str| text.replace(&format!("object {id}"), "objects");
        match &common {
            Some((known, _)) if *known != general(&kind) => return None,
            Some(_) => {}
            None => common = Some((general(&kind), general(&text))),
        }
    }
    common.map(|(_, reason)| reason)
}

/// What can be done about a remote that does not do what it is asked.
pub(crate) fn remote_hint(error: &RemoteError) -> Option<&'static str> {
    let RemoteError::Request { status, problem, .. } = error else { return None };
    Some(match status {
        _ if problem.contains("RequestTimeTooSkewed") => {
            "the clock of this machine is wrong: set it right, and try again"
        }
        _ if problem.contains("the environment names none") => {
            "for `gs://` set GOOGLE_APPLICATION_CREDENTIALS or run \
             `gcloud auth application-default login`, for `az://` set AZURE_STORAGE_ACCOUNT_KEY or \
             run `az login` and set AZURE_USE_AZURE_CLI to `true`"
        }
        Some(401 | 403) => {
            "the credentials are not allowed to list, read and write here (on S3: s3:ListBucket, \
             s3:GetObject and s3:PutObject); are they the right ones, and the `--profile`?"
        }
        Some(404) => "is the bucket's name right, and the `endpoint_url`?",
        Some(301 | 307 | 400) => "is the `region` that of the bucket?",
        _ => "`pivot doctor --remote` examines the remote",
    })
}

/// Names the outputs that no cache keeps.
pub(crate) fn tell_passed_over(passed_over: &[(String, String)]) {
    for (stage, path) in passed_over {
        output::note(&format!("note: {stage}: {path} is not kept in the cache: passed over"));
    }
}

/// The one line with which a transfer ends, such as `2 objects sent (1.20 KiB), 1 failed`.
pub(crate) fn counts(shared: &Shared, verb: &str) -> String {
    let summary = &shared.summary;
    let mut parts = Vec::new();
    if summary.moved > 0 {
        let bytes = HumanBytes(summary.moved_bytes);
        parts.push(format!("{} {verb} ({bytes})", objects(summary.moved)));
    }
    if summary.already_there > 0 {
        parts.push(format!("{} already there", summary.already_there));
    }
    if !summary.failed.is_empty() {
        parts.push(format!("{} failed", summary.failed.len()));
    }
    if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") }
}

pub(crate) fn objects(count: u64) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{count} objects") }
}

/// What a transfer would do: a line an output, and the sum.
pub(crate) fn outlook_text(outlook: &Outlook, verb: &str) -> String {
    let mut text = String::new();
    for (out, size_bytes) in &outlook.needed {
        let (stage, path) = (&out.stage, &out.artifact.path);
        text.push_str(&format!("{stage}: {path} ({})\n", HumanBytes(*size_bytes)));
    }
    for out in &outlook.missing {
        text.push_str(&format!("{}: {} is missing\n", out.stage, out.artifact.path));
    }
    let bytes: u64 = outlook.needed.iter().map(|(_, size_bytes)| size_bytes).sum();
    let missing = match outlook.missing.len() {
        0 => String::new(),
        count => format!(", {count} missing"),
    };
    if outlook.objects == 0 && outlook.missing.is_empty() {
        return "nothing to do\n".to_owned();
    }
    let objects = objects(outlook.objects);
    format!("{text}{objects} would be {verb} ({}){missing}\n", HumanBytes(bytes))
}

fn places(places: &[(String, String)]) -> Vec<Value> {
    places.iter().map(|(stage, path)| json!({ "stage": stage, "path": path })).collect()
}

/// A transfer as JSON.
pub(crate) fn shared_json(shared: &Shared) -> Value {
    let summary = &shared.summary;
    let failed = shared.failed.iter().map(|out| {
        let causes = out.causes.iter().map(|cause| {
            let (id, error) = &summary.failed[*cause];
            json!({ "object": id.to_string(), "error": with_causes(error) })
        });
        json!({
            "stage": out.stage,
            "path": out.path,
            "causes": causes.collect::<Vec<_>>(),
        })
    });
    json!({
        "schema_version": 1,
        "success": shared.is_success(),
        "moved": summary.moved,
        "moved_bytes": summary.moved_bytes,
        "already_there": summary.already_there,
        "records": shared.records,
        "passed_over": places(&shared.passed_over),
        "failed": failed.collect::<Vec<_>>(),
        "record_error": shared.record_failure.as_ref().map(|error| with_causes(error)),
    })
}

/// What a transfer would do, as JSON.
pub(crate) fn outlook_json(outlook: &Outlook) -> Value {
    let needed = outlook.needed.iter().map(|(out, size_bytes)| {
        json!({ "stage": out.stage, "path": out.artifact.path, "bytes": size_bytes })
    });
    let missing =
        outlook.missing.iter().map(|out| json!({ "stage": out.stage, "path": out.artifact.path }));
    json!({
        "schema_version": 1,
        "dry_run": true,
        "objects": outlook.objects,
        "outputs": needed.collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
        "passed_over": places(&outlook.passed_over),
    })
}
