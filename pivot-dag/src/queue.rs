//! Which of the tasks that need nothing more from others starts next.
//!
//! The highest priority goes first. A task that does not fit waits at each resource that it lacks,
//! and until it has got it nobody below takes any of that resource: a demanding task waits no
//! longer than for those already running, and cannot be passed over for ever by small ones. What
//! does not touch these resources goes on.
//!
//! With two resources that is not enough, since others could snatch away one while the task waits
//! for the other, in turn. So the highest of all who wait has a *reservation*: what it lacked
//! before, and could have now, is set aside for it. There is only one at a time, so what may lie
//! idle is bounded by the demand of one task.
//!
//! Only the first of those who wait for a resource is ever looked at: an event stays at O(log n)
//! however many wait.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap};

use crate::graph::TaskId;
use crate::resource::{Demand, ResourceId, Resources};

/// A place in the order of tasks; the smaller starts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Nanoseconds to the end of the run along the longest way; more goes first.
    pub(crate) rank: u64,
    pub(crate) task: TaskId,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        Reverse(self.rank).cmp(&Reverse(other.rank)).then(self.task.cmp(&other.task))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Tasks that may start as far as other tasks are concerned.
#[derive(Default)]
pub(crate) struct ReadyQueue {
    /// Those that may fit: new ones, and those for whom something changed.
    candidates: BinaryHeap<Reverse<Turn>>,
    /// For each resource the tasks that, when last tried, could not have it.
    waiting: Vec<BTreeSet<Turn>>,
    /// Turns that were woken and not yet tried again, lest they be woken twice.
    awake: BTreeSet<Turn>,
    reservation: Option<Reservation>,
}

/// What is set aside for the first of all tasks that wait; it binds those below it.
struct Reservation {
    holder: Turn,
    kept: Vec<Demand>,
}

impl Reservation {
    fn units(&self, resource: ResourceId) -> u64 {
        self.kept.iter().find(|kept| kept.resource == resource).map_or(0, |kept| kept.units)
    }

    fn keep(&mut self, demand: Demand) {
        // One slot is not worth keeping: the next free one goes to the highest rank anyway.
        let one_slot = demand.resource == ResourceId::SLOTS && demand.units == 1;
        if !one_slot && self.units(demand.resource) == 0 {
            self.kept.push(demand);
        }
    }
}

impl ReadyQueue {
    /// Forgets everything and begins with `turns`.
    pub(crate) fn restart(&mut self, turns: impl Iterator<Item = Turn>, resources: &Resources) {
        self.candidates = turns.map(Reverse).collect();
        self.waiting.clear();
        self.waiting.resize_with(resources.len(), BTreeSet::new);
        self.awake.clear();
        self.reservation = None;
    }

    pub(crate) fn push(&mut self, turn: Turn) {
        self.candidates.push(Reverse(turn));
    }

    /// The next task that fits; it has taken what it demands.
    pub(crate) fn start(&mut self, resources: &mut Resources) -> Option<TaskId> {
        while resources.free(ResourceId::SLOTS) > 0 {
            let Reverse(turn) = self.candidates.pop()?;
            self.awake.remove(&turn);
            if resources.of(turn.task).all(|demand| self.has(turn, demand, resources)) {
                resources.take(turn.task);
                self.leave(turn, resources);
                return Some(turn.task);
            }
            self.wait(turn, resources);
        }
        None
    }

    /// Takes back what `task` held.
    pub(crate) fn end(&mut self, task: TaskId, resources: &mut Resources) {
        resources.give_back(task);
        for demand in resources.of(task) {
            self.wake_first(demand.resource);
        }
    }

    /// Whether `turn` could take what it demands of one resource, those above it permitting.
    fn has(&self, turn: Turn, demand: Demand, resources: &Resources) -> bool {
        let Demand { resource, units } = demand;
        let above = self.waiting[resource.index()].first().is_some_and(|first| *first < turn);
        let reservation = self.reservation.as_ref().filter(|reserved| reserved.holder < turn);
        let kept = reservation.map_or(0, |reserved| reserved.units(resource));
        !above && units <= resources.free(resource).saturating_sub(kept)
    }

    /// Lets a task that starts wait no longer.
    fn leave(&mut self, turn: Turn, resources: &Resources) {
        if self.reservation.as_ref().is_some_and(|reserved| reserved.holder == turn) {
            // It took at least what was kept, so there is no more for others than before.
            self.reservation = None;
        }
        for demand in resources.of(turn.task) {
            if self.waiting[demand.resource.index()].remove(&turn) {
                self.wake_first(demand.resource);
            }
        }
    }

    /// Lets a task that cannot start wait where it must, and only there.
    fn wait(&mut self, turn: Turn, resources: &Resources) {
        if self.reservation.as_ref().is_none_or(|reserved| turn < reserved.holder) {
            let new = Reservation { holder: turn, kept: Vec::new() };
            for kept in self.reservation.replace(new).into_iter().flat_map(|old| old.kept) {
                self.wake_first(kept.resource);
            }
        }
        for demand in resources.of(turn.task) {
            if !self.has(turn, demand, resources) {
                self.waiting[demand.resource.index()].insert(turn);
            } else if self.waiting[demand.resource.index()].remove(&turn) {
                if let Some(reserved) = self.reservation.as_mut()
                    && reserved.holder == turn
                {
                    reserved.keep(demand);
                }
                self.wake_first(demand.resource);
            }
        }
    }

    /// Lets the first of those who wait for `resource` try again.
    ///
    /// None of the others can have any of it before the first. And nobody who could start is left
    /// asleep: who waits for a resource can have it only after an end, another's start or leave, or
    /// the loss of a reservation, all of which come here; and a task that then fails to start for
    /// another reason waits there instead.
    fn wake_first(&mut self, resource: ResourceId) {
        if let Some(&first) = self.waiting[resource.index()].first()
            && self.awake.insert(first)
        {
            self.candidates.push(Reverse(first));
        }
    }
}
