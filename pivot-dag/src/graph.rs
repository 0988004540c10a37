//! Tasks, and the edges that follow from the paths they read and write.
//!
//! A [`Graph`] only exists without overlapping outputs and without cycles, so whoever holds one
//! may run its tasks in [`Graph::order`].

use std::fmt;
use std::iter;

use thiserror::Error;

use crate::adjacency::Adjacency;
use crate::artifact::{ArtifactId, Artifacts, Found, Outputs};
use crate::order;

/// At most so many tasks of a cycle are reported.
const CYCLE_REPORTED: usize = 10;

/// A task of one graph; the order of ids is that of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u32);

impl TaskId {
    pub(crate) const FIRST: Self = Self(0);

    /// The number of tasks declared before this one: an index into one's own array of tasks.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2^32 tasks"))
    }

    /// The first `count` tasks.
    pub(crate) fn first(count: usize) -> impl DoubleEndedIterator<Item = Self> {
        (0..count).map(Self::from_index)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Why tasks and their paths do not make a graph.
///
/// The crate knows no names: a program with better words for its tasks matches on the fields.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GraphError {
    /// Two tasks write the same path, or one task names it twice.
    #[error("tasks {first} and {second} both write `{path}`")]
    SameOutput {
        /// What both write.
        path: String,
        /// The task declared first.
        first: TaskId,
        /// The other one; the same when one task names its output twice.
        second: TaskId,
    },
    /// One output lies inside another.
    #[error(
        "task {outer_task} writes `{outer}`, and task {inner_task} writes `{inner}` inside of it"
    )]
    NestedOutputs {
        /// The directory.
        outer: String,
        /// The task that writes the directory.
        outer_task: TaskId,
        /// The path inside.
        inner: String,
        /// The task that writes the path inside; may be the same.
        inner_task: TaskId,
    },
    /// A task reads what it writes: the path itself, something inside, or a directory around it.
    #[error("task {task} reads `{path}` and writes `{output}`")]
    OwnInput {
        /// The task.
        task: TaskId,
        /// What it reads.
        path: String,
        /// What it writes.
        output: String,
    },
    /// Each task needs the one before it, and the first needs the last.
    #[error("{length} tasks need one another in a cycle: {}", cycle_text(tasks, paths, *length))]
    Cycle {
        /// The cycle from its task declared first on; only the first ten when it is longer.
        tasks: Vec<TaskId>,
        /// `paths[i]` is written by `tasks[i]` and read, or lies where it is read, by the task
        /// after it.
        paths: Vec<String>,
        /// How many tasks the cycle has.
        length: usize,
    },
}

/// Collects tasks with the paths they read and write.
///
/// Paths are compared component by component as they are written, so a caller normalizes them
/// first: relative to one root, `/` between components, no `.` or `..`. A slash at the end changes
/// nothing. The empty path is the root.
///
/// ```
/// use pivot_dag::{GraphBuilder, GraphError};
///
/// let mut tasks = GraphBuilder::new();
/// let split = tasks.task(["data.csv"], ["parts/train.csv", "parts/test.csv"]);
/// let train = tasks.task(["parts/train.csv"], ["model"]);
/// let report = tasks.task(["parts", "model/weights.bin"], ["report.html"]);
/// let graph = tasks.build()?;
///
/// // `report` reads the directory into which `split` writes, and a file of the directory `model`.
/// assert_eq!(graph.upstream(report), [split, train]);
/// assert_eq!(graph.writer_of("model/weights.bin"), Some(train));
/// # Ok::<(), GraphError>(())
/// ```
pub struct GraphBuilder {
    artifacts: Artifacts,
    reads: PathLists,
    writes: PathLists,
}

/// One list of paths for each task.
#[derive(Default)]
struct PathLists {
    ends: Vec<usize>,
    paths: Vec<ArtifactId>,
}

impl PathLists {
    fn of(&self, task: TaskId) -> &[ArtifactId] {
        let index = task.index();
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.paths[start..self.ends[index]]
    }

    fn iter(&self) -> impl Iterator<Item = (TaskId, ArtifactId)> {
        TaskId::first(self.ends.len())
            .flat_map(|task| self.of(task).iter().map(move |&path| (task, path)))
    }
}

