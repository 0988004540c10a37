//! Putting things in: what is kept, what is refused, what is noticed.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pivot_cache::{
    CacheError, CheckoutMode, Content, ContentKind, DirectoryManifest, EntryKind, ObjectId,
    UnsupportedKind, hash_artifact,
};
use support::{Fixture, colliding_pair, inode, mode, set_mode, snapshot};

const SIZES: [usize; 7] = [0, 1, 1000, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 9 << 20];

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 253) as u8).collect()
}

#[test]
fn a_file_of_any_size_is_kept_under_its_hash() {
    let t = Fixture::new();
    for size in SIZES {
        let path = t.file("data", noise(size));
        let content = t.cache.put_file(&path).unwrap();
        let expected = Content::file(ObjectId::of_bytes(&noise(size)), size as u64);
        assert_eq!(content, expected);
        assert_eq!(hash_artifact(&path).unwrap(), expected);
        assert_eq!(t.cache.put(&path).unwrap(), expected, "a second time");
        assert_eq!(fs::read(t.cache.object_path(content.id)).unwrap(), noise(size));
        assert!(t.cache.holds(&content));
        t.cache.verify(&content).unwrap();
    }
    t.check_cache();
    assert_eq!(t.cache.objects().count(), SIZES.len());
}

#[test]
fn the_executable_bit_is_part_of_a_file_but_not_of_its_object() {
    let t = Fixture::new();
    let path = t.file("run.sh", "#!/bin/sh\n");
    let plain = t.cache.put(&path).unwrap();
    set_mode(&path, 0o755);
    let executable = t.cache.put(&path).unwrap();
    assert_eq!(plain.id, executable.id);
    assert_eq!(executable.kind, ContentKind::File { executable: true });
    assert_ne!(plain, executable);
    t.check_cache();
}

#[test]
fn a_directory_is_its_manifest() {
    let t = Fixture::new();
    t.file("d/b.txt", "bb");
    t.file("d/sub/a.txt", "a");
    t.dir("d/empty/deep");
    symlink("../nowhere", t.path("d/link")).unwrap();
    symlink("sub", t.path("d/dirlink")).unwrap();
    let odd = t.path("d").join(OsStr::from_bytes(b"\xff\n\\\t"));
    fs::write(&odd, "odd").unwrap();
    set_mode(&odd, 0o700);

    let content = t.cache.put(&t.path("d")).unwrap();
    assert_eq!(content.size_bytes, 6);
    assert_eq!(content.kind, ContentKind::Directory { files: 3 });
    assert_eq!(hash_artifact(&t.path("d")).unwrap(), content);

    let manifest = t.cache.manifest(content.id).unwrap();
    assert_eq!(manifest.content(), content);
    let paths: Vec<&[u8]> =
        manifest.entries().iter().map(|entry| entry.path.as_os_str().as_bytes()).collect();
    let expected: [&[u8]; 6] =
        [b"b.txt", b"dirlink", b"empty/deep", b"link", b"sub/a.txt", b"\xff\n\\\t"];
    assert_eq!(paths, expected);
    assert_eq!(manifest.entries()[2].kind, EntryKind::EmptyDirectory);
    assert_eq!(manifest.entries()[3].kind, EntryKind::Symlink { target: "../nowhere".into() });
    t.check_cache();
}

#[test]
fn the_identity_of_a_directory_follows_everything_that_is_kept() {
    let t = Fixture::new();
    t.file("d/a", "1");
    let id = || hash_artifact(&t.path("d")).unwrap();
    let mut seen = vec![id()];
    let mut changed = |what: &str| {
        let now = id();
        assert!(!seen.contains(&now), "{what} went unnoticed");
        seen.push(now);
    };
    t.file("d/a", "2");
    changed("an edit");
    set_mode(&t.path("d/a"), 0o755);
    changed("an executable bit");
    t.dir("d/e");
    changed("an empty directory");
    symlink("a", t.path("d/l")).unwrap();
    changed("a link");
    fs::remove_file(t.path("d/l")).unwrap();
    symlink("b", t.path("d/l")).unwrap();
    changed("a link's target");
    fs::rename(t.path("d/a"), t.path("d/b")).unwrap();
    changed("a name");
    fs::rename(t.path("d/b"), t.path("d/e/b")).unwrap();
    changed("a move");
}

