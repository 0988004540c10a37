//! Bringing things back: as they were made, verified, and in one step.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use pivot_cache::{
    AUTO_COPY_BYTES, Cache, CacheError, CheckoutMode, Content, ContentKind, ObjectId, State,
    Workspace, hash_artifact,
};
use proptest::prelude::*;
use support::{Fixture, inode, mode, set_mode, snapshot};

const MODES: [CheckoutMode; 5] = [
    CheckoutMode::Auto,
    CheckoutMode::Copy,
    CheckoutMode::Reflink,
    CheckoutMode::Hardlink,
    CheckoutMode::Symlink,
];

fn nlink(path: &Path) -> u64 {
    fs::metadata(path).unwrap().nlink()
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; AUTO_COPY_BYTES as usize + 1]
}

#[test]
fn a_file_comes_back_in_every_mode() {
    let t = Fixture::new();
    for (bytes, executable) in
        [(vec![], false), (b"small".to_vec(), false), (b"tool".to_vec(), true), (large(1), false)]
    {
        let path = t.file("data", &bytes);
        set_mode(&path, if executable { 0o755 } else { 0o644 });
        let content = t.cache.put(&path).unwrap();
        for mode in MODES {
            let dest = t.path("deep/er/copy");
            t.cache.restore(&content, &dest, mode).unwrap();
            assert_eq!(fs::read(&dest).unwrap(), bytes, "{mode:?}");
            assert_eq!(hash_artifact(&dest).unwrap(), content, "{mode:?}");
        }
    }
    t.check_cache();
}

#[test]
fn modes_share_what_they_say() {
    let t = Fixture::new();
    let small = t.cache.put(&t.file("small", "small")).unwrap();
    let big = t.cache.put(&t.file("big", large(2))).unwrap();
    let dest = t.path("dest");
    let restored = |content: &Content, mode| {
        t.cache.restore(content, &dest, mode).unwrap();
        (nlink(&dest), fs::symlink_metadata(&dest).unwrap().is_symlink())
    };
    let reflinks = restored(&big, CheckoutMode::Auto).0 == 1;
    assert_eq!(restored(&small, CheckoutMode::Auto), (1, false));
    assert_eq!(mode(&dest), 0o644);
    assert_eq!(restored(&big, CheckoutMode::Auto), (if reflinks { 1 } else { 2 }, false));
    assert_eq!(restored(&big, CheckoutMode::Copy), (1, false));
    assert_eq!(mode(&dest), 0o644);
    assert_eq!(restored(&small, CheckoutMode::Hardlink), (2, false));
    assert_eq!(mode(&dest), 0o444);
    assert_eq!(inode(&dest), inode(&t.cache.object_path(small.id)));
    assert_eq!(restored(&small, CheckoutMode::Symlink), (1, true));
    assert!(fs::read_link(&dest).unwrap().is_relative());
}

#[test]
fn an_edit_of_a_copy_does_not_reach_the_cache() {
    let t = Fixture::new();
    for bytes in [b"small".to_vec(), large(3)] {
        let content = t.cache.put(&t.file("data", &bytes)).unwrap();
        let dest = t.path("private");
        t.cache.restore(&content, &dest, CheckoutMode::Copy).unwrap();
        fs::write(&dest, "edited").unwrap();
        t.cache.verify(&content).unwrap();
        t.cache.restore(&content, &dest, CheckoutMode::Copy).unwrap();
        assert_eq!(fs::read(&dest).unwrap(), bytes);
    }
}

#[test]
fn an_edit_through_a_hard_link_is_found_before_the_object_is_used() {
    let t = Fixture::new();
    let content = t.cache.put(&t.file("data", "original")).unwrap();
    let linked = t.path("linked");
    t.cache.restore(&content, &linked, CheckoutMode::Hardlink).unwrap();
    // Root could write to it as it is; others have to do this first.
    set_mode(&linked, 0o644);
    fs::write(&linked, "tampered").unwrap();

    for mode in MODES {
        let dest = t.path("elsewhere");
        let error = t.cache.restore(&content, &dest, mode).unwrap_err();
        let expected = if mode == CheckoutMode::Auto {
            matches!(error, CacheError::Corrupt { .. })
        } else {
            matches!(error, CacheError::Missing { .. })
        };
        assert!(expected && !dest.exists(), "{mode:?}: {error}");
    }
    assert_eq!(fs::read(&linked).unwrap(), b"tampered", "the user's bytes are the user's");
}

