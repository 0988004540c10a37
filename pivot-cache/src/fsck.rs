//! Is everything in the cache what its name says? Reads every byte of it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{FileType, Mode};

use crate::error::CacheError;
use crate::manifest::{DirectoryManifest, HEADER};
use crate::object_id::ObjectId;
use crate::source;
use crate::stamp::{file_type, size};
use crate::store::Cache;

/// What a look at the whole cache has found.
#[derive(Debug, Default)]
pub struct FsckReport {
    /// How many objects were read.
    pub objects: u64,
    /// How many bytes were read.
    pub size_bytes: u64,
    /// What is wrong, in the order of the objects' names.
    pub problems: Vec<Problem>,
    /// Half-written files of processes that are gone; they were removed.
    pub leftovers: u64,
}

/// One thing that is wrong with a cache.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// An object's bytes have another hash; it was moved away.
    Damaged {
        /// The object.
        id: ObjectId,
        /// Where its bytes lie now; `None` if they could not be moved.
        quarantined: Option<PathBuf>,
    },
    /// An object cannot be read.
    Unreadable {
        /// The object.
        id: ObjectId,
        /// Why.
        error: CacheError,
    },
    /// A directory's manifest names objects that are not there, or that have another size.
    Incomplete {
        /// The manifest.
        id: ObjectId,
        /// How many of its files are missing.
        missing: u64,
        /// One of them: its path in the directory, and its object.
        example: (PathBuf, ObjectId),
    },
    /// Something among the objects that is none. It is not touched.
    Foreign {
        /// Where it lies.
        path: PathBuf,
    },
    /// An object could be written; it is read-only again.
    Writable {
        /// The object.
        id: ObjectId,
    },
}

impl Problem {
    /// Whether something is lost, as opposed to merely out of order.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Problem::Foreign { .. } | Problem::Writable { .. })
    }
}

/// One object, as it was read.
struct Read {
    id: ObjectId,
    size_bytes: u64,
    manifest: Option<DirectoryManifest>,
    problem: Option<Problem>,
    is_sound: bool,
}

impl Cache {
    /// Hashes every object, on all processors. Damaged objects are moved to `quarantine`, objects that
    /// could be written become read-only, and leftovers of killed processes are removed.
    ///
    /// `on_read` is told of each object's size in bytes when it has been read.
    ///
    /// # Errors
    ///
    /// If the cache cannot be listed.
    pub fn fsck(&self, on_read: &(dyn Fn(u64) + Sync)) -> Result<FsckReport, CacheError> {
        let (ids, foreign) = self.list_files()?;
        let mut read: Vec<Read> = ids
            .into_par_iter()
            .map(|id| {
                let read = self.read_whole(id);
                on_read(read.size_bytes);
                read
            })
            .collect();
        read.sort_unstable_by_key(|read| read.id);
        let sound: HashMap<ObjectId, u64> =
            read.iter().filter(|read| read.is_sound).map(|r| (r.id, r.size_bytes)).collect();
        let mut report = FsckReport::default();
        for object in read {
            report.objects += 1;
            report.size_bytes += object.size_bytes;
            report.problems.extend(object.problem);
            let incomplete = object.manifest.and_then(|m| incomplete(object.id, &m, &sound));
            report.problems.extend(incomplete);
        }
        report.problems.extend(foreign.into_iter().map(|path| Problem::Foreign { path }));
        let temporaries = || fs::read_dir(self.tmp()).map_or(0, Iterator::count) as u64;
        let before = temporaries();
        self.sweep_temporary();
        report.leftovers = before.saturating_sub(temporaries());
        Ok(report)
    }

    /// Everything below `files`: objects, and the paths of what is none.
    fn list_files(&self) -> Result<(Vec<ObjectId>, Vec<PathBuf>), CacheError> {
        let top = self.dir().join("files");
        let (mut ids, mut foreign) = (Vec::new(), Vec::new());
        for fan_out in entries(&top)? {
            let Some(digits) = name_of(&fan_out).filter(|name| name.len() == 2) else {
                foreign.push(fan_out);
                continue;
            };
            if !fs::symlink_metadata(&fan_out).is_ok_and(|metadata| metadata.is_dir()) {
                foreign.push(fan_out);
                continue;
            }
            for entry in entries(&fan_out)? {
                let rest = name_of(&entry);
                match rest.and_then(|rest| format!("{digits}{rest}").parse().ok()) {
                    Some(id) => ids.push(id),
                    None => foreign.push(entry),
                }
            }
        }
        foreign.sort_unstable();
        Ok((ids, foreign))
    }

    fn read_whole(&self, id: ObjectId) -> Read {
        let mut read = Read { id, size_bytes: 0, manifest: None, problem: None, is_sound: false };
        match self.look_into(&mut read) {
            Ok(()) => {}
            // Collected or moved away by someone else in the meantime.
            Err(CacheError::Missing { .. }) => {}
            Err(CacheError::Corrupt { id, quarantined }) => {
                read.problem = Some(Problem::Damaged { id, quarantined });
            }
            Err(error) => read.problem = Some(Problem::Unreadable { id, error }),
        }
        read
    }

    fn look_into(&self, read: &mut Read) -> Result<(), CacheError> {
        let id = read.id;
        let path = self.object_path(id);
        let file = self.open_object(id)?;
        let stat = rustix::fs::fstat(&file).map_err(CacheError::io("stat", &path))?;
        if file_type(&stat) != FileType::RegularFile {
            return Err(self.corrupt(id));
        }
        read.size_bytes = size(&stat);
        let (found, _) = source::hash_all(&file).map_err(CacheError::io("read", &path))?;
        if found != id {
            return Err(self.corrupt(id));
        }
        read.is_sound = true;
        let mut beginning = [0; HEADER.len()];
        let begins = rustix::io::pread(&file, &mut beginning, 0);
        if begins == Ok(HEADER.len()) && beginning == *HEADER.as_bytes() {
            // A user's file may look like one; then it is no damage that it is none.
            read.manifest = self.manifest(id).ok();
        }
        if stat.st_mode & 0o222 != 0 {
            read.problem = Some(Problem::Writable { id });
            let _ = rustix::fs::fchmod(&file, Mode::RUSR | Mode::RGRP | Mode::ROTH);
        }
        Ok(())
    }
}

fn incomplete(
    id: ObjectId,
    manifest: &DirectoryManifest,
    sound: &HashMap<ObjectId, u64>,
) -> Option<Problem> {
    use crate::manifest::EntryKind;
    let lost = manifest.entries().iter().filter_map(|entry| match entry.kind {
        EntryKind::File { id, size_bytes, .. } => {
            (sound.get(&id) != Some(&size_bytes)).then(|| (entry.path.clone(), id))
        }
        _ => None,
    });
    let mut lost = lost.peekable();
    let example = lost.peek()?.clone();
    Some(Problem::Incomplete { id, missing: lost.count() as u64, example })
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(CacheError::io("list", dir))?,
    };
    let paths = listed.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(CacheError::io("list", dir))
}
