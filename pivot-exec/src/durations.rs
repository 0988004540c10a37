//! How long stages took, so that the longest chains start first.

use std::time::Duration;

use pivot_cache::{State, Table};

/// The expected duration of a stage, from its past runs.
pub(crate) fn recall(state: &State, stage: &str) -> Option<Duration> {
    let bytes = state.get(Table::Durations, stage.as_bytes())?;
    Some(Duration::from_micros(u64::from_le_bytes(bytes.try_into().ok()?)))
}

/// Adds one run to what is known of a stage.
pub(crate) fn remember(state: &State, stage: &str, elapsed: Duration) {
    let mean = pivot_dag::moving_mean(recall(state, stage), elapsed);
    let micros = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX);
    state.put(Table::Durations, stage.as_bytes(), &micros.to_le_bytes());
}