#[test]
fn damage_never_arrives() {
    let t = Fixture::new();
    for bytes in [b"small".to_vec(), vec![5; 256 * 1024], large(5)] {
        let path = t.file("d/data", &bytes);
        let directory = t.cache.put(&t.path("d")).unwrap();
        let file = t.cache.put(&path).unwrap();
        let dest = t.file("dest", "before");
        for mode in MODES {
            for content in [file, directory] {
                for damage in [
                    (|bytes| bytes[0] ^= 1) as fn(&mut Vec<u8>),
                    |bytes| bytes.truncate(bytes.len() - 1),
                    |bytes| bytes.push(1),
                ] {
                    t.damage(file.id, damage);
                    let error = t.cache.restore(&content, &dest, mode).unwrap_err();
                    assert!(matches!(error, CacheError::Corrupt { .. }), "{mode:?}: {error}");
                    assert_eq!(fs::read(&dest).unwrap(), b"before");
                    assert!(!t.cache.contains(file.id), "{mode:?}: not moved aside");
                    t.cache.put(&path).unwrap();
                }
            }
        }
    }
    t.check_cache();
}

#[test]
fn what_is_missing_is_named_and_nothing_changes() {
    let t = Fixture::new();
    t.file("d/a", "a");
    t.file("d/b", "b");
    let content = t.cache.put(&t.path("d")).unwrap();
    let b = ObjectId::of_bytes(b"b");
    t.cache.remove(b).unwrap();
    let before = snapshot(&t.path("d"));
    let error = t.cache.restore(&content, &t.path("d"), CheckoutMode::Auto).unwrap_err();
    assert!(matches!(error, CacheError::Missing { id } if id == b));
    assert_eq!(snapshot(&t.path("d")), before);
    t.cache.remove(content.id).unwrap();
    let error = t.cache.restore(&content, &t.path("d"), CheckoutMode::Auto).unwrap_err();
    assert!(matches!(error, CacheError::Missing { id } if id == content.id));
    t.check_cache();
}

#[test]
fn a_wrong_size_or_count_is_not_restored() {
    let t = Fixture::new();
    t.file("d/a", "a");
    let file = t.cache.put(&t.path("d/a")).unwrap();
    let directory = t.cache.put(&t.path("d")).unwrap();
    for content in [
        Content { size_bytes: 2, ..file },
        Content { size_bytes: 0, ..file },
        Content { size_bytes: 5, ..directory },
        Content { kind: ContentKind::Directory { files: 9 }, ..directory },
    ] {
        for mode in MODES {
            let error = t.cache.restore(&content, &t.path("dest"), mode).unwrap_err();
            assert!(matches!(error, CacheError::WrongSize { .. }), "{error}");
            assert!(!t.path("dest").exists());
        }
        assert!(!t.cache.holds(&content));
    }
    t.cache.verify(&directory).unwrap();
}

