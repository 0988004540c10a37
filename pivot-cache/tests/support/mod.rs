//! What the tests of this crate share.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its own part.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pivot_cache::{Cache, ObjectId};

pub struct Fixture {
    top: tempfile::TempDir,
    pub cache: Cache,
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture::on(&std::env::temp_dir())
    }

    pub fn on(dir: &Path) -> Fixture {
        let top = tempfile::tempdir_in(dir).unwrap();
        let cache = Cache::open(&top.path().join(".pivot/cache"));
        Fixture { top, cache }
    }

    pub fn root(&self) -> &Path {
        self.top.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// Writes a file, with its parents, and gives its path.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    /// Changes an object behind the cache's back.
    pub fn damage(&self, id: ObjectId, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.cache.object_path(id);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    /// Nothing half-made is left in the cache, and every object has the right name.
    pub fn check_cache(&self) {
        if let Ok(entries) = fs::read_dir(self.cache.dir().join("tmp")) {
            let left: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
        for id in self.cache.objects() {
            let id = id.unwrap();
            let path = self.cache.object_path(id);
            assert_eq!(ObjectId::of_bytes(&fs::read(&path).unwrap()), id);
            assert_eq!(mode(&path), 0o444);
        }
    }
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    File { bytes: Vec<u8>, executable: bool },
    Link(PathBuf),
    Dir,
}

/// Everything below a directory.
pub fn snapshot(top: &Path) -> BTreeMap<PathBuf, Item> {
    let mut items = BTreeMap::new();
    let mut waiting = vec![top.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let item = if metadata.is_dir() {
                waiting.push(path.clone());
                Item::Dir
            } else if metadata.is_symlink() {
                Item::Link(fs::read_link(&path).unwrap())
            } else {
                let executable = metadata.permissions().mode() & 0o111 != 0;
                Item::File { bytes: fs::read(&path).unwrap(), executable }
            };
            items.insert(path.strip_prefix(top).unwrap().to_path_buf(), item);
        }
    }
    items
}

/// Two different inputs of the same xxHash64: `length` bytes that begin alike for `prefix` bytes (a
/// multiple of 32), differ in the next 40, and end alike.
///
/// Each of the four lanes of the hash takes 8 bytes of every 32, as `rotl(lane + word * P2, 31) * P1`.
/// So a difference in one word can be taken back by the lane's next word.
pub fn colliding_pair(prefix: usize, length: usize) -> (Vec<u8>, Vec<u8>) {
    const P1: u64 = 0x9E37_79B1_85EB_CA87;
    const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
    assert!(prefix.is_multiple_of(32) && length >= prefix + 64);
    let inverse_of_p2 = {
        let mut inverse = 1u64;
        for _ in 0..6 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(P2.wrapping_mul(inverse)));
        }
        inverse
    };
    let round = |lane: u64, word: u64| {
        lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
    };
    let first: Vec<u8> = (0..length).map(|i| (i * 7 + i / 251) as u8).collect();
    let mut second = first.clone();
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let start =
        (0..prefix).step_by(32).fold(P1.wrapping_add(P2), |lane, at| round(lane, word(&first, at)));
    second[prefix] ^= 0xff;
    let (lane_1, lane_2) =
        (round(start, word(&first, prefix)), round(start, word(&second, prefix)));
    let next = word(&first, prefix + 32);
    let changed = next.wrapping_add(lane_1.wrapping_sub(lane_2).wrapping_mul(inverse_of_p2));
    second[prefix + 32..prefix + 40].copy_from_slice(&changed.to_le_bytes());
    (first, second)
}
