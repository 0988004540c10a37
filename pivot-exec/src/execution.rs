//! The loop of a run: starts what is ready, watches the workers, commits what they wrote.
//!
//! It waits for workers, finished background work and signals. Work on files happens on other
//! threads; processes start on this one, since workers die with the thread that started them.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pivot_dag::{Ended, Graph, Next, OnFailure, Scheduler, TaskId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::capacity::gpus_of;
use crate::devices::{Devices, Held};
use crate::executors::Executors;
use crate::extras::undeclared_reads;
use crate::outcome::{Effort, Event, Outcome, StageFailure};
use crate::outlook::Outlook;
use crate::outputs::Incident;
use crate::plan::{Cause, Decision, Plan};
use crate::record::{Phase, Recorder};
use crate::run::{RunError, RunOptions};
use crate::signals::{Interrupt, Signals};
use crate::stage_run::{Begun, Ready, StageRunner};
use crate::worker::{Ending, Worker};

/// How long a stopped stage may take for its own cleaning up, per signal.
const GRACE: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(3)),
    (Signal::TERM, Duration::from_secs(2)),
    (Signal::KILL, Duration::from_secs(60)),
];

/// How long work on files may go on after a second signal.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// How often a stage that another process holds is asked for again.
const HELD_RETRY: Duration = Duration::from_millis(100);

/// What a background job came back with.
pub(crate) enum Done {
    Begun(TaskId, Result<Begun, StageFailure>, Vec<Incident>),
    Committed(TaskId, Box<Ready>, Result<(), StageFailure>, Effort, String),
}

/// The same, with the time that it took.
pub(crate) struct Timed {
    done: Done,
    start: Instant,
    took: Duration,
}

/// What is to run, in which order, and on what.
pub(crate) struct Agenda<'a> {
    pub(crate) scheduler: Scheduler<'a>,
    pub(crate) outlook: Outlook,
    pub(crate) devices: Devices,
}

/// A stage whose process runs.
struct Running {
    task: TaskId,
    /// Dropped before `ready` with its guard: nobody else may start while this one still writes.
    worker: Worker,
    ready: Box<Ready>,
    /// The graphics processors that it has.
    devices: Held,
    /// How long it may run.
    limit: Option<Duration>,
    /// When the stage has taken too long, and which step against it is next.
    overdue: Option<(Instant, usize)>,
}

/// Work on other threads, whose answers wake the loop.
pub(crate) struct Jobs<'scope, 'e> {
    scope: &'e rayon::Scope<'scope>,
    done: mpsc::Sender<Timed>,
    waker: &'scope UnixStream,
    /// Jobs whose answer has not come yet.
    running: usize,
}

impl<'scope, 'e> Jobs<'scope, 'e> {
    pub(crate) fn new(
        scope: &'e rayon::Scope<'scope>,
        done: mpsc::Sender<Timed>,
        waker: &'scope UnixStream,
    ) -> Self {
        Self { scope, done, waker, running: 0 }
    }

    /// Runs `job` on another thread and wakes the loop when its answer is there.
    fn spawn(&mut self, job: impl FnOnce() -> Done + Send + 'scope) {
        let (done, mut waker) = (self.done.clone(), self.waker);
        self.running += 1;
        self.scope.spawn(move |_| {
            // The receiver outlives all jobs, and a full socket wakes the loop as well.
            let start = Instant::now();
            let answer = job();
            let _ = done.send(Timed { done: answer, start, took: start.elapsed() });
            let _ = waker.write(&[1]);
        });
    }
}

/// What is left of a run that has come to its end.
#[derive(Default)]
pub(crate) struct Ends {
    /// How each stage ended of which that is known.
    pub(crate) outcomes: HashMap<TaskId, Outcome>,
    /// The signal that stopped the others.
    pub(crate) interrupted: Option<Interrupt>,
    /// What happened when, if anything did.
    pub(crate) recorder: Option<Recorder>,
}