#[test]
fn whatever_is_in_the_way_is_replaced() {
    let t = Fixture::new();
    t.file("src/dir/sub/a", "a");
    let file = t.cache.put(&t.path("src/dir/sub/a")).unwrap();
    let directory = t.cache.put(&t.path("src/dir")).unwrap();
    t.file("outside/keep", "keep");
    type Obstacle<'a> = &'a dyn Fn(&Path);
    let obstacles: [(&str, Obstacle<'_>); 6] = [
        ("nothing", &|_| {}),
        ("a file", &|dest| fs::write(dest, "old").unwrap()),
        ("an empty directory", &|dest| fs::create_dir(dest).unwrap()),
        ("a directory", &|dest| {
            fs::create_dir_all(dest.join("x/y")).unwrap();
            fs::write(dest.join("x/y/z"), "old").unwrap();
            set_mode(&dest.join("x/y"), 0o555);
        }),
        ("a link to a directory", &|dest| symlink(t.path("outside"), dest).unwrap()),
        ("a dangling link", &|dest| symlink("nowhere", dest).unwrap()),
    ];
    for (what, make) in obstacles {
        for (content, mode) in
            [file, directory].iter().flat_map(|content| MODES.map(|mode| (content, mode)))
        {
            let dest = t.path("dest");
            make(&dest);
            t.cache.restore(content, &dest, mode).unwrap();
            assert_eq!(hash_artifact(&dest).unwrap(), *content, "{what}, {mode:?}");
            match fs::symlink_metadata(&dest).unwrap().is_dir() {
                true => fs::remove_dir_all(dest).unwrap(),
                false => fs::remove_file(dest).unwrap(),
            }
        }
    }
    assert_eq!(snapshot(&t.path("outside")).len(), 1, "something was written through a link");
    t.check_cache();
}

#[test]
fn a_directory_changes_as_a_whole() {
    let t = Fixture::new();
    t.file("d/a", "1");
    let one = t.cache.put(&t.path("d")).unwrap();
    t.file("d/b", "2");
    fs::remove_file(t.path("d/a")).unwrap();
    let two = t.cache.put(&t.path("d")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                let content = if round % 2 == 0 { &one } else { &two };
                t.cache.restore(content, &t.path("d"), CheckoutMode::Copy).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            assert!(t.path("d").exists(), "the directory was away for a moment");
        }
    });
    assert_eq!(hash_artifact(&t.path("d")).unwrap(), two);
    t.check_cache();
}

#[test]
fn hostile_manifests_write_nothing_outside() {
    let t = Fixture::new();
    t.dir("project");
    let id = t.cache.put_bytes(b"evil").unwrap();
    let line = |path: &str| format!("f\t{id}\t4\t{path}\n");
    for body in [
        line("../victim"),
        line("a/../../victim"),
        line("/tmp/pivot-cache-test-victim"),
        format!("l\ta\t..\n{}", line("a/victim")),
        format!("{}{}", line("a"), line("a/victim")),
        line("\\x2e\\x2e/victim"),
        line("a\\x00"),
        format!("{}{}", line("a"), line("a")),
    ] {
        let text = format!("pivot directory 1\n{body}");
        let manifest = t.cache.put_bytes(text.as_bytes()).unwrap();
        let kind = ContentKind::Directory { files: 1 };
        let content = Content { id: manifest, size_bytes: 4, kind };
        let dest = t.path("project/out");
        for mode in MODES {
            let error = t.cache.restore(&content, &dest, mode).unwrap_err();
            assert!(matches!(error, CacheError::Manifest { .. }), "{body:?}: {error}");
        }
        assert!(t.cache.verify(&content).is_err() && !t.cache.holds(&content));
        assert!(!dest.exists() && !t.path("victim").exists() && !t.path("project/victim").exists());
        assert!(!Path::new("/tmp/pivot-cache-test-victim").exists());
    }
    t.check_cache();
}

#[test]
fn no_path_leads_out_of_the_workspace() {
    let t = Fixture::new();
    let root = t.dir("project");
    t.dir("outside");
    t.dir("project/real");
    let state = State::open(&root.join(".pivot/state.lmdb"));
    let workspace = Workspace::new(&root, &state);
    let content = t.cache.put(&t.file("data", "evil")).unwrap();
    symlink("../outside", root.join("relative")).unwrap();
    symlink(t.path("outside"), root.join("absolute")).unwrap();
    symlink("real", root.join("inside")).unwrap();
    for path in [
        "../victim",
        "a/../../victim",
        "/tmp/pivot-cache-test-victim",
        "relative/victim",
        "absolute/victim",
        "relative/deep/victim",
        "inside/../../outside/victim",
        "",
        ".",
        "..",
    ] {
        let error = workspace.restore(&t.cache, path, &content, CheckoutMode::Copy).unwrap_err();
        assert!(matches!(error, CacheError::Outside { .. }), "{path:?}: {error}");
    }
    assert_eq!(snapshot(&t.path("outside")).len(), 0);
    assert!(!t.path("victim").exists());
    // A link that stays inside is the user's affair.
    workspace.restore(&t.cache, "inside/a/b", &content, CheckoutMode::Copy).unwrap();
    assert_eq!(fs::read(root.join("real/a/b")).unwrap(), b"evil");
    workspace.restore(&t.cache, "new/a/b", &content, CheckoutMode::Copy).unwrap();
    assert_eq!(fs::read(root.join("new/a/b")).unwrap(), b"evil");
}

