//! What tasks hold while they run, and what of it is free.
//!
//! A task takes all it demands at once, when it starts, and gives it back when it ends. Nothing
//! ever holds one resource while it waits for another, so tasks cannot lock each other out.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use thiserror::Error;

use crate::graph::TaskId;

/// A named resource of one scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(u32);

impl ResourceId {
    /// The places for running tasks.
    pub(crate) const SLOTS: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A task demands more of a resource than there is, so it could never start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("task {task} demands {units} of `{resource}`, of which there are only {capacity}")]
pub struct TooMuch {
    /// The task.
    pub task: TaskId,
    /// The resource's name.
    pub resource: String,
    /// What the task demands.
    pub units: u64,
    /// What there is.
    pub capacity: u64,
}

/// Units of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) resource: ResourceId,
    pub(crate) units: u64,
}

/// All resources, how much of each is free, and who demands what.
pub(crate) struct Resources {
    pools: Vec<Pool>,
    by_name: HashMap<String, ResourceId>,
    /// For each task what it demands beyond one slot, or in its place; sorted by resource.
    demands: Vec<Vec<Demand>>,
}

struct Pool {
    name: String,
    capacity: u64,
    free: u64,
}

impl Resources {
    pub(crate) fn new(tasks: usize, jobs: NonZeroUsize) -> Self {
        let slots = jobs.get() as u64;
        // Without an entry in `by_name`, so no caller's name can mean the slots.
        let pools = vec![Pool { name: "jobs".to_owned(), capacity: slots, free: slots }];
        Self { pools, by_name: HashMap::new(), demands: vec![Vec::new(); tasks] }
    }

    pub(crate) fn add(&mut self, name: &str, capacity: u64) -> ResourceId {
        if let Some(&known) = self.by_name.get(name) {
            return known;
        }
        let id = ResourceId(u32::try_from(self.pools.len()).expect("fewer than 2^32 resources"));
        self.pools.push(Pool { name: name.to_owned(), capacity, free: capacity });
        self.by_name.insert(name.to_owned(), id);
        id
    }

    pub(crate) fn demand(
        &mut self,
        task: TaskId,
        resource: ResourceId,
        units: u64,
    ) -> Result<(), TooMuch> {
        let pool = &self.pools[resource.index()];
        if units > pool.capacity {
            let (resource, capacity) = (pool.name.clone(), pool.capacity);
            return Err(TooMuch { task, resource, units, capacity });
        }
        let demands = &mut self.demands[task.index()];
        match demands.binary_search_by_key(&resource, |demand| demand.resource) {
            Ok(at) if units == 0 => drop(demands.remove(at)),
            Ok(at) => demands[at].units = units,
            Err(_) if units == 0 => {}
            Err(at) => demands.insert(at, Demand { resource, units }),
        }
        Ok(())
    }

    pub(crate) fn demand_all_slots(&mut self, task: TaskId) {
        let all = self.pools[ResourceId::SLOTS.index()].capacity;
        self.demand(task, ResourceId::SLOTS, all).expect("no more than all slots");
    }

    /// All that `task` demands, slots included.
    pub(crate) fn of(&self, task: TaskId) -> impl Iterator<Item = Demand> + '_ {
        let listed = &self.demands[task.index()];
        let slots_listed = listed.first().is_some_and(|first| first.resource == ResourceId::SLOTS);
        let slot = (!slots_listed).then_some(Demand { resource: ResourceId::SLOTS, units: 1 });
        slot.into_iter().chain(listed.iter().copied())
    }

    pub(crate) fn free(&self, resource: ResourceId) -> u64 {
        self.pools[resource.index()].free
    }

    pub(crate) fn take(&mut self, task: TaskId) {
        self.each(task, |pool, units| pool.free -= units);
    }

    pub(crate) fn give_back(&mut self, task: TaskId) {
        self.each(task, |pool, units| pool.free += units);
    }

    /// The number of resources, slots included.
    pub(crate) fn len(&self) -> usize {
        self.pools.len()
    }

    fn each(&mut self, task: TaskId, change: impl Fn(&mut Pool, u64)) {
        let Self { pools, demands, .. } = self;
        let listed = &demands[task.index()];
        if listed.first().is_none_or(|first| first.resource != ResourceId::SLOTS) {
            change(&mut pools[ResourceId::SLOTS.index()], 1);
        }
        for demand in listed {
            change(&mut pools[demand.resource.index()], demand.units);
        }
    }
}
