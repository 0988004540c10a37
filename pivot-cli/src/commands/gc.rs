//! `pivot gc`: removes what no lock needs from the cache.

use std::path::PathBuf;
use std::time::Duration;

use pivot_exec::{GarbageError, GarbageOptions};
use serde_json::json;

use crate::exit::Exit;
use crate::report::{Report, with_causes};
use crate::show::output;
use crate::{Global, project};

/// Show, or with `-f` remove, the objects in the cache that no lock needs
///
/// Needed is what the locks of the project name, and those in git: in branches, tags, stashes,
/// worktrees and the index.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Remove them; without it they are only counted
    #[arg(short, long, visible_alias = "yes")]
    force: bool,
    /// Keep what came into the cache within this many days
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    grace: u64,
    /// Keep what any commit needs that can be reached, also through the reflog
    #[arg(long)]
    all_commits: bool,
    /// Another project that uses the same cache; may be given several times
    #[arg(long, value_name = "DIR")]
    also: Vec<PathBuf>,
    /// No other project uses the cache, although it lies outside of this one
    #[arg(long, conflicts_with = "also")]
    not_shared: bool,
    /// Print JSON, with the names of the objects
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let project = project::open(global)?;
    let cache = project.cache.dir();
    if !arguments.not_shared && arguments.also.is_empty() && !is_inside(cache, project.root()) {
        let cache = cache.display();
        return Err(Report::new(format!("the cache `{cache}` may serve other projects too"))
            .hint("name them with `--also DIR`, or say `--not-shared`"));
    }
    let mut other_projects = Vec::new();
    for dir in &arguments.also {
        if !dir.join(".pivot").is_dir() {
            return Err(Report::new(format!("`{}` is no project", dir.display()))
                .hint("`--also` takes the directory that has `.pivot` in it"));
        }
        other_projects.push(dir.clone());
    }
    let options = GarbageOptions {
        grace: Duration::from_secs(arguments.grace.saturating_mul(24 * 60 * 60)),
        whole_history: arguments.all_commits,
        other_projects,
        removes: arguments.force,
    };
    let collected = pivot_exec::collect(&project, &options).map_err(|error| {
        let report = Report::of(&error);
        match error {
            GarbageError::InUse => report.hint("try again when it has ended"),
            _ => report.hint("nothing was removed, since it is not known what is needed"),
        }
    })?;
    let (roots, garbage) = (&collected.roots, &collected.garbage);
    for notice in &roots.notices {
        output::note(&format!("warning: {notice}"));
    }
    for error in &collected.failed {
        output::note(&format!("FAIL  {}", with_causes(error)));
    }
    let (count, bytes) = (garbage.objects.len(), garbage.size_bytes());
    if arguments.json {
        let objects = garbage.objects.iter();
        let objects = objects.map(|(id, size)| json!({ "id": id.to_string(), "size": size }));
        output::json(&json!({
            "schema_version": 1,
            "removed": arguments.force,
            "objects": objects.collect::<Vec<_>>(),
            "size": bytes,
            "failed": collected.failed.len(),
            "kept": { "objects": garbage.kept, "size": garbage.kept_bytes },
            "young": { "objects": garbage.young, "size": garbage.young_bytes },
            "locks": roots.locks,
            "commits": roots.commits,
        }));
    } else {
        let sources = match roots.commits {
            Some(commits) => format!("{} locks in the project and {commits} commits", roots.locks),
            None => format!("{} locks in the project, which is not in git", roots.locks),
        };
        let verb = if arguments.force { "removed" } else { "would remove" };
        output::data(&format!(
            "needed by {sources}: {} objects, {} bytes\nyoung: {} objects, {} bytes\n\
             {verb}: {count} objects, {bytes} bytes\n",
            garbage.kept, garbage.kept_bytes, garbage.young, garbage.young_bytes,
        ));
        if !arguments.force && count > 0 {
            output::note("hint: `pivot gc -f` removes them");
        }
    }
    Ok(if collected.failed.is_empty() { Exit::Done } else { Exit::NotDone })
}

fn is_inside(cache: &std::path::Path, root: &std::path::Path) -> bool {
    match (cache.canonicalize(), root.canonicalize()) {
        (Ok(cache), Ok(root)) => cache.starts_with(root),
        // There is no cache yet, so nothing can be removed.
        _ => true,
    }
}
