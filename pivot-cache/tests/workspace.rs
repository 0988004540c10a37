//! Knowing what has changed: no edit is missed, nothing is read twice.

mod support;

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use pivot_cache::{
    CacheError, CheckoutMode, Content, ObjectId, State, Table, Workspace, hash_artifact,
};
use rayon::prelude::*;
use support::{Fixture, mode, set_mode};

struct Project {
    t: Fixture,
    state: State,
}

impl Project {
    fn new() -> Project {
        let t = Fixture::new();
        t.dir(".pivot");
        let state = State::open(&t.path(".pivot/state.lmdb"));
        Project { t, state }
    }

    fn workspace(&self) -> Workspace<'_> {
        Workspace::new(self.t.root(), &self.state)
    }

    /// What the workspace says, which must be what reading says.
    fn content(&self, path: &str) -> Content {
        let content = self.workspace().content(path).unwrap().unwrap();
        assert_eq!(content, hash_artifact(&self.t.path(path)).unwrap(), "{path}");
        content
    }

    /// Makes the remembered hash of `path` a wrong one. Who then still gets the right one has read
    /// the file.
    fn poison(&self, table: Table, path: &str) -> ObjectId {
        let wrong = ObjectId::from_u64(0xbad);
        let mut record = self.state.get(table, path.as_bytes()).expect("nothing is remembered");
        let at = if table == Table::Files { 48 } else { 0 };
        record[at..at + 8].copy_from_slice(&wrong.as_u64().to_le_bytes());
        self.state.put(table, path.as_bytes(), &record);
        wrong
    }
}

/// Makes all of a file's times but `ctime` old, and `ctime` older than a clock tick.
fn settle(path: &Path) {
    let settled = fs::metadata(path).unwrap();
    let probe = path.with_file_name(".probe");
    // Wait for the file system's clock, whatever its ticks are, to have moved on by 50 ms.
    loop {
        fs::write(&probe, "x").unwrap();
        let now = fs::metadata(&probe).unwrap().modified().unwrap();
        let then = settled.modified().unwrap();
        if now.duration_since(then).is_ok_and(|age| age > Duration::from_millis(50)) {
            return fs::remove_file(&probe).unwrap();
        }
    }
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let p = Project::new();
    settle(&p.t.file("data", "hello"));
    let content = p.content("data");
    assert_eq!(content, Content::file(ObjectId::of_bytes(b"hello"), 5));
    let wrong = p.poison(Table::Files, "data");
    assert_eq!(p.workspace().content("data").unwrap().unwrap().id, wrong);
    p.workspace().forget("data");
    assert_eq!(p.content("data"), content);
}

#[test]
fn an_unchanged_directory_is_not_read_again() {
    let p = Project::new();
    p.t.file("d/a", "1");
    p.t.file("d/sub/b", "2");
    p.t.dir("d/empty");
    symlink("a", p.t.path("d/link")).unwrap();
    settle(&p.t.path("d/sub/b"));
    settle(&p.t.file("outside", ""));
    let content = p.content("d");
    let wrong = p.poison(Table::Directories, "d");
    assert_eq!(p.workspace().content("d").unwrap().unwrap().id, wrong);
    p.workspace().forget("d");
    assert_eq!(p.content("d"), content);
}

