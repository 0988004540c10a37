//! `pivot status`: what a run would do.

use pivot_exec::Request;

use crate::commands::remote_status;
use crate::exit::Exit;
use crate::report::Report;
use crate::{Global, project, show};

/// Show what a run would do
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stages, base names, patterns or outputs' paths, with all that they need [default: all]
    #[arg(value_name = "STAGES")]
    stages: Vec<String>,
    /// Say in full why each stage would run
    #[arg(long)]
    explain: bool,
    /// Show instead which outputs are on the default remote, and which are in the cache
    #[arg(long, conflicts_with = "explain")]
    remote: bool,
    /// With --remote: the remote to look at instead of the default one
    #[arg(short = 'r', value_name = "NAME", requires = "remote")]
    remote_name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    if arguments.remote {
        let Arguments { stages, remote_name, json, .. } = arguments;
        return remote_status::run(global, stages, remote_name.as_deref(), *json);
    }
    let project = project::open(global)?;
    let loaded = project::load(global, &project, &[])?;
    let reach = pivot_exec::Reach::WithUpstream;
    let selected = pivot_exec::select(&loaded.pipeline, &arguments.stages, reach)?;
    let named = project::named(&loaded, &arguments.stages)?;
    let request = Request { selected: &selected, named: &named, is_forced: &|_| false };
    // As `pivot run` would decide, so the same remote is asked.
    let supply = pivot_exec::Supply::new(&project, pivot_exec::Pull::Auto)?;
    let planned = pivot_exec::make_plan_with(&project, &loaded, &request, &supply)
        .map_err(|error| project::plan_report(error, &loaded))?;
    project::warn_of(&supply.take_notices());
    project::warn_of_unusable_locks(&loaded, &planned);
    project.state.flush();
    show::plan(&loaded, &planned, arguments.explain, arguments.json);
    Ok(Exit::Done)
}
