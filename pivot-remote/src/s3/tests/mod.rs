//! The back end against real servers.

mod azure;
mod faults;
mod google;
mod independent;
mod keys;
mod listings;
mod server;
mod services;
mod urls;

use std::collections::BTreeSet;
use std::path::Path;

use pivot_cache::{Cache, ContentKind, ObjectId, State};
use tempfile::TempDir;

use super::*;
use crate::indexed::Indexed;
use crate::transfer::{Progress, Summary, fetch, fetch_contents, push, push_contents};
use pivot_s3_server::{Fault, Server};
use server::Remotes;

/// Two caches with a bucket between them.
struct Sides {
    server: Server,
    _dir: TempDir,
    mine: Cache,
    yours: Cache,
}

fn sides() -> Sides {
    let dir = tempfile::tempdir().unwrap();
    let [mine, yours] = ["mine", "yours"].map(|name| Cache::open(&dir.path().join(name)));
    Sides { server: Server::start(), _dir: dir, mine, yours }
}

fn s3(bucket: &str, prefix: &str) -> RemoteUrl {
    RemoteUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
}

/// Bytes that do not repeat.
fn noise(count: usize) -> Vec<u8> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    });
    let mut bytes: Vec<u8> = words.take(count.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
    bytes.truncate(count);
    bytes
}

#[track_caller]
fn moved(summary: &Summary) -> u64 {
    assert!(summary.failed.is_empty(), "{summary:?}");
    summary.moved
}

fn push_quietly(cache: &Cache, remote: &dyn Remote, ids: &[ObjectId]) -> Summary {
    push(cache, remote, ids, &mut |_| {})
}

fn fetch_quietly(cache: &Cache, remote: &dyn Remote, ids: &[ObjectId]) -> Summary {
    fetch(cache, remote, ids, &mut |_| {})
}

fn path_in_bucket(server: &Server, id: ObjectId) -> std::path::PathBuf {
    server.bucket().join("some/prefix").join(id.relative_path())
}

#[test]
fn objects_of_all_sizes_go_there_and_back() {
    let Sides { server, mine, yours, .. } = sides();
    let remote = server.remote();
    let part = upload::PART_BYTES as usize;
    let sizes = [0, 1, 70_000, part - 1, part, part + 1, 3 * part + 5];
    let ids: Vec<_> = sizes.iter().map(|size| mine.put_bytes(&noise(*size)).unwrap()).collect();
    let (mut bytes, mut planned) = (0, 0);
    let sent = push(&mine, &remote, &ids, &mut |event| match event {
        Progress::Bytes { count } => bytes += count,
        Progress::Planned { bytes, .. } => planned += bytes,
        _ => {}
    });
    assert_eq!(moved(&sent), 7);
    let size: usize = sizes.iter().sum();
    assert_eq!((sent.moved_bytes, planned), (size as u64, size as u64));
    assert!(bytes >= size as u64 && bytes < size as u64 + 100_000, "{bytes} for {size}");
    assert_eq!(std::fs::read(path_in_bucket(&server, ids[2])).unwrap(), noise(70_000));

    assert_eq!(push_quietly(&mine, &remote, &ids).already_there, 7);
    assert_eq!(
        remote.list().unwrap().into_iter().collect::<BTreeSet<_>>(),
        ids.iter().copied().collect()
    );
    assert_eq!(moved(&fetch_quietly(&yours, &remote, &ids)), 7);
    for (id, size) in ids.iter().zip(sizes) {
        assert_eq!(yours.read(*id).unwrap(), noise(size));
    }
    assert_eq!(fetch_quietly(&yours, &remote, &ids).already_there, 7);
    assert_eq!(remote.fetch(&yours, ids[1]).unwrap(), Transfer::Moved { size_bytes: 1 });
    assert_eq!(remote.send(&yours, ids[1]).unwrap(), Transfer::AlreadyThere);
}

