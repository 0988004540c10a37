//! What people and programs read.

pub(crate) mod causes;
pub(crate) mod explain;
pub(crate) mod left;
pub(crate) mod output;
pub(crate) mod progress;
mod source_diff;
pub(crate) mod transfer;

use pivot_exec::{Loaded, Planned};

/// What a run would do: a line a stage, why in full, or one JSON document.
pub(crate) fn plan(loaded: &Loaded, planned: &Planned, is_explained: bool, as_json: bool) {
    if as_json {
        output::json(&causes::plan_json(loaded, planned));
    } else if is_explained {
        output::data(&explain::blocks(loaded, planned));
    } else {
        output::data(&causes::table(loaded, planned));
    }
}
