//! `pivot pull`: outputs from a remote into the project.

use std::collections::HashSet;

use pivot_exec::{CheckedOut, LockedOut, Restored};
use serde_json::json;

use crate::commands::transfer::{self, Arguments};
use crate::exit::Exit;
use crate::report::{Report, with_causes};
use crate::show::{output, transfer as show};
use crate::{Global, project};

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = transfer::open(global, arguments)?;
    let session = transfer::begin(global, arguments, &project)?;
    // What is in its place need not be fetched.
    let workspace = project.workspace();
    let is_in_place = |out: &&LockedOut| {
        workspace.content(&out.artifact.path).ok().flatten() == Some(out.artifact.content)
    };
    let (in_place, wanted): (Vec<_>, Vec<_>) = session.locked.outs.iter().partition(is_in_place);
    let wanted: Vec<LockedOut> = wanted.into_iter().cloned().collect();
    let options = project::load_options(global, &[]);
    let outlook = |remote: &dyn pivot_remote::Remote| {
        pivot_exec::would_bring(&project, &options, remote, &wanted)
    };
    if let Some(end) = transfer::dry_run(arguments, &session, "fetched", outlook) {
        return end;
    }
    let shared = transfer::watched(arguments, "fetched", |progress| {
        pivot_exec::bring(&project, &options, &session.remote, &wanted, progress)
    });
    let lacking: HashSet<(&str, &str)> = (shared.failed.iter())
        .map(|out| (out.stage.as_str(), out.path.as_str()))
        .chain(shared.passed_over.iter().map(|(stage, path)| (stage.as_str(), path.as_str())))
        .collect();
    let is_here = |out: &LockedOut| !lacking.contains(&(&out.stage, &out.artifact.path));
    let here: Vec<LockedOut> = wanted.into_iter().filter(is_here).collect();
    let checked = match session.interruption.came() {
        None => pivot_exec::check_out(&project, &here),
        Some(_) => Vec::new(),
    };
    project.state.flush();
    let is_success = shared.is_success()
        && session.interruption.came().is_none()
        && checked.iter().all(|out| out.result.is_ok());
    if arguments.json {
        let mut value = show::shared_json(&shared);
        value["success"] = json!(is_success);
        value["outputs"] = checked.iter().map(checked_json).collect();
        output::json(&value);
    } else {
        show::tell_passed_over(&shared.passed_over);
        show::tell_failures(&shared);
        tell(&checked);
        output::data(&format!("{}\n", counts(&shared, &checked, in_place.len())));
    }
    Ok(transfer::exit(&session.interruption, is_success))
}

fn was_restored(out: &CheckedOut) -> bool {
    matches!(out.result, Ok(Restored::FromCache))
}

fn tell(checked: &[CheckedOut]) {
    for out in checked {
        let (stage, path) = (&out.stage, &out.path);
        for (from, to) in &out.set_aside {
            output::note(&format!("note: `{from}` held something else: it is now `{to}`"));
        }
        if let Err(failure) = &out.result {
            output::note(&format!("FAIL  {stage}: {path}: {}", with_causes(failure)));
        }
    }
}

fn counts(shared: &pivot_exec::Shared, checked: &[CheckedOut], in_place: usize) -> String {
    let restored = checked.iter().filter(|out| was_restored(out)).count();
    let failed = checked.iter().filter(|out| out.result.is_err()).count();
    let unchanged = in_place + checked.len() - restored - failed;
    let outputs = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 output {what}")),
        _ => Some(format!("{count} outputs {what}")),
    };
    let objects = (!shared.summary.failed.is_empty() || shared.summary.moved > 0)
        .then(|| show::counts(shared, "fetched"));
    let parts = [
        objects,
        outputs(restored, "restored"),
        outputs(unchanged, "unchanged"),
        outputs(failed, "not restored"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") }
}

fn checked_json(out: &CheckedOut) -> serde_json::Value {
    json!({
        "stage": out.stage,
        "path": out.path,
        "restored": was_restored(out),
        "error": out.result.as_ref().err().map(|failure| with_causes(failure)),
        "set_aside": out.set_aside.iter().map(|(_, saved)| saved).collect::<Vec<_>>(),
    })
}
