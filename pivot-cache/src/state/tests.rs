use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use rayon::prelude::*;

use super::*;

fn new_dir() -> (tempfile::TempDir, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("state.lmdb");
    (top, dir)
}

/// A state with some values, closed again.
fn filled(dir: &Path) {
    let state = State::open(dir);
    for number in 0..500u32 {
        state.put(Table::Files, &number.to_le_bytes(), &[number as u8; 100]);
    }
    state.flush();
    assert_eq!(state.notice(), None);
}

fn count(state: &State) -> usize {
    (0..500u32).filter(|number| state.get(Table::Files, &number.to_le_bytes()).is_some()).count()
}

/// Whatever was there before: it takes values and keeps them.
fn works(dir: &Path) {
    {
        let state = State::open(dir);
        state.put(Table::Locks, b"after", b"all");
        state.flush();
    }
    let state = State::open(dir);
    assert_eq!(state.get(Table::Locks, b"after").as_deref(), Some(&b"all"[..]));
    assert_eq!(state.notice(), None);
}

#[test]
fn values_survive_a_flush_and_nothing_else_does() {
    let (_top, dir) = new_dir();
    {
        let state = State::open(&dir);
        state.put(Table::Files, b"a", b"1");
        state.put(Table::Runs, b"a", b"2");
        state.put(Table::Files, b"gone", b"3");
        state.delete(Table::Files, b"gone");
        state.put(Table::Files, b"", b"empty key");
        state.put(Table::Files, b"empty", b"");
        assert_eq!(state.get(Table::Files, b"a").unwrap(), b"1");
        assert_eq!(state.get(Table::Files, b"gone"), None);
        state.flush();
        assert_eq!(state.get(Table::Files, b"a").unwrap(), b"1");
        state.put(Table::Files, b"a", b"newer");
        assert_eq!(state.get(Table::Files, b"a").unwrap(), b"newer");
    }
    let state = State::open(&dir);
    assert_eq!(state.get(Table::Files, b"a").unwrap(), b"1");
    assert_eq!(state.get(Table::Runs, b"a").unwrap(), b"2");
    assert_eq!(state.get(Table::Files, b"gone"), None);
    assert_eq!(state.get(Table::Files, b"").unwrap(), b"empty key");
    assert_eq!(state.get(Table::Files, b"empty").unwrap(), b"");
    state.delete(Table::Files, b"a");
    assert_eq!(state.get(Table::Files, b"a"), None);
    state.flush();
    state.release();
    assert_eq!(state.get(Table::Files, b"a"), None);
    assert_eq!(state.notice(), None);
}

#[test]
fn reading_makes_nothing() {
    let (top, dir) = new_dir();
    let state = State::open(&dir);
    assert_eq!(state.get(Table::Files, b"a"), None);
    state.flush();
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
    assert_eq!(state.notice(), None);
}

#[test]
fn long_keys_are_told_apart() {
    let (_top, dir) = new_dir();
    let key = |length: usize, last: u8| [vec![b'k'; length - 1], vec![last]].concat();
    {
        let state = State::open(&dir);
        for length in [509, 510, 511, 512, 5000] {
            for last in [1, 2] {
                state.put(Table::Files, &key(length, last), &[last; 3]);
            }
        }
        state.flush();
    }
    let state = State::open(&dir);
    for length in [509, 510, 511, 512, 5000] {
        for last in [1, 2] {
            assert_eq!(state.get(Table::Files, &key(length, last)).unwrap(), [last; 3]);
        }
    }
}

#[test]
fn a_full_map_grows() {
    let (_top, dir) = new_dir();
    let value = vec![7; 100_000];
    {
        let state = State::open_with_map(&dir, 1 << 16);
        for number in 0..100u32 {
            state.put(Table::Directories, &number.to_le_bytes(), &value);
            if number % 10 == 0 {
                state.flush();
            }
        }
        state.flush();
        assert_eq!(state.notice(), None);
    }
    let state = State::open_with_map(&dir, 1 << 16);
    for number in 0..100u32 {
        assert_eq!(state.get(Table::Directories, &number.to_le_bytes()).unwrap(), value);
    }
    // Freed pages at the end of the file must not make it look damaged.
    for number in 0..100u32 {
        state.delete(Table::Directories, &number.to_le_bytes());
        state.flush();
    }
    drop(state);
    works(&dir);
}