impl Default for GraphBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl GraphBuilder {
    /// A graph without tasks.
    pub fn new() -> Self {
        let (reads, writes) = (PathLists::default(), PathLists::default());
        Self { artifacts: Artifacts::new(), reads, writes }
    }

    /// Declares a task. For a task that reads (or writes) nothing pass `[""; 0]`.
    pub fn task(
        &mut self,
        reads: impl IntoIterator<Item = impl AsRef<str>>,
        writes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> TaskId {
        let task = TaskId::from_index(self.reads.ends.len());
        for path in reads {
            self.reads.paths.push(self.artifacts.insert(trimmed(path.as_ref())));
        }
        self.reads.ends.push(self.reads.paths.len());
        for path in writes {
            self.writes.paths.push(self.artifacts.insert(trimmed(path.as_ref())));
        }
        self.writes.ends.push(self.writes.paths.len());
        task
    }

    /// Finds the edges and an order.
    ///
    /// One task needs another if it reads a path that the other writes, a path inside a directory
    /// that the other writes, or a directory inside of which the other writes. Every such pair is
    /// an edge of its own: if `r` tasks read a directory into which `w` others write, that makes `r
    /// * w` edges.
    ///
    /// # Errors
    /// When outputs overlap, a task reads its own output, or tasks need one another in a cycle; of
    /// several mistakes the first by kind, then by declaration.
    pub fn build(self) -> Result<Graph, GraphError> {
        let Self { artifacts, reads, writes } = self;
        let outputs = Outputs::new(&artifacts, writes.iter())?;
        let mut sources = Vec::new();
        let upstream = edges(&artifacts, &reads, &outputs, &mut sources)?;
        let downstream = upstream.transposed();
        // Back again: now each list is in declaration order.
        let upstream = downstream.transposed();
        let order = match order::order(&upstream, &downstream) {
            Ok(order) => order,
            Err(cycle) => return Err(cycle_error(&cycle, &artifacts, &reads, &outputs)),
        };
        let mut position = vec![0; order.len()];
        for (at, task) in order.iter().enumerate() {
            position[task.index()] = at;
        }
        Ok(Graph { artifacts, outputs, sources, upstream, downstream, order, position })
    }
}

/// Tasks and who needs whom; made by [`GraphBuilder::build`], never changed.
///
/// Methods that take a [`TaskId`] panic if it comes from a larger graph.
pub struct Graph {
    artifacts: Artifacts,
    outputs: Outputs,
    sources: Vec<(TaskId, ArtifactId)>,
    upstream: Adjacency,
    downstream: Adjacency,
    order: Vec<TaskId>,
    /// Where each task stands in `order`.
    position: Vec<usize>,
}

impl Graph {
    /// The number of tasks.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// All tasks as declared.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = TaskId> {
        TaskId::first(self.len())
    }

    /// The task that was declared after `index` others.
    pub fn task(&self, index: usize) -> Option<TaskId> {
        (index < self.len()).then(|| TaskId::from_index(index))
    }

    /// The tasks whose outputs `task` reads, in declaration order.
    pub fn upstream(&self, task: TaskId) -> &[TaskId] {
        self.upstream.of(task)
    }

    /// The tasks that read outputs of `task`, in declaration order.
    pub fn downstream(&self, task: TaskId) -> &[TaskId] {
        self.downstream.of(task)
    }

    /// Every pair of a task and one that needs it.
    pub fn edges(&self) -> impl Iterator<Item = (TaskId, TaskId)> {
        self.tasks().flat_map(|task| self.downstream(task).iter().map(move |&next| (task, next)))
    }

    /// The number of pairs that [`Graph::edges`] gives.
    pub fn edge_count(&self) -> usize {
        self.downstream.edges()
    }

    /// Every task after all that it needs; where that leaves a choice, the one declared first.
    pub fn order(&self) -> &[TaskId] {
        &self.order
    }

    /// What tasks read though no task writes it, nor a directory around it, nor anything inside of
    /// it; by task, as declared.
    pub fn sources(&self) -> impl Iterator<Item = (TaskId, &str)> {
        self.sources.iter().map(|&(task, path)| (task, self.artifacts.path(path)))
    }

