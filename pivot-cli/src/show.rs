//! What people and programs read.

pub(crate) mod causes;
pub(crate) mod explain;
pub(crate) mod output;
pub(crate) mod progress;
mod source_diff;
