//! Walking a directory artifact.
//!
//! A walk costs one `readdir` a directory and one `stat` a file, in parallel, and opens no file. Its
//! order is the file system's own, which does not change while the directory does not: comparing with
//! an earlier walk needs no sorting.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::CacheError;
use crate::manifest::{DirectoryManifest, EntryKind, ManifestEntry};
use crate::source::{At, SeenFile, unsupported};
use crate::stamp::{Instant, Stamp, file_type, is_executable};

/// Directories with more entries than this are stat'ed by several threads.
const PARALLEL_STATS: usize = 2048;

/// One file, symbolic link or empty directory that a walk found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Where its path lies in [`Listing::names`].
    start: usize,
    end: usize,
    pub(crate) kind: FoundKind,
    /// Meaningless for an empty directory.
    pub(crate) stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundKind {
    File { executable: bool },
    Symlink,
    EmptyDirectory,
}

/// Everything in a directory, in the order of the walk.
#[derive(Debug)]
pub(crate) struct Listing {
    top: OwnedFd,
    path: PathBuf,
    /// This host's clock before the walk.
    pub(crate) seen: Instant,
    /// All paths below the top, one after the other.
    names: Vec<u8>,
    found: Vec<Found>,
}

impl Listing {
    /// Walks the directory at `at`; if that is a symbolic link, it is followed.
    pub(crate) fn read(at: At<'_>) -> Result<Listing, CacheError> {
        let seen = Instant::now();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(at.dir, at.name, flags, Mode::empty())
            .map_err(CacheError::io("open", at.to_path()))?;
        let mut listing =
            Listing { top, path: at.to_path(), seen, names: Vec::new(), found: Vec::new() };
        // Level by level rather than by recursion: depth is the user's choice.
        let mut level = vec![Vec::new()];
        while !level.is_empty() {
            let parts: Vec<Part> =
                level.par_iter().map(|dir| listing.read_dir(dir)).collect::<Result<_, _>>()?;
            let mut next = Vec::new();
            for (dir, part) in level.iter().zip(parts) {
                if part.found.is_empty() && part.dirs.is_empty() && !dir.is_empty() {
                    listing.add_empty(dir);
                }
                let offset = listing.names.len();
                listing.names.extend_from_slice(&part.names);
                listing.found.extend(part.found.into_iter().map(|found| Found {
                    start: found.start + offset,
                    end: found.end + offset,
                    ..found
                }));
                next.extend(part.dirs);
            }
            level = next;
        }
        Ok(listing)
    }

    pub(crate) fn found(&self) -> &[Found] {
        &self.found
    }

    pub(crate) fn name(&self, found: &Found) -> &[u8] {
        &self.names[found.start..found.end]
    }