    /// The task that writes `path` or a directory around it.
    pub fn writer_of(&self, path: &str) -> Option<TaskId> {
        let (artifact, _) = self.artifacts.nearest(trimmed(path));
        self.outputs.owner(artifact)
    }

    /// Every output that is `path` or lies inside of it, with the task that writes it.
    pub fn outputs_within(&self, path: &str) -> impl Iterator<Item = (TaskId, &str)> {
        let outputs = match self.artifacts.nearest(trimmed(path)) {
            (artifact, Found::Itself) => self.outputs.within(artifact),
            (_, Found::Above) => &[],
        };
        outputs.iter().map(|&output| (self.outputs.writer(output), self.artifacts.path(output)))
    }

    /// `tasks` and all they need, at any distance, in [`Graph::order`].
    pub fn with_upstream(&self, tasks: &[TaskId]) -> Vec<TaskId> {
        self.in_order(order::closure(&self.upstream, tasks))
    }

    /// `tasks` and all that need them, at any distance, in [`Graph::order`].
    pub fn with_downstream(&self, tasks: &[TaskId]) -> Vec<TaskId> {
        self.in_order(order::closure(&self.downstream, tasks))
    }

    pub(crate) fn in_order(&self, mut tasks: Vec<TaskId>) -> Vec<TaskId> {
        tasks.sort_unstable_by_key(|task| self.position[task.index()]);
        tasks
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("tasks", &self.len())
            .field("edges", &self.edge_count())
            .finish_non_exhaustive()
    }
}

fn trimmed(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// For each task those that it needs, each once; what no task writes goes to `sources`.
fn edges(
    artifacts: &Artifacts,
    reads: &PathLists,
    outputs: &Outputs,
    sources: &mut Vec<(TaskId, ArtifactId)>,
) -> Result<Adjacency, GraphError> {
    let count = reads.ends.len();
    let mut upstream = Adjacency::default();
    // The last task that was given an edge from this one; saves a set for each task.
    let mut given: Vec<Option<TaskId>> = vec![None; count];
    for task in TaskId::first(count) {
        for &read in reads.of(task) {
            let own_input = |output: ArtifactId| GraphError::OwnInput {
                task,
                path: artifacts.path(read).to_owned(),
                output: artifacts.path(output).to_owned(),
            };
            let mut need = |writer: TaskId| {
                if given[writer.index()].replace(task) != Some(task) {
                    upstream.push(writer);
                }
            };
            if let Some(writer) = outputs.owner(read) {
                if writer == task {
                    return Err(own_input(outputs.around(read, artifacts)));
                }
                need(writer);
            } else if outputs.within(read).is_empty() {
                sources.push((task, read));
            } else {
                for output in outputs.within_by_writer(read) {
                    let writer = outputs.writer(output);
                    if writer == task {
                        return Err(own_input(output));
                    }
                    need(writer);
                }
            }
        }
        upstream.close();
    }
    Ok(upstream)
}

fn cycle_error(
    cycle: &[TaskId],
    artifacts: &Artifacts,
    reads: &PathLists,
    outputs: &Outputs,
) -> GraphError {
    let shown = cycle.len().min(CYCLE_REPORTED);
    let paths = (0..shown).map(|index| {
        let (task, next) = (cycle[index], cycle[(index + 1) % cycle.len()]);
        let path = reads.of(next).iter().find_map(|&read| match outputs.owner(read) {
            Some(writer) => (writer == task).then_some(read),
            None => outputs.within(read).iter().copied().find(|&out| outputs.writer(out) == task),
        });
        artifacts.path(path.expect("every edge follows from a path")).to_owned()
    });
    let paths = paths.collect();
    GraphError::Cycle { tasks: cycle[..shown].to_vec(), paths, length: cycle.len() }
}

/// ``#0 -> `a` -> #1 -> `b` -> #0``, with dots for what is left out.
fn cycle_text(tasks: &[TaskId], paths: &[String], length: usize) -> String {
    let mut steps = Vec::new();
    for (task, path) in iter::zip(tasks, paths) {
        steps.extend([task.to_string(), format!("`{path}`")]);
    }
    if length > tasks.len() {
        steps.push("...".to_owned());
    }
    steps.extend(tasks.first().map(TaskId::to_string));
    steps.join(" -> ")
}