/// A run while it goes on.
pub(crate) struct Execution<'a, 'scope, 'e> {
    stages: StageRunner<'a>,
    scheduler: Scheduler<'a>,
    outlook: Outlook,
    forced: HashSet<TaskId>,
    /// Stages of which the plan knows already that nothing is to be done, and whether that is
    /// because their outputs may stay on the remote.
    settled: HashMap<TaskId, bool>,
    on_failure: OnFailure,
    jobs: Jobs<'scope, 'e>,
    workers: Vec<Running>,
    /// Stages that another process holds, or that wait for an input on its way from the remote, and
    /// when to ask for them again.
    held: Vec<TaskId>,
    retry_at: Instant,
    told_held: HashSet<TaskId>,
    /// Whether it was told that stages are guarded without the kernel's locks.
    told_lockless: bool,
    ends: HashMap<TaskId, Outcome>,
    recorder: Recorder,
    has_failed: bool,
    interrupted: Option<Interrupt>,
    /// The next step against workers that do not stop, and when it is due.
    escalation: Option<(usize, Instant)>,
    /// When a second signal is obeyed although work on files still goes on.
    give_up: Option<(Instant, Interrupt)>,
    timeout: Option<Duration>,
    devices: Devices,
    executors: Executors<'a>,
    /// Stages that were told to have started and start once more.
    again: HashSet<TaskId>,
    on_event: &'e mut dyn FnMut(Event<'_>),
}