#[test]
fn a_snapshot_holds_until_something_changes() {
    let names = ["a", "b", "d", "n"];
    let taken = |p: &Project| {
        let contents = names.map(|name| (name, p.workspace().content(name).unwrap()));
        p.workspace().snapshot(contents, Vec::new())
    };
    type Change = (&'static str, fn(&Project));
    let changes: [Change; 9] = [
        ("edited in secret", |p| {
            let time = fs::metadata(p.t.path("a")).unwrap().modified().unwrap();
            fs::write(p.t.path("a"), "2").unwrap();
            fs::File::options()
                .write(true)
                .open(p.t.path("a"))
                .unwrap()
                .set_modified(time)
                .unwrap();
        }),
        ("replaced", |p| fs::rename(p.t.path("b"), p.t.path("a")).unwrap()),
        ("deleted", |p| fs::remove_file(p.t.path("b")).unwrap()),
        ("executable", |p| set_mode(&p.t.path("b"), 0o755)),
        ("a directory", |p| {
            fs::remove_file(p.t.path("b")).unwrap();
            p.t.dir("b");
        }),
        ("inside the directory", |p| drop(p.t.file("d/x", "2"))),
        ("something where nothing was", |p| drop(p.t.file("n", ""))),
        ("a directory where nothing was", |p| drop(p.t.dir("n"))),
        ("no directory", |p| {
            fs::remove_dir_all(p.t.path("d")).unwrap();
            p.t.file("d", "");
        }),
    ];
    for (what, change) in changes {
        let p = Project::new();
        p.t.file("a", "1");
        p.t.file("d/x", "1");
        settle(&p.t.file("b", "1"));
        let snapshot = taken(&p).expect("all files have settled");
        assert!(p.workspace().is_as_in(&snapshot));
        for end in 1..snapshot.len() {
            // What is left may end after an entry, never in the middle of one.
            let is_whole = p.workspace().is_as_in(&snapshot[..end]);
            assert!(!is_whole || snapshot[end] == 1, "cut at {end}");
        }
        change(&p);
        assert!(!p.workspace().is_as_in(&snapshot), "{what}");
    }
    let p = Project::new();
    assert!(p.workspace().is_as_in(b""));
    assert!(!p.workspace().is_as_in(&[0xff; 100]));
    let nothing = Content::file(ObjectId::of_bytes(b""), 0);
    assert_eq!(p.workspace().snapshot([("never looked at", Some(nothing))], Vec::new()), None);
}

#[test]
fn a_file_is_read_and_remembered_in_one_go() {
    let p = Project::new();
    settle(&p.t.file("data", "hello"));
    assert_eq!(p.workspace().remembered("data"), None);
    assert_eq!(p.workspace().read("data", 4).unwrap(), None);
    assert_eq!(p.workspace().read("missing", 4).unwrap(), None);
    p.t.dir("d");
    assert!(p.workspace().read("d", 4).is_err());
    let (content, bytes) = p.workspace().read("data", 5).unwrap().unwrap();
    assert_eq!((content, bytes.as_slice()), (p.content("data"), &b"hello"[..]));
    assert_eq!(p.workspace().remembered("data"), Some(content));
    p.t.file("data", "world");
    assert_eq!(p.workspace().remembered("data"), None);
}

#[test]
fn only_the_changed_files_of_a_directory_are_read() {
    let p = Project::new();
    let root = p.t.root().to_path_buf();
    let store = |p: &Project| p.workspace().store(&p.t.cache, "d").unwrap();
    for name in 0..20 {
        p.t.file(&format!("d/{name}"), format!("contents {name}"));
    }
    settle(&p.t.path("d/0"));
    let one = store(&p);
    assert_eq!(one, hash_artifact(&root.join("d")).unwrap());
    // Where the hashes lie in the record of a directory: one is made wrong.
    let mut record = p.state.get(Table::Directories, b"d").unwrap();
    let (known, wrong) = (ObjectId::of_bytes(b"contents 7"), ObjectId::from_u64(0xbad));
    let known_bytes = known.as_u64().to_le_bytes();
    let at = record.windows(8).position(|window| window == known_bytes).unwrap();
    record[at..at + 8].copy_from_slice(&wrong.as_u64().to_le_bytes());
    p.state.put(Table::Directories, b"d", &record);

    p.t.file("d/3", "changed");
    let two = p.workspace().content("d").unwrap().unwrap();
    assert_ne!(two, hash_artifact(&root.join("d")).unwrap(), "all files were read");
    // Storing does not believe a record whose object is not there.
    let three = store(&p);
    assert_eq!(three, hash_artifact(&root.join("d")).unwrap());
    p.t.cache.verify(&three).unwrap();
}

#[test]
fn no_edit_is_missed() {
    let p = Project::new();
    let long_ago = SystemTime::UNIX_EPOCH;
    let far_off = long_ago + Duration::from_secs(4_200_000_000);
    for (dir, name) in [(None, "data"), (Some("d"), "d/sub/data")] {
        let artifact = dir.unwrap_or(name);
        for start in [long_ago, SystemTime::now(), far_off] {
            let path = p.t.file(name, "one");
            let set = |path: &Path| {
                fs::File::options().write(true).open(path).unwrap().set_modified(start).unwrap();
            };
            set(&path);
            let mut contents = vec![p.content(artifact)];
            let mut changed = |what: &str| {
                let now = p.content(artifact);
                assert!(!contents.contains(&now), "{what} went unnoticed");
                contents.push(now);
            };
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(b"two", 0).unwrap();
            set(&path);
            changed("an edit in place with size and mtime put back");
            fs::write(p.t.path("new"), "tri").unwrap();
            set(&p.t.path("new"));
            fs::rename(p.t.path("new"), &path).unwrap();
            changed("a replacement of the same size and mtime");
            set_mode(&path, 0o755);
            changed("an executable bit");
            fs::write(&path, "longer").unwrap();
            set(&path);
            changed("another size");
            set_mode(&path, 0o644);
        }
    }
}

#[test]
fn edits_within_a_clock_tick_are_not_missed() {
    let p = Project::new();
    let path = p.t.file("d/data", "0000");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let workspace = p.workspace();
    // Faster than any clock ticks: each edit follows right after a look, and the next look after it.
    for round in 0..3000 {
        let text = format!("{round:04}");
        file.write_all_at(text.as_bytes(), 0).unwrap();
        let expected = Content::file(ObjectId::of_bytes(text.as_bytes()), 4);
        assert_eq!(workspace.content("d/data").unwrap(), Some(expected), "round {round}");
        if round % 10 == 0 {
            let directory = workspace.content("d").unwrap().unwrap();
            assert_eq!(directory, hash_artifact(&p.t.path("d")).unwrap(), "round {round}");
        }
    }
}

#[test]
fn everything_that_happens_in_a_directory_is_seen() {
    let p = Project::new();
    p.t.file("d/a", "1");
    let mut contents = vec![p.content("d")];
    let mut changed = |what: &str| {
        let now = p.content("d");
        assert!(!contents.contains(&now), "{what} went unnoticed");
        contents.push(now);
    };
    p.t.file("d/b", "1");
    changed("a new file");
    fs::rename(p.t.path("d/a"), p.t.path("d/c")).unwrap();
    changed("a new name");
    p.t.dir("d/e");
    changed("an empty directory");
    fs::rename(p.t.path("d/e"), p.t.path("d/f")).unwrap();
    changed("an empty directory's new name");
    p.t.file("d/f/x", "");
    changed("a file in it");
    symlink("x", p.t.path("d/l")).unwrap();
    changed("a link");
    fs::remove_file(p.t.path("d/l")).unwrap();
    symlink("y", p.t.path("d/l")).unwrap();
    changed("another target");
    fs::remove_file(p.t.path("d/c")).unwrap();
    changed("a removed file");
    // Two files swap their names: the same sizes, the same inodes, other places.
    p.t.file("d/p", "pp");
    p.t.file("d/q", "qq");
    changed("two more files");
    fs::rename(p.t.path("d/p"), p.t.path("d/t")).unwrap();
    fs::rename(p.t.path("d/q"), p.t.path("d/p")).unwrap();
    fs::rename(p.t.path("d/t"), p.t.path("d/q")).unwrap();
    changed("swapped names");
}

#[test]
fn nothing_is_none_and_what_cannot_be_read_is_an_error() {
    let p = Project::new();
    p.t.file("file", "");
    symlink("nowhere", p.t.path("dangling")).unwrap();
    for path in ["nothing", "nothing/below", "file/below", "dangling"] {
        assert_eq!(p.workspace().content(path).unwrap(), None, "{path}");
        assert!(p.workspace().store(&p.t.cache, path).unwrap_err().is_not_found(), "{path}");
    }
    let fifo = p.t.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let error = p.workspace().content("pipe").unwrap_err();
    assert!(matches!(error, CacheError::Unsupported { path, .. } if path == fifo));
    let nowhere = p.t.path("no-project");
    let state = State::open(&nowhere.join("state"));
    let error = Workspace::new(&nowhere, &state).content("x").unwrap_err();
    assert!(error.to_string().contains("no-project"), "{error}");
}

#[test]
fn a_file_becomes_a_directory_and_back() {
    let p = Project::new();
    for _ in 0..2 {
        p.t.file("x", "file");
        assert!(!p.content("x").is_directory());
        fs::remove_file(p.t.path("x")).unwrap();
        p.t.file("x/inside", "file");
        assert!(p.content("x").is_directory());
        fs::remove_dir_all(p.t.path("x")).unwrap();
        assert_eq!(p.workspace().content("x").unwrap(), None);
    }
}

#[test]
fn links_are_followed_at_the_top() {
    let p = Project::new();
    p.t.file("one", "1");
    p.t.file("two", "2");
    p.t.file("dir/a", "3");
    symlink("one", p.t.path("link")).unwrap();
    assert_eq!(p.content("link").id, ObjectId::of_bytes(b"1"));
    fs::remove_file(p.t.path("link")).unwrap();
    symlink("two", p.t.path("link")).unwrap();
    assert_eq!(p.content("link").id, ObjectId::of_bytes(b"2"));
    p.t.file("two", "4");
    assert_eq!(p.content("link").id, ObjectId::of_bytes(b"4"));
    fs::remove_file(p.t.path("link")).unwrap();
    symlink("dir", p.t.path("link")).unwrap();
    assert_eq!(p.content("link"), p.content("dir"));
    p.t.file("dir/b", "5");
    assert_eq!(p.content("link"), p.content("dir"));
}

#[test]
fn what_was_stored_or_restored_is_known() {
    for mode_wanted in
        [CheckoutMode::Auto, CheckoutMode::Copy, CheckoutMode::Hardlink, CheckoutMode::Symlink]
    {
        let p = Project::new();
        let workspace = p.workspace();
        p.t.file("d/a", vec![1; 5 << 20]);
        p.t.file("d/b", "2");
        p.t.file("f", "file");
        settle(&p.t.path("d/b"));
        let directory = workspace.adopt(&p.t.cache, "d", mode_wanted).unwrap();
        let file = workspace.adopt(&p.t.cache, "f", mode_wanted).unwrap();
        assert_eq!((p.content("d"), p.content("f")), (directory, file));
        fs::remove_dir_all(p.t.path("d")).unwrap();
        fs::remove_file(p.t.path("f")).unwrap();
        workspace.restore(&p.t.cache, "d", &directory, mode_wanted).unwrap();
        workspace.restore(&p.t.cache, "f", &file, mode_wanted).unwrap();
        assert_eq!((p.content("d"), p.content("f")), (directory, file));
        p.t.cache.verify(&directory).unwrap();

        // An edit right after is seen, whatever was believed.
        let path = p.t.path("d/b");
        if mode(&path) == 0o444 {
            set_mode(&path, 0o644);
        }
        fs::write(&path, "3").unwrap();
        assert_ne!(p.content("d"), directory, "{mode_wanted:?}");
    }
}

#[test]
fn a_lost_object_is_stored_again() {
    let p = Project::new();
    settle(&p.t.file("data", "hello"));
    let content = p.workspace().store(&p.t.cache, "data").unwrap();
    p.t.cache.remove(content.id).unwrap();
    assert_eq!(p.workspace().store(&p.t.cache, "data").unwrap(), content);
    p.t.cache.verify(&content).unwrap();
}

#[test]
fn damaged_records_read_as_none() {
    let p = Project::new();
    settle(&p.t.file("data", "hello"));
    p.t.file("d/a", "1");
    let (file, directory) = (p.content("data"), p.content("d"));
    for (table, path, content) in
        [(Table::Files, "data", file), (Table::Directories, "d", directory)]
    {
        let record = p.state.get(table, path.as_bytes()).unwrap();
        for length in 0..record.len() {
            p.state.put(table, path.as_bytes(), &record[..length]);
            assert_eq!(p.workspace().content(path).unwrap(), Some(content), "cut to {length}");
        }
        p.state.put(table, path.as_bytes(), &vec![0xff; record.len()]);
        assert_eq!(p.workspace().content(path).unwrap(), Some(content));
    }
}

#[test]
fn threads_may_ask_at_once() {
    let p = Project::new();
    for name in 0..300 {
        p.t.file(&format!("{}", name % 100), format!("{}", name % 100));
    }
    let workspace = p.workspace();
    for _ in 0..3 {
        (0..100).into_par_iter().for_each(|name: u32| {
            let content = workspace.content(&name.to_string()).unwrap().unwrap();
            assert_eq!(content.id, ObjectId::of_bytes(name.to_string().as_bytes()));
        });
        p.state.flush();
    }
}
