//! Who wrote the database file last?
//!
//! LMDB trusts the pages of its file: a page that anyone else has written over can crash the process.
//! So after each commit the file's stamp is written down, and a file that differs from it is not
//! opened. A process that is killed between the two leaves a file without a valid seal, too: that
//! costs the state, which may be lost at any time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::stamp::Stamp;

const NAME: &str = "seal";
const MAGIC: &[u8; 8] = b"PIVOTST1";
const LEN: usize = 8 + Stamp::LEN + 8;

/// Whether the file with this stamp is as the last commit left it.
pub(super) fn is_valid(dir: &Path, stamp: &Stamp) -> bool {
    let mut seal = Vec::with_capacity(2 * LEN);
    // One that anyone may have put there: a named pipe is not waited for, a large file not read.
    let read = open_at_once(&dir.join(NAME))
        .and_then(|file| file.take(2 * LEN as u64).read_to_end(&mut seal));
    read.is_ok() && seal == text(stamp)
}

/// Opens a file for reading; something that is no file may be opened, but is not waited for.
pub(super) fn open_at_once(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Writes down that the file with this stamp is ours.
pub(super) fn write(dir: &Path, stamp: &Stamp) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(dir.join(NAME))?;
    file.write_all(&text(stamp))?;
    file.set_len(LEN as u64)
}

fn text(stamp: &Stamp) -> Vec<u8> {
    let mut text = Vec::with_capacity(LEN);
    text.extend_from_slice(MAGIC);
    // Device numbers change when a machine starts with its disks in another order.
    text.extend_from_slice(&Stamp { dev: 0, ..*stamp }.to_bytes());
    let checksum = xxh3_64(&text);
    text.extend_from_slice(&checksum.to_le_bytes());
    text
}
