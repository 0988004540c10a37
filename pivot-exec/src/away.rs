//! Which outputs may stay on the remote: those that nobody needs here.
//!
//! A run needs an output here if its stage was named, if no stage of the run reads it, or if a stage
//! that is executed reads it. For every other reader its hash is enough, and the lock has that.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pivot_cache::{Content, ObjectId};
use pivot_dag::TaskId;

use crate::plan::{Decision, Plan, PlanInput};

/// Takes the outputs out of `plan` that may stay where they are, and takes them down in
/// [`Plan::away`]. `is_only_there` says that the cache lacks a content and nothing is at its path:
/// what can be had without the remote is brought, and what is out of date does not stay.
pub(crate) fn leave(
    input: &PlanInput<'_>,
    plan: &mut Plan,
    named: &[TaskId],
    is_only_there: &dyn Fn(&str, &Content) -> bool,
) {
    let named: HashSet<TaskId> = named.iter().copied().collect();
    let read = Read::by_stages(input, plan);
    let mut away = HashMap::new();
    let mut brought: HashSet<ObjectId> = HashSet::new();
    for stage in &plan.stages {
        let is_unneeded = |path: &str| !named.contains(&stage.task) && read.by_hash_alone(path);
        match &stage.decision {
            Decision::Restore(outs) | Decision::FromRunCache(outs) => {
                for out in outs {
                    if is_unneeded(&out.path) && is_only_there(&out.path, &out.content) {
                        away.insert(out.path.clone(), Some(out.content));
                    } else {
                        brought.insert(out.content.id);
                    }
                }
            }
            Decision::MayRun => {
                let outs = &input.stages[stage.task.index()].outs;
                let paths = outs.iter().map(|out| out.path.as_str());
                away.extend(paths.filter(|path| is_unneeded(path)).map(|p| (p.to_owned(), None)));
            }
            Decision::Run | Decision::Leave | Decision::Keep => {}
        }
    }
    // The same bytes under another path are here soon, and cost nothing more.
    away.retain(|_, content| content.is_none_or(|content| !brought.contains(&content.id)));
    for stage in &mut plan.stages {
        if let Decision::Restore(outs) = &mut stage.decision {
            outs.retain(|out| !away.contains_key(&out.path));
            if outs.is_empty() {
                stage.decision = Decision::Leave;
            }
        }
    }
    plan.away.extend(away);
}

/// Whether a run of `plan` can do without the remote: nothing has to be brought from there now, and
/// no stage that may be executed reads what is left there.
pub(crate) fn needs_nothing_from_there(
    input: &PlanInput<'_>,
    plan: &Plan,
    is_in_cache: &dyn Fn(&Content) -> bool,
) -> bool {
    let is_away = |path: &str| {
        let whole = plan.parts.get(path).map_or(path, |(whole, _)| whole);
        plan.away.contains_key(whole)
    };
    plan.stages.iter().all(|stage| match &stage.decision {
        Decision::Keep | Decision::Leave => true,
        Decision::Restore(outs) | Decision::FromRunCache(outs) => {
            outs.iter().all(|out| is_away(&out.path) || is_in_cache(&out.content))
        }
        Decision::Run | Decision::MayRun => {
            let deps = &input.stages[stage.task.index()].deps;
            !deps.iter().any(|dep| is_away(dep.as_str()))
        }
    })
}

/// How the selected stages read outputs.
struct Read<'p> {
    /// Paths that are dependencies.
    read: HashSet<&'p str>,
    /// Outputs that have to be here for it.
    needed: HashSet<&'p str>,
}

impl<'p> Read<'p> {
    fn by_stages(input: &PlanInput<'p>, plan: &'p Plan) -> Self {
        let (mut read, mut needed) = (HashSet::new(), HashSet::new());
        for reader in &plan.stages {
            let runs = reader.decision == Decision::Run;
            for dep in &input.stages[reader.task.index()].deps {
                let path = dep.as_str();
                if let Some((whole, _)) = plan.parts.get(path) {
                    read.insert(whole.as_str());
                    if runs {
                        needed.insert(whole.as_str());
                    }
                    continue;
                }
                match input.graph.writer_of(path).map(|writer| &input.stages[writer.index()]) {
                    Some(writer) if writer.out(path).is_some() => {
                        read.insert(path);
                        if runs {
                            needed.insert(path);
                        }
                    }
                    // The hash of a directory around outputs is in no lock of theirs, nor is that of
                    // a part whose manifest is not here: it takes the files to know it.
                    Some(writer) => needed.extend(writer.outs.iter().map(|out| out.path.as_str())),
                    None => needed.extend(input.graph.outputs_within(path).map(|(_, out)| out)),
                }
            }
        }
        Self { read, needed }
    }

    fn by_hash_alone(&self, path: &str) -> bool {
        self.read.contains(path) && !self.needed.contains(path)
    }
}

/// The outputs of a run that may stay on the remote, and where each is just now.
#[derive(Debug, Default)]
pub(crate) struct Away {
    places: HashMap<String, Mutex<Place>>,
    /// Dependencies that are parts of these.
    parts: HashMap<String, (String, Content)>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Where the project has it, or nowhere yet.
    Here,
    There(Content),
    OnItsWay(Content),
}

/// Who may bring an output.
pub(crate) enum Turn {
    /// Nobody has to.
    Here,
    /// The one who asked; [`Away::arrived`] or [`Away::stays`] follows.
    Yours(Content),
    /// Another stage is at it.
    Others,
}

impl Away {
    /// Those that a plan leaves there.
    pub(crate) fn of_plan(plan: &Plan) -> Self {
        let places = plan.away.iter().map(|(path, content)| {
            let place = content.map_or(Place::Here, Place::There);
            (path.clone(), Mutex::new(place))
        });
        Self { places: places.collect(), parts: plan.parts.clone() }
    }

    fn place(&self, path: &str) -> Option<MutexGuard<'_, Place>> {
        let place = self.places.get(path)?;
        Some(place.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What would be at `path` if all were here.
    pub(crate) fn content(&self, path: &str) -> Option<Content> {
        let part = self.parts.get(path);
        match *self.place(part.map_or(path, |(whole, _)| whole))? {
            Place::Here => None,
            Place::There(content) | Place::OnItsWay(content) => {
                Some(part.map_or(content, |(_, part)| *part))
            }
        }
    }

    /// What has to be brought to have `path`.
    pub(crate) fn whole<'p>(&'p self, path: &'p str) -> &'p str {
        self.parts.get(path).map_or(path, |(whole, _)| whole)
    }

    /// Whether the output may be left, whatever its content is now.
    pub(crate) fn may_stay(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Whose turn it is to bring the output.
    pub(crate) fn turn(&self, path: &str) -> Turn {
        let Some(mut place) = self.place(path) else { return Turn::Here };
        match *place {
            Place::Here => Turn::Here,
            Place::OnItsWay(_) => Turn::Others,
            Place::There(content) => {
                *place = Place::OnItsWay(content);
                Turn::Yours(content)
            }
        }
    }

    /// The project has the output at `path`, or its stage is about to write it.
    pub(crate) fn arrived(&self, path: &str) {
        if let Some(mut place) = self.place(path) {
            *place = Place::Here;
        }
    }

    /// The output is left where it is.
    pub(crate) fn stays(&self, path: &str, content: Content) {
        if let Some(mut place) = self.place(path) {
            *place = Place::There(content);
        }
    }
}
