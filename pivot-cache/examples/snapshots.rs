//! Keeps snapshots of a directory, and brings one back.
//!
//! ```text
//! cargo run -p pivot-cache --example snapshots -- data       # prints the id of data as it is now
//! cargo run -p pivot-cache --example snapshots -- data ID    # makes data what it was then
//! ```
//!
//! The second run over a large directory is quick: only files that may have changed are read.

use std::error::Error;
use std::io::{self, Write};

use pivot_cache::{Cache, CheckoutMode, State, Workspace};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: snapshots DIRECTORY [ID]")?;
    let root = std::env::current_dir()?;
    let cache = Cache::open(&root.join(".snapshots/cache"));
    let state = State::open(&root.join(".snapshots/state.lmdb"));
    let workspace = Workspace::new(&root, &state);
    cache.sweep_temporary();

    match arguments.next() {
        None => {
            let content = workspace.store(&cache, &path)?;
            if !content.is_directory() {
                return Err(format!("`{path}` is no directory").into());
            }
            writeln!(io::stdout(), "{} ({} bytes)", content.id, content.size_bytes)?;
        }
        Some(id) => {
            // What is there now is kept as well, so that nothing can be lost.
            if workspace.content(&path)?.is_some() {
                workspace.store(&cache, &path)?;
            }
            let content = cache.manifest(id.parse()?)?.content();
            workspace.restore(&cache, &path, &content, CheckoutMode::Auto)?;
        }
    }
    state.flush();
    Ok(())
}
