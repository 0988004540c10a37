//! What Pivot promises, driven through the program in a throw-away project.
//!
//! One file a topic; `support` is all there is to learn.

mod beyond;
mod binding;
mod cache;
mod caretaking;
mod caretaking_kills;
mod clones;
mod code_changes;
mod command_line;
mod definition;
mod definition_errors;
mod edits;
mod events;
mod examples;
mod executors;
mod explain;
mod faults_hostile;
mod faults_kill;
mod faults_limits;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod faults_points;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod faults_power;
mod incremental;
mod interpreters;
mod interrupts;
mod libraries;
mod locks;
mod outputs;
mod package_versions;
mod parallel;
mod params;
mod processes;
mod promises;
mod python_errors;
mod python_package;
mod quick_start;
mod remotes;
mod resources;
mod run;
mod s3_server;
mod safety;
mod selection;
mod sharing;
mod sharing_google;
mod sharing_hostile;
mod sharing_kills;
mod sharing_lazy;
mod sharing_limits;
mod sharing_runs;
mod sharing_s3;
mod sharing_table;
mod show;
mod state;
mod support;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod system_calls;
mod timeout;
mod trace;
mod verify_rerun;
