//! Plan, schedule, run and commit the stages of a pipeline.
//!
//! [`OpenProject`] is a project on disk, [`load`](load()) finds out what its stages are and what
//! code they depend on, [`make_plan`] decides what a run would do, and [`run`](run()) does it.
//! Deciding and doing are apart: a [`Plan`] is a value, the same for `pivot run`, `run -n`,
//! `--explain` and `status`.
//!
//! ```no_run
//! use pivot_exec::{Executor, LoadOptions, OpenProject, OnFailure, Reach, RunOptions};
//! use pivot_pipeline::Project;
//!
//! let project = OpenProject::open(Project::discover(std::path::Path::new("."))?)?;
//! let loaded = pivot_exec::load(&project, &LoadOptions::default())?;
//! let selected = pivot_exec::select(&loaded.pipeline, &[], Reach::WithUpstream)?;
//! let planned = pivot_exec::make_plan(&project, &loaded, &selected, &|_| false)?;
//! let options = RunOptions {
//!     jobs: std::num::NonZeroUsize::MIN,
//!     on_failure: OnFailure::Stop,
//!     executor: Executor::Warm,
//!     timeout: None,
//!     resources: Default::default(),
//! };
//! let summary = pivot_exec::run(&project, &loaded, planned, &options, &mut |event| {
//!     eprintln!("{event:?}");
//! })?;
//! assert!(summary.is_success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod absent;
mod accept;
mod away;
mod capacity;
mod checkout;
mod collect;
mod config;
mod config_file;
mod devices;
mod durations;
mod execution;
mod executors;
mod extras;
mod facts;
mod guard;
mod interruption;
mod keeper;
mod load;
mod locked;
mod locks;
mod orphans;
mod outcome;
mod outlook;
mod outputs;
mod plain_file;
mod plan;
mod process;
mod project;
mod question;
mod record;
mod remotes;
mod rerun;
mod roots;
mod run;
mod run_cache;
mod run_records;
mod scratch;
mod select;
mod settled;
mod share;
mod signals;
mod stage_run;
mod supply;
mod tracked;
mod usage;
mod verify;
mod warded;
mod warden;
mod words;
mod worker;
mod zygote;

pub use accept::{Accepted, accept};
pub use capacity::CapacityError;
pub use checkout::{CheckedOut, Restored, check_out};
pub use collect::{Collected, GarbageError, GarbageOptions, collect};
pub use config::{
    AddressingStyle, CONFIG_FILE, CacheConfig, CheckoutSetting, Config, ConfigError, CoreConfig,
    Durability, FingerprintConfig, PackageVersions, RemoteConfig,
};
pub use config_file::{edit_config, read_config};
pub use facts::{PlanError, Planned, Request, make_plan, make_plan_with};
pub use interruption::Interruption;
pub use load::{LoadError, LoadOptions, Loaded, StageCode, load};
pub use locked::{Locked, LockedError, LockedOut, locked_outs};
pub use outcome::{Effort, Event, Outcome, StageFailure, Summary};
pub use outlook::Remaining;
pub use pivot_dag::{OnFailure, TaskId};
pub use plan::{Cause, Decision, MissingDep, Plan, StagePlan};
pub use project::{OpenProject, make_layout};
pub use record::{Phase, RunRecord, Span, StageRecord, names as run_names, read as read_run};
pub use remotes::{
    RemoteChoiceError, choose_remote, open_remote, open_remote_with, output_around_remote,
    remote_name_problem, remote_place_problem,
};
pub use rerun::{Difference, Repeated, Rerun, RerunError, rerun};
pub use roots::{RootError, Roots};
pub use run::{Executor, RunError, RunOptions, run, run_with};
pub use select::{Reach, select};
pub use settled::{Settled, settled};
pub use share::{FailedOut, Outlook, Shared, bring, send, would_bring, would_send};
pub use signals::Interrupt;
pub use supply::{Fetched, Pull, Supply};
pub use tracked::{TrackError, Tracked, track, tracked, untrack};
pub use usage::Usage;
pub use verify::{Finding, Verified, Wrong, verify};
pub use warden::be_warden_if_asked;
pub use worker::Stream;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