#[test]
fn a_damaged_database_is_dropped() {
    type Damage = Box<dyn Fn(&Path)>;
    let overwrite = |at: u64, length: usize| -> Damage {
        Box::new(move |dir: &Path| {
            let file = fs::File::options().write(true).open(dir.join("data.mdb")).unwrap();
            // The same seed each time: a failure can be repeated.
            let noise: Vec<u8> =
                (0..length).map(|i| xxh3_64_with_seed(&i.to_le_bytes(), at) as u8).collect();
            file.write_all_at(&noise, at).unwrap();
        })
    };
    let truncate = |length: u64| -> Damage {
        Box::new(move |dir: &Path| {
            fs::File::options()
                .write(true)
                .open(dir.join("data.mdb"))
                .unwrap()
                .set_len(length)
                .unwrap();
        })
    };
    let mut damages: Vec<(String, Damage)> = Vec::new();
    for length in [0, 1, 100, 4096, 8191, 8192, 20_000] {
        damages.push((format!("truncated to {length}"), truncate(length)));
    }
    for at in (0..8).map(|page| page * 4096) {
        damages.push((format!("page at {at} overwritten"), overwrite(at, 4096)));
        damages.push((format!("noise at {at}"), overwrite(at + 100, 16)));
    }
    damages.push((
        "foreign file".into(),
        Box::new(|dir| fs::write(dir.join("data.mdb"), "SQLite format 3\0").unwrap()),
    ));
    damages.push((
        "another database".into(),
        Box::new(|dir| {
            let (_top, other) = new_dir();
            filled(&other);
            fs::copy(other.join("data.mdb"), dir.join("data.mdb")).unwrap();
        }),
    ));
    damages.push((
        "a directory for a file".into(),
        Box::new(|dir| {
            fs::remove_file(dir.join("data.mdb")).unwrap();
            fs::create_dir(dir.join("data.mdb")).unwrap();
        }),
    ));
    damages.push(("no seal".into(), Box::new(|dir| fs::remove_file(dir.join("seal")).unwrap())));
    damages.push(("other seal".into(), Box::new(|dir| fs::write(dir.join("seal"), "x").unwrap())));
    damages.push((
        "a file for the directory".into(),
        Box::new(|dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::write(dir, "x").unwrap();
        }),
    ));
    for (name, damage) in damages {
        let (_top, dir) = new_dir();
        filled(&dir);
        damage(&dir);
        {
            let state = State::open(&dir);
            assert_eq!(count(&state), 0, "{name}");
            assert!(state.notice().is_some(), "{name}: nothing was said");
        }
        works(&dir);
    }
}

#[test]
fn lock_file_damage_costs_nothing() {
    for damage in ["", "garbage"] {
        let (_top, dir) = new_dir();
        filled(&dir);
        fs::write(dir.join("lock.mdb"), damage).unwrap();
        assert_eq!(count(&State::open(&dir)), 500);
    }
    let (_top, dir) = new_dir();
    filled(&dir);
    fs::remove_file(dir.join("lock.mdb")).unwrap();
    assert_eq!(count(&State::open(&dir)), 500);
}

#[test]
fn a_copied_state_is_not_believed() {
    let (top, dir) = new_dir();
    filled(&dir);
    let copy = top.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["data.mdb", "lock.mdb", "seal"] {
        fs::copy(dir.join(name), copy.join(name)).unwrap();
    }
    assert_eq!(count(&State::open(&copy)), 0);
    // But a moved one is: its files are the same.
    fs::rename(&dir, top.path().join("moved")).unwrap();
    assert_eq!(count(&State::open(&top.path().join("moved"))), 500);
}

#[test]
fn damage_while_open_is_found_before_writing() {
    let (_top, dir) = new_dir();
    filled(&dir);
    let state = State::open(&dir);
    let file = fs::File::options().write(true).open(dir.join("data.mdb")).unwrap();
    file.write_all_at(&[0x55; 3000], 2 * 4096).unwrap();
    state.put(Table::Files, b"new", b"value");
    state.flush();
    assert!(state.notice().is_some());
    assert_eq!(state.get(Table::Files, b"new").unwrap(), b"value");
    drop(state);
    let state = State::open(&dir);
    assert_eq!(state.notice(), None);
    assert_eq!(state.get(Table::Files, b"new").unwrap(), b"value");
}

