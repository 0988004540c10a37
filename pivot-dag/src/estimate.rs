//! How long tasks will take, guessed from how long they and their like took.
//!
//! Order by critical path forgives estimates that are off by a third, but not missing ones, so a
//! guess from the same family (the variants of one function, say) is worth having.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// The mean of past durations in which the newest counts for 3 parts in 10.
///
/// ```
/// # use std::time::Duration;
/// use pivot_dag::moving_mean;
///
/// let first = moving_mean(None, Duration::from_secs(10));
/// assert_eq!(moving_mean(Some(first), Duration::from_secs(20)), Duration::from_secs(13));
/// ```
pub fn moving_mean(past: Option<Duration>, latest: Duration) -> Duration {
    match past {
        Some(past) => (past / 10).saturating_mul(7).saturating_add((latest / 10).saturating_mul(3)),
        None => latest,
    }
}

/// Gives every task that never ran the mean of its family, or else the longest duration of all.
///
/// Takes the family and past duration of each task; gives a duration for each, or `None` for all
/// when nothing is known.
///
/// ```
/// # use std::time::Duration;
/// use pivot_dag::fill_unknown;
///
/// let seconds = |s| Some(Duration::from_secs(s));
/// let known = [("train", seconds(10)), ("train", seconds(30)), ("train", None), ("plot", None)];
/// let filled = fill_unknown(&known);
/// assert_eq!(filled, [seconds(10), seconds(30), seconds(20), seconds(30)]);
/// ```
pub fn fill_unknown<F: Eq + Hash>(tasks: &[(F, Option<Duration>)]) -> Vec<Option<Duration>> {
    let mut families: HashMap<&F, (Duration, u32)> = HashMap::new();
    let mut longest = None;
    for (family, duration) in tasks {
        if let Some(duration) = *duration {
            let (sum, count) = families.entry(family).or_default();
            *sum = sum.saturating_add(duration);
            *count += 1;
            longest = longest.max(Some(duration));
        }
    }
    let guess = |family| match families.get(family) {
        Some(&(sum, count)) => Some(sum / count),
        None => longest,
    };
    tasks.iter().map(|(family, duration)| duration.or_else(|| guess(family))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_stays_unknown() {
        assert_eq!(fill_unknown(&[("a", None), ("b", None)]), [None, None]);
        assert_eq!(fill_unknown::<&str>(&[]), []);
    }

    #[test]
    fn extreme_durations_do_not_overflow() {
        let long = Some(Duration::MAX);
        assert_eq!(fill_unknown(&[("a", long), ("a", long), ("b", None)])[2], long);
        assert!(moving_mean(long, Duration::MAX) > Duration::MAX / 2);
    }
}
