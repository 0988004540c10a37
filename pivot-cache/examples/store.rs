//! One operation of the cache on one path, as a program to be timed from outside.
//!
//! ```text
//! cargo run --release -p pivot-cache --example store -- STORE OPERATION PATH [TO]
//! ```
//!
//! `hash` only reads PATH; `copy` and `link` put it into the cache in the directory STORE, by copying
//! it or by making PATH a link to the object; `look` asks what PATH holds, which takes reading only the
//! first time; `restore` brings what PATH holds back at TO. Paths are relative to the current directory.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use pivot_cache::{Cache, CheckoutMode, State, Workspace, hash_artifact};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, operation, path, to @ ..] = &arguments[..] else {
        return Err("usage: store STORE hash|copy|link|look|restore PATH [TO]".into());
    };
    let cache = Cache::open(&Path::new(store).join("cache"));
    let state = State::open(&Path::new(store).join("state.lmdb"));
    let workspace = Workspace::new(&std::env::current_dir()?, &state);
    let content = match operation.as_str() {
        "hash" => hash_artifact(Path::new(path))?,
        "copy" => workspace.store(&cache, path)?,
        "link" => workspace.adopt(&cache, path, CheckoutMode::Hardlink)?,
        "look" => workspace.content(path)?.ok_or("there is nothing")?,
        "restore" => {
            let content = workspace.content(path)?.ok_or("there is nothing")?;
            let to = to.first().ok_or("restore to which path?")?;
            workspace.restore(&cache, to, &content, CheckoutMode::Auto)?;
            content
        }
        _ => return Err(format!("there is no operation `{operation}`").into()),
    };
    state.flush();
    writeln!(io::stdout(), "{} {}", content.id, content.size_bytes)?;
    Ok(())
}
