//! Every parser of text that others may have written, fed with broken and hostile variants of it.
//!
//! Whatever comes, a parser answers: no panic, no hang, no memory out of proportion. What it accepts
//! it prints in a form that it reads back as the same.
//!
//! The variants are made by changing valid texts, with the tokens that matter to the formats, so
//! they get past the first lines of a parser. That works with the stable compiler, in seconds, as a
//! test like any other. `PIVOT_FUZZ_SECONDS` sets the time for each target, `PIVOT_FUZZ_SEED`
//! repeats a failure.

mod memory;
mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use mutate::Mutator;

/// A parser, and texts that it accepts.
struct Target {
    seeds: &'static [&'static str],
    /// Parses the input, and checks the laws if it is accepted: whether it is.
    parse: fn(&[u8]) -> bool,
}

/// No input of a few kilobytes may take longer, in a build without optimization.
const PATIENCE: Duration = Duration::from_secs(2);

/// What parsing may allocate beside a multiple of the input's size.
const ALLOWANCE_BYTES: usize = 32 << 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Time of this thread on a processor: the machine may be busy with something else.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to the structure only.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn run(target: &Target) {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("PIVOT_FUZZ_SEED").unwrap_or(u64::from(clock.subsec_nanos()));
    let end = Instant::now() + Duration::from_secs(number("PIVOT_FUZZ_SECONDS").unwrap_or(2));
    let mut mutator = Mutator::new(seed, target.seeds);
    let mut input = Vec::new();
    let check = |input: &[u8], round: u64| {
        let told = || {
            format!(
                "PIVOT_FUZZ_SEED={seed}, round {round}, input {:?}",
                String::from_utf8_lossy(input)
            )
        };
        let (before, started) = (memory::restart(), thread_time());
        let result = catch_unwind(AssertUnwindSafe(|| (target.parse)(input)));
        assert!(result.is_ok(), "panicked: {}", told());
        let (took, used) = (thread_time() - started, memory::peak().saturating_sub(before));
        assert!(took < PATIENCE, "took {took:?}: {}", told());
        let is_seed = round == 0;
        assert!(!is_seed || result.unwrap_or(false), "a good text is refused: {}", told());
        assert!(used < ALLOWANCE_BYTES + 2000 * input.len(), "took {used} bytes: {}", told());
    };
    for seed in target.seeds {
        check(seed.as_bytes(), 0);
    }
    for round in 1.. {
        mutator.next(&mut input);
        check(&input, round);
        if Instant::now() > end {
            break;
        }
    }
}
