//! One process at a time runs a stage: a kernel lock on a file per stage.
//!
//! The kernel frees the lock when its holder dies, however it dies, so nothing has to be
//! cleaned up and a reused process id cannot block anybody. The text in the file, the holder's
//! process id and a note of its worker, serves messages and the next holder.
//!
//! Where the file system has no locks, a second file stands for the lock: who makes it is the
//! holder, and it names its process, so that others see when that is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::orphans::{self, Traces};
use crate::outcome::StageFailure;

/// Where the guards are, relative to the project.
const DIR: &str = ".pivot/run";

/// How long [`take_soon`] waits, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);

/// The right to run one stage, until it is dropped.
#[derive(Debug)]
pub(crate) struct StageGuard {
    file: File,
    /// The file that stands for the lock, where there are no locks.
    holder: Option<PathBuf>,
}

impl StageGuard {
    /// Whether a file stands for the lock, as the file system has none.
    pub(crate) fn is_by_name(&self) -> bool {
        self.holder.is_some()
    }

    /// Notes the worker's processes, so that the next holder can end what a killed run left.
    pub(crate) fn note_worker(&mut self, traces: Traces) {
        // Without the notes the stage runs all the same.
        let _ = self.file.write_all(traces.notes().as_bytes());
    }
}

impl Drop for StageGuard {
    fn drop(&mut self) {
        // Nothing is left of this run: the note must not be read when the numbers in it mean
        // something else.
        let _ = self.file.set_len(0);
        if let Some(holder) = &self.holder {
            let _ = fs::remove_file(holder);
        }
    }
}

/// The answer to an attempt to take a guard.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The stage may run.
    Taken(StageGuard),
    /// Another process runs it; its id, where it could be read.
    Held(Option<u32>),
}

/// Takes the guard of `stage` in the project at `root`.
///
/// # Errors
/// When another process holds it, or its file cannot be made or locked.
pub(crate) fn take(root: &Path, stage: &str) -> Result<StageGuard, StageFailure> {
    match try_take(root, stage)? {
        Attempt::Taken(guard) => Ok(guard),
        Attempt::Held(pid) => Err(StageFailure::Held { pid }),
    }
}

/// The same, with patience for who only brings outputs or looks at them.
///
/// # Errors
/// As [`take`].
pub(crate) fn take_soon(root: &Path, stage: &str) -> Result<StageGuard, StageFailure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_take(root, stage)? {
            Attempt::Taken(guard) => return Ok(guard),
            Attempt::Held(pid) if Instant::now() >= deadline => {
                return Err(StageFailure::Held { pid });
            }
            Attempt::Held(_) => std::thread::sleep(RETRY),
        }
    }
}

/// Takes the guard of `stage` in the project at `root` if it is free.
///
/// # Errors
/// When its file cannot be made or locked.
pub(crate) fn try_take(root: &Path, stage: &str) -> Result<Attempt, StageFailure> {
    let shown = format!("{DIR}/{stage}.flock");
    let path = root.join(&shown);
    let at = |source: io::Error| {
        let path = shown.clone();
        StageFailure::Workspace { action: "lock", path, source }
    };
    let mut options = OpenOptions::new();
    // Never truncated on opening: the text belongs to whoever holds the lock.
    options.read(true).write(true).create(true).truncate(false);
    let opened = options.open(&path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            fs::create_dir_all(root.join(DIR)).and_then(|()| options.open(&path))
        }
        _ => Err(error),
    });
    let mut file = opened.map_err(at)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let mut left = String::new();
            let _ = (&file).take(4096).read_to_string(&mut left);
            left.lines().skip(1).for_each(orphans::end);
            let text = format!("{}\n", std::process::id());
            // The text is for messages: a full disk must not keep the stage from running.
            let _ = file.set_len(0).and_then(|()| file.rewind());
            let _ = file.write_all(text.as_bytes());
            Ok(Attempt::Taken(StageGuard { file, holder: None }))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.take(4096).read_to_string(&mut text);
            Ok(Attempt::Held(text.lines().next().and_then(|pid| pid.parse().ok())))
        }
        Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP) => {
            take_by_name(file, path.with_extension("holder")).map_err(at)
        }
        Err(error) => Err(at(error.into())),
    }
}

/// Makes the file that stands for the lock, unless a process has made it that may still run.
fn take_by_name(file: File, holder: PathBuf) -> io::Result<Attempt> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own =
        format!("{} on {}", orphans::note(std::process::id()).unwrap_or_default(), host.trim());
    // Twice: before the second time, what a dead process left is taken away.
    for _ in 0..2 {
        match OpenOptions::new().write(true).create_new(true).open(&holder) {
            Ok(mut made) => {
                made.write_all(own.as_bytes())?;
                return Ok(Attempt::Taken(StageGuard { file, holder: Some(holder) }));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let text = fs::read_to_string(&holder).unwrap_or_default();
        // One of another machine, or one that is being written: nothing says that it is dead.
        let Some((note, _)) = text.split_once(" on ").filter(|(_, at)| *at == host.trim()) else {
            return Ok(Attempt::Held(None));
        };
        if orphans::is_alive(note) {
            let pid = note.split_whitespace().next().and_then(|pid| pid.parse().ok());
            return Ok(Attempt::Held(pid));
        }
        // Under a name of our own first: what is there now may be another process's already.
        let aside = holder.with_extension(format!("holder-{}", std::process::id()));
        if fs::rename(&holder, &aside).is_ok() {
            if fs::read_to_string(&aside).is_ok_and(|moved| moved != text) {
                let _ = fs::hard_link(&aside, &holder);
            }
            let _ = fs::remove_file(&aside);
        }
    }
    Ok(Attempt::Held(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_guard_names_its_holder_and_is_free_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(Attempt::Taken(guard)) = try_take(dir.path(), "train") else { panic!("not taken") };
        let held = try_take(dir.path(), "train").unwrap();
        assert!(matches!(held, Attempt::Held(Some(pid)) if pid == std::process::id()));
        assert!(matches!(try_take(dir.path(), "other"), Ok(Attempt::Taken(_))));
        drop(guard);
        assert!(matches!(try_take(dir.path(), "train"), Ok(Attempt::Taken(_))));
    }
}
