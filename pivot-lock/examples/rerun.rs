//! Runs a command if anything that it depends on has changed since its last success.
//!
//! ```text
//! cargo run -p pivot-lock --example rerun -- OUTPUT INPUT... -- COMMAND...
//! ```
//!
//! The program gets the lock files, the comparison and the reasons from
//! `pivot-lock`, and the hashes of files and directories from `pivot-cache`.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

use pivot_cache::{ObjectId, hash_artifact};
use pivot_fingerprint::{CodeHash, Component, Manifest};
use pivot_lock::{Artifact, Facts, Lock, LockFiles, Observed, Reason, Verdict, verdict};
use serde_json::json;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parts: Vec<&[String]> = arguments.splitn(2, |argument| argument == "--").collect();
    let [[output, inputs @ ..], [program, options @ ..]] = parts[..] else {
        return Err("usage: rerun OUTPUT INPUT... -- COMMAND...".into());
    };

    // The text of the command is its code: a hash and a name is all that a component needs.
    let text = format!("{program} {}", options.join(" "));
    let hash = CodeHash::from_u64(ObjectId::of_bytes(text.as_bytes()).as_u64());
    let code = Manifest::new(vec![Component { name: "command".into(), hash, place: None }]);

    let mut deps = Vec::new();
    for input in inputs {
        deps.push(Observed::present(input, hash_artifact(Path::new(input))?));
    }
    let observed_output = match Path::new(output).exists() {
        true => Observed::present(output, hash_artifact(Path::new(output))?),
        false => Observed::missing(output),
    };
    let params = json!({});
    let outs = [observed_output];
    let facts = Facts { code: &code, params: &params, deps: &deps, outs: &outs, force: false };

    let locks = LockFiles::new(".rerun");
    let name = format!("{:016x}", ObjectId::of_bytes(output.as_bytes()).as_u64());
    match verdict(&locks.read(&name)?, &facts) {
        Verdict::Unchanged => {
            println!("{output}: unchanged");
            return Ok(ExitCode::SUCCESS);
        }
        Verdict::Run(reasons) => show(output, &reasons),
    }

    if !Command::new(program).args(options).status()?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let known = |dep: &Observed<'_>| Some(Artifact::new(dep.path, dep.state.content()?));
    let lock = Lock::new(
        [("command".to_owned(), hash)],
        params,
        deps.iter().filter_map(known).collect(),
        vec![Artifact::new(output.as_str(), hash_artifact(Path::new(output))?)],
    )?;
    locks.write(&name, &lock)?;
    Ok(ExitCode::SUCCESS)
}

fn show(output: &str, reasons: &[Reason]) {
    for reason in reasons {
        println!("{output}: {reason}");
        if let Reason::DepsChanged(changes) = reason {
            for change in changes {
                println!("  {}", change.path);
            }
        }
    }
}
