//! The commands, one file each, and how they read what several of them take.

use std::num::NonZeroUsize;

pub(crate) mod cache;
pub(crate) mod checkout;
pub(crate) mod commit;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dag;
pub(crate) mod doctor;
pub(crate) mod fetch;
pub(crate) mod gc;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod params;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod remote;
pub(crate) mod remote_doctor;
pub(crate) mod remote_status;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod trace;
pub(crate) mod track;
pub(crate) mod transfer;
pub(crate) mod verify;
pub(crate) mod verify_rerun;

/// The value of `-j`.
pub(crate) fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "write a number of at least 1".to_owned())
}
