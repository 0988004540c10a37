//! Building graphs from paths, and running through them.

use std::num::NonZeroUsize;

use pivot_dag::{Ended, Graph, GraphBuilder, Next, OnFailure, Options, Scheduler};

const SIZES: [usize; 2] = [1_000, 20_000];

fn main() {
    divan::main();
}

/// For each task what it reads, three outputs of the row above it, and what it writes.
fn declared(tasks: usize) -> Vec<(Vec<String>, String)> {
    let path = |index: usize| format!("data/{:02}/{index}.csv", index % 64);
    let width = tasks.isqrt();
    let reads = |index: usize| {
        let above = (0..3).filter_map(move |n| index.checked_sub(width + n));
        above.map(path).collect()
    };
    (0..tasks).map(|index| (reads(index), path(index))).collect()
}

fn graph(declared: &[(Vec<String>, String)]) -> Graph {
    let mut builder = GraphBuilder::new();
    for (reads, write) in declared {
        builder.task(reads, [write]);
    }
    builder.build().expect("no cycle")
}

#[divan::bench(args = SIZES)]
fn build(bencher: divan::Bencher<'_, '_>, tasks: usize) {
    let declared = declared(tasks);
    bencher.bench_local(|| graph(&declared));
}

#[divan::bench(args = SIZES)]
fn schedule(bencher: divan::Bencher<'_, '_>, tasks: usize) {
    let graph = graph(&declared(tasks));
    let jobs = NonZeroUsize::new(4).expect("not zero");
    bencher.bench_local(|| {
        let options = Options { jobs, on_failure: OnFailure::Stop };
        let mut scheduler = Scheduler::new(&graph, graph.order(), options);
        let mut running = Vec::new();
        loop {
            match scheduler.next() {
                Next::Start(task) => running.push(task),
                Next::Wait => {
                    let task = running.pop().expect("something runs");
                    scheduler.finish(task, Ended::Succeeded);
                }
                Next::Done => break,
            }
        }
    });
}
