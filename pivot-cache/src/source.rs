//! Reading files that others may be writing.
//!
//! A file's hash is only worth something if no write fell into the reading of it. So everything here
//! compares the file's stamp from before and after, and starts over when they differ.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{CacheError, UnsupportedKind};
use crate::object_id::{Hasher, ObjectId};
use crate::stamp::{Instant, Stamp, file_type, is_executable, size};

/// How much is read at once. Larger buffers leave the processor's cache and are slower.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// From this size on, one thread reads and hashes while another writes.
const PIPELINE_BYTES: u64 = 8 * 1024 * 1024;

/// How often a file that changes under our eyes is read again before we give up.
pub(crate) const ATTEMPTS: usize = 3;

/// A name in an open directory, and the path that messages show for that directory.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) shown: &'a Path,
    pub(crate) name: &'a Path,
}

impl<'a> At<'a> {
    /// A path that is not relative to any open directory.
    pub(crate) fn path(path: &'a Path) -> At<'a> {
        At { dir: rustix::fs::CWD, shown: Path::new(""), name: path }
    }

    /// The path to show to people.
    pub(crate) fn to_path(self) -> PathBuf {
        self.shown.join(self.name)
    }

    pub(crate) fn stat(self, links: Links) -> rustix::io::Result<Stat> {
        let flags = match links {
            Links::Follow => AtFlags::empty(),
            Links::Keep => AtFlags::SYMLINK_NOFOLLOW,
        };
        rustix::fs::statat(self.dir, self.name, flags)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    ///
    /// If it is anything else: opening it does not block, even if it is a FIFO without a writer.
    pub(crate) fn open(self, links: Links) -> Result<(File, Stat), CacheError> {
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        if links == Links::Keep {
            flags |= OFlags::NOFOLLOW;
        }
        let opened = rustix::fs::openat(self.dir, self.name, flags, Mode::empty());
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(error) => {
                // A socket cannot be opened at all; say what it is.
                if error != Errno::NOENT
                    && let Ok(stat) = self.stat(links)
                {
                    require_regular(&stat, self)?;
                }
                return Err(CacheError::io("open", self.to_path())(error));
            }
        };
        let stat = rustix::fs::fstat(&file).map_err(CacheError::io("stat", self.to_path()))?;
        require_regular(&stat, self)?;
        Ok((file, stat))
    }
}

/// What to do when the last part of a path is a symbolic link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Keep,
}

fn require_regular(stat: &Stat, at: At<'_>) -> Result<(), CacheError> {
    match file_type(stat) {
        FileType::RegularFile => Ok(()),
        other => Err(unsupported(other, at)),
    }
}

/// The error for something that has no contents to store.
pub(crate) fn unsupported(found: FileType, at: At<'_>) -> CacheError {
    let kind = match found {
        FileType::Fifo => UnsupportedKind::NamedPipe,
        FileType::Socket => UnsupportedKind::Socket,
        FileType::BlockDevice | FileType::CharacterDevice => UnsupportedKind::Device,
        _ => UnsupportedKind::Other,
    };
    CacheError::Unsupported { path: at.to_path(), kind }
}

/// A file's identity, and the evidence for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeenFile {
    pub(crate) id: ObjectId,
    pub(crate) executable: bool,
    /// The stamp that the file had before and after its bytes were read.
    pub(crate) stamp: Stamp,
    /// This host's clock just before the first of the two.
    pub(crate) seen: Instant,
}

/// Hashes a file.
pub(crate) fn hash_file(at: At<'_>, links: Links) -> Result<SeenFile, CacheError> {
    for _ in 0..ATTEMPTS {
        let seen = Instant::now();
        let (file, before) = at.open(links)?;
        let (id, read_bytes) = with_buffer(|buffer| hash_open(&file, size(&before), buffer))
            .map_err(CacheError::io("read", at.to_path()))?;
        if let Some(stamp) = unchanged(&file, &before, read_bytes, at)? {
            return Ok(SeenFile { id, executable: is_executable(&before), stamp, seen });
        }
    }
    Err(CacheError::Changing { path: at.to_path() })
}

/// Reads and hashes a file, links followed; `None` if it is larger than `max_bytes`.
pub(crate) fn read_file(
    at: At<'_>,
    max_bytes: u64,
) -> Result<Option<(SeenFile, Vec<u8>)>, CacheError> {
    for _ in 0..ATTEMPTS {
        let seen = Instant::now();
        let (mut file, before) = at.open(Links::Follow)?;
        if size(&before) > max_bytes {
            return Ok(None);
        }
        // One byte more than there should be: reading on at the end shows whether it grew.
        let mut bytes = vec![0; size(&before) as usize + 1];
        let count = fill(&mut file, &mut bytes).map_err(CacheError::io("read", at.to_path()))?;
        bytes.truncate(count);
        if let Some(stamp) = unchanged(&file, &before, count as u64, at)? {
            let id = ObjectId::of_bytes(&bytes);
            let seen = SeenFile { id, executable: is_executable(&before), stamp, seen };
            return Ok(Some((seen, bytes)));
        }
    }
    Err(CacheError::Changing { path: at.to_path() })
}

