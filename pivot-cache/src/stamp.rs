//! What the file system says about a file without reading it.
//!
//! A [`Stamp`] that is equal to an earlier one means that nothing was written in between, as long as
//! the clock that stamps files ticked in between as well; see [`crate::Workspace`] for that rule.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};

/// A point of time as a file system keeps it: seconds and nanoseconds since 1970.
///
/// Two fields, because 64-bit nanoseconds end in 2262 and file times do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

impl Instant {
    /// This host's clock.
    pub(crate) fn now() -> Instant {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Instant {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanoseconds: since.subsec_nanos(),
            },
            // A clock before 1970: everything with a later time counts as just changed.
            Err(_) => Instant { seconds: i64::MIN, nanoseconds: 0 },
        }
    }

    pub(crate) fn plus_ms(self, ms: u32) -> Instant {
        let nanoseconds = u64::from(self.nanoseconds) + u64::from(ms) * 1_000_000;
        Instant {
            seconds: self.seconds.saturating_add((nanoseconds / 1_000_000_000) as i64),
            nanoseconds: (nanoseconds % 1_000_000_000) as u32,
        }
    }
}

/// Identity, size and times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime: Instant,
    pub(crate) ctime: Instant,
}

impl Stamp {
    /// The length of [`Stamp::to_bytes`].
    pub(crate) const LEN: usize = 48;

    /// Where in [`Stamp::to_bytes`] the size lies.
    pub(crate) const SIZE_AT: usize = 16;

    // The fields of `Stat` have other integer types on other systems.
    #[allow(clippy::unnecessary_cast)]
    pub(crate) fn of(stat: &Stat) -> Stamp {
        Stamp {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime: Instant {
                seconds: stat.st_mtime as i64,
                nanoseconds: stat.st_mtime_nsec as u32,
            },
            ctime: Instant {
                seconds: stat.st_ctime as i64,
                nanoseconds: stat.st_ctime_nsec as u32,
            },
        }
    }

    /// Whether both show the same file with no write in between, though it may have been renamed or
    /// linked, which moves only `ctime`.
    pub(crate) fn same_but_ctime(&self, other: &Stamp) -> bool {
        Stamp { ctime: other.ctime, ..*self } == *other
    }

    pub(crate) fn to_bytes(self) -> [u8; Stamp::LEN] {
        let mut bytes = [0; Stamp::LEN];
        bytes[0..8].copy_from_slice(&self.dev.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ino.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.mtime.seconds.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.mtime.nanoseconds.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.ctime.seconds.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.ctime.nanoseconds.to_le_bytes());
        bytes
    }
}

/// Whether `stat` is of a regular file, a directory, …
pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether anyone may execute the file.
pub(crate) fn is_executable(stat: &Stat) -> bool {
    stat.st_mode & 0o111 != 0
}

/// The size in bytes.
#[allow(clippy::unnecessary_cast)]
pub(crate) fn size(stat: &Stat) -> u64 {
    stat.st_size as u64
}