#[test]
fn a_deleted_database_is_made_again() {
    let (_top, dir) = new_dir();
    filled(&dir);
    let state = State::open(&dir);
    fs::remove_dir_all(&dir).unwrap();
    state.put(Table::Files, b"new", b"value");
    state.flush();
    drop(state);
    let state = State::open(&dir);
    assert_eq!(state.get(Table::Files, b"new").unwrap(), b"value");
}

#[test]
fn a_second_one_in_this_process_stays_in_memory() {
    let (_top, dir) = new_dir();
    filled(&dir);
    let first = State::open(&dir);
    let second = State::open(&dir);
    assert!(second.notice().is_some());
    second.put(Table::Files, b"x", b"y");
    second.flush();
    assert_eq!(second.get(Table::Files, b"x").unwrap(), b"y");
    assert_eq!(count(&first), 500);
    assert_eq!(first.get(Table::Files, b"x"), None);
}

#[test]
fn a_directory_that_cannot_be_made_is_no_error() {
    let top = tempfile::tempdir().unwrap();
    fs::write(top.path().join("file"), "").unwrap();
    let state = State::open(&top.path().join("file/state.lmdb"));
    state.put(Table::Files, b"x", b"y");
    state.flush();
    assert_eq!(state.get(Table::Files, b"x").unwrap(), b"y");
    assert!(state.notice().is_some());
    assert_eq!(fs::read(top.path().join("file")).unwrap(), b"");
}

#[test]
fn threads_read_and_write_at_once() {
    let (_top, dir) = new_dir();
    filled(&dir);
    let state = State::open(&dir);
    (0..2000u32).into_par_iter().for_each(|number| {
        let key = (number % 500).to_le_bytes();
        assert_eq!(state.get(Table::Files, &key).unwrap(), [(number % 500) as u8; 100]);
        state.put(Table::Runs, &number.to_le_bytes(), &key);
        if number % 100 == 0 {
            state.flush();
        }
        assert_eq!(state.get(Table::Runs, &number.to_le_bytes()).unwrap(), key);
    });
    assert_eq!(state.notice(), None);
}

/// Not a test by itself: what the tests below run in other processes.
#[test]
fn child_process() {
    let Ok(dir) = std::env::var("PIVOT_CACHE_TEST_STATE") else { return };
    let name = std::env::var("PIVOT_CACHE_TEST_NAME").unwrap();
    let rounds: u32 = std::env::var("PIVOT_CACHE_TEST_ROUNDS").unwrap().parse().unwrap();
    let state = State::open(Path::new(&dir));
    for round in 0..rounds {
        state.put(Table::Runs, format!("{name} {round}").as_bytes(), &[round as u8; 3000]);
        state.flush();
        let mut out = std::io::stdout();
        let _ = writeln!(out, "\nround {round}").and_then(|()| out.flush());
    }
    assert_eq!(state.notice(), None);
}

fn child(dir: &Path, name: &str, rounds: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::tests::child_process", "--nocapture"])
        .env("PIVOT_CACHE_TEST_STATE", dir)
        .env("PIVOT_CACHE_TEST_NAME", name)
        .env("PIVOT_CACHE_TEST_ROUNDS", rounds.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn processes_share_it() {
    let (_top, dir) = new_dir();
    let names = ["a", "b", "c"];
    let children = names.map(|name| child(&dir, name, 20));
    let state = State::open(&dir);
    for round in 0..20 {
        state.put(Table::Locks, &[round], b"mine");
        state.flush();
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    state.put(Table::Locks, b"last", b"");
    state.flush();
    for round in 0..20u8 {
        assert!(state.get(Table::Locks, &[round]).is_some(), "lost my round {round}");
        for name in names {
            let key = format!("{name} {round}");
            assert!(state.get(Table::Runs, key.as_bytes()).is_some(), "lost {key}");
        }
    }
    assert_eq!(state.notice(), None);
}

#[test]
fn a_killed_process_leaves_something_usable() {
    let (_top, dir) = new_dir();
    for rounds_before_the_kill in [1, 2, 3, 5, 8] {
        let mut child = child(&dir, "victim", u32::MAX);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut rounds =
            lines.map_while(Result::ok).filter(|line| line.starts_with("round")).fuse();
        assert!(rounds.nth(rounds_before_the_kill).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had written may be lost, if it was killed while writing more.
        let state = State::open(&dir);
        if state.notice().is_none() {
            assert!(state.get(Table::Runs, b"victim 0").is_some());
        }
        drop(state);
        works(&dir);
    }
}
