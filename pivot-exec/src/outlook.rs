//! How much longer a run will take, to judge by how long its stages took before.
//!
//! No run is shorter than its longest chain of stages, nor than the work that has to pass through
//! its slots or through a resource: the largest of these is the estimate. It is a lower bound, and
//! with the order that the scheduler chooses the truth is rarely far above it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use pivot_dag::{Graph, TaskId};

/// What is left of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// How many stages with something to be done have not ended.
    pub stages: usize,
    /// How many of these have never run, nor has a variant of theirs: their time is left out.
    pub unknown: usize,
    /// How long the others will take; `None` if nothing is known of any.
    pub time: Option<Duration>,
}

/// A stage with something to be done, before the run.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) id: TaskId,
    /// Variants of one function take about as long.
    pub(crate) family: &'a str,
    /// Whether it may have a process; otherwise its outputs are only brought.
    pub(crate) runs: bool,
    /// How long it took in the past.
    pub(crate) past: Option<Duration>,
    /// Which part it takes of what all share: its slot, its resources.
    pub(crate) shares: Vec<(String, f64)>,
}

/// What is known about a stage that has not ended.
#[derive(Debug)]
struct Estimate {
    /// `None`: nobody knows.
    own: Option<Duration>,
    /// The longest chain of stages that begins after it ends.
    after: Duration,
    shares: Vec<(usize, f64)>,
    started: Option<Instant>,
}

impl Estimate {
    fn left(&self, now: Instant) -> Duration {
        let elapsed = self.started.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.own.unwrap_or_default().saturating_sub(elapsed)
    }

    /// How long the longest chain takes that begins with it.
    fn rank(&self) -> Duration {
        self.own.unwrap_or_default().saturating_add(self.after)
    }
}

/// Foretells the end of a run while it goes on.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// Stages that have not ended.
    open: HashMap<TaskId, Estimate>,
    /// Those of them that have not started, the longest chains last.
    waiting: BTreeSet<(Duration, TaskId)>,
    running: HashSet<TaskId>,
    /// The seconds that what waits will hold each of the things that all share.
    loads: Vec<f64>,
    unknown: usize,
}

impl Outlook {
    pub(crate) fn new(graph: &Graph, tasks: Vec<Task<'_>>) -> Self {
        let mut families: HashMap<&str, (Duration, u32)> = HashMap::new();
        for task in &tasks {
            if let Some(past) = task.past {
                let (sum, count) = families.entry(task.family).or_default();
                *sum = sum.saturating_add(past);
                *count += 1;
            }
        }
        let mean = |family: &str| families.get(family).map(|(sum, count)| *sum / *count);
        let mut names: HashMap<String, usize> = HashMap::new();
        let mut open = HashMap::new();
        for task in &tasks {
            let own =
                if task.runs { task.past.or(mean(task.family)) } else { Some(Duration::ZERO) };
            let shares = task.shares.iter().map(|(name, part)| {
                let next = names.len();
                (*names.entry(name.clone()).or_insert(next), *part)
            });
            let shares = shares.collect();
            let after = Duration::ZERO;
            open.insert(task.id, Estimate { own, after, shares, started: None });
        }
        let mut ranks = vec![Duration::ZERO; graph.len()];
        for &task in graph.order().iter().rev() {
            let downstream = graph.downstream(task).iter();
            let after = downstream.map(|next| ranks[next.index()]).max().unwrap_or_default();
            ranks[task.index()] = after;
            if let Some(estimate) = open.get_mut(&task) {
                estimate.after = after;
                ranks[task.index()] = estimate.rank();
            }
        }
        let waiting = open.iter().map(|(task, estimate)| (estimate.rank(), *task)).collect();
        let unknown = open.values().filter(|estimate| estimate.own.is_none()).count();
        let mut loads = vec![0.0; names.len()];
        for estimate in open.values() {
            add(&mut loads, estimate, estimate.own.unwrap_or_default().as_secs_f64());
        }
        Self { open, waiting, running: HashSet::new(), loads, unknown }
    }

    /// A stage's process has started.
    pub(crate) fn start(&mut self, task: TaskId, now: Instant) {
        self.leave_queue(task);
        if let Some(estimate) = self.open.get_mut(&task) {
            estimate.started = Some(now);
            self.running.insert(task);
        }
    }

    /// A stage came to its end, or will never start.
    pub(crate) fn end(&mut self, task: TaskId) {
        self.leave_queue(task);
        self.running.remove(&task);
        if let Some(estimate) = self.open.remove(&task) {
            self.unknown -= usize::from(estimate.own.is_none());
        }
    }

    /// Nothing more starts.
    pub(crate) fn stop(&mut self) {
        for (_, task) in std::mem::take(&mut self.waiting) {
            self.end(task);
        }
        self.loads.fill(0.0);
    }

    fn leave_queue(&mut self, task: TaskId) {
        if let Some(estimate) = self.open.get(&task)
            && self.waiting.remove(&(estimate.rank(), task))
        {
            add(&mut self.loads, estimate, -estimate.own.unwrap_or_default().as_secs_f64());
        }
    }