#[test]
fn a_link_at_the_top_stands_for_its_target() {
    let t = Fixture::new();
    t.file("real/a", "1");
    symlink("real", t.path("dir")).unwrap();
    symlink("real/a", t.path("file")).unwrap();
    symlink("nowhere", t.path("dangling")).unwrap();
    assert_eq!(t.cache.put(&t.path("dir")).unwrap(), t.cache.put(&t.path("real")).unwrap());
    assert_eq!(t.cache.put(&t.path("file")).unwrap(), t.cache.put(&t.path("real/a")).unwrap());
    assert!(t.cache.put(&t.path("dangling")).unwrap_err().is_not_found());
}

#[test]
fn what_has_no_contents_is_refused_by_name() {
    let t = Fixture::new();
    t.dir("d/sub");
    let fifo = t.path("d/sub/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    for result in [
        t.cache.put(&fifo),
        t.cache.put_file(&fifo),
        t.cache.put(&t.path("d")),
        hash_artifact(&t.path("d")),
        t.cache.adopt(&t.path("d"), CheckoutMode::Auto),
    ] {
        let Err(CacheError::Unsupported { path, kind }) = result else { panic!("{result:?}") };
        assert_eq!((path, kind), (fifo.clone(), UnsupportedKind::NamedPipe));
    }
    let socket = t.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for result in [t.cache.put(&socket), t.cache.put_file(&socket)] {
        let Err(CacheError::Unsupported { path, kind }) = result else { panic!("{result:?}") };
        assert_eq!((path, kind), (socket.clone(), UnsupportedKind::Socket));
    }
    let message = t.cache.put(Path::new("/dev/null")).unwrap_err().to_string();
    assert_eq!(message, "cannot track `/dev/null`: it is a device");
    assert_eq!(t.cache.objects().count(), 0);
}

#[test]
fn what_is_not_there_is_an_error_with_its_path() {
    let t = Fixture::new();
    for path in [t.path("nothing"), t.path("nothing/below")] {
        for result in [t.cache.put(&path), t.cache.put_file(&path), hash_artifact(&path)] {
            let error = result.unwrap_err();
            assert!(error.is_not_found());
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }
    assert!(!t.cache.dir().exists(), "made something for nothing");
    let id = ObjectId::from_u64(7);
    assert!(!t.cache.contains(id));
    assert!(matches!(t.cache.read(id), Err(CacheError::Missing { .. })));
    assert!(matches!(t.cache.verify(&Content::file(id, 1)), Err(CacheError::Missing { .. })));
    assert!(matches!(t.cache.manifest(id), Err(CacheError::Missing { .. })));
    t.cache.remove(id).unwrap();
    assert_eq!(t.cache.objects().count(), 0);
}

#[test]
fn damage_is_found_moved_aside_and_healed() {
    let t = Fixture::new();
    for size in [1, 1000, 256 * 1024, 9 << 20] {
        let path = t.file("data", noise(size));
        let content = t.cache.put(&path).unwrap();
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 4] = [
            ("a bit is flipped", |bytes| *bytes.last_mut().unwrap() ^= 1),
            ("it is cut short", |bytes| bytes.truncate(bytes.len() - 1)),
            ("it is emptied", Vec::clear),
            ("something is appended", |bytes| bytes.push(0)),
        ];
        for (what, damage) in damages {
            t.damage(content.id, damage);
            match t.cache.verify(&content) {
                Err(CacheError::Corrupt { id, quarantined: Some(to) }) => {
                    assert_eq!(id, content.id);
                    assert!(to.starts_with(t.cache.dir().join("quarantine")) && to.exists());
                }
                other => panic!("{what}: {other:?}"),
            }
            assert!(!t.cache.contains(content.id), "{what}: still there");
            assert_eq!(t.cache.put(&path).unwrap(), content);
            t.cache.verify(&content).unwrap();
        }
        // Storing finds it as well, if it comes to that object.
        t.damage(content.id, |bytes| bytes[0] ^= 1);
        t.cache.put(&path).unwrap();
        t.cache.verify(&content).unwrap();
    }
    t.check_cache();
}

