//! A remote that is a directory: a shared disk, a network mount, a second drive.
//!
//! Objects lie as in a cache, `files/ab/cdef0123456789`, so a cache's directory can be copied to
//! become a remote. Each is written in `tmp` and renamed, so no reader ever sees half of one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pivot_cache::{Cache, CacheError, Content, ObjectId};
use xxhash_rust::xxh64::Xxh64;

use crate::options::Interrupt;
use crate::record::{self, MAX_SEALED_BYTES, RecordKey};
use crate::remote::{Remote, RemoteError, Report, Transfer};
use crate::threads::in_threads;
use crate::url::RemoteUrl;

/// More threads than this do not make a disk faster.
const MAX_JOBS: usize = 8;

const BUFFER_BYTES: usize = 128 * 1024;

/// A file in `tmp` of this age was left behind by a process that died: other machines write there
/// too, so there is no process to ask.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A remote in a directory, which need not exist before the first object is sent.
///
/// Any number of processes on any number of machines may use one at the same time.
#[derive(Clone, Debug)]
pub struct DirectoryRemote {
    dir: PathBuf,
    jobs: NonZeroUsize,
    interrupt: Interrupt,
}

impl DirectoryRemote {
    /// The remote in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let jobs = NonZeroUsize::new(cores.min(MAX_JOBS)).unwrap_or(NonZeroUsize::MIN);
        Self { dir: dir.into(), jobs, interrupt: Interrupt::default() }
    }

    /// The same remote with so many transfers at once.
    pub fn with_jobs(self, jobs: NonZeroUsize) -> Self {
        Self { jobs, ..self }
    }

    /// The same remote whose transfers end once `interrupt` is set.
    pub fn with_interrupt(self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self }
    }

    fn path(&self, id: ObjectId) -> PathBuf {
        self.dir.join(id.relative_path())
    }

    /// The size of the remote's object, if there is one. A link or a pipe is no object.
    fn size_bytes(&self, id: ObjectId) -> Result<Option<u64>, RemoteError> {
        let path = self.path(id);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Whether the remote's object, which has another size than ours, is sound nevertheless.
    fn is_sound(&self, id: ObjectId) -> Result<bool, RemoteError> {
        let path = self.path(id);
        let mut file = File::open(&path).map_err(failed("read", &path))?;
        let (found, _) = copy_hashing(&mut file, &mut io::sink(), &path, &path)?;
        Ok(found == id)
    }

    /// The sorted names of the files two levels below `kind`, as far as they mean something.
    fn names<T: Ord>(
        &self,
        kind: &str,
        meaning: impl Fn(&str, &str) -> Option<T>,
    ) -> Result<Vec<T>, RemoteError> {
        let top = self.dir.join(kind);
        let mut names = Vec::new();
        for (fan_out, kind) in entries(&top)? {
            // Links are not followed: they could lead anywhere, or in circles.
            if fan_out.len() != 2 || !kind.is_dir() {
                continue;
            }
            for (name, kind) in entries(&top.join(&fan_out))? {
                if kind.is_file() {
                    names.extend(meaning(&fan_out, &name));
                }
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn put_record(&self, key: &RecordKey, bytes: &[u8]) -> Result<(), RemoteError> {
        let text = record::sealed(key, bytes)
            .ok_or_else(|| RemoteError::LargeRecord { key: key.clone() })?;
        let mut temporary = self.temporary()?;
        temporary.write_all(&text).map_err(failed("write", temporary.path()))?;
        self.publish(temporary, &self.dir.join(key.relative_path()))
    }

    fn get_record(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, RemoteError> {
        let path = self.dir.join(key.relative_path());
        match fs::symlink_metadata(&path) {
            // Opening a named pipe would wait for a writer, so look first.
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Ok(None),
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        }
        let file = File::open(&path).map_err(failed("read", &path))?;
        let mut text = Vec::new();
        let limited = &mut file.take(MAX_SEALED_BYTES + 1);
        limited.read_to_end(&mut text).map_err(failed("read", &path))?;
        record::unsealed(key, &text)
            .map(Some)
            .ok_or_else(|| RemoteError::CorruptRecord { key: key.clone() })
    }

    fn publish(
        &self,
        temporary: tempfile::NamedTempFile,
        target: &Path,
    ) -> Result<(), RemoteError> {
        let parent = target.parent().expect("everything lies below the remote's directory");
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
        temporary.persist(target).map_err(|error| failed("write", target)(error.error))?;
        Ok(())
    }

    fn temporary(&self) -> Result<tempfile::NamedTempFile, RemoteError> {
        let tmp = self.dir.join("tmp");
        let mut builder = tempfile::Builder::new();
        builder.prefix("object-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Others fetch it; nobody changes it.
            builder.permissions(fs::Permissions::from_mode(0o444));
        }
        match builder.tempfile_in(&tmp) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&tmp).map_err(failed("create", &tmp))?;
                builder.tempfile_in(&tmp)
            }
            other => other,
        }
        .map_err(|error| failed("create a file in", &tmp)(without_path(error)))
    }

    /// Removes what was left half-written long ago. Trouble is no concern of a transfer's.
    fn sweep_temporary(&self) {
        let Ok(entries) = fs::read_dir(self.dir.join("tmp")) else { return };
        let now = SystemTime::now();
        for entry in entries.flatten() {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
            let is_ours = entry.file_name().to_str().is_some_and(|n| n.starts_with("object-"));
            if is_ours && age.is_some_and(|age| age > ABANDONED_AFTER) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Remote for DirectoryRemote {
    fn url(&self) -> RemoteUrl {
        RemoteUrl::Directory(self.dir.clone())
    }

    fn jobs(&self) -> NonZeroUsize {
        self.jobs
    }

    fn contains(&self, id: ObjectId) -> Result<bool, RemoteError> {
        Ok(self.size_bytes(id)?.is_some())
    }

    fn list(&self) -> Result<Vec<ObjectId>, RemoteError> {
        self.names("files", |fan_out, name| format!("{fan_out}{name}").parse().ok())
    }

    fn send(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
        let size_bytes = cache.size_bytes(id).ok_or(CacheError::Missing { id })?;
        match self.size_bytes(id)? {
            Some(there) if there == size_bytes => return Ok(Transfer::AlreadyThere),
            Some(_) if self.is_sound(id)? => {
                // Either ours is damaged or two contents share a hash.
                cache.verify(&Content::file(id, size_bytes))?;
                return Err(RemoteError::Collision { id });
            }
            // What is there was cut off, so that the rename below heals it; or nothing is there.
            Some(_) | None => {}
        }
        let (source, target) = (cache.object_path(id), self.path(id));
        let mut temporary = self.temporary()?;
        let mut object = cache.open_object(id)?;
        let temporary_path = temporary.path().to_owned();
        let (found, sent) =
            copy_hashing(&mut object, temporary.as_file_mut(), &source, &temporary_path)?;
        if found != id {
            // Moves the object aside and says so; if it is sound now, it was being changed.
            cache.verify(&Content::file(id, size_bytes))?;
            return Err(CacheError::Changing { path: source }.into());
        }
        self.publish(temporary, &target)?;
        Ok(Transfer::Moved { size_bytes: sent })
    }

    fn fetch(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
        // Opening a named pipe would wait for a writer, so look first.
        if self.size_bytes(id)?.is_none() {
            return Err(match self.dir.is_dir() {
                true => RemoteError::Missing { id },
                false => RemoteError::Setup {
                    problem: format!(
                        "there is no directory `{}`: is its disk there?",
                        self.dir.display()
                    ),
                },
            });
        }
        let path = self.path(id);
        let mut file = File::open(&path).map_err(failed("read", &path))?;
        let mut writer = cache.writer()?;
        let (found, size_bytes) = copy_hashing(&mut file, &mut writer, &path, cache.dir())?;
        if found != id {
            return Err(RemoteError::Corrupt { id });
        }
        writer.finish(id)?;
        Ok(Transfer::Moved { size_bytes })
    }

    fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    fn send_all(&self, cache: &Cache, ids: &[ObjectId], report: &mut Report<'_>) {
        self.sweep_temporary();
        in_threads(self.jobs, &self.interrupt, ids, |id| self.send(cache, id), report);
    }

    fn put_records(&self, records: &[(RecordKey, Vec<u8>)]) -> Vec<(RecordKey, RemoteError)> {
        let failure = |(key, bytes): &(RecordKey, Vec<u8>)| {
            self.put_record(key, bytes).err().map(|error| (key.clone(), error))
        };
        records.iter().filter_map(failure).collect()
    }

    fn get_records(&self, keys: &[RecordKey]) -> Vec<(RecordKey, Result<Vec<u8>, RemoteError>)> {
        let found = |key: &RecordKey| Some((key.clone(), self.get_record(key).transpose()?));
        keys.iter().filter_map(found).collect()
    }

    fn list_records(&self) -> Result<Vec<RecordKey>, RemoteError> {
        self.names("runs", |fan_out, name| RecordKey::of_path(&format!("runs/{fan_out}/{name}")))
    }
}

/// The names in a directory that are UTF-8, as those of objects are; none if there is no directory.
fn entries(dir: &Path) -> Result<Vec<(String, fs::FileType)>, RemoteError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if is_absence(&error) => return Ok(Vec::new()),
        other => other.map_err(failed("list", dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, entry.file_type().map_err(failed("list", dir))?));
        }
    }
    Ok(names)
}

/// Copies to the end and says what passed through: its hash and its size.
fn copy_hashing(
    from: &mut dyn Read,
    to: &mut dyn Write,
    from_path: &Path,
    to_path: &Path,
) -> Result<(ObjectId, u64), RemoteError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hasher = Xxh64::new(0);
    let mut size_bytes = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((ObjectId::from_u64(hasher.digest()), size_bytes)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("read", from_path)(error)),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(failed("write", to_path))?;
        size_bytes += count as u64;
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The names of temporary files are random: with them, no two failures would be the same.
fn without_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((problem, _)) => io::Error::new(error.kind(), problem),
        None => error,
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RemoteError {
    move |source| RemoteError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    struct Sides {
        dir: TempDir,
        cache: Cache,
        remote: DirectoryRemote,
    }

    fn sides() -> Sides {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache"));
        let remote = DirectoryRemote::new(dir.path().join("deep/remote"));
        Sides { dir, cache, remote }
    }

    /// Overwrites a file that is read-only.
    fn damage(path: &Path, bytes: &[u8]) {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn half_written(remote: &DirectoryRemote) -> usize {
        fs::read_dir(remote.dir.join("tmp")).map_or(0, Iterator::count)
    }

    #[test]
    fn an_object_goes_there_and_back() {
        let Sides { dir, cache, remote } = sides();
        for bytes in [b"".to_vec(), b"model".to_vec(), vec![7; 3 * BUFFER_BYTES + 1]] {
            let id = cache.put_bytes(&bytes).unwrap();
            assert!(!remote.contains(id).unwrap());
            let size_bytes = bytes.len() as u64;
            assert_eq!(remote.send(&cache, id).unwrap(), Transfer::Moved { size_bytes });
            assert_eq!(remote.send(&cache, id).unwrap(), Transfer::AlreadyThere);
            assert!(remote.contains(id).unwrap());

            let other = Cache::open(&dir.path().join("other"));
            assert_eq!(remote.fetch(&other, id).unwrap(), Transfer::Moved { size_bytes });
            assert_eq!(other.read(id).unwrap(), bytes);
            // Once more, over what is there.
            remote.fetch(&other, id).unwrap();
        }
        assert_eq!(remote.list().unwrap().len(), 3);
        assert_eq!(half_written(&remote), 0);
    }

    #[test]
    fn a_remote_that_does_not_exist_is_empty() {
        let Sides { cache, remote, .. } = sides();
        let id = ObjectId::of_bytes(b"x");
        assert_eq!(remote.list().unwrap(), []);
        assert!(!remote.contains(id).unwrap());
        let text = remote.fetch(&cache, id).unwrap_err().to_string();
        assert!(text.contains("deep/remote`: is its disk there?"), "{text}");
        assert!(!remote.dir.exists());
    }

    #[test]
    fn records_go_there_and_back_and_damaged_ones_are_told() {
        let Sides { remote, .. } = sides();
        let keys: Vec<_> = (0..3).map(|n| RecordKey::from_digest(&[n; 16])).collect();
        assert_eq!(remote.list_records().unwrap(), []);
        let records: Vec<_> = keys[..2].iter().map(|key| (key.clone(), b"{}".to_vec())).collect();
        assert!(remote.put_records(&records).is_empty());
        assert!(remote.put_records(&records).is_empty());
        assert_eq!(remote.list_records().unwrap(), keys[..2]);
        damage(&remote.dir.join(keys[1].relative_path()), b"pivot-record 1\nnonsense");
        let found = remote.get_records(&keys);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1.as_deref().unwrap(), b"{}");
        assert!(matches!(found[1].1, Err(RemoteError::CorruptRecord { .. })));
        assert_eq!(remote.list().unwrap(), []);
        let large = [(keys[0].clone(), vec![0; crate::MAX_RECORD_BYTES + 1])];
        assert!(matches!(remote.put_records(&large)[..], [(_, RemoteError::LargeRecord { .. })]));
    }

    #[test]
    fn a_damaged_object_is_not_sent_but_moved_aside() {
        let Sides { cache, remote, .. } = sides();
        let id = cache.put_bytes(b"model").unwrap();
        damage(&cache.object_path(id), b"mudel");
        let error = remote.send(&cache, id).unwrap_err();
        assert!(matches!(error, RemoteError::Cache(CacheError::Corrupt { .. })), "{error:?}");
        assert!(!cache.contains(id));
        assert_eq!(remote.list().unwrap(), []);
        assert_eq!(half_written(&remote), 0);
        let error = remote.send(&cache, id).unwrap_err();
        assert!(matches!(error, RemoteError::Cache(CacheError::Missing { .. })), "{error:?}");
    }

    #[test]
    fn a_damaged_object_is_not_kept() {
        let Sides { dir, cache, remote } = sides();
        let id = cache.put_bytes(b"model").unwrap();
        remote.send(&cache, id).unwrap();
        let other = Cache::open(&dir.path().join("other"));
        for bytes in [&b"mudel"[..], b"mod", b"", b"model and more"] {
            damage(&remote.path(id), bytes);
            let error = remote.fetch(&other, id).unwrap_err();
            assert!(matches!(error, RemoteError::Corrupt { .. }), "{error:?}");
            assert!(!other.contains(id));
        }
    }

    #[test]
    fn sending_heals_an_object_that_was_cut_off() {
        let Sides { cache, remote, .. } = sides();
        let id = cache.put_bytes(b"model").unwrap();
        remote.send(&cache, id).unwrap();
        damage(&remote.path(id), b"mod");
        assert_eq!(remote.send(&cache, id).unwrap(), Transfer::Moved { size_bytes: 5 });
        assert_eq!(fs::read(remote.path(id)).unwrap(), b"model");
    }

    #[test]
    fn a_sound_object_is_not_replaced_by_a_damaged_one_of_another_size() {
        let Sides { cache, remote, .. } = sides();
        let id = cache.put_bytes(b"model").unwrap();
        remote.send(&cache, id).unwrap();
        damage(&cache.object_path(id), b"mod");
        let error = remote.send(&cache, id).unwrap_err();
        assert!(matches!(error, RemoteError::Cache(CacheError::Corrupt { .. })), "{error:?}");
        assert_eq!(fs::read(remote.path(id)).unwrap(), b"model");
    }

    #[cfg(unix)]
    #[test]
    fn only_objects_are_listed() {
        use std::os::unix::fs::symlink;
        let Sides { dir, cache, remote } = sides();
        let id = cache.put_bytes(b"model").unwrap();
        remote.send(&cache, id).unwrap();
        let files = remote.dir.join("files");
        let fan_out = files.join("ab");
        fs::create_dir_all(fan_out.join("cdef0123456788")).unwrap();
        fs::create_dir_all(files.join("..x/cdef01234567")).unwrap();
        for name in
            ["CDEF0123456789", "cdef012345678", "cdef0123456789.tmp", "..", "g0000000000000"]
        {
            let _ = fs::write(fan_out.join(name), "evil");
        }
        fs::write(files.join("abcdef0123456789"), "evil").unwrap();
        symlink(dir.path(), fan_out.join("cdef0123456787")).unwrap();
        symlink(&fan_out, files.join("cd")).unwrap();
        assert_eq!(remote.list().unwrap(), [id]);
        let linked: ObjectId = "abcdef0123456787".parse().unwrap();
        assert!(matches!(remote.fetch(&cache, linked), Err(RemoteError::Missing { .. })));
    }

    #[test]
    fn old_leftovers_are_swept() {
        let Sides { cache, remote, .. } = sides();
        let tmp = remote.dir.join("tmp");
        fs::create_dir_all(&tmp).unwrap();
        for (name, age) in [("object-old", 2), ("object-new", 0), ("notes", 2)] {
            let file = File::create(tmp.join(name)).unwrap();
            file.set_modified(SystemTime::now() - age * ABANDONED_AFTER).unwrap();
        }
        remote.send_all(&cache, &[], &mut |_| {});
        assert!(!tmp.join("object-old").exists());
        assert!(tmp.join("object-new").exists() && tmp.join("notes").exists());
    }

    #[test]
    fn trouble_names_the_path() {
        let Sides { dir, cache, .. } = sides();
        let id = cache.put_bytes(b"model").unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let remote = DirectoryRemote::new(dir.path().join("file"));
        let error = remote.send(&cache, id).unwrap_err().to_string();
        assert!(error.contains("file/tmp"), "{error}");
    }
}
