//! What people see of a run while it goes on.
//!
//! On a terminal, running stages are shown with a clock each below the finished ones, and with
//! the time that they usually take where that is known. In a pipe there are plain lines: one when
//! a stage starts, one when it ends. Below the running stages stands what is left of the run.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pivot_exec::{Event, Outcome, Remaining, StageFailure, Stream};
use pivot_lock::words;

use crate::show::left::{Left, roughly};
use crate::show::{causes, output};

/// Shows a run's events to a person.
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
    running: HashMap<String, ProgressBar>,
    left: Option<Left>,
    shows_output: bool,
}

impl Progress {
    /// `shows_output`: whether every line that a stage prints is shown, with the stage's name.
    pub(crate) fn new(shows_output: bool) -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, running: HashMap::new(), left: None, shows_output }
    }

    pub(crate) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { stage, causes, expected, remaining } => {
                self.left(*remaining);
                self.started(stage, &causes::list(causes), *expected);
            }
            Event::Printed { stage, stream, line } => {
                if self.shows_output {
                    let mark = if *stream == Stream::Stderr { "!" } else { "|" };
                    self.note(&format!("{stage} {mark} {line}"));
                }
            }
            Event::Ended { stage, outcome, tail, remaining, .. } => {
                self.ended(stage, outcome, tail);
                self.left(*remaining);
            }
            Event::Notice { text } => self.note(&format!("note: {text}")),
        }
    }

    fn started(&mut self, stage: &str, why: &str, expected: Option<Duration>) {
        match &self.bars {
            Some(bars) => {
                let style =
                    ProgressStyle::with_template("  {spinner} {prefix} {elapsed}{msg:.dim}")
                        .expect("the template is right");
                let bar = ProgressBar::new_spinner().with_style(style);
                let bar = match &self.left {
                    Some(left) => bars.insert_before(left.bar(), bar),
                    None => bars.add(bar),
                };
                bar.set_prefix(stage.to_owned());
                let usual = expected.map(|usual| format!(" of about {}", roughly(usual)));
                bar.set_message(format!("{} {why}", usual.unwrap_or_default()));
                bar.enable_steady_tick(Duration::from_millis(200));
                self.running.insert(stage.to_owned(), bar);
            }
            None => output::note(&format!("run   {stage}: {why}")),
        }
    }

    /// Where one stage is left its own line says all.
    fn left(&mut self, remaining: Remaining) {
        match (&self.bars, &self.left) {
            (_, Some(_)) if remaining.stages == 0 => self.left = None,
            (_, Some(left)) => left.set(remaining),
            (Some(bars), None) if remaining.stages > 1 => {
                self.left = Some(Left::new(bars, remaining));
            }
            _ => {}
        }
    }

    fn ended(&mut self, stage: &str, outcome: &Outcome, tail: &str) {
        if let (Some(bar), Some(bars)) = (self.running.remove(stage), &self.bars) {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
        match outcome {
            Outcome::Ran { elapsed } => {
                self.note(&format!("done  {stage} in {}", seconds(*elapsed)));
            }
            Outcome::Unchanged | Outcome::Away | Outcome::NotStarted => {}
            Outcome::Stopped => self.note(&format!("stop  {stage}")),
            Outcome::Restored { fetched } => {
                let from = match fetched {
                    Some(fetched) => format!("`{}`", fetched.remote),
                    None => "the cache".to_owned(),
                };
                self.note(&format!("done  {stage}: outputs restored from {from}"));
            }
            Outcome::FromRunCache { .. } => {
                self.note(&format!("done  {stage}: {}", words::UNCHANGED_RUN_CACHE));
            }
            Outcome::Blocked { upstream } => {
                self.note(&format!("not started  {stage}: {}", words::upstream_failed(upstream)));
            }
            Outcome::Failed(failure) => self.failed(stage, failure, tail),
        }
    }

    fn failed(&self, stage: &str, failure: &StageFailure, tail: &str) {
        let mut text = format!("FAIL  {stage}: {failure}");
        if !tail.trim().is_empty() && !self.shows_output {
            text.push_str(&format!("\n--- the end of what `{stage}` printed\n"));
            text.push_str(&last_lines(tail, 40));
            text.push_str("\n---");
        }
        if let StageFailure::Raised { traceback: Some(traceback), .. } = failure {
            text.push('\n');
            text.push_str(traceback.trim_end());
        }
        let mut source = std::error::Error::source(failure);
        while let Some(cause) = source {
            text.push_str(&format!("\ncaused by: {cause}"));
            source = cause.source();
        }
        if let Some(hint) = hint(failure) {
            text.push_str(&format!("\nhint: {hint}"));
        }
        self.note(&text);
    }

    /// A line above the bars, or just a line.
    fn note(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }
}

/// What to do about a failure, where more can be said than the failure itself says.
pub(crate) fn hint(failure: &StageFailure) -> Option<String> {
    match failure {
        StageFailure::Raised { hint, .. } => hint.clone(),
        StageFailure::OutputsMissing { paths } => {
            let them = if paths.len() == 1 { "it" } else { "them" };
            Some(format!("write {them}, or remove {them} from the stage's outputs"))
        }
        StageFailure::OutputOutside { link, .. } => {
            Some(format!("make `{link}` a real folder, or give the stage another output"))
        }
        StageFailure::InputChanged { .. } => {
            Some("run again; if the stage writes it by itself, declare it as an output".to_owned())
        }
        StageFailure::PreviousLost { .. } => Some(
            "`pivot pull` brings it from a remote; to begin anew without it, delete the stage's lock \
             in `.pivot/stages`"
                .to_owned(),
        ),
        StageFailure::Capacity(lack) => Some(lack.hint()),
        StageFailure::TimedOut { .. } => Some(
            "give it more: with `--timeout` or the stage's `timeout`, of which the shorter counts"
                .to_owned(),
        ),
        StageFailure::SourceChanged { .. } => {
            Some("run again; nothing was recorded for this stage".to_owned())
        }
        _ => None,
    }
}

pub(crate) fn seconds(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    if seconds >= 3600 {
        format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60)
    } else if seconds >= 60 {
        format!("{}m {:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{:.2}s", elapsed.as_secs_f64())
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.23s");
        assert_eq!(seconds(Duration::from_secs(75)), "1m 15s");
        assert_eq!(seconds(Duration::from_secs(3725)), "1h 02m");
    }
}
