//! Tells a runner which task to start next.
//!
//! A [`Scheduler`] is a state machine without threads or clock: the runner asks for the next task,
//! starts it by whatever means it has, and reports its end. The task goes first from which the
//! longest way leads to the end of the run (*critical path first*): what is on that way cannot be
//! made up for later.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::graph::{Graph, TaskId};
use crate::queue::{ReadyQueue, Turn};
use crate::resource::{ResourceId, Resources, TooMuch};

/// What counts for all tasks of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many tasks may run at the same time.
    pub jobs: NonZeroUsize,
    /// What a failure means for tasks that do not depend on the failed one.
    pub on_failure: OnFailure,
}

/// What becomes of the other tasks when one fails. Those that depend on it never start in either
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Start nothing more; what runs may end.
    Stop,
    /// Go on with all that does not depend on the failed task.
    KeepGoing,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start this task, then ask again.
    Start(TaskId),
    /// Wait until a running task ends, [`finish`](Scheduler::finish) it, then ask again.
    Wait,
    /// Nothing runs and nothing will start.
    Done,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its outputs are there: those who need it may start.
    Succeeded,
    /// Its outputs cannot be relied on.
    Failed,
}

/// A task that will not start since one that it needs failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The task that will not start.
    pub task: TaskId,
    /// The task that failed, however far upstream.
    pub upstream: TaskId,
}

/// The state of one run over (a part of) a graph.
///
/// Describe the tasks first: estimates, demands. Then repeat [`next`](Self::next) and
/// [`finish`](Self::finish) until [`Next::Done`].
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::time::Duration;
/// use pivot_dag::{Blocked, Ended, GraphBuilder, Next, OnFailure, Options, Scheduler};
///
/// let mut tasks = GraphBuilder::new();
/// let plot = tasks.task(["data"], ["plot.svg"]);
/// let fetch = tasks.task([""; 0], ["data"]);
/// let train = tasks.task(["data"], ["model"]);
/// let check = tasks.task(["model"], ["report"]);
/// let graph = tasks.build()?;
///
/// let jobs = NonZeroUsize::new(2).unwrap();
/// let options = Options { jobs, on_failure: OnFailure::KeepGoing };
/// let mut scheduler = Scheduler::new(&graph, graph.order(), options);
/// scheduler.set_estimate(train, Duration::from_secs(60));
/// scheduler.set_estimate(plot, Duration::from_secs(1));
/// let gpu = scheduler.resource("gpu", 1);
/// scheduler.demand(train, gpu, 1)?;
///
/// assert_eq!(scheduler.next(), Next::Start(fetch));
/// assert_eq!(scheduler.next(), Next::Wait);
/// scheduler.finish(fetch, Ended::Succeeded);
/// assert_eq!(scheduler.next(), Next::Start(train)); // the longest way to the end
/// assert_eq!(scheduler.next(), Next::Start(plot));
/// assert_eq!(scheduler.finish(train, Ended::Failed), [Blocked { task: check, upstream: train }]);
/// assert_eq!(scheduler.finish(plot, Ended::Succeeded), []);
/// assert_eq!(scheduler.next(), Next::Done);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Scheduler<'g> {
    graph: &'g Graph,
    on_failure: OnFailure,
    /// For each task of the graph, like all the vectors here.
    phases: Vec<Phase>,
    /// How many tasks that take part must still succeed before this one.
    missing: Vec<usize>,
    estimates: Vec<Option<Duration>>,
    ranks: Vec<u64>,
    resources: Resources,
    ready: ReadyQueue,
    running: usize,
    /// Nothing more starts.
    halted: bool,
    /// Estimates or demands changed since the queue was made.
    changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not of this run.
    Outside,
    /// Not selected, but between selected tasks: passes their order and failures on, and never
    /// starts.
    Between,
    /// Needs a task that has not ended.
    Waiting,
    /// May start when its turn comes.
    Ready,
    Running,
    Ended,
    Blocked,
}

