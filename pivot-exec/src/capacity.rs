//! How much of each resource there is for the stages of one run.
//!
//! The command line goes before the configuration, and that before what the machine has. A
//! resource that is none of the machine's has to be given; a mutex is one with room for one.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;

use pivot_dag::{Scheduler, TaskId};
use pivot_pipeline::{Resources, Stage};
use thiserror::Error;

use crate::devices::{self, Devices};

/// The resource that graphics processors are.
const GPUS: &str = "gpus";

/// A stage that could never start here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CapacityError {
    /// There is some of the resource, but too little.
    #[error("stage `{stage}` needs {} of `{resource}`, and there is only {}", shown(.resource, *.units), shown(.resource, *.capacity))]
    TooMuch {
        /// The stage.
        stage: String,
        /// The resource.
        resource: String,
        /// What the stage demands.
        units: u64,
        /// What there is.
        capacity: u64,
    },
    /// Nobody has said how much there is of the resource.
    #[error("stage `{stage}` needs `{resource}`, and nothing says how much of it there is")]
    Unknown {
        /// The stage.
        stage: String,
        /// The resource.
        resource: String,
    },
}

impl CapacityError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let (Self::TooMuch { resource, .. } | Self::Unknown { resource, .. }) = self;
        format!(
            "run with `--resource {resource}=AMOUNT`, or write it below `resources:` in \
             .pivot/config.yaml"
        )
    }
}

fn shown(resource: &str, units: u64) -> String {
    match (resource, units) {
        ("memory", 1_000_000_000..) => format!("{:.1} GB", units as f64 / 1e9),
        ("memory", 1_000_000..) => format!("{:.1} MB", units as f64 / 1e6),
        _ => units.to_string(),
    }
}

/// What one run has to give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacities(BTreeMap<String, u64>);

impl Capacities {
    /// `given` is what the user said, the stronger last.
    pub(crate) fn new(jobs: NonZeroUsize, given: [&Resources; 2]) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        // A stage that says nothing takes one processor, and `-j` alone decides about those.
        let mut all = BTreeMap::from([("cpus".to_owned(), processors.max(jobs.get()) as u64)]);
        all.extend(memory().map(|bytes| ("memory".to_owned(), bytes)));
        all.insert(GPUS.to_owned(), devices::visible().len() as u64);
        for given in given {
            all.extend(given.iter().map(|(name, units)| (name.clone(), *units)));
        }
        Self(all)
    }

    /// The graphics processors that stages of this run can be given.
    pub(crate) fn devices(&self) -> Devices {
        Devices::new(self.0.get(GPUS).copied().unwrap_or_default())
    }

    /// Which part of everything that stages share the stage takes while it runs.
    pub(crate) fn shares(&self, jobs: NonZeroUsize, stage: &Stage) -> Vec<(String, f64)> {
        let is_alone = stage.mutex.iter().any(|name| name == "*");
        let slot = if is_alone { 1.0 } else { 1.0 / jobs.get() as f64 };
        let mut shares = vec![("jobs".to_owned(), slot)];
        let mutexes = stage.mutex.iter().filter(|name| *name != "*");
        shares.extend(mutexes.map(|name| (format!("mutex {name}"), 1.0)));
        for (name, units) in &stage.resources {
            let capacity = self.0.get(name).copied().unwrap_or_default().max(1);
            shares.push((format!("resource {name}"), *units as f64 / capacity as f64));
        }
        shares
    }

    /// Tells the scheduler what a stage holds while it runs.
    pub(crate) fn demand(
        &self,
        scheduler: &mut Scheduler<'_>,
        task: TaskId,
        stage: &Stage,
    ) -> Result<(), CapacityError> {
        for name in &stage.mutex {
            if name == "*" {
                scheduler.exclusive(task);
                continue;
            }
            // No resource of the user's begins so.
            let guard = scheduler.resource(&format!("mutex {name}"), 1);
            scheduler.demand(task, guard, 1).expect("a mutex has room for one");
        }
        let usual = (!stage.resources.contains_key("cpus")).then_some(("cpus", 1));
        let named = stage.resources.iter().map(|(name, units)| (name.as_str(), *units));
        for (name, units) in usual.into_iter().chain(named) {
            let (stage, resource) = (stage.name.to_string(), name.to_owned());
            let Some(&capacity) = self.0.get(name) else {
                return Err(CapacityError::Unknown { stage, resource });
            };
            let pool = scheduler.resource(name, capacity);
            let units = if usual == Some((name, units)) { units.min(capacity) } else { units };
            scheduler.demand(task, pool, units).map_err(|_| CapacityError::TooMuch {
                stage,
                resource,
                units,
                capacity,
            })?;
        }
        Ok(())
    }
}

/// How many graphics processors the stage needs.
pub(crate) fn gpus_of(stage: &Stage) -> u64 {
    stage.resources.get(GPUS).copied().unwrap_or_default()
}

/// The machine's memory in bytes, or what a container may use of it.
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024);
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse().ok());
    Some(limit.map_or(machine, |limit| machine.min(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_word_counts_and_jobs_never_exceed_the_processors() {
        let jobs = NonZeroUsize::new(1000).unwrap();
        let config = Resources::from([("gpus".to_owned(), 1), ("disk".to_owned(), 3)]);
        let command = Resources::from([("gpus".to_owned(), 2)]);
        let Capacities(all) = Capacities::new(jobs, [&config, &command]);
        assert_eq!((all["gpus"], all["disk"], all["cpus"]), (2, 3, 1000));
        assert!(all["memory"] > 1 << 20);
    }

    #[test]
    fn sizes_are_told_in_their_unit() {
        assert_eq!(shown("memory", 8_000_000_000), "8.0 GB");
        assert_eq!(shown("memory", 512), "512");
        assert_eq!(shown("gpus", 2_000_000_000), "2000000000");
    }
}
