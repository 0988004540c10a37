//! Runs that are killed at random instants, with their workers or without them.
//!
//! `PIVOT_KILL_ROUNDS` sets the number of rounds; `PIVOT_KILL_SEED` repeats a failure, whose seed
//! is told.

use std::time::{Duration, SystemTime};

use crate::support::{Project, is_alive, project};

const PIPELINE: &str = r#"
import os
import subprocess

from pivot import IncrementalOut, stage


def note(name):
    open(f"pids/{name}", "w").write(f"{os.getpid()}\n{os.getppid()}\n")


@stage(deps=["data"], outs=["upper", "parts"])
def upper(data, out, parts):
    note("upper")
    os.mkdir(parts)
    text = open(data).read().upper()
    with open(out, "w") as file:
        for letter in text:
            file.write(letter)
            file.flush()
    for number in range(20):
        open(f"{parts}/{number}", "w").write(text * number)


@stage(deps=["upper", "parts"], outs=[IncrementalOut("all")])
def append(upper, parts, out):
    note("append")
    with open(out, "a") as file:
        for line in open(upper):
            file.write(line)
            file.flush()


@stage(deps=["upper"], outs=["count"])
def count(upper, out):
    note("count")
    subprocess.run(f"sh -c 'wc -c <{upper}' >{out}", shell=True, check=True)


@stage(deps=["all", "count"], outs=["end"])
def end(records, count, out):
    note("end")
    open(out, "w").write(open(records).read() + open(count).read())
"#;

fn data(version: u64) -> String {
    (0..20).map(|line| format!("line {line} of version {version}\n")).collect()
}

/// What a killed coordinator, worker or zygote leaves to the others.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Coordinator,
    Stage,
    Zygote,
}

/// A number in `0..below`, from a state that changes with each (splitmix64).
fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % below
}

fn pids(project: &Project) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for file in project.files_in("pids") {
        let text = std::fs::read_to_string(project.path(&file)).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.parse().ok());
        found.extend(lines.next().zip(lines.next()));
    }
    found
}

fn kill(pid: u32) {
    // SAFETY: a signal to a process that the pipeline has named. It may have ended by now.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), libc::SIGKILL) };
}

#[test]
#[expect(clippy::print_stdout, reason = "shown if it fails, to repeat it")]
fn killed_at_random_instants() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("PIVOT_KILL_ROUNDS").unwrap_or(24);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("PIVOT_KILL_SEED").unwrap_or(clock.as_nanos() as u64 % 1_000_000);
    println!("PIVOT_KILL_SEED={seed}");
    let mut state = seed;

    let project = project().file("pipeline.py", PIPELINE).file("pids/.keep", "");
    let mut all = String::new();
    let mut kills = [0; 3];
    for round in 0..rounds {
        let text = data(round);
        let upper = text.to_uppercase();
        project.write("data", &text);
        let mut trace = String::new();
        // Up to three kills in a row, before a run is let to its end.
        for _ in 0..=random(&mut state, 3) {
            for file in project.files_in("pids").iter().filter(|file| !file.ends_with(".keep")) {
                project.remove(file);
            }
            let executor = ["warm", "warm", "spawn"][random(&mut state, 3) as usize];
            let running = project.start(&format!("run --executor {executor}"));
            let wait = Duration::from_micros(random(&mut state, 350_000));
            std::thread::sleep(wait);
            let victim = match (random(&mut state, 4), pids(&project).last()) {
                (0, Some((stage, _))) => (Victim::Stage, *stage),
                (1, Some((_, zygote))) if executor == "warm" => (Victim::Zygote, *zygote),
                _ => (Victim::Coordinator, running.id()),
            };
            kill(victim.1);
            kills[victim.0 as usize] += 1;
            trace += &format!("{victim:?} of {executor} after {wait:?}\n");
            let finished = running.finish().does_not_say("panicked");
            trace += &format!("{finished}\n");
        }
        let again = project.pivot("run");
        let at = format!("PIVOT_KILL_SEED={seed}, round {round}:\n{trace}\nthen: {again}");
        drop(again.succeeds());
        all += &upper;
        assert_eq!(project.read("upper"), upper, "{at}");
        assert_eq!(project.read("all"), all, "each record exactly once: {at}");
        assert_eq!(project.read("count").trim(), upper.len().to_string(), "{at}");
        assert_eq!(project.read("end"), all.clone() + &project.read("count"), "{at}");
        assert_eq!(project.files_in("parts").len(), 20, "{at}");
        for part in 0..20 {
            assert_eq!(project.read(&format!("parts/{part}")), upper.repeat(part), "{at}");
        }
        for object in project.files_in(".pivot/cache/files") {
            let name = object.trim_start_matches(".pivot/cache/files/").replace('/', "");
            let hash = xxhash_rust::xxh64::xxh64(&std::fs::read(project.path(&object)).unwrap(), 0);
            assert_eq!(name, format!("{hash:016x}"), "{at}");
        }
        assert!(project.files_in(".pivot/cache/tmp").is_empty(), "leftovers: {at}");
        assert!(pids(&project).iter().all(|(pid, _)| !is_alive(*pid)), "a worker is left: {at}");
        if round % 4 == 0 {
            assert_eq!(project.pivot("run").succeeds().counts(), "4 stages: 4 unchanged ([time])");
        }
    }
    println!("killed {} coordinators, {} stages, {} zygotes", kills[0], kills[1], kills[2]);
}
