//! One run: starts what is ready, watches the workers, commits what they wrote.
//!
//! A single loop waits for workers, finished background work and signals. Work on files
//! happens on other threads; processes start on this one, since workers die with the thread
//! that started them.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pivot_dag::{Ended, Next, OnFailure, Options, Scheduler, TaskId};
use pivot_pipeline::Action;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use thiserror::Error;

use crate::extras::Extras;
use crate::facts::{CacheMemory, Planned};
use crate::load::Loaded;
use crate::outcome::{Event, Outcome, StageFailure, Summary};
use crate::outputs::{SetAside, Site};
use crate::plan::{Cause, Decision, Plan};
use crate::project::OpenProject;
use crate::signals::{Interrupt, Signals};
use crate::stage_run::{Begun, Ready, StageRunner};
use crate::worker::{Ending, Work, Worker};
use crate::zygote::Zygote;

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How many stages may run at the same time.
    pub jobs: NonZeroUsize,
    /// What a failure means for stages that do not depend on the failed one.
    pub on_failure: OnFailure,
    /// How Python stages are executed.
    pub executor: Executor,
}

/// How Python stages are executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Executor {
    /// Each stage in a fork of a process that has imported the third-party packages already.
    #[default]
    Warm,
    /// Each stage in a fresh process.
    Spawn,
}

/// Why a run could not be started or went wrong as a whole.
#[derive(Debug, Error)]
pub enum RunError {
    /// The system refused something that every run needs.
    #[error("cannot {action}")]
    System {
        /// Completes "cannot …".
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How long a stopped stage may take for its own cleaning up, per signal.
const GRACE: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(3)),
    (Signal::TERM, Duration::from_secs(2)),
    (Signal::KILL, Duration::from_secs(60)),
];

/// How often a stage that another process holds is asked for again.
const HELD_RETRY: Duration = Duration::from_millis(100);

