//! Many objects at once, each with its own fate.
//!
//! A failed object does not stop the others. The caller hears of each one as it is done and gets
//! the sum at the end.

use std::collections::HashSet;

use pivot_cache::{Cache, CacheError, Content, ContentKind, ObjectId};

use crate::remote::{Remote, RemoteError, Step, Transfer};

/// What happened to a number of objects.
#[derive(Debug, Default)]
pub struct Summary {
    /// How many were transferred.
    pub moved: u64,
    /// The size of those.
    pub moved_bytes: u64,
    /// How many were on the other side before.
    pub already_there: u64,
    /// Those that are not on the other side now, and why, sorted. If there are any, the request
    /// was not fulfilled.
    pub failed: Vec<(ObjectId, RemoteError)>,
}

/// What a transfer has to tell while it goes on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// So many objects more are known to be needed. Comes first, and again when the manifests of
    /// directories have told what is in them.
    Planned {
        /// How many.
        objects: u64,
        /// Their size, as far as it is known. What turns out to be on the other side counts too.
        bytes: u64,
    },
    /// So many bytes more went over the wire. What had to be sent twice is told twice, and a
    /// remote that cannot tell says nothing before an object is done.
    Bytes {
        /// How many.
        count: u64,
    },
    /// An object is done.
    Done {
        /// Its name.
        id: ObjectId,
        /// How it went.
        transfer: Transfer,
    },
    /// An object failed.
    Failed {
        /// Its name.
        id: ObjectId,
        /// Why.
        error: &'a RemoteError,
    },
}

