//! `pivot commit`: the workspace as it is becomes the result of a stage.

use pivot_exec::Reach;

use crate::exit::Exit;
use crate::report::{Report, with_causes};
use crate::show::output;
use crate::{Global, project};

/// Accept the outputs as they are, without running the stages
///
/// Records outputs, code, params and dependencies as they are now in the stages' locks: for an edit
/// that cannot change the result.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stages, base names, patterns or outputs' paths; upstream stages are not included
    #[arg(value_name = "STAGES", required_unless_present = "all")]
    stages: Vec<String>,
    /// All stages
    #[arg(short, long, conflicts_with = "stages")]
    all: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let loaded = project::load(global, &project, &[])?;
    let selected = pivot_exec::select(&loaded.pipeline, &arguments.stages, Reach::Alone)?;
    project
        .make_layout()
        .map_err(|error| Report::new("cannot prepare `.pivot`").caused_by(&error))?;
    let planned = pivot_exec::make_plan(&project, &loaded, &selected, &|_| false)
        .map_err(|error| project::plan_report(error, &loaded))?;
    let (mut recorded, mut unchanged, mut failed) = (0, 0, 0);
    for accepted in pivot_exec::accept(&project, &loaded, planned) {
        let name = &loaded.pipeline.stage(accepted.task).name;
        match accepted.result {
            Ok(false) => unchanged += 1,
            Ok(true) => {
                recorded += 1;
                let why = crate::show::causes::list(&accepted.causes);
                output::note(&format!("recorded  {name}: {why}"));
            }
            Err(error) => {
                failed += 1;
                output::note(&format!("FAIL  {name}: {}", with_causes(&error)));
            }
        }
    }
    let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    output::data(&format!("{recorded} recorded, {unchanged} unchanged{failures}\n"));
    Ok(if failed > 0 { Exit::NotDone } else { Exit::Done })
}
