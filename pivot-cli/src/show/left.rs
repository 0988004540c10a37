//! The last line of a run on a terminal: how many stages are left, and for how long.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use pivot_exec::Remaining;

/// A line that counts down by itself between two events.
pub(crate) struct Left {
    bar: ProgressBar,
    known: Arc<Mutex<(Remaining, Instant)>>,
}

impl Left {
    /// Shows the line below everything else.
    pub(crate) fn new(bars: &MultiProgress, remaining: Remaining) -> Self {
        let known = Arc::new(Mutex::new((remaining, Instant::now())));
        let shown = Arc::clone(&known);
        let style = ProgressStyle::with_template("  {left:.dim}").expect("the template is right");
        let style = style.with_key("left", move |_: &ProgressState, to: &mut dyn Write| {
            let (remaining, at) = *shown.lock().unwrap_or_else(PoisonError::into_inner);
            // A terminal's line is a text in memory: writing to it does not fail.
            let _ = to.write_str(&text(remaining, at.elapsed()));
        });
        let bar = bars.add(ProgressBar::new_spinner().with_style(style));
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, known }
    }

    /// The bar, so that others can go before it.
    pub(crate) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    pub(crate) fn set(&self, remaining: Remaining) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = (remaining, Instant::now());
        self.bar.tick();
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What was left some time ago, in words.
fn text(remaining: Remaining, ago: Duration) -> String {
    let Remaining { stages, unknown, time } = remaining;
    let stages = if stages == 1 { "1 stage".to_owned() } else { format!("{stages} stages") };
    let time = time.map(|time| time.saturating_sub(ago)).filter(|time| time.as_secs() > 0);
    match time {
        // An estimate that is used up says nothing more.
        None => format!("{stages} left"),
        Some(time) if unknown > 0 => format!("{stages}, more than {} left", roughly(time)),
        Some(time) => format!("{stages}, about {} left", roughly(time)),
    }
}

/// A duration as exactly as an estimate deserves, for stages and for what is left.
pub(crate) fn roughly(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (minutes, tens) = ((seconds / 60.0).round() as u64, (seconds / 600.0).round() as u64 * 10);
    match seconds.round() as u64 {
        short @ 0..10 => format!("{} s", short.max(1)),
        10..58 => format!("{} s", (seconds / 5.0).round() as u64 * 5),
        58..3570 => format!("{minutes} min"),
        _ if tens % 60 == 0 => format!("{} h", tens / 60),
        _ => format!("{} h {} min", tens / 60, tens % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_told_roughly() {
        for (seconds, expected) in [
            (0, "1 s"),
            (1, "1 s"),
            (9, "9 s"),
            (33, "35 s"),
            (57, "55 s"),
            (58, "1 min"),
            (170, "3 min"),
            (3569, "59 min"),
            (3570, "1 h"),
            (4700, "1 h 20 min"),
            (7199, "2 h"),
        ] {
            assert_eq!(roughly(Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn nothing_is_said_that_is_not_known() {
        let left = |stages, unknown, time: Option<u64>| {
            let time = time.map(Duration::from_secs);
            text(Remaining { stages, unknown, time }, Duration::from_secs(10))
        };
        assert_eq!(left(3, 0, Some(190)), "3 stages, about 3 min left");
        assert_eq!(left(3, 1, Some(190)), "3 stages, more than 3 min left");
        assert_eq!(left(3, 3, None), "3 stages left");
        assert_eq!(left(1, 0, Some(9)), "1 stage left");
    }
}
