//! How long graphs of a given size take to build and to run through.
//!
//! ```text
//! cargo run --release -p pivot-dag --example scale -- 100000 5
//! ```
//!
//! The arguments are the number of tasks and how many others each needs.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use pivot_dag::{Ended, GraphBuilder, Next, OnFailure, Options, Scheduler};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let (tasks, needs) = (argument(100_000)?, argument(5)?);

    let path = |index: usize| format!("data/{:02}/{:03}/{index}.csv", index % 64, index % 1_000);
    // Needs are spread by a multiplicative hash over all earlier tasks.
    let need = |index: usize, n: usize| (index * 31 + n).wrapping_mul(0x9e37_79b9) % index;
    let declared: Vec<(Vec<String>, String)> = (0..tasks)
        .map(|index| {
            let reads = (0..needs).filter(|_| index > 0).map(|n| path(need(index, n)));
            (reads.collect(), path(index))
        })
        .collect();

    for round in 1..=3 {
        let begin = Instant::now();
        let mut builder = GraphBuilder::new();
        for (reads, write) in &declared {
            builder.task(reads, [write]);
        }
        let added = begin.elapsed();
        let graph = builder.build()?;
        let built = begin.elapsed();

        let options = Options {
            jobs: NonZeroUsize::new(8).expect("eight is not zero"),
            on_failure: OnFailure::Stop,
        };
        let mut scheduler = Scheduler::new(&graph, graph.order(), options);
        let mut running = Vec::new();
        loop {
            match scheduler.next() {
                Next::Start(task) => running.push(task),
                Next::Wait => {
                    let task = running.pop().expect("it waits for a running task");
                    scheduler.finish(task, Ended::Succeeded);
                }
                Next::Done => break,
            }
        }
        let scheduled = begin.elapsed();
        println!(
            "round {round}: {} tasks, {} edges: paths {:.1?}, graph {:.1?}, schedule {:.1?}",
            graph.len(),
            graph.edge_count(),
            added,
            built - added,
            scheduled - built
        );
        black_box(graph);
    }
    Ok(())
}
