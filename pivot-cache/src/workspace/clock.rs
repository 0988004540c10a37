//! How finely a file system tells times apart.
//!
//! Two writes within one tick of its clock leave the same stamp. So a stamp only proves something if
//! its `ctime` lies at least a tick before the moment when the file was looked at.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::filesystem::{self, Kind};
use crate::source::SeenFile;
use crate::stamp::{Instant, Stamp};
use crate::temporary::fresh_name;

/// Kernels tick at 100 to 1000 Hz; twice the slowest tick.
const LOCAL_MS: u32 = 20;

/// FAT keeps times in steps of two seconds; nothing in use is coarser.
const UNKNOWN_MS: u32 = 2000;

/// The clock of the file system that a workspace lies on. Measured when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Clock {
    measured: OnceLock<Measured>,
}

#[derive(Debug)]
struct Measured {
    dev: u64,
    ticks: Ticks,
}

#[derive(Debug, PartialEq, Eq)]
enum Ticks {
    /// A file that was stat'ed gets a new time at its next change, however soon that is
    /// (Documentation/filesystems/multigrain-ts.rst in Linux, since 6.13).
    EveryChange,
    /// Those of this kernel.
    Local,
    /// Unknown ones; with the file system's own time when it was first asked, if it told.
    Unknown(Option<Instant>),
}

impl Clock {
    /// Whether a write might have gone unnoticed after this file had been read.
    pub(super) fn is_racy(&self, top: BorrowedFd<'_>, file: &SeenFile) -> bool {
        let measured = self.measured.get_or_init(|| measure(top));
        let Stamp { dev, mtime, ctime, .. } = file.stamp;
        let later = ctime.max(mtime);
        match &measured.ticks {
            _ if dev != measured.dev => later.plus_ms(UNKNOWN_MS) >= file.seen,
            // `mtime` may be set to anything. `ctime` moves with every change, and is compared, too.
            Ticks::EveryChange => ctime > file.seen.plus_ms(LOCAL_MS),
            Ticks::Local => ctime.plus_ms(LOCAL_MS) >= file.seen,
            Ticks::Unknown(Some(now)) => later.plus_ms(UNKNOWN_MS) >= *now,
            Ticks::Unknown(None) => true,
        }
    }
}

#[cfg(test)]
impl Clock {
    /// The clock of an older kernel, whatever this one's is.
    pub(super) fn with_local_ticks(dev: u64) -> Clock {
        Clock { measured: OnceLock::from(Measured { dev, ticks: Ticks::Local }) }
    }
}

fn measure(top: BorrowedFd<'_>) -> Measured {
    let dev = rustix::fs::fstat(top).map_or(0, |stat| Stamp::of(&stat).dev);
    let ticks = match filesystem::kind(top) {
        Kind::Local => local_ticks(top),
        Kind::Other => Ticks::Unknown(touch(top)),
    };
    Measured { dev, ticks }
}

/// Changes a file without a name a few times in a row.
fn local_ticks(top: BorrowedFd<'_>) -> Ticks {
    #[cfg(target_os = "linux")]
    {
        const CHANGES: usize = 6;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let Ok(probe) = rustix::fs::openat(top, ".", flags, Mode::RUSR | Mode::WUSR) else {
            return Ticks::Local;
        };
        let mut times = Vec::with_capacity(CHANGES);
        for _ in 0..CHANGES {
            let changed = rustix::io::pwrite(&probe, b"x", 0).is_ok();
            let Ok(stat) = rustix::fs::fstat(&probe) else { return Ticks::Local };
            if !changed {
                return Ticks::Local;
            }
            times.push(Stamp::of(&stat).ctime);
        }
        if times.iter().all(|time| time.nanoseconds == 0) {
            // ext4 with small inodes keeps whole seconds.
            return Ticks::Unknown(times.last().copied());
        }
        // Ordinary ticks are 1 ms apart at the least: several in less cannot be ordinary.
        let distinct = times.is_sorted_by(|a, b| a < b);
        if distinct && times[CHANGES - 1] < times[0].plus_ms(1) {
            return Ticks::EveryChange;
        }
    }
    let _ = top.as_fd();
    Ticks::Local
}

/// The file system's own time: that of a file which is made for it. `.pivot` is where such a file
/// disturbs nobody.
fn touch(top: BorrowedFd<'_>) -> Option<Instant> {
    let name = format!(".pivot/.clock-{}", fresh_name());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(top, &name, flags, Mode::RUSR | Mode::WUSR).ok()?;
    let time = rustix::io::write(&file, b"x")
        .and_then(|_| rustix::fs::fstat(&file))
        .map(|stat| Stamp::of(&stat).ctime);
    let _ = rustix::fs::unlinkat(top, &name, AtFlags::empty());
    time.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_id::ObjectId;

    fn racy(ticks: Ticks, dev: u64, mtime_ms: i64, ctime_ms: i64, seen_ms: i64) -> bool {
        let at = |ms: i64| Instant {
            seconds: ms.div_euclid(1000),
            nanoseconds: (ms.rem_euclid(1000) * 1_000_000) as u32,
        };
        let stamp = Stamp { dev, ino: 1, size: 1, mtime: at(mtime_ms), ctime: at(ctime_ms) };
        let seen = at(seen_ms);
        let file = SeenFile { id: ObjectId::from_u64(0), executable: false, stamp, seen };
        let clock = Clock { measured: OnceLock::from(Measured { dev: 1, ticks }) };
        clock.is_racy(rustix::fs::CWD, &file)
    }

    #[test]
    fn a_stamp_is_racy_within_a_tick() {
        let unknown = || Ticks::Unknown(Some(Instant { seconds: 100, nanoseconds: 0 }));
        let now = 100_000;
        let far = 1 << 50;
        for (ticks, dev, mtime, ctime, expected, name) in [
            (Ticks::Local, 1, 0, now - 21, false, "a tick ago"),
            (Ticks::Local, 1, 0, now - 20, true, "just now"),
            (Ticks::Local, 1, now, now - 1000, false, "mtime is forged"),
            (Ticks::Local, 1, 0, far, true, "changed in the future"),
            (Ticks::EveryChange, 1, 0, now, false, "just now, but told apart"),
            (Ticks::EveryChange, 1, 0, far, true, "the clock was set back"),
            (unknown(), 1, 0, now - 2001, false, "two seconds ago"),
            (unknown(), 1, now, now - 2001, true, "no trustworthy ctime"),
            (unknown(), 1, 0, now - 1999, true, "within two seconds"),
            (Ticks::Unknown(None), 1, 0, 0, true, "nothing is known"),
            (Ticks::EveryChange, 2, 0, now - 1999, true, "another file system"),
            (Ticks::EveryChange, 2, 0, now - 2001, false, "another file system, long ago"),
        ] {
            assert_eq!(racy(ticks, dev, mtime, ctime, now), expected, "{name}");
        }
    }

    #[test]
    fn a_local_file_system_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::File::open(dir.path()).unwrap();
        let measured = measure(top.as_fd());
        assert_ne!(measured.dev, 0);
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "left something behind");
    }
}