/// Carries out a plan and reports through `on_event`.
///
/// # Errors
/// When the run as a whole cannot go on; a stage's failure is an [`Outcome`].
pub fn run(
    project: &OpenProject,
    loaded: &Loaded,
    planned: Planned,
    options: &RunOptions,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Summary, RunError> {
    let started = Instant::now();
    let Planned { plan, extras, .. } = planned;
    let names: Vec<(TaskId, String)> = plan
        .stages
        .iter()
        .map(|stage| (stage.task, loaded.pipeline.stage(stage.task).name.to_string()))
        .collect();
    let (outcomes, interrupted) = if plan.is_idle() {
        (HashMap::new(), None)
    } else {
        project
            .make_layout()
            .map_err(|source| RunError::System { action: "prepare `.pivot`", source })?;
        execute(project, loaded, &plan, &extras, options, on_event)?
    };
    let mut outcomes = outcomes;
    let idle = plan.is_idle();
    let outcome = |task| match outcomes.remove(&task) {
        Some(outcome) => outcome,
        None if idle => Outcome::Unchanged,
        None => Outcome::NotStarted,
    };
    let outcomes: Vec<_> = names.into_iter().map(|(task, name)| (name, task)).collect();
    let mut outcome = outcome;
    let outcomes = outcomes.into_iter().map(|(name, task)| (name, outcome(task))).collect();
    project.state.flush();
    Ok(Summary { outcomes, interrupted, elapsed: started.elapsed() })
}

type Ends = HashMap<TaskId, Outcome>;

fn execute(
    project: &OpenProject,
    loaded: &Loaded,
    plan: &Plan,
    extras: &Extras,
    options: &RunOptions,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<(Ends, Option<Interrupt>), RunError> {
    let system = |action| move |source| RunError::System { action, source };
    let signals = Signals::listen().map_err(system("listen for signals"))?;
    let (waker, wake) = std::os::unix::net::UnixStream::pair().map_err(system("make a socket"))?;
    for end in [&waker, &wake] {
        end.set_nonblocking(true).map_err(system("make a socket"))?;
    }
    let workspace = project.workspace();
    let site = Site {
        root: project.root(),
        cache: &project.cache,
        workspace: &workspace,
        mode: project.config.cache.checkout_mode.into(),
    };
    let memory = CacheMemory { cache: &project.cache, state: &project.state };
    let stages = StageRunner { project, loaded, site, extras, memory: &memory };
    // What processes that died have left half-written; nobody waits for it or misses it.
    project.cache.sweep_temporary();
    let _ = project.locks.sweep_temporary();
    let (done, finished) = mpsc::channel();
    rayon::in_place_scope(|scope| {
        let mut execution = Execution {
            stages,
            scheduler: scheduler(project, loaded, plan, options),
            forced: plan.stages.iter().filter(|s| is_forced(&s.causes)).map(|s| s.task).collect(),
            planned_keep: keep(plan),
            scope,
            done,
            waker: &waker,
            workers: Vec::new(),
            preparing: 0,
            held: Vec::new(),
            told_held: Vec::new(),
            ends: HashMap::new(),
            interrupted: None,
            escalation: None,
            executor: options.executor,
            zygote: None,
            on_event,
        };
        execution.go(signals, &wake, &finished)?;
        Ok((execution.ends, execution.interrupted))
    })
}

fn is_forced(causes: &[Cause]) -> bool {
    causes.iter().any(|cause| matches!(cause, Cause::Differs(pivot_lock::Reason::Forced)))
}

fn keep(plan: &Plan) -> std::collections::HashSet<TaskId> {
    let kept = plan.stages.iter().filter(|stage| stage.decision == Decision::Keep);
    kept.map(|stage| stage.task).collect()
}

fn scheduler<'g>(
    project: &OpenProject,
    loaded: &'g Loaded,
    plan: &Plan,
    options: &RunOptions,
) -> Scheduler<'g> {
    let selected: Vec<TaskId> = plan.stages.iter().map(|stage| stage.task).collect();
    let graph = loaded.pipeline.graph();
    let options = Options { jobs: options.jobs, on_failure: options.on_failure };
    let mut scheduler = Scheduler::new(graph, &selected, options);
    let stage = |task: &TaskId| loaded.pipeline.stage(*task);
    let known: Vec<_> = selected
        .iter()
        .map(|task| {
            let name = &stage(task).name;
            (name.base().to_owned(), crate::durations::recall(&project.state, name.as_str()))
        })
        .collect();
    for (task, estimate) in selected.iter().zip(pivot_dag::fill_unknown(&known)) {
        if let Some(estimate) = estimate {
            scheduler.set_estimate(*task, estimate);
        }
    }
    let mut guards = HashMap::new();
    for task in &selected {
        for name in &stage(task).mutex {
            if name == "*" {
                scheduler.exclusive(*task);
                continue;
            }
            let guard = *guards.entry(name.clone()).or_insert_with(|| scheduler.resource(name, 1));
            scheduler.demand(*task, guard, 1).expect("a mutex has room for one");
        }
    }
    scheduler
}

/// What a background job came back with.
enum Done {
    Begun(TaskId, Result<Begun, StageFailure>),
    Committed(TaskId, Box<Ready>, Result<(), StageFailure>, Duration, String),
}

/// A stage whose process runs.
struct Running {
    task: TaskId,
    ready: Box<Ready>,
    worker: Worker,
}

struct Execution<'a, 'scope, 'e> {
    stages: StageRunner<'a>,
    scheduler: Scheduler<'a>,
    forced: std::collections::HashSet<TaskId>,
    planned_keep: std::collections::HashSet<TaskId>,
    scope: &'e rayon::Scope<'scope>,
    done: mpsc::Sender<Done>,
    waker: &'a std::os::unix::net::UnixStream,
    workers: Vec<Running>,
    /// Background jobs whose answer has not come yet.
    preparing: usize,
    /// Stages that another process holds, to be tried again.
    held: Vec<TaskId>,
    told_held: Vec<TaskId>,
    ends: Ends,
    interrupted: Option<Interrupt>,
    /// The next step against workers that do not stop, and when it is due.
    escalation: Option<(usize, Instant)>,
    executor: Executor,
    /// Started with the first stage that needs it.
    zygote: Option<Rc<Zygote>>,
    on_event: &'e mut dyn FnMut(Event<'_>),
}

