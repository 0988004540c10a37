//! Which graphics processors a stage gets: as many as it needs, and none that another one has.
//!
//! The scheduler only counts them. CUDA, and what is built on it, takes every one that
//! `CUDA_VISIBLE_DEVICES` does not hide, so two stages that need one each would both take the
//! first. Where the run hands out more than the machine shows, as in `--resource gpus=4` to share
//! one among four stages, or where it shows none, which stage uses which is left to the stages.

use std::collections::VecDeque;

/// What hides all processors but those that it lists, by number or by NVIDIA's names for them.
const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// The graphics processors that this process may use, as [`VARIABLE`] lists them.
pub(crate) fn visible() -> Vec<String> {
    match std::env::var(VARIABLE) {
        Ok(list) => listed(&list),
        Err(_) => installed(),
    }
}

/// What CUDA makes of the variable: everything up to the first word that names nothing.
fn listed(list: &str) -> Vec<String> {
    let words = list.split(',').map(str::trim);
    let names = words.take_while(|word| {
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        is_number || word.starts_with("GPU-") || word.starts_with("MIG-")
    });
    names.map(str::to_owned).collect()
}

/// Those that NVIDIA's driver shows.
fn installed() -> Vec<String> {
    let found = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = found
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("nvidia")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers.iter().map(u32::to_string).collect()
}

/// The graphics processors that no stage of this run has.
#[derive(Debug)]
pub(crate) struct Devices {
    free: VecDeque<String>,
    /// Whether each unit of the resource is one of them.
    hands_out: bool,
}

/// Those that one stage has; none if it needs none, or if nobody says which are its own.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<String>);

impl Devices {
    /// `units` is how many the run hands out.
    pub(crate) fn new(units: u64) -> Self {
        let free = VecDeque::from(visible());
        Self { hands_out: units <= free.len() as u64, free }
    }

    /// Takes as many as a stage needs, which the scheduler has found to be free.
    pub(crate) fn take(&mut self, units: u64) -> Held {
        if !self.hands_out {
            return Held::default();
        }
        let units = usize::try_from(units).map_or(self.free.len(), |n| n.min(self.free.len()));
        Held(self.free.drain(..units).collect())
    }

    /// Takes back what a stage had.
    pub(crate) fn give_back(&mut self, held: Held) {
        self.free.extend(held.0);
    }
}

impl Held {
    /// The variable and its value for the stage's process, if there is something to say.
    pub(crate) fn variable(&self) -> Option<(&'static str, String)> {
        (!self.0.is_empty()).then(|| (VARIABLE, self.0.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_where_cuda_stops_reading() {
        for (list, expected) in [
            ("", vec![]),
            ("-1", vec![]),
            ("2", vec!["2"]),
            ("1, 0,GPU-5f2c", vec!["1", "0", "GPU-5f2c"]),
            ("0,-1,2", vec!["0"]),
            ("NoDevFiles", vec![]),
        ] {
            assert_eq!(listed(list), expected, "{list}");
        }
    }

    #[test]
    fn nobody_gets_what_another_has() {
        let free = ["3".to_owned(), "5".to_owned(), "7".to_owned()];
        let mut devices = Devices { free: free.into(), hands_out: true };
        let two = devices.take(2);
        assert_eq!(two.variable(), Some((VARIABLE, "3,5".to_owned())));
        assert_eq!(devices.take(0).variable(), None);
        let one = devices.take(1);
        assert_eq!(one.variable(), Some((VARIABLE, "7".to_owned())));
        devices.give_back(two);
        assert_eq!(devices.take(1).variable(), Some((VARIABLE, "3".to_owned())));
    }

    #[test]
    fn more_than_the_machine_shows_are_shared_by_the_stages() {
        let mut devices = Devices { free: ["0".to_owned()].into(), hands_out: false };
        assert_eq!(devices.take(1).variable(), None);
    }
}
