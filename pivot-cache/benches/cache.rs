//! What the cache costs where it matters: hashing, storing, and looking at what has not changed.
//!
//! `cargo bench -p pivot-cache` prints one line a measurement: the best of several rounds. Under
//! `cargo test` everything is small, and the figures mean nothing.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use pivot_cache::{Cache, CheckoutMode, State, Table, Workspace, hash_artifact};
use rayon::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo tells by this word that figures are wanted.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (files, small_files, large_bytes): (usize, usize, usize) =
        if is_bench { (5_000, 100_000, 512 << 20) } else { (50, 100, 1 << 20) };
    let top = tempfile::tempdir()?;
    let root = top.path();
    let cache = Cache::open(&root.join("cache"));
    let state_dir = root.join(".pivot/state.lmdb");

    let large = root.join("large");
    fs::write(&large, (0..large_bytes).map(|i| (i * 31 + i / 253) as u8).collect::<Vec<_>>())?;
    show("hash 512 MiB", 3, || hash_artifact(&large).map(drop))?;
    show("cp 512 MiB", 3, || {
        let _ = fs::remove_file(root.join("cp"));
        std::process::Command::new("cp").arg(&large).arg(root.join("cp")).status().map(drop)
    })?;
    show("store 512 MiB by copying", 3, || {
        let _ = fs::remove_dir_all(cache.dir());
        cache.put(&large).map(drop)
    })?;
    let content = cache.put(&large)?;
    show("restore 512 MiB by copying", 3, || {
        cache.restore(&content, &root.join("copy"), CheckoutMode::Copy)
    })?;
    fs::remove_dir_all(cache.dir())?;
    fs::remove_file(root.join("copy"))?;
    show("store 512 MiB by linking", 3, || {
        let _ = fs::remove_dir_all(cache.dir());
        cache.adopt(&large, CheckoutMode::Hardlink).map(drop)
    })?;
    for name in ["large", "cp"] {
        fs::remove_file(root.join(name))?;
    }

    fill(&root.join("files"), files)?;
    fill(&root.join("tree"), small_files)?;
    let paths: Vec<String> = (0..files).map(|number| name("files", number)).collect();
    {
        let state = State::open(&state_dir);
        let workspace = Workspace::new(root, &state);
        show("hash 5,000 new files", 1, || look(&workspace, &paths))?;
        // Files this young are not remembered, so the value to read back is its own.
        state.put(Table::Files, b"a value", b"of this benchmark");
        show("remember them", 1, || {
            state.flush();
            io::Result::Ok(())
        })?;
    }
    show("open the state and read one value", 20, || {
        let state = State::open(&state_dir);
        state.get(Table::Files, b"a value").map(drop).ok_or("the value is gone")
    })?;
    show("look at 5,000 unchanged files", 10, || {
        let state = State::open(&state_dir);
        look(&Workspace::new(root, &state), &paths)
    })?;
    show("the same, one after the other", 10, || {
        let state = State::open(&state_dir);
        let workspace = Workspace::new(root, &state);
        paths.iter().try_for_each(|path| workspace.content(path).map(drop))
    })?;

    let state = State::open(&state_dir);
    let workspace = Workspace::new(root, &state);
    show("store a tree of 100,000 files", 1, || workspace.store(&cache, "tree").map(drop))?;
    let content = workspace.store(&cache, "tree")?;
    state.flush();
    show("look at the unchanged tree", 5, || workspace.content("tree").map(drop))?;
    show("find -printf %s", 5, || {
        let mut find = std::process::Command::new("find");
        find.arg(root.join("tree")).args(["-printf", "%s"]);
        find.stdout(std::process::Stdio::null()).status().map(drop)
    })?;
    fs::write(root.join(name("tree", 7)), "changed")?;
    show("look at it with one file changed", 1, || workspace.content("tree").map(drop))?;
    show("restore it", 1, || workspace.restore(&cache, "tree", &content, CheckoutMode::Auto))?;
    show("restore it as hard links", 1, || {
        workspace.restore(&cache, "tree", &content, CheckoutMode::Hardlink)
    })?;
    Ok(())
}

fn look(workspace: &Workspace<'_>, paths: &[String]) -> Result<(), pivot_cache::CacheError> {
    paths.par_iter().with_min_len(64).try_for_each(|path| workspace.content(path).map(drop))
}

fn name(dir: &str, number: usize) -> String {
    format!("{dir}/{}/{number}", number / 500)
}

fn fill(dir: &Path, files: usize) -> io::Result<()> {
    for number in 0..files {
        let path = dir.with_file_name(name(
            dir.file_name().expect("a name was given").to_str().expect("in ASCII"),
            number,
        ));
        if number % 500 == 0 {
            fs::create_dir_all(path.parent().expect("it lies in a directory"))?;
        }
        fs::write(path, format!("contents of {number}"))?;
    }
    Ok(())
}

/// Runs something a few times and prints the shortest.
fn show<E: Into<Box<dyn std::error::Error>>>(
    what: &str,
    rounds: usize,
    mut work: impl FnMut() -> Result<(), E>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        work().map_err(Into::into)?;
        best = best.min(start.elapsed());
    }
    writeln!(io::stdout(), "{what:40} {:>10.2} ms", best.as_secs_f64() * 1000.0)?;
    Ok(())
}
