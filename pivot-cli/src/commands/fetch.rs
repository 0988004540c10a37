//! `pivot fetch`: outputs from a remote into the cache, and no further.

use crate::commands::transfer::{self, Arguments};
use crate::exit::Exit;
use crate::report::Report;
use crate::show::{output, transfer as show};
use crate::{Global, project};

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = transfer::open(global, arguments)?;
    let session = transfer::begin(global, arguments, &project)?;
    let outs = &session.locked.outs;
    let options = project::load_options(global, &[]);
    let outlook = |remote: &dyn pivot_remote::Remote| {
        pivot_exec::would_bring(&project, &options, remote, outs)
    };
    if let Some(end) = transfer::dry_run(arguments, &session, "fetched", outlook) {
        return end;
    }
    let shared = transfer::watched(arguments, "fetched", |progress| {
        pivot_exec::bring(&project, &options, &session.remote, outs, progress)
    });
    project.state.flush();
    if arguments.json {
        output::json(&show::shared_json(&shared));
    } else {
        show::tell_passed_over(&shared.passed_over);
        show::tell_failures(&shared);
        output::data(&format!("{}\n", show::counts(&shared, "fetched")));
    }
    Ok(transfer::exit(&session.interruption, shared.is_success()))
}