#[test]
fn damage_in_a_directory_is_found() {
    let t = Fixture::new();
    t.file("d/a", "aaa");
    t.file("d/b", "bbb");
    let content = t.cache.put(&t.path("d")).unwrap();
    let b = ObjectId::of_bytes(b"bbb");

    t.damage(b, |bytes| bytes[0] = b'x');
    assert!(t.cache.holds(&content), "sizes are right");
    assert!(matches!(t.cache.verify(&content), Err(CacheError::Corrupt { id, .. }) if id == b));
    assert!(!t.cache.holds(&content));
    assert!(matches!(t.cache.verify(&content), Err(CacheError::Missing { id }) if id == b));

    t.cache.put(&t.path("d")).unwrap();
    t.damage(content.id, |text| text[25] ^= 1);
    assert!(!t.cache.holds(&content));
    assert!(!t.cache.contains(content.id), "quarantined");
    t.cache.put(&t.path("d")).unwrap();
    t.cache.verify(&content).unwrap();
}

#[test]
fn something_else_in_the_place_of_an_object() {
    let t = Fixture::new();
    let path = t.file("data", "hello");
    let id = ObjectId::of_bytes(b"hello");
    let place = t.cache.object_path(id);
    let plants: [(&str, &dyn Fn()); 4] = [
        ("other bytes", &|| fs::write(&place, "other").unwrap()),
        ("a directory", &|| fs::create_dir_all(place.join("x")).unwrap()),
        ("a link", &|| symlink("/etc/passwd", &place).unwrap()),
        ("a fifo", &|| {
            rustix::fs::mkfifoat(rustix::fs::CWD, &place, rustix::fs::Mode::RUSR).unwrap();
        }),
    ];
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    for (what, plant) in plants {
        plant();
        let error = t.cache.verify(&Content::file(id, 5)).unwrap_err();
        assert!(matches!(error, CacheError::Corrupt { .. }), "{what}: {error}");
        plant();
        t.cache.put(&path).unwrap();
        t.cache.verify(&Content::file(id, 5)).unwrap();
        t.cache.remove(id).unwrap();
    }
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn colliding_contents_are_never_one_object() {
    for (prefix, length) in [(0, 64), (64, 300), (256 * 1024, 600 * 1024), (9 << 20, 10 << 20)] {
        let t = Fixture::new();
        let (one, two) = colliding_pair(prefix, length);
        assert_ne!(one, two);
        assert_eq!(ObjectId::of_bytes(&one), ObjectId::of_bytes(&two), "not a collision");
        let (first, second) = (t.file("first", &one), t.file("second", &two));

        let content = t.cache.put(&first).unwrap();
        let (before, restored) = (inode(&t.cache.object_path(content.id)), t.path("restored"));
        for result in [t.cache.put(&second), t.cache.adopt(&second, CheckoutMode::Hardlink)] {
            match result {
                Err(CacheError::Collision { id, path, object }) => {
                    assert_eq!((id, path), (content.id, second.clone()));
                    assert_eq!(object, t.cache.object_path(id));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(inode(&t.cache.object_path(content.id)), before);
        assert_eq!(fs::read(&second).unwrap(), two);
        t.cache.restore(&content, &restored, CheckoutMode::Auto).unwrap();
        assert_eq!(fs::read(restored).unwrap(), one);
        t.check_cache();
    }
}

#[test]
fn received_bytes_are_checked() {
    let t = Fixture::new();
    let id = ObjectId::of_bytes(b"hello world");
    let mut writer = t.cache.writer().unwrap();
    writer.write_all(b"hello ").unwrap();
    writer.write_all(b"world").unwrap();
    assert_eq!(writer.size_bytes(), 11);
    assert!(!t.cache.contains(id));
    writer.finish(id).unwrap();
    assert_eq!(t.cache.read(id).unwrap(), b"hello world");

    let wrong = ObjectId::of_bytes(b"something else");
    let mut writer = t.cache.writer().unwrap();
    writer.write_all(b"hello world!").unwrap();
    let error = writer.finish(wrong).unwrap_err();
    assert!(matches!(error, CacheError::Mismatch { expected, .. } if expected == wrong));
    assert!(!t.cache.contains(wrong));

    let mut dropped = t.cache.writer().unwrap();
    dropped.write_all(b"half").unwrap();
    drop(dropped);
    t.check_cache();
    assert_eq!(t.cache.objects().count(), 1);
}

#[test]
fn other_files_in_the_cache_are_no_objects() {
    let t = Fixture::new();
    let id = t.cache.put_bytes(b"x").unwrap();
    for name in ["files/zz/0", "files/ab/short", "files/note", "files/abc/0123456789abcd"] {
        t.file(&format!(".pivot/cache/{name}"), "");
    }
    let ids: Vec<_> = t.cache.objects().map(Result::unwrap).collect();
    assert_eq!(ids, [id]);
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_with_its_path() {
    let t = Fixture::new();
    t.file(".pivot/cache", "not a directory");
    let path = t.file("data", "hello");
    let error = t.cache.put(&path).unwrap_err();
    assert!(error.to_string().contains(".pivot/cache"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    assert_eq!(mode(&path), 0o644);
    fs::remove_file(t.path(".pivot/cache")).unwrap();
    t.cache.put(&path).unwrap();
    t.check_cache();
}

#[test]
fn a_file_that_is_being_written_is_stored_as_it_was_read_or_not_at_all() {
    let t = Fixture::new();
    let path = t.file("log", "");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) && file.metadata().unwrap().len() < 64 << 20 {
                file.write_all(&[1; 997]).unwrap();
            }
        });
        for _ in 0..50 {
            match t.cache.put(&path) {
                // A read may see a part of one append; what was stored is what was hashed.
                Ok(content) => t.cache.verify(&content).unwrap(),
                Err(CacheError::Changing { path: named }) => assert_eq!(named, path),
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    t.check_cache();
}

#[test]
fn threads_store_the_same_bytes_at_once() {
    let t = Fixture::new();
    for name in 0..8 {
        t.file(&format!("d/{name}"), noise(300_000));
        t.file(&format!("d/small{name}"), "same");
    }
    let content = t.cache.put(&t.path("d")).unwrap();
    assert_eq!(t.cache.objects().count(), 3);
    t.cache.verify(&content).unwrap();
    t.check_cache();
}

#[test]
fn deep_directories_are_no_problem() {
    let t = Fixture::new();
    let deep = vec!["d"; 1000].join("/");
    t.file(&format!("{deep}/file"), "x");
    let content = t.cache.put(&t.path("d")).unwrap();
    t.cache.restore(&content, &t.path("copy"), CheckoutMode::Auto).unwrap();
    assert_eq!(hash_artifact(&t.path("copy")).unwrap(), content);
    assert_eq!(snapshot(&t.path("d")).len(), 1000);
}

#[test]
fn a_part_of_a_directory_is_what_lies_there() {
    let t = Fixture::new();
    t.file("d/a.txt", "a");
    t.file("d/sub/deep/b.txt", "b");
    t.file("d/sub/c.txt", "c");
    t.file("d/sub.txt", "beside it");
    t.dir("d/empty");
    t.dir("d/sub/also/empty");
    symlink("../a.txt", t.path("d/sub/link")).unwrap();
    set_mode(&t.path("d/a.txt"), 0o755);
    let content = t.cache.put(&t.path("d")).unwrap();
    let manifest = t.cache.manifest(content.id).unwrap();
    for path in ["a.txt", "sub", "sub/deep", "sub/deep/b.txt", "sub.txt", "empty", "sub/also"] {
        let there = hash_artifact(&t.path("d").join(path)).unwrap();
        assert_eq!(manifest.part(Path::new(path)), Some(there), "{path}");
    }
    for path in ["nothing", "su", "sub/link", "a.txt/x", "sub/link/x"] {
        assert_eq!(manifest.part(Path::new(path)), None, "{path}");
    }
}

#[test]
fn a_manifest_is_an_object_like_any_other() {
    let t = Fixture::new();
    t.file("d/a", "1");
    let content = t.cache.put(&t.path("d")).unwrap();
    let text = t.cache.read(content.id).unwrap();
    assert_eq!(DirectoryManifest::parse(&text).unwrap(), t.cache.manifest(content.id).unwrap());
    let file = t.file("manifest.txt", text);
    assert_eq!(t.cache.put(&file).unwrap().id, content.id);
    let not_one = t.cache.put_bytes(b"hello").unwrap();
    assert!(matches!(t.cache.manifest(not_one), Err(CacheError::Manifest { .. })));
}