impl<'g> Scheduler<'g> {
    /// A run of the `selected` tasks, in any order.
    ///
    /// Tasks that are not selected never start, but selected ones keep their order even when only
    /// tasks outside the selection connect them.
    pub fn new(graph: &'g Graph, selected: &[TaskId], options: Options) -> Self {
        let mut phases = vec![Phase::Outside; graph.len()];
        for &task in selected {
            phases[task.index()] = Phase::Waiting;
        }
        let (needed, needing) = (graph.with_upstream(selected), graph.with_downstream(selected));
        let mut above = vec![false; graph.len()];
        for task in needed {
            above[task.index()] = true;
        }
        for &task in &needing {
            if above[task.index()] && phases[task.index()] == Phase::Outside {
                phases[task.index()] = Phase::Between;
            }
        }
        let mut missing = vec![0; graph.len()];
        for task in needing {
            let upstream = graph.upstream(task).iter();
            missing[task.index()] =
                upstream.filter(|needed| phases[needed.index()] != Phase::Outside).count();
            if missing[task.index()] == 0 && phases[task.index()] == Phase::Waiting {
                phases[task.index()] = Phase::Ready;
            }
        }
        Self {
            graph,
            on_failure: options.on_failure,
            phases,
            missing,
            estimates: vec![None; graph.len()],
            ranks: vec![0; graph.len()],
            resources: Resources::new(graph.len(), options.jobs),
            ready: ReadyQueue::default(),
            running: 0,
            halted: false,
            changed: true,
        }
    }

    /// Says how long `task` will take.
    ///
    /// Tasks without an estimate count as long as the longest with one, and all as equally long
    /// where there is none at all; [`fill_unknown`](crate::fill_unknown) guesses better. Estimates
    /// may change during a run (as when the first of many similar tasks took twice as long as
    /// expected): the next call of [`next`](Self::next) then looks at the whole graph once.
    pub fn set_estimate(&mut self, task: TaskId, duration: Duration) {
        self.estimates[task.index()] = Some(duration);
        self.changed = true;
    }

    /// Makes a resource known that tasks hold while they run; a mutex is a resource of capacity 1.
    ///
    /// A name that is known already gives the same resource, with the capacity it has.
    pub fn resource(&mut self, name: &str, capacity: u64) -> ResourceId {
        self.changed = true;
        self.resources.add(name, capacity)
    }

    /// Lets `task` start only when `units` of `resource` are free, and hold them while it runs.
    ///
    /// Demanding a resource again replaces the earlier demand. A task that has started keeps what
    /// it holds.
    ///
    /// # Errors
    /// When there is less of the resource than that at all; the demand is then as before.
    pub fn demand(
        &mut self,
        task: TaskId,
        resource: ResourceId,
        units: u64,
    ) -> Result<(), TooMuch> {
        if matches!(self.phases[task.index()], Phase::Running | Phase::Ended) {
            return Ok(());
        }
        self.changed = true;
        self.resources.demand(task, resource, units)
    }

    /// Lets `task` run only while nothing else does.
    pub fn exclusive(&mut self, task: TaskId) {
        if !matches!(self.phases[task.index()], Phase::Running | Phase::Ended) {
            self.changed = true;
            self.resources.demand_all_slots(task);
        }
    }

    /// What the runner shall do now.
    #[expect(clippy::should_implement_trait, reason = "`Wait` is not an item, nor the end")]
    pub fn next(&mut self) -> Next {
        if self.changed {
            self.requeue();
        }
        if !self.halted
            && let Some(task) = self.ready.start(&mut self.resources)
        {
            self.phases[task.index()] = Phase::Running;
            self.running += 1;
            return Next::Start(task);
        }
        if self.running > 0 { Next::Wait } else { Next::Done }
    }

