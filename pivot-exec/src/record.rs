//! What a run did and when, kept in `.pivot/runs` for people to look at afterwards.
//!
//! Nothing is decided by a record: it may be deleted, and one that cannot be written is left out.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use pivot_dag::TaskId;
use serde::{Deserialize, Serialize};

use crate::outcome::{Effort, Summary};

/// How many records are kept.
const KEPT: usize = 100;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The version of this form.
    pub schema_version: u32,
    /// When it began, in seconds since 1970.
    pub began: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether everything that was asked for was done.
    pub success: bool,
    /// Its stages, in the graph's order.
    pub stages: Vec<StageRecord>,
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its name.
    pub stage: String,
    /// How it ended, in the words of a run's last line.
    pub outcome: String,
    /// What was done for it, in order; nothing for one that needed nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
    /// Processor time of its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// The most memory that its process held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}

/// A part of the work for a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// What was done: `prepare` hashes and restores, `run` is the process, `store` records.
    pub phase: Phase,
    /// When it began, in seconds since the run began.
    pub start: f64,
    /// How long it took.
    pub seconds: f64,
}

/// A part of the work for a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before its process: dependencies are hashed, outputs restored or removed.
    Prepare,
    /// Its process.
    Run,
    /// After its process: outputs go to the cache, the lock is written.
    Store,
}

/// Notes what happens in a run while it goes on.
#[derive(Debug)]
pub(crate) struct Recorder {
    origin: Instant,
    spans: HashMap<TaskId, Vec<Span>>,
    efforts: HashMap<TaskId, Effort>,
}

impl Recorder {
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, spans: HashMap::new(), efforts: HashMap::new() }
    }

    pub(crate) fn span(&mut self, task: TaskId, phase: Phase, start: Instant, took: Duration) {
        let start = start.saturating_duration_since(self.origin).as_secs_f64();
        let span = Span { phase, start, seconds: took.as_secs_f64() };
        self.spans.entry(task).or_default().push(span);
    }

    pub(crate) fn effort(&mut self, task: TaskId, effort: Effort) {
        self.efforts.insert(task, effort);
    }

    /// The record of the run of `tasks` that ended so.
    pub(crate) fn finish(mut self, tasks: &[TaskId], summary: &Summary) -> RunRecord {
        let stages = tasks.iter().zip(&summary.outcomes).map(|(task, (stage, outcome))| {
            let usage = self.efforts.get(task).and_then(|effort| effort.usage);
            StageRecord {
                stage: stage.clone(),
                outcome: outcome.word().to_owned(),
                spans: self.spans.remove(task).unwrap_or_default(),
                cpu_seconds: usage.map(|usage| usage.cpu().as_secs_f64()),
                peak_memory_bytes: usage.map(|usage| usage.peak_bytes),
            }
        });
        let stages = stages.collect();
        let began = SystemTime::now() - self.origin.elapsed();
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        RunRecord {
            schema_version: 1,
            began: began.as_secs_f64(),
            seconds: summary.elapsed.as_secs_f64(),
            success: summary.is_success(),
            stages,
        }
    }
}

fn dir(root: &Path) -> PathBuf {
    root.join(".pivot/runs")
}

/// Writes a record, and removes the oldest ones beyond a hundred.
pub(crate) fn write(root: &Path, record: &RunRecord) -> io::Result<()> {
    let dir = dir(root);
    fs::create_dir_all(&dir)?;
    let millis = (record.began * 1000.0) as u64;
    // Names sort by time, and two runs that began at the same moment have different processes.
    let name = format!("{}-{}", timestamp(millis), std::process::id());
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(&dir)?;
    // At once: written piece by piece, each would be a system call.
    file.write_all(&serde_json::to_vec(record)?)?;
    file.persist(dir.join(format!("{name}.json"))).map_err(|error| error.error)?;
    let names = names(root)?;
    for name in &names[..names.len().saturating_sub(KEPT)] {
        // Another run may have removed it a moment ago.
        let _ = fs::remove_file(dir.join(format!("{name}.json")));
    }
    Ok(())
}

/// The names of the runs that are kept, the oldest first.
///
/// # Errors
/// When the folder of records cannot be read.
pub fn names(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir(root)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".json").filter(|name| !name.starts_with('.')).map(str::to_owned)
    };
    let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Reads the record with a name of [`names`].
///
/// # Errors
/// When there is none, or it cannot be understood.
pub fn read(root: &Path, name: &str) -> io::Result<RunRecord> {
    let bytes = fs::read(dir(root).join(format!("{name}.json")))?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// `20260131T235959.123Z`, from milliseconds since 1970.
fn timestamp(millis: u64) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from March 1 of the year 0, so that leap days come last in their year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400, if month < 10 { month + 3 } else { month - 9 });
    let year = if month <= 2 { year + 1 } else { year };
    let (hour, minute, second) = (second / 3600, second % 3600 / 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_those_of_the_calendar() {
        for (millis, expected) in [
            (0, "19700101T000000.000Z"),
            (951_782_400_000, "20000229T000000.000Z"),
            (1_709_251_199_999, "20240229T235959.999Z"),
            (1_798_761_600_001, "20270101T000000.001Z"),
        ] {
            assert_eq!(timestamp(millis), expected);
        }
    }

    #[test]
    fn the_oldest_records_go() {
        let dir = tempfile::tempdir().unwrap();
        let record = |began: f64| RunRecord {
            schema_version: 1,
            began,
            seconds: 1.0,
            success: true,
            stages: vec![],
        };
        for began in 0..KEPT + 5 {
            write(dir.path(), &record(began as f64)).unwrap();
        }
        let names = names(dir.path()).unwrap();
        assert_eq!(names.len(), KEPT);
        assert_eq!(read(dir.path(), &names[0]).unwrap(), record(5.0));
    }
}
