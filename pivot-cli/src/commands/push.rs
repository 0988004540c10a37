//! `pivot push`: outputs to a remote.

use crate::Global;
use crate::commands::transfer::{self, Arguments};
use crate::exit::Exit;
use crate::report::Report;
use crate::show::{output, transfer as show};

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = transfer::open(global, arguments)?;
    let session = transfer::begin(global, arguments, &project)?;
    let outlook = |remote: &dyn pivot_remote::Remote| {
        pivot_exec::would_send(&project, remote, &session.locked)
    };
    if let Some(end) = transfer::dry_run(arguments, &session, "sent", outlook) {
        project.state.flush();
        return end;
    }
    let shared = transfer::watched(arguments, "sent", |progress| {
        pivot_exec::send(&project, &session.remote, &session.locked, progress)
    });
    project.state.flush();
    if arguments.json {
        output::json(&show::shared_json(&shared));
    } else {
        show::tell_passed_over(&shared.passed_over);
        show::tell_failures(&shared);
        output::data(&format!("{}\n", show::counts(&shared, "sent")));
    }
    Ok(transfer::exit(&session.interruption, shared.is_success()))
}
