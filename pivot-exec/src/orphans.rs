//! Finds what a killed run has left running, so that it does not write beside the next one.
//!
//! When the coordinator is killed, the wardens end all that it has started. That takes a moment,
//! and a warden may have been killed as well. So the guard of a stage names the worker's process
//! group and its warden; whoever takes the guard next ends that group and waits for the warden. A
//! process id alone proves nothing, as the system uses it again: a note also has the boot and the
//! moment at which the process started.

use std::fs;
use std::io::Read;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// What begins the note about a warden.
const WARDEN: &str = "warden ";

/// How long a warden may take to end what it has below it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The processes that end last when a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    /// The leader of the worker's process group.
    pub(crate) leader: u32,
    /// The warden of that process.
    pub(crate) warden: u32,
}

impl Traces {
    /// Notes, a line each, to be read by [`end`].
    pub(crate) fn notes(self) -> String {
        let group = note(self.leader).map(|note| format!("{note}\n"));
        let warden = note(self.warden).map(|note| format!("{WARDEN}{note}\n"));
        group.into_iter().chain(warden).collect()
    }
}

/// A note about a process, to be read by [`end`].
pub(crate) fn note(pid: u32) -> Option<String> {
    Some(format!("{pid} {} {}", start_of(pid)?, boot()?))
}

/// Whether the process of a [`note`] still runs, on this machine.
pub(crate) fn is_alive(note: &str) -> bool {
    let mut words = note.split_whitespace();
    let (Some(pid), Some(start), Some(of_boot)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    boot().as_deref() == Some(of_boot)
        && pid.parse().ok().and_then(start_of).is_some_and(|now| now == start)
}

/// Ends the process group of a [`note`], if it still is the same group; or waits for the end of a
/// warden.
pub(crate) fn end(note: &str) {
    let (is_warden, note) = match note.strip_prefix(WARDEN) {
        Some(note) => (true, note),
        None => (false, note),
    };
    let mut words = note.split_whitespace();
    let (Some(leader), Some(start), Some(of_boot)) = (words.next(), words.next(), words.next())
    else {
        return;
    };
    let Some(leader) = leader.parse().ok().filter(|leader| *leader > 1_u32) else { return };
    if boot().as_deref() != Some(of_boot) {
        return;
    }
    if is_warden {
        let started = Instant::now();
        while start_of(leader).is_some_and(|now| now == start) && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        return;
    }
    // While a group has members, its number is given to no new process. So a process with that
    // number is either its leader, or the group is gone and the number was used again.
    if start_of(leader).is_some_and(|now| now != start) {
        return;
    }
    if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // It usually is gone.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// When a process started, in clock ticks since the boot.
fn start_of(pid: u32) -> Option<String> {
    // Once: each read has the kernel put the whole text together.
    let mut text = [0; 1024];
    let count = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text[..count]);
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

fn boot() -> Option<String> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    BOOT.get_or_init(|| Some(read()?.trim().to_owned())).clone()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use super::*;

    #[test]
    fn only_the_group_of_the_note_is_ended() {
        let mut sleeper = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let right = note(sleeper.id()).unwrap();
        let (leader, rest) = right.split_once(' ').unwrap();
        let (start, boot) = rest.split_once(' ').unwrap();
        for wrong in [
            format!("{leader} {start}9 {boot}"),
            format!("{leader} {start} another-boot"),
            leader.to_owned(),
            format!("1 {start} {boot}"),
            String::new(),
        ] {
            end(&wrong);
            assert!(sleeper.try_wait().unwrap().is_none(), "{wrong:?} ended it");
        }
        end(&right);
        assert_eq!(sleeper.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