/// Sends objects that the remote lacks.
///
/// Each is hashed on its way. A damaged one is moved aside in the cache and counts as failed.
pub fn push(
    cache: &Cache,
    remote: &dyn Remote,
    ids: &[ObjectId],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Summary {
    let mut tally = Tally::new(progress);
    tally.push(cache, remote, ids);
    tally.finish()
}

/// Sends files and directories with everything in them.
///
/// The manifest of a directory is sent after its files and only if none of them failed: whoever
/// finds a manifest on the remote finds the files too.
pub fn push_contents(
    cache: &Cache,
    remote: &dyn Remote,
    contents: &[Content],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Summary {
    let mut tally = Tally::new(progress);
    let (mut files, directories) = split(contents);
    let mut manifests = Vec::with_capacity(directories.len());
    for content in directories {
        match cache.manifest(content.id) {
            Ok(manifest) => {
                files.extend(manifest.files().map(|(id, _)| id));
                manifests.push((content.id, manifest));
            }
            Err(error) => {
                tally.plan(1, 0);
                tally.done(content.id, Err(error.into()));
            }
        }
    }
    tally.push(cache, remote, &files);
    let failed: HashSet<_> = tally.summary.failed.iter().map(|(id, _)| *id).collect();
    let is_complete = |manifest: &pivot_cache::DirectoryManifest| {
        failed.is_empty() || manifest.files().all(|(id, _)| !failed.contains(&id))
    };
    let (complete, incomplete): (Vec<_>, Vec<_>) =
        manifests.into_iter().partition(|(_, manifest)| is_complete(manifest));
    let complete: Vec<_> = complete.into_iter().map(|(id, _)| id).collect();
    tally.push(cache, remote, &complete);
    for (id, _) in incomplete {
        tally.plan(1, 0);
        tally.done(id, Err(RemoteError::Incomplete { id }));
    }
    tally.finish()
}

/// Brings objects that the cache lacks.
///
/// Each is hashed before it is kept. A damaged one is fetched once more, since it may have been
/// damaged on its way, and then counts as failed.
pub fn fetch(
    cache: &Cache,
    remote: &dyn Remote,
    ids: &[ObjectId],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Summary {
    let mut tally = Tally::new(progress);
    tally.fetch(cache, remote, ids.iter().map(|id| (*id, None)));
    tally.finish()
}

/// Brings files and directories with everything in them.
///
/// Objects of the cache that have another size than they should are moved aside and fetched again.
pub fn fetch_contents(
    cache: &Cache,
    remote: &dyn Remote,
    contents: &[Content],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Summary {
    let mut tally = Tally::new(progress);
    let mut first = Vec::with_capacity(contents.len());
    let mut directories = Vec::new();
    for content in contents {
        match content.kind {
            ContentKind::File { .. } => first.push((content.id, Some(content.size_bytes))),
            ContentKind::Directory { .. } => {
                first.push((content.id, None));
                directories.push(content.id);
            }
        }
    }
    directories.sort_unstable();
    directories.dedup();
    // A damaged manifest is moved aside, so that it is fetched anew.
    for &id in &directories {
        if cache.contains(id) {
            let _ = cache.manifest(id);
        }
    }
    tally.fetch(cache, remote, first);

    let failed: HashSet<_> = tally.summary.failed.iter().map(|(id, _)| *id).collect();
    let mut inside = Vec::new();
    for id in directories.into_iter().filter(|id| !failed.contains(id)) {
        match cache.manifest(id) {
            Ok(manifest) => {
                inside.extend(manifest.files().map(|(id, size_bytes)| (id, Some(size_bytes))));
            }
            // Counted as transferred a moment ago, but of no use: two fates, one object.
            Err(error) => tally.fail(id, error.into()),
        }
    }
    inside.retain(|(id, _)| !failed.contains(id));
    tally.fetch(cache, remote, inside);
    tally.finish()
}

/// The sum so far and whom to tell.
struct Tally<'p> {
    summary: Summary,
    progress: &'p mut dyn FnMut(Progress<'_>),
    /// What was asked for already: each object is transferred once.
    seen: HashSet<ObjectId>,
}

impl<'p> Tally<'p> {
    fn new(progress: &'p mut dyn FnMut(Progress<'_>)) -> Self {
        Self { summary: Summary::default(), progress, seen: HashSet::new() }
    }

    fn plan(&mut self, objects: usize, bytes: u64) {
        if objects > 0 {
            (self.progress)(Progress::Planned { objects: objects as u64, bytes });
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Bytes { count } => (self.progress)(Progress::Bytes { count }),
            Step::Ended { id, result } => self.done(id, result),
        }
    }

    fn done(&mut self, id: ObjectId, result: Result<Transfer, RemoteError>) {
        let transfer = match result {
            Ok(transfer) => transfer,
            Err(error) => return self.fail(id, error),
        };
        match transfer {
            Transfer::Moved { size_bytes } => {
                self.summary.moved += 1;
                self.summary.moved_bytes += size_bytes;
            }
            Transfer::AlreadyThere => self.summary.already_there += 1,
        }
        (self.progress)(Progress::Done { id, transfer });
    }

    fn fail(&mut self, id: ObjectId, error: RemoteError) {
        (self.progress)(Progress::Failed { id, error: &error });
        self.summary.failed.push((id, error));
    }

    fn push(&mut self, cache: &Cache, remote: &dyn Remote, ids: &[ObjectId]) {
        let ids: Vec<_> = ids.iter().copied().filter(|id| self.seen.insert(*id)).collect();
        let bytes = ids.iter().filter_map(|id| cache.size_bytes(*id)).sum();
        self.plan(ids.len(), bytes);
        remote.send_all(cache, &ids, &mut |step| self.step(step));
    }

    /// Fetches what is not there; with a size also what is there in another size.
    fn fetch(
        &mut self,
        cache: &Cache,
        remote: &dyn Remote,
        wanted: impl IntoIterator<Item = (ObjectId, Option<u64>)>,
    ) {
        let wanted: Vec<_> = wanted.into_iter().filter(|(id, _)| self.seen.insert(*id)).collect();
        self.plan(wanted.len(), wanted.iter().filter_map(|(_, size_bytes)| *size_bytes).sum());
        let mut lacking = Vec::with_capacity(wanted.len());
        for (id, size_bytes) in wanted {
            match cache.size_bytes(id) {
                Some(found) if size_bytes.is_none_or(|expected| expected == found) => {
                    self.done(id, Ok(Transfer::AlreadyThere));
                }
                Some(_) => match cache.verify(&Content::file(id, size_bytes.unwrap_or(0))) {
                    // Sound, and what was expected is something else with this hash.
                    Err(error @ CacheError::WrongSize { .. }) => self.fail(id, error.into()),
                    _ => lacking.push(id),
                },
                None => lacking.push(id),
            }
        }
        let mut damaged = Vec::new();
        remote.fetch_all(cache, &lacking, &mut |step| match step {
            Step::Ended { id, result: Err(RemoteError::Corrupt { .. }) } => damaged.push(id),
            step => self.step(step),
        });
        if !damaged.is_empty() {
            remote.fetch_all(cache, &damaged, &mut |step| self.step(step));
        }
    }

    fn finish(mut self) -> Summary {
        self.summary.failed.sort_by_key(|(id, _)| *id);
        self.summary
    }
}

/// The objects of files, and the directories, each once.
fn split(contents: &[Content]) -> (Vec<ObjectId>, Vec<Content>) {
    let (mut directories, files): (Vec<_>, Vec<_>) =
        contents.iter().copied().partition(Content::is_directory);
    directories.sort_unstable_by_key(|content| content.id);
    directories.dedup_by_key(|content| content.id);
    (files.into_iter().map(|content| content.id).collect(), directories)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::num::NonZeroUsize;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;
    use crate::directory::DirectoryRemote;
    use crate::options::Interrupt;
    use crate::record::RecordKey;
    use crate::url::RemoteUrl;

    fn quiet() -> impl FnMut(Progress<'_>) {
        |_| {}
    }

    struct Sides {
        dir: TempDir,
        mine: Cache,
        yours: Cache,
        remote: DirectoryRemote,
    }

    fn sides() -> Sides {
        let dir = tempfile::tempdir().unwrap();
        let mine = Cache::open(&dir.path().join("mine"));
        let yours = Cache::open(&dir.path().join("yours"));
        let jobs = NonZeroUsize::new(4).unwrap();
        let remote = DirectoryRemote::new(dir.path().join("remote")).with_jobs(jobs);
        Sides { dir, mine, yours, remote }
    }

    fn damage(path: &Path, bytes: &[u8]) {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn failed(summary: &Summary) -> Vec<ObjectId> {
        summary.failed.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn many_objects_go_there_and_back_each_once() {
        let Sides { mine, yours, remote, .. } = sides();
        let mut ids: Vec<_> =
            (0..200_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
        ids.extend_from_within(..50);

        let (mut planned, mut heard) = (0, BTreeSet::new());
        let sent = push(&mine, &remote, &ids, &mut |event| match event {
            Progress::Planned { objects, bytes } => {
                assert_eq!(bytes, 800);
                planned += objects;
            }
            Progress::Bytes { .. } => {}
            Progress::Done { id, .. } => assert!(heard.insert(id)),
            Progress::Failed { error, .. } => panic!("{error}"),
        });
        assert_eq!((sent.moved, sent.moved_bytes, sent.already_there), (200, 800, 0));
        assert_eq!((planned, heard.len()), (200, 200));
        let again = push(&mine, &remote, &ids, &mut quiet());
        assert_eq!((again.moved, again.already_there, again.failed.len()), (0, 200, 0));

        let brought = fetch(&yours, &remote, &ids, &mut quiet());
        assert_eq!((brought.moved, brought.failed.len()), (200, 0));
        assert_eq!(yours.objects().filter_map(Result::ok).collect::<BTreeSet<_>>(), heard);
        let again = fetch(&yours, &remote, &ids, &mut quiet());
        assert_eq!((again.moved, again.already_there), (0, 200));
    }

    #[test]
    fn one_failure_does_not_stop_the_others() {
        let Sides { mine, yours, remote, .. } = sides();
        let ids: Vec<_> = (0..20_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
        damage(&mine.object_path(ids[3]), b"evil");
        mine.remove(ids[7]).unwrap();
        let sent = push(&mine, &remote, &ids, &mut quiet());
        let mut expected = vec![ids[3], ids[7]];
        expected.sort_unstable();
        assert_eq!((sent.moved, failed(&sent)), (18, expected));

        let mut told = 0;
        damage(&remote_path(&remote, ids[5]), b"evil");
        let brought = fetch(&yours, &remote, &ids, &mut |event| {
            told += u32::from(matches!(event, Progress::Failed { .. }));
        });
        let mut expected = vec![ids[3], ids[5], ids[7]];
        expected.sort_unstable();
        assert_eq!((brought.moved, told, failed(&brought)), (17, 3, expected));
        assert!(!yours.contains(ids[5]));
    }

    fn remote_path(remote: &DirectoryRemote, id: ObjectId) -> std::path::PathBuf {
        let RemoteUrl::Directory(dir) = remote.url() else { unreachable!() };
        dir.join(id.relative_path())
    }

    /// A directory with three files, two of them equal, and a lone file.
    fn stored(dir: &Path, cache: &Cache) -> [Content; 2] {
        let tree = dir.join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("a"), "same").unwrap();
        fs::write(tree.join("b"), "same").unwrap();
        fs::write(tree.join("sub/c"), "other").unwrap();
        fs::write(dir.join("lone"), "lone").unwrap();
        [cache.put(&tree).unwrap(), cache.put(&dir.join("lone")).unwrap()]
    }

    #[test]
    fn a_directory_travels_with_its_files() {
        let Sides { dir, mine, yours, remote } = sides();
        let contents = stored(dir.path(), &mine);
        let sent = push_contents(&mine, &remote, &contents, &mut quiet());
        assert_eq!((sent.moved, sent.failed.len()), (4, 0));
        let brought = fetch_contents(&yours, &remote, &contents, &mut quiet());
        assert_eq!((brought.moved, brought.failed.len()), (4, 0));
        for content in &contents {
            yours.verify(content).unwrap();
        }
        let again = fetch_contents(&yours, &remote, &contents, &mut quiet());
        assert_eq!((again.moved, again.already_there), (0, 4));
    }

    #[test]
    fn a_manifest_is_not_sent_without_its_files() {
        let Sides { dir, mine, remote, .. } = sides();
        let [directory, lone] = stored(dir.path(), &mine);
        mine.remove(ObjectId::of_bytes(b"same")).unwrap();
        let sent = push_contents(&mine, &remote, &[directory, lone], &mut quiet());
        assert_eq!(sent.moved, 2);
        let mut expected = vec![directory.id, ObjectId::of_bytes(b"same")];
        expected.sort_unstable();
        assert_eq!(failed(&sent), expected);
        assert!(!remote.contains(directory.id).unwrap());

        mine.remove(directory.id).unwrap();
        let sent = push_contents(&mine, &remote, &[directory], &mut quiet());
        assert_eq!(failed(&sent), [directory.id]);
    }

    #[test]
    fn what_is_damaged_here_is_fetched_again() {
        let Sides { dir, mine, remote, .. } = sides();
        let contents = stored(dir.path(), &mine);
        push_contents(&mine, &remote, &contents, &mut quiet());
        damage(&mine.object_path(contents[0].id), b"not a manifest");
        damage(&mine.object_path(contents[1].id), b"longer than it was");
        let brought = fetch_contents(&mine, &remote, &contents, &mut quiet());
        assert_eq!((brought.moved, brought.failed.len()), (2, 0), "{brought:?}");
        for content in &contents {
            mine.verify(content).unwrap();
        }
    }

    #[test]
    fn an_object_that_is_no_manifest_fails_the_directory() {
        let Sides { mine, yours, remote, .. } = sides();
        let id = mine.put_bytes(b"../../victim").unwrap();
        push(&mine, &remote, &[id], &mut quiet());
        let kind = ContentKind::Directory { files: 1 };
        let evil = Content { id, size_bytes: 1, kind };
        let brought = fetch_contents(&yours, &remote, &[evil], &mut quiet());
        assert_eq!(failed(&brought), [id]);
    }

    /// Gives damaged bytes the first time it is asked.
    #[derive(Debug)]
    struct Flaky {
        inner: DirectoryRemote,
        asked: AtomicUsize,
    }

    impl Remote for Flaky {
        fn url(&self) -> RemoteUrl {
            self.inner.url()
        }

        fn contains(&self, id: ObjectId) -> Result<bool, RemoteError> {
            self.inner.contains(id)
        }

        fn list(&self) -> Result<Vec<ObjectId>, RemoteError> {
            self.inner.list()
        }

        fn send(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
            self.inner.send(cache, id)
        }

        fn fetch(&self, cache: &Cache, id: ObjectId) -> Result<Transfer, RemoteError> {
            if self.asked.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(RemoteError::Corrupt { id });
            }
            self.inner.fetch(cache, id)
        }

        fn put_records(&self, records: &[(RecordKey, Vec<u8>)]) -> Vec<(RecordKey, RemoteError)> {
            self.inner.put_records(records)
        }

        fn get_records(
            &self,
            keys: &[RecordKey],
        ) -> Vec<(RecordKey, Result<Vec<u8>, RemoteError>)> {
            self.inner.get_records(keys)
        }

        fn list_records(&self) -> Result<Vec<RecordKey>, RemoteError> {
            self.inner.list_records()
        }
    }

    #[test]
    fn an_interrupted_transfer_names_what_is_left() {
        let Sides { mine, remote, .. } = sides();
        let ids: Vec<_> = (0..20_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
        let interrupt = Interrupt::default();
        let remote = remote.with_interrupt(interrupt.clone()).with_jobs(NonZeroUsize::MIN);
        let sent = push(&mine, &remote, &ids, &mut |event| {
            if matches!(event, Progress::Done { .. }) {
                interrupt.set();
            }
        });
        assert_eq!((sent.moved, sent.failed.len()), (1, 19));
        assert!(sent.failed.iter().all(|(_, e)| matches!(e, RemoteError::Interrupted)));
    }

    #[test]
    fn what_was_damaged_on_its_way_is_fetched_once_more() {
        let Sides { mine, yours, remote, .. } = sides();
        let id = mine.put_bytes(b"model").unwrap();
        push(&mine, &remote, &[id], &mut quiet());
        let flaky = Flaky { inner: remote, asked: AtomicUsize::new(0) };
        let brought = fetch(&yours, &flaky, &[id], &mut quiet());
        assert_eq!((brought.moved, brought.failed.len()), (1, 0));
        assert_eq!(flaky.asked.into_inner(), 2);
    }
}
