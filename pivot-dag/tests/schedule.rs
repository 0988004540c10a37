//! What starts when, in small cases by table and in random ones by law.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::num::NonZeroUsize;
use std::time::Duration;

use pivot_dag::{
    Ended, Graph, GraphBuilder, Next, OnFailure, Options, ResourceId, Scheduler, TaskId,
};
use proptest::prelude::*;

/// A graph in which each task needs the listed ones.
fn graph(needs: &[&[usize]]) -> Graph {
    let mut builder = GraphBuilder::new();
    for (index, needs) in needs.iter().enumerate() {
        builder.task(needs.iter().map(|need| format!("out/{need}")), [format!("out/{index}")]);
    }
    builder.build().unwrap()
}

fn all(graph: &Graph) -> Vec<TaskId> {
    graph.tasks().collect()
}

fn options(jobs: usize, on_failure: OnFailure) -> Options {
    Options { jobs: NonZeroUsize::new(jobs).unwrap(), on_failure }
}

/// Starts all that can start now.
fn started(scheduler: &mut Scheduler<'_>) -> Vec<usize> {
    let mut started = Vec::new();
    while let Next::Start(task) = scheduler.next() {
        started.push(task.index());
    }
    started
}

#[test]
fn without_estimates_the_longest_chain_goes_first() {
    // 0 and 1 lead nowhere, 2 -> 3 -> 4 is a chain, 5 and 6 hang on 1.
    let graph = graph(&[&[], &[], &[], &[2], &[3], &[1], &[1]]);
    let mut scheduler = Scheduler::new(&graph, &all(&graph), options(1, OnFailure::Stop));
    let mut order = Vec::new();
    while let Next::Start(task) = scheduler.next() {
        order.push(task.index());
        scheduler.finish(task, Ended::Succeeded);
    }
    assert_eq!(order, [2, 1, 3, 0, 4, 5, 6]);
}