impl<'a: 'scope, 'scope, 'e> Execution<'a, 'scope, 'e> {
    pub(crate) fn new(
        stages: StageRunner<'a>,
        agenda: Agenda<'a>,
        plan: &Plan,
        options: &RunOptions,
        jobs: Jobs<'scope, 'e>,
        on_event: &'e mut dyn FnMut(Event<'_>),
    ) -> Self {
        let forced = plan.stages.iter().filter(|stage| is_forced(&stage.causes));
        let Agenda { scheduler, outlook, devices } = agenda;
        Self {
            stages,
            scheduler,
            outlook,
            forced: forced.map(|stage| stage.task).collect(),
            settled: settled(plan, stages.loaded.pipeline.graph()),
            on_failure: options.on_failure,
            jobs,
            workers: Vec::new(),
            held: Vec::new(),
            retry_at: Instant::now(),
            told_held: HashSet::new(),
            told_lockless: false,
            ends: HashMap::new(),
            recorder: Recorder::new(Instant::now()),
            has_failed: false,
            interrupted: None,
            escalation: None,
            give_up: None,
            timeout: options.timeout,
            devices,
            executors: Executors::new(stages, options.executor),
            again: HashSet::new(),
            on_event,
        }
    }

    /// How each stage ended that came to an end, and the signal that stopped the others.
    pub(crate) fn into_ends(self) -> Ends {
        Ends { outcomes: self.ends, interrupted: self.interrupted, recorder: Some(self.recorder) }
    }

    /// Goes on until nothing runs and nothing more is to be started.
    pub(crate) fn go(
        &mut self,
        mut signals: Signals,
        wake: &UnixStream,
        finished: &mpsc::Receiver<Timed>,
    ) -> Result<(), RunError> {
        loop {
            self.start_ready();
            if self.workers.is_empty() && self.jobs.running == 0 && self.held.is_empty() {
                return Ok(());
            }
            self.wait(&signals, wake)?;
            drain(wake);
            for signal in signals.take() {
                self.interrupt(signal);
            }
            self.escalate();
            while let Ok(done) = finished.try_recv() {
                self.jobs.running -= 1;
                let Timed { done, start, took } = done;
                let (task, phase) = match &done {
                    Done::Begun(task, ..) => (*task, Phase::Prepare),
                    Done::Committed(task, ..) => (*task, Phase::Store),
                };
                self.recorder.span(task, phase, start, took);
                self.take(done);
            }
            self.watch_workers();
            if Instant::now() >= self.retry_at {
                for task in std::mem::take(&mut self.held) {
                    self.spawn_begin(task);
                }
            }
        }
    }

    fn name(&self, task: TaskId) -> &'a str {
        self.stages.loaded.pipeline.stage(task).name.as_str()
    }

    fn start_ready(&mut self) {
        while let Next::Start(task) = self.scheduler.next() {
            match self.settled.get(&task) {
                Some(false) => self.end(task, Outcome::Unchanged, &[], "", None),
                Some(true) => self.end(task, Outcome::Away, &[], "", None),
                None => self.spawn_begin(task),
            }
        }
    }

    /// Whether stages that have not begun yet may still begin.
    fn starts_more(&self) -> bool {
        self.interrupted.is_none() && !(self.has_failed && self.on_failure == OnFailure::Stop)
    }

    fn spawn_begin(&mut self, task: TaskId) {
        if !self.starts_more() {
            return;
        }
        let (stages, is_forced) = (self.stages, self.forced.contains(&task));
        self.jobs.spawn(move || {
            let mut set_aside = Vec::new();
            let begun = stages.begin(task, is_forced, &mut set_aside);
            Done::Begun(task, begun, set_aside)
        });
    }

    fn wait(&self, signals: &Signals, wake: &UnixStream) -> Result<(), RunError> {
        let workers = self.workers.iter().flat_map(|running| running.worker.descriptors());
        let mut polled: Vec<PollFd<'_>> = std::iter::once(wake.as_fd())
            .chain(signals.descriptors())
            .map(|fd| (fd, PollFlags::IN))
            .chain(workers)
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        let due = self.escalation.map(|(_, at)| at.saturating_duration_since(Instant::now()));
        let retry = (!self.held.is_empty())
            .then(|| self.retry_at.saturating_duration_since(Instant::now()));
        let overdue = self.workers.iter().filter_map(|running| running.overdue);
        let overdue = overdue.map(|(at, _)| at.saturating_duration_since(Instant::now())).min();
        let give_up = self.give_up.map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let timeout = due.into_iter().chain(retry).chain(overdue).chain(give_up).min();
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => {
                Err(RunError::System { action: "wait for the stages", source: error.into() })
            }
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Begun(task, begun, set_aside) => {
                self.tell_set_aside(task, &set_aside);
                match begun {
                    Err(failure) => self.fail(task, failure, &[], "", None),
                    Ok(Begun::Held { pid }) => self.hold(task, pid),
                    Ok(Begun::Waits) => self.ask_again(task),
                    Ok(Begun::Ended { outcome, causes }) => {
                        self.end(task, outcome, &causes, "", None);
                    }
                    Ok(Begun::Ready(ready)) => {
                        if ready.guard.is_by_name()
                            && !std::mem::replace(&mut self.told_lockless, true)
                        {
                            let text = "the file system of `.pivot/run` has no locks: files there \
                                        keep a stage from running twice at once"
                                .to_owned();
                            (self.on_event)(Event::Notice { text });
                        }
                        self.launch(task, ready);
                    }
                }
            }
            Done::Committed(task, ready, Ok(()), effort, tail) => {
                let outcome = Outcome::Ran { elapsed: effort.elapsed };
                self.end(task, outcome, &ready.causes, &tail, Some(effort));
            }
            Done::Committed(task, ready, Err(failure), effort, tail) => {
                self.fail(task, failure, &ready.causes, &tail, Some(effort));
            }
        }
    }

    fn launch(&mut self, task: TaskId, mut ready: Box<Ready>) {
        if self.interrupted.is_some() {
            // Its outputs have been cleared; the next run restores them or runs the stage.
            return;
        }
        let name = self.name(task);
        let root = self.stages.project.root();
        let devices = self.devices.take(gpus_of(self.stages.loaded.pipeline.stage(task)));
        let started = self.executors.work(task, &devices).and_then(|work| {
            let log = self.stages.project.log_path(name);
            Worker::start(work, root, &log)
        });
        for text in self.executors.take_notices() {
            (self.on_event)(Event::Notice { text });
        }
        match started {
            Ok(worker) => {
                if let Some(traces) = worker.traces() {
                    ready.guard.note_worker(traces);
                }
                let state = &self.stages.project.state;
                let expected = crate::durations::recall(state, name);
                let now = Instant::now();
                self.outlook.start(task, now);
                let (causes, remaining) = (&*ready.causes, self.outlook.remaining(now));
                if !self.again.remove(&task) {
                    (self.on_event)(Event::Started { stage: name, causes, expected, remaining });
                }
                let own = self.stages.loaded.pipeline.stage(task).timeout;
                let limit = self.timeout.into_iter().chain(own).min();
                let overdue = limit.and_then(|limit| Instant::now().checked_add(limit));
                let overdue = overdue.map(|at| (at, 0));
                self.workers.push(Running { task, ready, devices, worker, limit, overdue });
            }
            Err(failure) => {
                self.devices.give_back(devices);
                let causes = ready.causes.clone();
                drop(ready);
                self.fail(task, failure, &causes, "", None);
            }
        }
    }

    fn watch_workers(&mut self) {
        for running in &mut self.workers {
            if let Some(traces) = running.worker.hear() {
                running.ready.guard.note_worker(traces);
            }
        }
        let mut index = 0;
        while index < self.workers.len() {
            let name = self.name(self.workers[index].task);
            let running = &mut self.workers[index];
            let on_event = &mut *self.on_event;
            let mut on_line =
                |stream, line: &str| on_event(Event::Printed { stage: name, stream, line });
            running.worker.pump(&mut on_line);
            match running.worker.poll_end(&mut on_line) {
                Ok(None) => index += 1,
                ended => {
                    let Running { task, ready, worker, devices, .. } =
                        self.workers.swap_remove(index);
                    drop(worker);
                    self.devices.give_back(devices);
                    match ended {
                        Ok(Some(ending)) => self.ended(task, ready, ending),
                        Err(error) => {
                            self.stages.discard(task);
                            self.fail(task, StageFailure::Watch(error), &ready.causes, "", None);
                        }
                        Ok(None) => {}
                    }
                }
            }
        }
    }

    fn ended(&mut self, task: TaskId, ready: Box<Ready>, ending: Ending) {
        let Ending { result, refusal, tail, elapsed, usage, kept } = ending;
        self.executors.keep(kept);
        let effort = Effort { elapsed, usage };
        self.recorder.span(task, Phase::Run, Instant::now() - elapsed, elapsed);
        self.recorder.effort(task, effort);
        if let (Err(_), Some(refusal)) = (&result, refusal) {
            drop(ready);
            self.stages.discard(task);
            self.executors.refuse(task, &refusal);
            self.again.insert(task);
            return self.spawn_begin(task);
        }
        if let Ok(report) = &result {
            self.executors.accept(task);
            for text in undeclared_reads(&self.stages.loaded.pipeline, task, &report.extras) {
                (self.on_event)(Event::Notice { text });
            }
        }
        let stages = self.stages;
        self.jobs.spawn(move || {
            let result = result
                .and_then(|report| stages.check_sources(&report.sources).map(|()| report))
                .and_then(|report| stages.commit(task, &ready, &report.extras, elapsed));
            if result.is_err() {
                stages.discard(task);
            }
            Done::Committed(task, ready, result, effort, tail)
        });
    }

    fn hold(&mut self, task: TaskId, pid: Option<u32>) {
        if self.starts_more() && self.told_held.insert(task) {
            let name = self.name(task);
            let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            let text = format!("waiting for {who}, which runs `{name}`");
            (self.on_event)(Event::Notice { text });
        }
        self.ask_again(task);
    }

    fn ask_again(&mut self, task: TaskId) {
        if self.starts_more() {
            self.held.push(task);
            self.retry_at = Instant::now() + HELD_RETRY;
        }
    }

    fn tell_set_aside(&mut self, task: TaskId, set_aside: &[Incident]) {
        let name = self.name(task);
        for incident in set_aside {
            let text = match incident {
                Incident::SetAside { path, saved } => format!(
                    "`{path}` held something that `{name}` did not write: it is now `{saved}`"
                ),
                Incident::Lost { path, why } => {
                    format!("`{path}` cannot be brought back: {why}; `{name}` has to run again")
                }
            };
            (self.on_event)(Event::Notice { text });
        }
    }

    fn end(
        &mut self,
        task: TaskId,
        outcome: Outcome,
        causes: &[Cause],
        tail: &str,
        effort: Option<Effort>,
    ) {
        self.tell_end(task, &outcome, causes, tail, effort);
        self.ends.insert(task, outcome);
        self.scheduler.finish(task, Ended::Succeeded);
    }

    fn tell_end(
        &mut self,
        task: TaskId,
        outcome: &Outcome,
        causes: &[Cause],
        tail: &str,
        effort: Option<Effort>,
    ) {
        let stage = self.name(task);
        self.outlook.end(task);
        if !self.starts_more() {
            self.outlook.stop();
        }
        let remaining = self.outlook.remaining(Instant::now());
        (self.on_event)(Event::Ended { stage, outcome, causes, tail, effort, remaining });
    }

    fn fail(
        &mut self,
        task: TaskId,
        failure: StageFailure,
        causes: &[Cause],
        tail: &str,
        effort: Option<Effort>,
    ) {
        let stage = self.name(task);
        let outcome = match failure {
            StageFailure::Cancelled => Outcome::Stopped,
            failure => {
                self.has_failed = true;
                Outcome::Failed(Box::new(failure))
            }
        };
        if !self.starts_more() {
            self.held.clear();
        }
        self.tell_end(task, &outcome, causes, tail, effort);
        self.ends.insert(task, outcome);
        let is_stopped = matches!(self.ends.get(&task), Some(Outcome::Stopped));
        for blocked in self.scheduler.finish(task, Ended::Failed) {
            let outcome = match is_stopped {
                true => Outcome::NotStarted,
                false => Outcome::Blocked { upstream: stage.to_owned() },
            };
            self.tell_end(blocked.task, &outcome, &[], "", None);
            self.ends.insert(blocked.task, outcome);
        }
    }

    /// The first signal asks the workers to stop, the second one stops them.
    fn interrupt(&mut self, signal: Interrupt) {
        let step = if self.interrupted.is_some() { GRACE.len() - 1 } else { 0 };
        if self.interrupted.is_some() {
            self.give_up.get_or_insert((Instant::now() + LAST_GRACE, signal));
        }
        self.interrupted.get_or_insert(signal);
        self.scheduler.stop();
        self.stages.supply.interrupt();
        self.held.clear();
        self.escalation = Some((step, Instant::now()));
    }

    fn escalate(&mut self) {
        let now = Instant::now();
        if let Some((at, signal)) = self.give_up
            && now >= at
        {
            // A hash of a very large file cannot be stopped. The program ends as by a kill, which
            // loses nothing that was recorded, and the wardens end what runs.
            let _ = signal_hook::low_level::emulate_default_handler(signal.number());
        }
        for running in &mut self.workers {
            if let Some((due, step)) = running.overdue
                && now >= due
            {
                let (signal, patience) = GRACE[step];
                running.worker.timed_out = running.limit;
                running.worker.signal(signal);
                running.overdue = Some((now + patience, (step + 1).min(GRACE.len() - 1)));
            }
        }
        let Some((step, due)) = self.escalation else { return };
        if Instant::now() < due {
            return;
        }
        let (signal, patience) = GRACE[step];
        for running in &mut self.workers {
            running.worker.was_cancelled = true;
            running.worker.signal(signal);
        }
        self.escalation = Some(((step + 1).min(GRACE.len() - 1), Instant::now() + patience));
    }
}

/// Empties the socket that woke the loop.
fn drain(mut wake: &UnixStream) {
    let mut bytes = [0_u8; 256];
    while wake.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
}

fn is_forced(causes: &[Cause]) -> bool {
    causes.iter().any(|cause| matches!(cause, Cause::Differs(pivot_lock::Reason::Forced)))
}

/// The stages with nothing to do that need none of the stages with something to be done, and
/// whether their outputs are away. Those that do need some are asked again when these have ended.
fn settled(plan: &Plan, graph: &Graph) -> HashMap<TaskId, bool> {
    let selected: HashSet<TaskId> = plan.stages.iter().map(|stage| stage.task).collect();
    let mut settled = HashMap::new();
    for stage in &plan.stages {
        let mut upstream = graph.upstream(stage.task).iter();
        let is_safe = upstream.all(|task| settled.contains_key(task) || !selected.contains(task));
        if stage.decision.is_idle() && is_safe {
            settled.insert(stage.task, stage.decision == Decision::Leave);
        }
    }
    settled
}