#[test]
fn another_file_system_is_no_obstacle() {
    let memory = Path::new("/dev/shm");
    let t = Fixture::new();
    if fs::metadata(memory).map(|shm| shm.dev()).ok() == Some(fs::metadata(t.root()).unwrap().dev())
        || !memory.exists()
    {
        return; // There is no other file system to try.
    }
    let other = tempfile::tempdir_in(memory).unwrap();
    t.file("d/a", large(6));
    t.file("d/sub/b", "b");
    let directory = t.cache.put(&t.path("d")).unwrap();
    let file = t.cache.put(&t.path("d/a")).unwrap();
    // What a killed process would have left.
    let leftover = other.path().join(".pivot-tmp-999999999-abc-0");
    fs::create_dir(&leftover).unwrap();
    for mode in MODES {
        t.cache.restore(&directory, &other.path().join("d"), mode).unwrap();
        t.cache.restore(&file, &other.path().join("f"), mode).unwrap();
        assert_eq!(hash_artifact(&other.path().join("d")).unwrap(), directory);
        assert_eq!(hash_artifact(&other.path().join("f")).unwrap(), file);
        let names = fs::read_dir(other.path()).unwrap().count();
        assert_eq!(names, 2, "left something beside the target");
    }
    assert_eq!(t.cache.adopt(&other.path().join("f"), CheckoutMode::Hardlink).unwrap(), file);
    t.check_cache();
}

#[test]
fn leftovers_of_the_dead_are_swept() {
    let t = Fixture::new();
    t.cache.put_bytes(b"x").unwrap();
    let leftover = t.cache.dir().join("tmp/999999999-abc-0");
    fs::create_dir_all(leftover.join("new/deep")).unwrap();
    t.cache.sweep_temporary();
    t.check_cache();
}

#[test]
fn adopting_links_instead_of_copying() {
    let t = Fixture::new();
    let probe = t.cache.put(&t.file("probe", large(9))).unwrap();
    t.cache.restore(&probe, &t.path("probe2"), CheckoutMode::Auto).unwrap();
    if nlink(&t.path("probe2")) == 1 || cfg!(not(target_os = "linux")) {
        return; // This file system reflinks: there is nothing to link.
    }
    let path = t.file("d/big", large(7));
    t.file("d/small", "small");
    let number = inode(&path);
    let content = t.cache.adopt(&t.path("d"), CheckoutMode::Auto).unwrap();
    assert_eq!(hash_artifact(&t.path("d")).unwrap(), content);
    let object = t.cache.object_path(ObjectId::of_bytes(&large(7)));
    assert_eq!((inode(&path), inode(&object)), (number, number), "the file became the object");
    assert_eq!((mode(&path), mode(&t.path("d/small"))), (0o444, 0o644));
    t.cache.verify(&content).unwrap();
    assert_eq!(t.cache.adopt(&t.path("d"), CheckoutMode::Auto).unwrap(), content, "again");

    // The same bytes once more: a second file gives way to the object.
    let twin = t.file("twin", large(7));
    t.cache.adopt(&twin, CheckoutMode::Auto).unwrap();
    assert_eq!(inode(&twin), number);

    // Somebody may still write to it.
    let open = t.file("open", large(8));
    let writer = fs::File::options().append(true).open(&open).unwrap();
    let content = t.cache.adopt(&open, CheckoutMode::Hardlink).unwrap();
    assert_eq!((nlink(&open), mode(&open)), (1, 0o644), "was linked under a writer's hands");
    std::io::Write::write_all(&mut &writer, b"more").unwrap();
    t.cache.verify(&content).unwrap();

    // It has a name that we know nothing of.
    let named = t.file("named", large(10));
    fs::hard_link(&named, t.path("other-name")).unwrap();
    let content = t.cache.adopt(&named, CheckoutMode::Hardlink).unwrap();
    fs::write(t.path("other-name"), "edited").unwrap();
    t.cache.verify(&content).unwrap();

    // Executable files stay files of their own.
    let tool = t.file("tool", large(11));
    set_mode(&tool, 0o755);
    t.cache.adopt(&tool, CheckoutMode::Hardlink).unwrap();
    assert_eq!((nlink(&tool), mode(&tool)), (1, 0o755));

    let link = t.file("link", "to be a link");
    let content = t.cache.adopt(&link, CheckoutMode::Symlink).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(t.cache.adopt(&link, CheckoutMode::Symlink).unwrap(), content);
    assert_eq!(fs::read(&link).unwrap(), b"to be a link");
    t.check_cache();
}