    /// Takes note that a task ended, and tells which others will therefore never start, in
    /// [`Graph::order`].
    ///
    /// # Panics
    /// When `task` is not running.
    pub fn finish(&mut self, task: TaskId, ended: Ended) -> Vec<Blocked> {
        assert_eq!(self.phases[task.index()], Phase::Running, "task {task} is not running");
        self.phases[task.index()] = Phase::Ended;
        self.running -= 1;
        if self.changed {
            // Resources may be newer than the queue, which is made anew before it is used again.
            self.resources.give_back(task);
        } else {
            self.ready.end(task, &mut self.resources);
        }
        match ended {
            Ended::Succeeded => {
                self.release(task);
                Vec::new()
            }
            Ended::Failed => {
                self.halted |= self.on_failure == OnFailure::Stop;
                self.block(task)
            }
        }
    }

    /// Starts nothing more, as after an interrupt; what runs is still to be finished.
    pub fn stop(&mut self) {
        self.halted = true;
    }

    /// How many tasks are running.
    pub fn running(&self) -> usize {
        self.running
    }

    /// The selected tasks that neither started nor are blocked by a failure, in [`Graph::order`].
    ///
    /// When the run is [`Next::Done`], these are the tasks that a stop or a failure elsewhere kept
    /// from starting.
    pub fn not_started(&self) -> impl Iterator<Item = TaskId> {
        let order = self.graph.order().iter().copied();
        order.filter(|task| matches!(self.phases[task.index()], Phase::Waiting | Phase::Ready))
    }

    /// Recomputes all priorities and puts all ready tasks into the queue.
    fn requeue(&mut self) {
        self.changed = false;
        let longest = self.estimates.iter().flatten().max();
        let unknown = longest.copied().unwrap_or(Duration::from_secs(1));
        for &task in self.graph.order().iter().rev() {
            let downstream = self.graph.downstream(task).iter();
            let after = downstream.map(|next| self.ranks[next.index()]).max().unwrap_or(0);
            let own = match self.phases[task.index()] {
                Phase::Waiting | Phase::Ready | Phase::Running => {
                    nanoseconds(self.estimates[task.index()].unwrap_or(unknown))
                }
                Phase::Outside | Phase::Between | Phase::Ended | Phase::Blocked => 0,
            };
            self.ranks[task.index()] = own.saturating_add(after);
        }
        let ready = self.graph.tasks().filter(|task| self.phases[task.index()] == Phase::Ready);
        let turns = ready.map(|task| Turn { rank: self.ranks[task.index()], task });
        self.ready.restart(turns, &self.resources);
    }

    /// Lets those start that needed nothing but `done`, also across tasks that are not selected.
    fn release(&mut self, done: TaskId) {
        let mut done = vec![done];
        while let Some(task) = done.pop() {
            for &next in self.graph.downstream(task) {
                let phase = &mut self.phases[next.index()];
                if !matches!(phase, Phase::Waiting | Phase::Between) {
                    continue;
                }
                self.missing[next.index()] -= 1;
                if self.missing[next.index()] > 0 {
                    continue;
                }
                if *phase == Phase::Between {
                    done.push(next);
                    continue;
                }
                *phase = Phase::Ready;
                if !self.changed {
                    self.ready.push(Turn { rank: self.ranks[next.index()], task: next });
                }
            }
        }
    }

    /// Keeps everything downstream of `failed` from starting.
    fn block(&mut self, failed: TaskId) -> Vec<Blocked> {
        let mut blocked = Vec::new();
        let mut reached = vec![failed];
        while let Some(task) = reached.pop() {
            for &next in self.graph.downstream(task) {
                let phase = &mut self.phases[next.index()];
                match phase {
                    Phase::Waiting => blocked.push(next),
                    Phase::Between => {}
                    _ => continue,
                }
                *phase = Phase::Blocked;
                reached.push(next);
            }
        }
        let blocked = self.graph.in_order(blocked).into_iter();
        blocked.map(|task| Blocked { task, upstream: failed }).collect()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