#[test]
fn estimates_decide_and_unknown_tasks_count_as_the_longest() {
    let graph = graph(&[&[], &[], &[], &[]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(1, OnFailure::Stop));
    for (task, seconds) in [(0, 5), (1, 7), (3, 9)] {
        scheduler.set_estimate(tasks[task], Duration::from_secs(seconds));
    }
    assert_eq!(started(&mut scheduler), [2]);
    scheduler.finish(tasks[2], Ended::Succeeded);
    // A correction in mid-run counts from the next start on.
    scheduler.set_estimate(tasks[0], Duration::from_secs(8));
    scheduler.set_estimate(tasks[3], Duration::MAX);
    assert_eq!(started(&mut scheduler), [3]);
    scheduler.finish(tasks[3], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [0]);
}

#[test]
fn a_mutex_keeps_apart_only_those_that_share_it() {
    let graph = graph(&[&[], &[], &[], &[]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(4, OnFailure::Stop));
    let gpu = scheduler.resource("gpu", 1);
    assert_eq!(scheduler.resource("gpu", 7), gpu, "a name means one resource");
    for task in [0, 1, 3] {
        scheduler.demand(tasks[task], gpu, 1).unwrap();
    }
    assert_eq!(started(&mut scheduler), [0, 2]);
    scheduler.finish(tasks[2], Ended::Succeeded);
    assert_eq!(scheduler.next(), Next::Wait);
    scheduler.finish(tasks[0], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [1]);
    scheduler.finish(tasks[1], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [3]);
}

#[test]
fn a_demanding_task_is_not_passed_over_for_ever() {
    // 0 holds some memory; 1 needs all of it; the rest would always fit, but rank below 1.
    let graph = graph(&[&[], &[], &[], &[], &[]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(4, OnFailure::Stop));
    let memory = scheduler.resource("memory", 16);
    for (task, units) in [(0, 2), (1, 16), (2, 2), (3, 2)] {
        scheduler.demand(tasks[task], memory, units).unwrap();
    }
    assert_eq!(started(&mut scheduler), [0, 4], "4 needs no memory");
    scheduler.finish(tasks[4], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), []);
    scheduler.finish(tasks[0], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [1]);
    scheduler.finish(tasks[1], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [2, 3]);
}

#[test]
fn two_resources_are_not_snatched_away_in_turn() {
    // 0 holds `a`, 1 holds `b`, 2 needs both; 3 and 5 want `a`, 4 and 6 want `b`.
    let graph = graph(&[&[], &[], &[], &[], &[], &[], &[]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(7, OnFailure::Stop));
    let (a, b) = (scheduler.resource("a", 1), scheduler.resource("b", 1));
    for (task, resource) in [(0, a), (1, b), (2, a), (2, b), (3, a), (4, b), (5, a), (6, b)] {
        scheduler.demand(tasks[task], resource, 1).unwrap();
    }
    assert_eq!(started(&mut scheduler), [0, 1]);
    scheduler.finish(tasks[0], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [], "`a` is kept for 2");
    scheduler.finish(tasks[1], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [2]);
    scheduler.finish(tasks[2], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [3, 4]);
}

#[test]
fn a_higher_task_that_waits_takes_the_reservation_over() {
    // 0 holds `a`, 1 holds `b`, 2 needs both, 3 wants `a`; 5 follows 4, outranks 2 and wants `b`.
    let graph = graph(&[&[], &[], &[], &[], &[], &[4]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(6, OnFailure::Stop));
    for (task, seconds) in [(0, 90), (1, 90), (2, 20), (3, 10), (4, 90), (5, 50)] {
        scheduler.set_estimate(tasks[task], Duration::from_secs(seconds));
    }
    let (a, b) = (scheduler.resource("a", 1), scheduler.resource("b", 1));
    for (task, resource) in [(0, a), (1, b), (2, a), (2, b), (3, a), (5, b)] {
        scheduler.demand(tasks[task], resource, 1).unwrap();
    }
    assert_eq!(started(&mut scheduler), [4, 0, 1]);
    scheduler.finish(tasks[0], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [], "`a` is kept for 2");
    scheduler.finish(tasks[4], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [3], "5 gets `b` first, so 2 need not keep `a`");
    scheduler.finish(tasks[1], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [5]);
    scheduler.finish(tasks[5], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), []);
    scheduler.finish(tasks[3], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [2]);
}

#[test]
fn an_exclusive_task_runs_alone_and_in_its_turn() {
    let graph = graph(&[&[], &[], &[], &[], &[2]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(2, OnFailure::Stop));
    scheduler.exclusive(tasks[1]);
    // 2 has a dependent and goes first; then comes 0, and 1 bars the way of 3.
    assert_eq!(started(&mut scheduler), [2, 0]);
    scheduler.finish(tasks[2], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), []);
    scheduler.finish(tasks[0], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [1]);
    assert_eq!(scheduler.running(), 1);
    scheduler.finish(tasks[1], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [3, 4]);
}

#[test]
fn a_demand_that_can_never_be_met_is_refused() {
    let graph = graph(&[&[]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(1, OnFailure::Stop));
    let memory = scheduler.resource("memory", 8);
    let error = scheduler.demand(tasks[0], memory, 9).unwrap_err();
    assert_eq!(error.to_string(), "task #0 demands 9 of `memory`, of which there are only 8");
    let none = scheduler.resource("none", 0);
    assert!(scheduler.demand(tasks[0], none, 1).is_err());
    assert!(scheduler.demand(tasks[0], none, 0).is_ok());
    assert_eq!(started(&mut scheduler), [0]);
}

#[test]
fn a_demand_may_be_replaced_until_the_task_starts() {
    let graph = graph(&[&[], &[]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(2, OnFailure::Stop));
    let gpu = scheduler.resource("gpu", 1);
    scheduler.demand(tasks[0], gpu, 1).unwrap();
    scheduler.demand(tasks[1], gpu, 1).unwrap();
    assert_eq!(started(&mut scheduler), [0]);
    scheduler.demand(tasks[0], gpu, 0).unwrap(); // Too late: it keeps what it holds.
    assert_eq!(started(&mut scheduler), []);
    scheduler.demand(tasks[1], gpu, 0).unwrap();
    let disk = scheduler.resource("disk", 1);
    scheduler.demand(tasks[1], disk, 1).unwrap();
    assert_eq!(started(&mut scheduler), [1]);
    scheduler.resource("late", 1);
    scheduler.finish(tasks[0], Ended::Succeeded);
    scheduler.finish(tasks[1], Ended::Succeeded);
    assert_eq!(scheduler.next(), Next::Done);
}

#[test]
fn a_failure_blocks_what_needs_it_and_nothing_else() {
    // 0 -> 1 -> 2, 3 -> 4, and 5 needs both 1 and 3.
    let graph = graph(&[&[], &[0], &[1], &[], &[3], &[1, 3]]);
    let tasks = all(&graph);
    for (on_failure, then) in
        [(OnFailure::KeepGoing, Next::Start(tasks[4])), (OnFailure::Stop, Next::Done)]
    {
        let mut scheduler = Scheduler::new(&graph, &tasks, options(2, on_failure));
        assert_eq!(started(&mut scheduler), [0, 3]);
        let blocked = scheduler.finish(tasks[0], Ended::Failed);
        let blocked: Vec<_> =
            blocked.iter().map(|b| (b.task.index(), b.upstream.index())).collect();
        assert_eq!(blocked, [(1, 0), (2, 0), (5, 0)]);
        assert_eq!(scheduler.next(), Next::Wait, "3 still runs");
        assert_eq!(scheduler.finish(tasks[3], Ended::Succeeded), []);
        assert_eq!(scheduler.not_started().collect::<Vec<_>>(), [tasks[4]]);
        assert_eq!(scheduler.next(), then, "{on_failure:?}");
    }
}

#[test]
fn each_blocked_task_is_told_once_with_its_first_failure() {
    let graph = graph(&[&[], &[], &[0, 1]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(2, OnFailure::KeepGoing));
    assert_eq!(started(&mut scheduler), [0, 1]);
    let blocked = scheduler.finish(tasks[1], Ended::Failed);
    assert_eq!((blocked[0].task, blocked[0].upstream), (tasks[2], tasks[1]));
    assert_eq!(scheduler.finish(tasks[0], Ended::Failed), []);
    assert_eq!(scheduler.next(), Next::Done);
}

#[test]
fn after_a_stop_only_what_runs_goes_on() {
    let graph = graph(&[&[], &[0], &[]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(1, OnFailure::KeepGoing));
    assert_eq!(started(&mut scheduler), [0]);
    scheduler.stop();
    assert_eq!(scheduler.next(), Next::Wait);
    assert_eq!(scheduler.finish(tasks[0], Ended::Succeeded), []);
    assert_eq!(scheduler.next(), Next::Done);
    assert_eq!(scheduler.not_started().collect::<Vec<_>>(), [tasks[1], tasks[2]]);
}

#[test]
fn selected_tasks_keep_their_order_across_the_others() {
    // A chain 0 -> 1 -> 2 -> 3 -> 4 of which only 1, 3 and the unrelated 5 are selected.
    let graph = graph(&[&[], &[0], &[1], &[2], &[3], &[]]);
    let tasks = all(&graph);
    let selected = [tasks[3], tasks[5], tasks[1], tasks[3]];
    let mut scheduler = Scheduler::new(&graph, &selected, options(3, OnFailure::KeepGoing));
    assert_eq!(started(&mut scheduler), [1, 5]);
    scheduler.finish(tasks[1], Ended::Succeeded);
    assert_eq!(started(&mut scheduler), [3]);
    scheduler.finish(tasks[3], Ended::Succeeded);
    scheduler.finish(tasks[5], Ended::Succeeded);
    assert_eq!(scheduler.next(), Next::Done);

    let mut scheduler = Scheduler::new(&graph, &selected, options(3, OnFailure::KeepGoing));
    assert_eq!(started(&mut scheduler), [1, 5]);
    let blocked = scheduler.finish(tasks[1], Ended::Failed);
    assert_eq!(blocked.len(), 1, "2 and 4 are not part of the run: {blocked:?}");
    assert_eq!(blocked[0].task, tasks[3]);
}

#[test]
fn nothing_selected_is_done_at_once() {
    let graph = graph(&[&[]]);
    let mut scheduler = Scheduler::new(&graph, &[], options(1, OnFailure::Stop));
    assert_eq!(scheduler.next(), Next::Done);
}

#[test]
#[should_panic(expected = "task #0 is not running")]
fn a_task_ends_only_once() {
    let graph = graph(&[&[]]);
    let tasks = all(&graph);
    let mut scheduler = Scheduler::new(&graph, &tasks, options(1, OnFailure::Stop));
    assert_eq!(started(&mut scheduler), [0]);
    scheduler.finish(tasks[0], Ended::Succeeded);
    scheduler.finish(tasks[0], Ended::Succeeded);
}

/// The time the whole run takes if every task takes exactly as long as in `seconds`.
fn makespan(graph: &Graph, jobs: usize, seconds: &[u64], estimate: impl Fn(usize) -> u64) -> u64 {
    let mut scheduler = Scheduler::new(graph, graph.order(), options(jobs, OnFailure::Stop));
    for task in graph.tasks() {
        scheduler.set_estimate(task, Duration::from_secs(estimate(task.index())));
    }
    let mut ends = BinaryHeap::new();
    let mut now = 0;
    loop {
        match scheduler.next() {
            Next::Start(task) => ends.push(std::cmp::Reverse((now + seconds[task.index()], task))),
            Next::Wait => {
                let std::cmp::Reverse((end, task)) = ends.pop().unwrap();
                now = end;
                scheduler.finish(task, Ended::Succeeded);
            }
            Next::Done => return now,
        }
    }
}

/// No schedule can be shorter.
fn limit(graph: &Graph, jobs: usize, seconds: &[u64]) -> (u64, u64) {
    let mut ends = vec![0; graph.len()];
    for &task in graph.order() {
        let ready = graph.upstream(task).iter().map(|needed| ends[needed.index()]).max();
        ends[task.index()] = ready.unwrap_or(0) + seconds[task.index()];
    }
    let work: u64 = seconds.iter().sum();
    (ends.into_iter().max().unwrap_or(0), work.div_ceil(jobs as u64))
}

#[test]
fn known_durations_bring_a_heavy_tailed_fan_out_near_the_limit() {
    // 60 shards of very different size, the largest last, then a merge; past durations are off by
    // up to 30 %.
    let needs: Vec<Vec<usize>> = (0..60).map(|_| Vec::new()).chain([(0..60).collect()]).collect();
    let needs: Vec<&[usize]> = needs.iter().map(Vec::as_slice).collect();
    let graph = graph(&needs);
    let seconds: Vec<u64> = (0..61_u64).map(|index| 10 + 6_000 / (61 - index).pow(2)).collect();
    let past = |index: usize| seconds[index] * (70 + (index as u64 * 37) % 61) / 100;

    let (path, work) = limit(&graph, 8, &seconds);
    let limit = path.max(work);
    let informed = makespan(&graph, 8, &seconds, past);
    let uninformed = makespan(&graph, 8, &seconds, |_| 1);
    assert!(informed * 100 <= limit * 115, "{informed} against a limit of {limit}");
    assert!(informed < uninformed, "{informed} against {uninformed} without estimates");
}

/// A task of a random run: what it needs, holds and does.
#[derive(Clone, Debug)]
struct Plan {
    needs: Vec<usize>,
    demands: BTreeMap<usize, u64>,
    exclusive: bool,
    seconds: u64,
    fails: bool,
    selected: bool,
}

const CAPACITIES: [u64; 3] = [1, 1, 4];

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let demands = prop::collection::btree_map(0..3_usize, 0..=4_u64, 0..3);
    let odds = |odds| prop::bool::weighted(odds);
    let task = (prop::collection::vec(any::<prop::sample::Index>(), 0..3), demands, odds(0.1));
    let task = (task, 0..5_u64, odds(0.1), odds(0.8));
    prop::collection::vec(task, 0..25).prop_map(|tasks| {
        let tasks = tasks.into_iter().enumerate();
        let plan = |(index, ((needs, demands, exclusive), seconds, fails, selected))| {
            let needs: Vec<prop::sample::Index> = needs;
            let needs = match index {
                0 => Vec::new(),
                _ => needs.iter().map(|need| need.index(index)).collect(),
            };
            let demands: BTreeMap<usize, u64> = demands;
            let capped = demands.into_iter().map(|(r, units)| (r, units.min(CAPACITIES[r])));
            Plan { needs, demands: capped.collect(), exclusive, seconds, fails, selected }
        };
        tasks.map(plan).collect()
    })
}

/// The rules, checked from outside while a run goes on.
struct Witness<'a> {
    plans: &'a [Plan],
    /// Whom each task waits for: selected tasks it needs, at any distance.
    before: Vec<BTreeSet<usize>>,
    ranks: Vec<u64>,
    jobs: usize,
    running: BTreeSet<usize>,
    started: BTreeSet<usize>,
    succeeded: BTreeSet<usize>,
    blocked: BTreeSet<usize>,
}

impl Witness<'_> {
    fn slots(&self, task: usize) -> u64 {
        if self.plans[task].exclusive { self.jobs as u64 } else { 1 }
    }

    /// What `task` demands of a resource; the last index is the slots.
    fn demand(&self, task: usize, resource: usize) -> u64 {
        match resource {
            3 => self.slots(task),
            _ => self.plans[task].demands.get(&resource).copied().unwrap_or(0),
        }
    }

    fn free(&self, resource: usize) -> u64 {
        let capacity = CAPACITIES.get(resource).copied().unwrap_or(self.jobs as u64);
        let held: u64 = self.running.iter().map(|&task| self.demand(task, resource)).sum();
        capacity.checked_sub(held).expect("no more is held than there is")
    }

    fn ready(&self) -> Vec<usize> {
        let open = |task: &usize| {
            self.plans[*task].selected
                && !self.started.contains(task)
                && !self.blocked.contains(task)
                && self.before[*task].is_subset(&self.succeeded)
        };
        (0..self.plans.len()).filter(open).collect()
    }

    fn outranks(&self, one: usize, other: usize) -> bool {
        (self.ranks[one], other) > (self.ranks[other], one)
    }

    fn lacks(&self, task: usize) -> Vec<usize> {
        (0..4).filter(|&r| self.demand(task, r) > self.free(r)).collect()
    }

    fn start(&mut self, task: usize) {
        let ready = self.ready();
        assert!(ready.contains(&task), "{task} is not ready");
        assert!(self.lacks(task).is_empty(), "{task} does not fit");
        for other in ready.into_iter().filter(|&other| self.outranks(other, task)) {
            // The one above must stand where this task does not get in its way.
            let lacks = self.lacks(other);
            assert!(
                lacks.iter().any(|&r| self.demand(task, r) == 0) || self.is_kept_back(other),
                "{task} starts before {other}, which ranks higher and lacks {lacks:?}"
            );
        }
        self.started.insert(task);
        self.running.insert(task);
    }

    /// Whether a task of higher rank waits that has a claim on something `task` needs.
    fn is_kept_back(&self, task: usize) -> bool {
        let ready = self.ready().into_iter();
        let mut above = ready.filter(|&other| self.outranks(other, task));
        above.any(|other| {
            self.plans[other].exclusive
                || (0..3).any(|r| self.demand(task, r) > 0 && self.demand(other, r) > 0)
        })
    }

    /// Nobody idles without a reason: each ready task lacks something, or one above it has a claim
    /// on it.
    fn wait(&self) {
        if self.free(3) == 0 {
            return;
        }
        for task in self.ready() {
            let lacks = !self.lacks(task).is_empty();
            assert!(lacks || self.is_kept_back(task), "{task} could start");
        }
        let first = self.ready().into_iter().min_by_key(|&t| (std::cmp::Reverse(self.ranks[t]), t));
        assert!(first.is_none_or(|first| !self.lacks(first).is_empty()), "the first could start");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_in_every_run(
        plans in plans(),
        jobs in 1..5_usize,
        keep_going in any::<bool>(),
        stop_after in prop::option::weighted(0.1, 0..20_usize),
        picks in prop::collection::vec(any::<usize>(), 30),
    ) {
        let needs: Vec<&[usize]> = plans.iter().map(|plan| plan.needs.as_slice()).collect();
        let graph = graph(&needs);
        let tasks = all(&graph);
        let selected: Vec<TaskId> =
            tasks.iter().copied().filter(|task| plans[task.index()].selected).collect();
        let on_failure = if keep_going { OnFailure::KeepGoing } else { OnFailure::Stop };
        let mut scheduler = Scheduler::new(&graph, &selected, options(jobs, on_failure));
        let resources: Vec<ResourceId> =
            CAPACITIES.iter().zip(["gpu", "license", "memory"])
                .map(|(capacity, name)| scheduler.resource(name, *capacity)).collect();
        for (task, plan) in tasks.iter().zip(&plans) {
            scheduler.set_estimate(*task, Duration::from_secs(plan.seconds));
            for (resource, units) in &plan.demands {
                scheduler.demand(*task, resources[*resource], *units).unwrap();
            }
            if plan.exclusive {
                scheduler.exclusive(*task);
            }
        }

        let mut ranks = vec![0; plans.len()];
        for &task in tasks.iter().rev() {
            let after = graph.downstream(task).iter().map(|next| ranks[next.index()]).max();
            let plan = &plans[task.index()];
            ranks[task.index()] = after.unwrap_or(0) + if plan.selected { plan.seconds } else { 0 };
        }
        let above = |task: TaskId| -> BTreeSet<usize> {
            let above = graph.with_upstream(&[task]).into_iter().map(TaskId::index);
            above.filter(|&other| other != task.index() && plans[other].selected).collect()
        };
        let before: Vec<_> = tasks.iter().map(|task| above(*task)).collect();
        let mut witness = Witness {
            plans: &plans, before, ranks, jobs, running: BTreeSet::new(), started: BTreeSet::new(),
            succeeded: BTreeSet::new(), blocked: BTreeSet::new(),
        };

        let mut picks = picks.into_iter().cycle();
        let (mut ended, mut halted) = (0, false);
        loop {
            if stop_after == Some(ended) {
                scheduler.stop();
                halted = true;
            }
            match scheduler.next() {
                Next::Start(task) => {
                    prop_assert!(!halted, "{task} starts after the stop");
                    witness.start(task.index());
                }
                Next::Wait => {
                    if !halted {
                        witness.wait();
                    }
                    let running: Vec<usize> = witness.running.iter().copied().collect();
                    prop_assert_eq!(running.len(), scheduler.running());
                    let task = running[picks.next().unwrap() % running.len()];
                    witness.running.remove(&task);
                    ended += 1;
                    let ended = if plans[task].fails { Ended::Failed } else { Ended::Succeeded };
                    let blocked = scheduler.finish(tasks[task], ended);
                    if plans[task].fails {
                        halted |= !keep_going;
                        let expected: BTreeSet<usize> = (0..plans.len())
                            .filter(|&other| plans[other].selected)
                            .filter(|&other| witness.before[other].contains(&task))
                            .filter(|other| !witness.blocked.contains(other)).collect();
                        let told: BTreeSet<usize> =
                            blocked.iter().map(|b| b.task.index()).collect();
                        prop_assert_eq!(&told, &expected);
                        prop_assert_eq!(told.len(), blocked.len());
                        prop_assert!(blocked.iter().all(|b| b.upstream.index() == task));
                        witness.blocked.extend(told);
                    } else {
                        prop_assert!(blocked.is_empty());
                        witness.succeeded.insert(task);
                    }
                }
                Next::Done => break,
            }
        }
        prop_assert!(witness.running.is_empty());
        let left: BTreeSet<usize> = scheduler.not_started().map(TaskId::index).collect();
        let expected: BTreeSet<usize> = (0..plans.len())
            .filter(|task| plans[*task].selected)
            .filter(|task| !witness.started.contains(task) && !witness.blocked.contains(task))
            .collect();
        prop_assert_eq!(&left, &expected);
        prop_assert!(halted || left.is_empty(), "{left:?} never started");
    }

    /// Graham's bound for schedules that never idle while something could start, which a rank
    /// cannot break.
    #[test]
    fn a_run_is_less_than_twice_as_long_as_the_best(plans in plans(), jobs in 1..6_usize) {
        let needs: Vec<&[usize]> = plans.iter().map(|plan| plan.needs.as_slice()).collect();
        let graph = graph(&needs);
        let seconds: Vec<u64> = plans.iter().map(|plan| plan.seconds).collect();
        let (path, _) = limit(&graph, jobs, &seconds);
        let (jobs_, work) = (jobs as u64, seconds.iter().sum::<u64>());
        let took = makespan(&graph, jobs, &seconds, |task| seconds[task]);
        prop_assert!(took * jobs_ <= work + (jobs_ - 1) * path);
    }
}