    pub(crate) fn at<'a>(&'a self, found: &Found) -> At<'a> {
        let name = Path::new(OsStr::from_bytes(&self.names[found.start..found.end]));
        At { dir: self.top.as_fd(), shown: &self.path, name }
    }

    fn add_empty(&mut self, dir: &[u8]) {
        let start = self.names.len();
        self.names.extend_from_slice(dir);
        let zero = Instant { seconds: 0, nanoseconds: 0 };
        let stamp = Stamp { dev: 0, ino: 0, size: 0, mtime: zero, ctime: zero };
        let end = self.names.len();
        self.found.push(Found { start, end, kind: FoundKind::EmptyDirectory, stamp });
    }

    fn read_dir(&self, dir: &[u8]) -> Result<Part, CacheError> {
        let shown = || self.path.join(OsStr::from_bytes(dir));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let name = if dir.is_empty() { b"." } else { dir };
        let fd = rustix::fs::openat(&self.top, OsStr::from_bytes(name), flags, Mode::empty())
            .map_err(CacheError::io("open", shown()))?;
        let mut part = Part::default();
        let mut entries: Vec<(usize, usize, usize)> = Vec::new();
        for entry in Dir::read_from(&fd).map_err(CacheError::io("list", shown()))? {
            let entry = entry.map_err(CacheError::io("list", shown()))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let start = part.names.len();
            if !dir.is_empty() {
                part.names.extend_from_slice(dir);
                part.names.push(b'/');
            }
            let base = part.names.len();
            part.names.extend_from_slice(name);
            if entry.file_type() == FileType::Directory {
                // No stat needed: a directory is what it holds.
                part.dirs.push(part.names[start..].to_vec());
                part.names.truncate(start);
            } else {
                entries.push((start, base, part.names.len()));
            }
        }
        let names = &part.names;
        let stat = |&(start, base, end): &(usize, usize, usize)| {
            let stat = match rustix::fs::statat(
                &fd,
                OsStr::from_bytes(&names[base..end]),
                AtFlags::SYMLINK_NOFOLLOW,
            ) {
                Ok(stat) => stat,
                // Removed since the directory was read: then it is not in it.
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => {
                    let path = self.path.join(OsStr::from_bytes(&names[start..end]));
                    return Err(CacheError::io("stat", path)(error));
                }
            };
            let kind = match file_type(&stat) {
                FileType::RegularFile => Some(FoundKind::File { executable: is_executable(&stat) }),
                FileType::Symlink => Some(FoundKind::Symlink),
                // Some file systems do not say so in the listing.
                FileType::Directory => None,
                other => {
                    let name = Path::new(OsStr::from_bytes(&names[start..end]));
                    let at = At { dir: self.top.as_fd(), shown: &self.path, name };
                    return Err(unsupported(other, at));
                }
            };
            Ok(Some((start, end, kind, Stamp::of(&stat))))
        };
        let stats: Vec<_> = if entries.len() > PARALLEL_STATS {
            entries.par_iter().with_min_len(512).map(stat).collect::<Result<_, CacheError>>()?
        } else {
            entries.iter().map(stat).collect::<Result<_, CacheError>>()?
        };
        part.found.reserve(stats.len());
        for (start, end, kind, stamp) in stats.into_iter().flatten() {
            match kind {
                Some(kind) => part.found.push(Found { start, end, kind, stamp }),
                None => part.dirs.push(part.names[start..end].to_vec()),
            }
        }
        Ok(part)
    }
}

/// What one directory holds itself.
#[derive(Default)]
struct Part {
    names: Vec<u8>,
    found: Vec<Found>,
    dirs: Vec<Vec<u8>>,
}

/// A directory whose files were all hashed.
#[derive(Debug)]
pub(crate) struct HashedTree {
    pub(crate) listing: Listing,
    /// For each entry of the listing that is a file, what it was when it was read.
    pub(crate) files: Vec<Option<SeenFile>>,
}

impl HashedTree {
    /// Walks the directory and has `hash` look at each file, in parallel.
    pub(crate) fn read(
        at: At<'_>,
        hash: impl Fn(At<'_>, &Found) -> Result<SeenFile, CacheError> + Sync,
    ) -> Result<HashedTree, CacheError> {
        HashedTree::of(Listing::read(at)?, hash)
    }

    /// Has `hash` look at each file of a walk, in parallel.
    pub(crate) fn of(
        listing: Listing,
        hash: impl Fn(At<'_>, &Found) -> Result<SeenFile, CacheError> + Sync,
    ) -> Result<HashedTree, CacheError> {
        let files = listing
            .found
            .par_iter()
            .map(|found| match found.kind {
                FoundKind::File { .. } => hash(listing.at(found), found).map(Some),
                FoundKind::Symlink | FoundKind::EmptyDirectory => Ok(None),
            })
            .collect::<Result<_, _>>()?;
        Ok(HashedTree { listing, files })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.listing.path
    }

    /// The manifest of what was seen. Symbolic links are read now.
    pub(crate) fn manifest(&self) -> Result<DirectoryManifest, CacheError> {
        let entry = |(found, file): (&Found, &Option<SeenFile>)| {
            let at = self.listing.at(found);
            let kind = match (found.kind, file) {
                (_, Some(file)) => EntryKind::File {
                    id: file.id,
                    size_bytes: file.stamp.size,
                    executable: file.executable,
                },
                (FoundKind::Symlink, None) => {
                    let target = rustix::fs::readlinkat(at.dir, at.name, Vec::new())
                        .map_err(CacheError::io("read", at.to_path()))?;
                    EntryKind::Symlink { target: OsStr::from_bytes(target.as_bytes()).into() }
                }
                _ => EntryKind::EmptyDirectory,
            };
            Ok(ManifestEntry { path: at.name.to_path_buf(), kind })
        };
        let entries = self.listing.found.iter().zip(&self.files).map(entry);
        let entries = entries.collect::<Result<_, CacheError>>()?;
        // Only a directory that is rearranged while it is walked has impossible paths.
        DirectoryManifest::new(entries)
            .map_err(|_| CacheError::Changing { path: self.path().to_path_buf() })
    }
}
