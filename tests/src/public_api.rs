//! The check that no library's public API changes by accident.
//!
//! Each library has its API, an item a line, in `public-api.txt`. This program compares it with
//! what rustdoc says now, prints the difference and fails; `--update` writes the files anew, so
//! that a change of an API is read in its commit.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use public_api::Builder;
use similar::TextDiff;

/// The crates whose API others build on; `pivot-cli` has none.
const LIBRARIES: [&str; 7] = [
    "pivot-cache",
    "pivot-dag",
    "pivot-fingerprint",
    "pivot-pipeline",
    "pivot-lock",
    "pivot-remote",
    "pivot-exec",
];

/// Set where cargo calls this program in place of rustdoc.
const IN_PLACE_OF_RUSTDOC: &str = "PIVOT_IN_PLACE_OF_RUSTDOC";

fn main() -> ExitCode {
    if env::var_os(IN_PLACE_OF_RUSTDOC).is_some() {
        return run_rustdoc();
    }
    let is_update = match env::args().nth(1).as_deref() {
        None => false,
        Some("--update") => true,
        Some(_) => return fail("the only argument is `--update`"),
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of a workspace");
    let mut changed = Vec::new();
    for library in LIBRARIES {
        let now = match public_items(workspace, library) {
            Ok(items) => items,
            Err(problem) => return fail(&format!("{library}: {problem}")),
        };
        let file = workspace.join(library).join("public-api.txt");
        let before = fs::read_to_string(&file).unwrap_or_default();
        if before == now {
            continue;
        }
        if is_update {
            if let Err(error) = fs::write(&file, now) {
                return fail(&format!("cannot write {}: {error}", file.display()));
            }
        } else {
            print_difference(library, &before, &now);
            changed.push(library);
        }
    }
    if changed.is_empty() {
        return ExitCode::SUCCESS;
    }
    fail(&format!(
        "the public API of {} changed; if that is meant, run\n  \
         cargo run -p pivot-tests --features public-api --bin public-api -- --update",
        changed.join(", ")
    ))
}

/// The public items of a library as rustdoc knows them, without what every type has.
fn public_items(workspace: &Path, library: &str) -> Result<String, String> {
    let mut rustdoc = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    rustdoc.current_dir(workspace).args(["rustdoc", "--quiet", "--lib", "-p", library, "--"]);
    rustdoc.args(["-Zunstable-options", "--output-format=json", "--cap-lints=allow"]);
    let this_program = env::current_exe().map_err(|error| error.to_string())?;
    rustdoc.env("RUSTDOC", this_program).env(IN_PLACE_OF_RUSTDOC, "1");
    let status = rustdoc.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !status.success() {
        return Err("rustdoc failed".to_owned());
    }
    let json = target_dir(workspace).join("doc").join(library.replace('-', "_") + ".json");
    let api = Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    api.map(|api| api.to_string()).map_err(|error| error.to_string())
}

/// Runs the stable rustdoc with the variable behind which its JSON output waits. Cargo itself must
/// not see that variable: it would build all dependencies anew.
fn run_rustdoc() -> ExitCode {
    let mut rustdoc = Command::new("rustdoc");
    let status = rustdoc.args(env::args_os().skip(1)).env("RUSTC_BOOTSTRAP", "1").status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => fail(&format!("cannot start rustdoc: {error}")),
    }
}

fn target_dir(workspace: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn print_difference(library: &str, before: &str, now: &str) {
    let difference = TextDiff::from_lines(before, now);
    let file = format!("{library}/public-api.txt");
    println!("{}", difference.unified_diff().context_radius(0).header(&file, "now"));
}

#[expect(clippy::print_stderr, reason = "a program for the terminal")]
fn fail(problem: &str) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::FAILURE
}