/// Something to put into a directory: where, what kind, which bytes.
type Plan = (Vec<Vec<u8>>, u8, Vec<u8>);

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![Just(b'a'), Just(b'b'), Just(b'.'), Just(b'-'), 1u8..=255];
    proptest::collection::vec(bytes, 1..4).prop_filter_map("not a name", |name| {
        let bad = name.contains(&b'/') || matches!(&name[..], b"." | b"..");
        (!bad).then_some(name)
    })
}

fn any_plan() -> impl Strategy<Value = Vec<Plan>> {
    let path = proptest::collection::vec(any_name(), 1..4);
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    proptest::collection::vec((path, any::<u8>(), bytes), 0..16)
}

fn make(top: &Path, plan: &[Plan]) {
    fs::create_dir(top).unwrap();
    for (parts, kind, bytes) in plan {
        let names = parts.iter().map(|part| OsStr::from_bytes(part));
        let path: PathBuf = std::iter::once(top.as_os_str()).chain(names).collect();
        // Parts of the path may be files already, or the name taken; then there is one item less.
        if fs::create_dir_all(path.parent().unwrap()).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        match kind % 4 {
            0 => drop(fs::create_dir(&path)),
            1 => symlink(OsStr::from_bytes(&parts.concat()), &path).unwrap(),
            kind => {
                fs::write(&path, bytes).unwrap();
                set_mode(&path, if kind == 2 { 0o644 } else { 0o700 });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn restoring_reverses_storing(plan in any_plan(), old in any_plan(), mode in 0..MODES.len()) {
        let t = Fixture::new();
        make(&t.path("dir"), &plan);
        make(&t.path("copy"), &old);
        let content = t.cache.put(&t.path("dir")).unwrap();
        t.cache.restore(&content, &t.path("copy"), MODES[mode]).unwrap();
        prop_assert_eq!(snapshot(&t.path("copy")), snapshot(&t.path("dir")));
        prop_assert_eq!(hash_artifact(&t.path("copy")).unwrap(), content);
        prop_assert!(t.cache.holds(&content));
        t.check_cache();

        let state = State::open(&t.path("state"));
        let workspace = Workspace::new(t.root(), &state);
        prop_assert_eq!(workspace.content("copy").unwrap(), Some(content));
        prop_assert_eq!(workspace.content("copy").unwrap(), Some(content));
        prop_assert_eq!(workspace.adopt(&t.cache, "dir", MODES[mode]).unwrap(), content);
        workspace.restore(&t.cache, "copy", &content, MODES[mode]).unwrap();
        prop_assert_eq!(workspace.content("copy").unwrap(), Some(content));
        prop_assert_eq!(workspace.content("dir").unwrap(), Some(content));
    }
}

#[test]
fn a_relative_destination_works() {
    let t = Fixture::new();
    let content = t.cache.put(&t.file("data", "x")).unwrap();
    // The current directory is the package's, of which only `target` is ours to write to.
    let here = std::env::current_dir().unwrap();
    let dir = tempfile::tempdir_in(&here).unwrap();
    let relative = dir.path().strip_prefix(&here).unwrap().join("out");
    for mode in MODES {
        t.cache.restore(&content, &relative, mode).unwrap();
        assert_eq!(fs::read(&relative).unwrap(), b"x");
    }
    let cache = Cache::open(&dir.path().strip_prefix(&here).unwrap().join("cache"));
    let content = cache.put(&relative).unwrap();
    cache.restore(&content, &relative.with_file_name("again"), CheckoutMode::Symlink).unwrap();
    assert_eq!(fs::read(relative.with_file_name("again")).unwrap(), b"x");
}
