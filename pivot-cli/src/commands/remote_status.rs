//! `pivot status --remote`: which outputs are on the remote, and which are in the cache.

use std::collections::HashSet;

use pivot_exec::{LockedOut, Outlook};
use pivot_remote::Interrupt;
use serde_json::json;

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Where an output is.
struct Holding<'o> {
    out: &'o LockedOut,
    is_here: bool,
    is_there: bool,
}

impl Holding<'_> {
    fn words(&self) -> &'static str {
        match (self.is_here, self.is_there) {
            (true, true) => "in the cache and on the remote",
            (true, false) => "not on the remote",
            (false, true) => "not in the cache",
            (false, false) => "neither in the cache nor on the remote",
        }
    }
}

/// Shows where the outputs of the stages are that `words` name.
pub(crate) fn run(
    global: &Global,
    words: &[String],
    remote: Option<&str>,
    as_json: bool,
) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let options = project::load_options(global, &[]);
    let locked = pivot_exec::locked_outs(&project, &options, words)
        .map_err(|error| Report::of(&error).maybe_hint(error.hint()))?;
    project::warn_of(&locked.notices);
    let (name, remote) = pivot_exec::open_remote(&project, remote, None, Interrupt::default())?;
    let outlook = pivot_exec::would_send(&project, &remote, &locked).map_err(|error| {
        Report::new(format!("remote `{name}` cannot be asked"))
            .caused_by(&error)
            .hint("`pivot doctor --remote` looks for the cause")
    })?;
    project.state.flush();
    let Outlook { needed, missing, passed_over, .. } = &outlook;
    let place = |out: &LockedOut| (out.stage.clone(), out.artifact.path.clone());
    let absent: HashSet<(String, String)> =
        needed.iter().map(|(out, _)| out).chain(missing).map(place).collect();
    let uncached: HashSet<&(String, String)> = passed_over.iter().collect();
    let holdings: Vec<Holding<'_>> = locked
        .outs
        .iter()
        .filter(|out| !uncached.contains(&place(out)))
        .map(|out| Holding {
            out,
            is_here: project.cache.holds(&out.artifact.content),
            is_there: !absent.contains(&place(out)),
        })
        .collect();
    if as_json {
        let outs = holdings.iter().map(|holding| {
            json!({
                "stage": holding.out.stage,
                "path": holding.out.artifact.path,
                "in_cache": holding.is_here,
                "on_remote": holding.is_there,
            })
        });
        let outs: Vec<_> = outs.collect();
        output::json(&json!({ "schema_version": 1, "remote": name, "outputs": outs }));
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for holding in holdings.iter().filter(|holding| !(holding.is_here && holding.is_there)) {
        let (stage, path) = (&holding.out.stage, &holding.out.artifact.path);
        text.push_str(&format!("{stage}: {path}: {}\n", holding.words()));
    }
    let there = holdings.iter().filter(|holding| holding.is_there).count();
    let here = holdings.iter().filter(|holding| holding.is_here).count();
    let outputs = if holdings.len() == 1 { "output" } else { "outputs" };
    let all = holdings.len();
    text.push_str(&format!("{all} {outputs}: {there} on `{name}`, {here} in the cache\n"));
    output::data(&text);
    Ok(Exit::Done)
}