#[test]
fn many_objects_are_listed_rather_than_asked_for() {
    let Sides { server, mine, .. } = sides();
    let remote = server.remote();
    let ids: Vec<_> = (0..600_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    assert_eq!(moved(&push_quietly(&mine, &remote, &ids[..500])), 500);
    server.forget_log();
    let sent = push_quietly(&mine, &remote, &ids);
    assert_eq!((moved(&sent), sent.already_there), (100, 500));
    let asked = (server.count("HEAD"), server.count("GET list-type=2"));
    assert!(asked.0 + asked.1 <= 256, "{asked:?}");
    assert_eq!(server.count("PUT"), 100);
    server.forget_log();
    assert_eq!(remote.present(&ids[..3]).unwrap().len(), 3);
    assert_eq!((server.count("HEAD"), server.count("GET")), (3, 0));
}

#[test]
fn the_index_saves_all_questions() {
    let Sides { server, mine, yours, _dir: dir } = sides();
    let state = State::open(&dir.path().join("state.lmdb"));
    let ids: Vec<_> = (0..50_u32).map(|n| mine.put_bytes(&n.to_le_bytes()).unwrap()).collect();
    let indexed = || Indexed::new(Box::new(server.remote()), &state);
    assert_eq!(moved(&push_quietly(&mine, &indexed(), &ids)), 50);
    server.forget_log();
    assert_eq!(push_quietly(&mine, &indexed(), &ids).already_there, 50);
    assert_eq!((server.count("HEAD"), server.count("GET")), (0, 0));
    // Another bucket, prefix or endpoint is another place.
    let elsewhere =
        S3Remote::with_env(&s3("bucket", "two"), &server.options(), server::env(&server::keys()));
    let elsewhere = Indexed::new(Box::new(elsewhere.unwrap()), &state);
    assert_eq!(moved(&push_quietly(&mine, &elsewhere, &ids)), 50);
    // What turns out to be gone is sent again.
    std::fs::remove_file(path_in_bucket(&server, ids[7])).unwrap();
    let brought = fetch_quietly(&yours, &indexed(), &ids);
    assert_eq!((brought.moved, brought.failed.len()), (49, 1));
    assert!(matches!(brought.failed[0], (id, RemoteError::Missing { .. }) if id == ids[7]));
    assert_eq!(moved(&push_quietly(&mine, &indexed(), &ids)), 1);
}

#[test]
fn a_directory_travels_with_its_files() {
    let Sides { server, mine, yours, _dir: dir } = sides();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    for (name, text) in [("a", "1"), ("b", "2"), ("sub/c", "3")] {
        std::fs::write(tree.join(name), text).unwrap();
    }
    let content = mine.put(&tree).unwrap();
    assert!(matches!(content.kind, ContentKind::Directory { .. }));
    // As long as one of its files cannot be sent, neither is the manifest.
    let file = ObjectId::of_bytes(b"2").relative_path();
    let refusal = Fault::Answer(403, String::new());
    server.fault(&format!("PUT {}", file.display()), refusal, 1);
    let remote = server.remote();
    let sent = push_contents(&mine, &remote, &[content], &mut |_| {});
    assert_eq!((sent.moved, sent.failed.len()), (2, 2));
    assert!(!remote.contains(content.id).unwrap());
    assert_eq!(moved(&push_contents(&mine, &remote, &[content], &mut |_| {})), 2);
    assert_eq!(moved(&fetch_contents(&yours, &remote, &[content], &mut |_| {})), 4);
    yours.verify(&content).unwrap();
}

#[test]
fn records_go_there_and_back() {
    let Sides { server, .. } = sides();
    let remote = server.remote();
    let keys: Vec<_> = (0..3).map(|n| RecordKey::from_digest(&[n; 16])).collect();
    let records: Vec<_> = keys[..2].iter().map(|key| (key.clone(), b"{}".to_vec())).collect();
    assert!(remote.put_records(&records).is_empty());
    assert!(remote.put_records(&records).is_empty());
    assert_eq!(remote.list_records().unwrap(), keys[..2]);
    assert_eq!(remote.list().unwrap(), []);
    let mut found = remote.get_records(&keys);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|(_, bytes)| bytes.as_deref().unwrap() == b"{}"));

    server.fault(&format!("GET {}", keys[0].relative_path()), Fault::Corrupt, 1);
    let found = remote.get_records(&keys[..1]);
    assert!(matches!(found[..], [(_, Err(RemoteError::CorruptRecord { .. }))]), "{found:?}");
    let large = [(keys[2].clone(), vec![0; crate::MAX_RECORD_BYTES + 1])];
    assert!(matches!(remote.put_records(&large)[..], [(_, RemoteError::LargeRecord { .. })]));
    server.fault("PUT runs/", Fault::Answer(403, String::new()), 1);
    assert_eq!(remote.put_records(&records).len(), 1);
}

#[test]
fn a_damaged_object_is_not_sent() {
    let Sides { server, mine, .. } = sides();
    let remote = server.remote();
    let part = upload::PART_BYTES as usize;
    for size in [10, part + 10] {
        let id = mine.put_bytes(&noise(size)).unwrap();
        let path = mine.object_path(id);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let sent = push_quietly(&mine, &remote, &[id]);
        assert_eq!((sent.moved, sent.failed.len()), (0, 1));
        assert!(!mine.contains(id), "it is in quarantine");
    }
    assert_eq!(remote.list().unwrap(), []);
    assert_eq!(server.abandoned_uploads(), 0);
}
