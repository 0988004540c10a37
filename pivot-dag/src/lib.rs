//! A graph of tasks from the paths they read and write, and a scheduler for it.
//!
//! Say of each task which paths it reads and which it writes; [`GraphBuilder::build`] finds who
//! needs whom, or says why no order exists. A [`Scheduler`] then tells any runner (threads,
//! processes, a cluster) which task to start next. The crate does no I/O and reads no clock: the
//! same calls give the same answers.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use pivot_dag::{Ended, GraphBuilder, Next, OnFailure, Options, Scheduler};
//!
//! let mut tasks = GraphBuilder::new();
//! let train = tasks.task(["clean/"], ["model.pkl"]);
//! let clean = tasks.task(["raw.csv"], ["clean"]);
//! let graph = tasks.build()?;
//!
//! assert_eq!(graph.order(), [clean, train]);
//! assert_eq!(graph.sources().collect::<Vec<_>>(), [(clean, "raw.csv")]);
//!
//! let options = Options { jobs: NonZeroUsize::MIN, on_failure: OnFailure::Stop };
//! let mut scheduler = Scheduler::new(&graph, graph.order(), options);
//! let mut ran = Vec::new();
//! while let Next::Start(task) = scheduler.next() {
//!     ran.push(task); // A real runner would start it and go on.
//!     scheduler.finish(task, Ended::Succeeded);
//! }
//! assert_eq!(ran, [clean, train]);
//! # Ok::<(), pivot_dag::GraphError>(())
//! ```
//!
//! Everything is linear in tasks, paths and edges but for sorting by priority, and nothing
//! recurses: a chain of any length is fine. The graph is stored as two sorted adjacency arrays
//! rather than in `petgraph`: it never changes once built, neighbors come as slices, the order
//! breaks ties by declaration, and `petgraph`'s own Tarjan and its visitor-based searches recurse.
//! [`Graph::edges`] hands the graph over to it in one line.

mod adjacency;
mod artifact;
mod estimate;
mod graph;
mod order;
mod queue;
mod resource;
mod schedule;

pub use estimate::{fill_unknown, moving_mean};
pub use graph::{Graph, GraphBuilder, GraphError, TaskId};
pub use resource::{ResourceId, TooMuch};
pub use schedule::{Blocked, Ended, Next, OnFailure, Options, Scheduler};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
