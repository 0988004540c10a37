//! The commands, one file each.

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