/// The file's stamp, if it is still the one from before and as many bytes were read.
pub(crate) fn unchanged(
    file: &File,
    before: &Stat,
    read_bytes: u64,
    at: At<'_>,
) -> Result<Option<Stamp>, CacheError> {
    let after = rustix::fs::fstat(file).map_err(CacheError::io("stat", at.to_path()))?;
    let stamp = Stamp::of(&after);
    let same = stamp == Stamp::of(before)
        && is_executable(&after) == is_executable(before)
        && read_bytes == stamp.size;
    Ok(same.then_some(stamp))
}

/// Lends this thread's read buffer: a new one for each of 100,000 small files would cost more than
/// hashing them.
pub(crate) fn with_buffer<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // Taken out rather than borrowed: who asks again in `work` gets a buffer of their own.
    let mut buffer = BUFFER.take();
    buffer.resize(BUFFER_BYTES, 0);
    let result = work(&mut buffer);
    BUFFER.set(buffer);
    result
}

/// Hashes from the file's position on. At `expected_bytes` it stops without looking for the end: if
/// the file has grown, its stamp has changed, which the caller sees.
pub(crate) fn hash_open(
    mut file: &File,
    expected_bytes: u64,
    buffer: &mut [u8],
) -> io::Result<(ObjectId, u64)> {
    let mut hasher = Hasher::new();
    let mut total = 0;
    loop {
        let count = read_some(&mut file, buffer)?;
        total += count as u64;
        if total == count as u64 && (count == 0 || total == expected_bytes) {
            // All in one piece: the one-shot hash needs no set-up.
            return Ok((ObjectId::of_bytes(&buffer[..count]), total));
        }
        hasher.update(&buffer[..count]);
        if count == 0 || total == expected_bytes {
            return Ok((hasher.id(), total));
        }
    }
}

/// Hashes a file to whatever end it has.
pub(crate) fn hash_all(file: &File) -> io::Result<(ObjectId, u64)> {
    with_buffer(|buffer| hash_open(file, u64::MAX, buffer))
}

/// Which side of a copy failed.
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl CopyError {
    pub(crate) fn at(self, from: &Path, to: &Path) -> CacheError {
        match self {
            CopyError::Read(error) => CacheError::io("read", from)(error),
            CopyError::Write(error) => CacheError::io("write", to)(error),
        }
    }
}

/// Copies all of `from` to `to` and hashes what was written, in one pass.
pub(crate) fn copy_hashing(
    from: &File,
    mut to: &File,
    expected_bytes: u64,
) -> Result<(ObjectId, u64), CopyError> {
    if expected_bytes >= PIPELINE_BYTES {
        return match copy_in_kernel(from, to).map_err(CopyError::Write)? {
            true => with_buffer(|buffer| hash_from_start(to, buffer)).map_err(CopyError::Write),
            false => copy_hashing_pipelined(from, to),
        };
    }
    with_buffer(|buffer| {
        let mut hasher = Hasher::new();
        let mut total = 0;
        loop {
            let count = read_some(&mut &*from, buffer).map_err(CopyError::Read)?;
            if count == 0 {
                return Ok((hasher.id(), total));
            }
            hasher.update(&buffer[..count]);
            to.write_all(&buffer[..count]).map_err(CopyError::Write)?;
            total += count as u64;
        }
    })
}

/// Lets the system copy all of `from` to `to`, which spares the way through this process's memory.
/// `false`: it cannot do so for these files, and nothing was written.
fn copy_in_kernel(from: &File, to: &File) -> io::Result<bool> {
    const PIECE_BYTES: usize = 64 << 20;
    let mut is_begun = false;
    loop {
        match rustix::fs::copy_file_range(from, None, to, None, PIECE_BYTES) {
            Ok(0) => return Ok(true),
            Ok(_) => is_begun = true,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM)
                if !is_begun =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Hashes a file that was written just now.
fn hash_from_start(mut file: &File, buffer: &mut [u8]) -> io::Result<(ObjectId, u64)> {
    file.seek(SeekFrom::Start(0))?;
    hash_open(file, u64::MAX, buffer)
}

fn copy_hashing_pipelined(from: &File, mut to: &File) -> Result<(ObjectId, u64), CopyError> {
    const BUFFERS: usize = 4;
    let (full_sender, full) = mpsc::sync_channel::<(Vec<u8>, usize)>(BUFFERS);
    let (empty_sender, empty) = mpsc::sync_channel::<Vec<u8>>(BUFFERS);
    for _ in 0..BUFFERS {
        empty_sender.send(vec![0; BUFFER_BYTES]).expect("the channel holds all buffers");
    }
    thread::scope(|scope| {
        let writer = scope.spawn(move || -> io::Result<()> {
            for (buffer, count) in full {
                to.write_all(&buffer[..count])?;
                // The reader may be done already and want no more buffers.
                let _ = empty_sender.send(buffer);
            }
            Ok(())
        });
        let mut hasher = Hasher::new();
        let mut total = 0;
        let mut read = Ok(());
        // Both channels end early only when the writer has failed; its error is reported below.
        while let Ok(mut buffer) = empty.recv() {
            match read_some(&mut &*from, &mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    total += count as u64;
                    if full_sender.send((buffer, count)).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    read = Err(CopyError::Read(error));
                    break;
                }
            }
        }
        drop(full_sender);
        let written = writer.join().expect("the writing thread does not panic");
        read?;
        written.map_err(CopyError::Write)?;
        Ok((hasher.id(), total))
    })
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match read_some(file, &mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// Reads once; 0 is the file's end.
pub(crate) fn read_some(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