impl<'a: 'scope, 'scope> Execution<'a, 'scope, '_> {
    fn go(
        &mut self,
        mut signals: Signals,
        wake: &std::os::unix::net::UnixStream,
        finished: &mpsc::Receiver<Done>,
    ) -> Result<(), RunError> {
        loop {
            self.start_ready();
            if self.workers.is_empty() && self.preparing == 0 && self.held.is_empty() {
                return Ok(());
            }
            self.wait(&signals, wake)?;
            drain(wake);
            for signal in signals.take() {
                self.interrupt(signal);
            }
            self.escalate();
            while let Ok(done) = finished.try_recv() {
                self.preparing -= 1;
                self.take(done);
            }
            self.watch_workers();
            for task in std::mem::take(&mut self.held) {
                self.spawn_begin(task);
            }
        }
    }

    fn name(&self, task: TaskId) -> &'a str {
        self.stages.loaded.pipeline.stage(task).name.as_str()
    }

    fn start_ready(&mut self) {
        while let Next::Start(task) = self.scheduler.next() {
            if self.planned_keep.contains(&task) {
                self.end(task, Outcome::Unchanged, &[], "");
            } else {
                self.spawn_begin(task);
            }
        }
    }

    /// Runs `job` on another thread and wakes the loop when its answer is there.
    fn spawn(&mut self, job: impl FnOnce() -> Done + Send + 'scope) {
        let (done, waker) = (self.done.clone(), self.waker);
        self.preparing += 1;
        self.scope.spawn(move |_| {
            // The receiver outlives all jobs, and a full socket wakes the loop as well.
            let _ = done.send(job());
            let _ = std::io::Write::write(&mut &*waker, &[1]);
        });
    }

    fn spawn_begin(&mut self, task: TaskId) {
        if self.interrupted.is_some() {
            return;
        }
        let (stages, is_forced) = (self.stages, self.forced.contains(&task));
        self.spawn(move || Done::Begun(task, stages.begin(task, is_forced)));
    }

    fn wait(
        &self,
        signals: &Signals,
        wake: &std::os::unix::net::UnixStream,
    ) -> Result<(), RunError> {
        let workers = self.workers.iter().flat_map(|running| running.worker.descriptors());
        let mut polled: Vec<PollFd<'_>> = std::iter::once(wake.as_fd())
            .chain(signals.descriptors())
            .chain(workers)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let due = self.escalation.map(|(_, at)| at.saturating_duration_since(Instant::now()));
        let retry = (!self.held.is_empty()).then_some(HELD_RETRY);
        let timeout = due.into_iter().chain(retry).min();
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
            Done::Begun(task, Err(failure)) => self.fail(task, failure, &[], ""),
            Done::Begun(task, Ok(Begun::Held { pid })) => self.hold(task, pid),
            Done::Begun(task, Ok(Begun::Ended { outcome, causes, set_aside })) => {
                self.tell_set_aside(task, &set_aside);
                self.end(task, outcome, &causes, "");
            }
            Done::Begun(task, Ok(Begun::Ready(ready))) => {
                self.tell_set_aside(task, &ready.set_aside);
                self.launch(task, ready);
            }
            Done::Committed(task, ready, Ok(()), elapsed, tail) => {
                self.end(task, Outcome::Ran { elapsed }, &ready.causes, &tail);
            }
            Done::Committed(task, ready, Err(failure), _, tail) => {
                self.fail(task, failure, &ready.causes, &tail);
            }
        }
    }

    fn launch(&mut self, task: TaskId, mut ready: Box<Ready>) {
        if self.interrupted.is_some() {
            return;
        }
        let name = self.name(task);
        let root = self.stages.project.root();
        let started = self.work(task).and_then(|work| {
            let log = self.stages.project.log_path(name);
            Worker::start(work, root, &log)
        });
        match started {
            Ok(worker) => {
                if let Some(leader) = worker.leader() {
                    ready.guard.note_worker(leader);
                }
                (self.on_event)(Event::Started { stage: name, causes: &ready.causes });
                self.workers.push(Running { task, ready, worker });
            }
            Err(failure) => {
                let causes = ready.causes.clone();
                drop(ready);
                self.fail(task, failure, &causes, "");
            }
        }
    }

    /// What the stage's worker shall execute.
    fn work(&mut self, task: TaskId) -> Result<Work<'a>, StageFailure> {
        let StageRunner { project, loaded, .. } = self.stages;
        let stage = loaded.pipeline.stage(task);
        let root = project.root();
        let (interpreter, request) = match (&stage.action, &loaded.python, loaded.run_request(task))
        {
            (Action::Shell { command }, ..) => {
                let directory = stage.cwd.as_ref().map_or(root.to_owned(), |cwd| cwd.below(root));
                return Ok(Work::Shell { command, directory });
            }
            (Action::Python(_), Some(interpreter), Some(request)) => (interpreter, request),
            (Action::Python(_), ..) => unreachable!("a Python stage was loaded by some Python"),
        };
        if self.executor == Executor::Spawn {
            return Ok(Work::Python { interpreter, request });
        }
        let zygote = match self.zygote.take().filter(|zygote| !zygote.is_dead()) {
            Some(zygote) => zygote,
            None => {
                let log = project.log_path(".warm");
                let zygote = Zygote::start(interpreter, root, &loaded.preload, &log);
                Rc::new(zygote.map_err(StageFailure::Helper)?)
            }
        };
        self.zygote = Some(Rc::clone(&zygote));
        Ok(Work::Forked { zygote, request })
    }

    fn watch_workers(&mut self) {
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
                    let running = self.workers.swap_remove(index);
                    match ended {
                        Ok(Some(ending)) => self.ended(running.task, running.ready, ending),
                        Err(error) => {
                            let failure = StageFailure::Start(error);
                            self.fail(running.task, failure, &running.ready.causes, "");
                        }
                        Ok(None) => {}
                    }
                }
            }
        }
    }

    fn ended(&mut self, task: TaskId, ready: Box<Ready>, ending: Ending) {
        let Ending { result, tail, elapsed } = ending;
        let stages = self.stages;
        self.spawn(move || {
            let result = result
                .and_then(|report| stages.check_sources(&report.sources).map(|()| report))
                .and_then(|report| stages.commit(task, &ready, &report.extras, elapsed));
            if result.is_err() {
                stages.discard(task);
            }
            Done::Committed(task, ready, result, elapsed, tail)
        });
    }

    fn hold(&mut self, task: TaskId, pid: Option<u32>) {
        if !self.told_held.contains(&task) {
            self.told_held.push(task);
            let name = self.name(task);
            let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            let text = format!("waiting for {who}, which runs `{name}`");
            (self.on_event)(Event::Notice { text });
        }
        self.held.push(task);
    }

    fn tell_set_aside(&mut self, task: TaskId, set_aside: &[SetAside]) {
        for SetAside { path, saved } in set_aside {
            let name = self.name(task);
            let text =
                format!("`{path}` held something that `{name}` did not write: it is now `{saved}`");
            (self.on_event)(Event::Notice { text });
        }
    }

    fn end(&mut self, task: TaskId, outcome: Outcome, causes: &[Cause], tail: &str) {
        let stage = self.name(task);
        (self.on_event)(Event::Ended { stage, outcome: &outcome, causes, tail });
        self.ends.insert(task, outcome);
        self.scheduler.finish(task, Ended::Succeeded);
    }

    fn fail(&mut self, task: TaskId, failure: StageFailure, causes: &[Cause], tail: &str) {
        let stage = self.name(task);
        let outcome = Outcome::Failed(Box::new(failure));
        (self.on_event)(Event::Ended { stage, outcome: &outcome, causes, tail });
        self.ends.insert(task, outcome);
        for blocked in self.scheduler.finish(task, Ended::Failed) {
            let outcome = Outcome::Blocked { upstream: stage.to_owned() };
            let name = self.name(blocked.task);
            (self.on_event)(Event::Ended { stage: name, outcome: &outcome, causes: &[], tail: "" });
            self.ends.insert(blocked.task, outcome);
        }
    }

    /// The first signal asks the workers to stop, the second one stops them.
    fn interrupt(&mut self, signal: Interrupt) {
        let step = if self.interrupted.is_some() { GRACE.len() - 1 } else { 0 };
        self.interrupted.get_or_insert(signal);
        self.scheduler.stop();
        self.held.clear();
        self.escalation = Some((step, Instant::now()));
    }

    fn escalate(&mut self) {
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
fn drain(wake: &std::os::unix::net::UnixStream) {
    let mut bytes = [0_u8; 256];
    while std::io::Read::read(&mut &*wake, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
}