    /// What is left now.
    pub(crate) fn remaining(&self, now: Instant) -> Remaining {
        let mut longest = self.waiting.last().map_or(Duration::ZERO, |(rank, _)| *rank);
        let mut loads = self.loads.clone();
        for task in &self.running {
            let estimate = &self.open[task];
            let left = estimate.left(now);
            longest = longest.max(left.saturating_add(estimate.after));
            add(&mut loads, estimate, left.as_secs_f64());
        }
        let work = loads.into_iter().fold(0.0, f64::max);
        let work = Duration::try_from_secs_f64(work).unwrap_or(Duration::MAX);
        let time = (self.unknown < self.open.len()).then(|| longest.max(work));
        Remaining { stages: self.open.len(), unknown: self.unknown, time }
    }
}

fn add(loads: &mut [f64], estimate: &Estimate, seconds: f64) {
    for (index, part) in &estimate.shares {
        loads[*index] += part * seconds;
    }
}

#[cfg(test)]
mod tests {
    use pivot_dag::GraphBuilder;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// `first` feeds `long` and three variants of `short`.
    fn fan() -> (Graph, Vec<TaskId>) {
        let mut builder = GraphBuilder::new();
        let mut tasks = vec![builder.task([""; 0], ["first"])];
        for name in ["long", "short1", "short2", "short3"] {
            tasks.push(builder.task(["first"], [name]));
        }
        (builder.build().unwrap(), tasks)
    }

    fn task(id: TaskId, family: &str, past: Option<u64>, shares: &[(&str, f64)]) -> Task<'static> {
        let shares = shares.iter().map(|(name, part)| ((*name).to_owned(), *part)).collect();
        let family = if family == "short" { "short" } else { "other" };
        let family = if past.is_none() && family == "other" { "new" } else { family };
        Task { id, family, runs: true, past: past.map(seconds), shares }
    }

    #[test]
    fn the_longest_chain_or_the_work_decides() {
        let (graph, ids) = fan();
        let start = Instant::now();
        let slots = |jobs: f64| [("jobs", 1.0 / jobs)];
        for (jobs, expected) in [(1.0, 10 + 40 + 3 * 20), (2.0, 55), (8.0, 50)] {
            let names = ["first", "long", "short", "short", "short"];
            // The last variant never ran: it counts as the others.
            let pasts = [Some(10), Some(40), Some(20), Some(20), None];
            let tasks = ids.iter().zip(names).zip(pasts);
            let tasks = tasks.map(|((id, name), past)| task(*id, name, past, &slots(jobs)));
            let mut outlook = Outlook::new(&graph, tasks.collect());
            let all = outlook.remaining(start);
            assert_eq!(all, Remaining { stages: 5, unknown: 0, time: Some(seconds(expected)) });
            outlook.start(ids[0], start);
            let later = outlook.remaining(start + seconds(4)).time.unwrap();
            assert_eq!(
                later.as_secs_f64().ceil() as u64,
                match jobs as u64 {
                    1 => 106,
                    2 => 53,
                    _ => 46,
                }
            );
            // A stage that takes longer than usual delays what comes after it, and no less.
            assert!(outlook.remaining(start + seconds(99)).time.unwrap() >= seconds(40));
            ids.iter().for_each(|id| outlook.end(*id));
            assert_eq!(outlook.remaining(start).stages, 0);
        }
    }

    #[test]
    fn a_scarce_resource_delays_the_end() {
        let (graph, ids) = fan();
        let shares = [("jobs", 0.125), ("gpu", 1.0)];
        let tasks = ids.iter().map(|id| task(*id, "short", Some(10), &shares));
        let mut outlook = Outlook::new(&graph, tasks.collect());
        assert_eq!(outlook.remaining(Instant::now()).time, Some(seconds(50)));
        outlook.stop();
        let nothing = Remaining { stages: 0, unknown: 0, time: None };
        assert_eq!(outlook.remaining(Instant::now()), nothing);
    }

    #[test]
    fn what_nobody_knows_is_not_made_up() {
        let (graph, ids) = fan();
        let now = Instant::now();
        let tasks = ids.iter().map(|id| task(*id, "new", None, &[("jobs", 1.0)]));
        let outlook = Outlook::new(&graph, tasks.collect());
        assert_eq!(outlook.remaining(now), Remaining { stages: 5, unknown: 5, time: None });

        let past = |index| if index == 1 { Some(7) } else { None };
        let tasks = ids.iter().enumerate();
        let tasks = tasks.map(|(index, id)| task(*id, "new", past(index), &[("jobs", 1.0)]));
        let mut outlook = Outlook::new(&graph, tasks.collect());
        let some = Remaining { stages: 5, unknown: 4, time: Some(seconds(7)) };
        assert_eq!(outlook.remaining(now), some);
        outlook.end(ids[1]);
        assert_eq!(outlook.remaining(now), Remaining { stages: 4, unknown: 4, time: None });
    }
}
