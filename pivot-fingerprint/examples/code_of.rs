//! Prints which code functions of any Python project depend on, and watches for a change.
//!
//! ```text
//! cargo run -p pivot-fingerprint --example code_of -- DIR MODULE.FUNCTION...
//! ```
//!
//! The project knows nothing of Pivot: its functions are named on the command line. After the
//! list, every Enter asks the witness whether Python would answer the same, without starting it.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::error::Error;
use std::io::BufRead as _;
use std::path::Path;

use pivot_fingerprint::{Entry, InspectRequest, Interpreter, Search};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, functions @ ..] = arguments.as_slice() else {
        return Err("usage: code_of DIR MODULE.FUNCTION...".into());
    };
    let root = Path::new(root).canonicalize()?;
    let python = Interpreter::find(&Search::from_environment(&root))?;
    let request = InspectRequest::new(&root, Entry::Functions(functions.to_vec()));
    let inspection = pivot_fingerprint::inspect(&python, &request)?;

    for stage in &inspection.stages {
        println!("{}", stage.name);
        for component in stage.manifest.components() {
            let place = component.place.as_ref().map(|place| format!("  {place}"));
            println!("  {} {}{}", component.hash, component.name, place.unwrap_or_default());
        }
        for note in &stage.notes {
            println!("  note: {}", note.text);
        }
    }
    for _ in std::io::stdin().lock().lines() {
        match inspection.witness.check() {
            Ok(_) => println!("nothing that the answer came from has changed"),
            Err(change) => println!("look again: {}", change.what),
        }
    }
    Ok(())
}
