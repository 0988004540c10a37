//! Large graphs: the answers stay right, and no part recurses or looks at everything for each task.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use pivot_dag::{
    Ended, Graph, GraphBuilder, GraphError, Next, OnFailure, Options, Scheduler, TaskId,
};

/// Runs everything and checks that each task starts once, after all it needs.
fn run_all(graph: &Graph, jobs: usize, prepare: impl FnOnce(&mut Scheduler<'_>)) {
    let jobs = NonZeroUsize::new(jobs).unwrap();
    let options = Options { jobs, on_failure: OnFailure::Stop };
    let mut scheduler = Scheduler::new(graph, graph.order(), options);
    prepare(&mut scheduler);
    let mut ended = vec![false; graph.len()];
    let mut running = BTreeSet::new();
    let mut started = 0;
    loop {
        match scheduler.next() {
            Next::Start(task) => {
                assert!(graph.upstream(task).iter().all(|needed| ended[needed.index()]));
                assert!(running.insert(task) && running.len() <= jobs.get());
                started += 1;
            }
            Next::Wait => {
                let task = running.pop_first().unwrap();
                ended[task.index()] = true;
                assert_eq!(scheduler.finish(task, Ended::Succeeded), []);
            }
            Next::Done => break,
        }
    }
    assert_eq!(started, graph.len());
}

#[test]
fn a_hundred_thousand_tasks_with_half_a_million_edges() {
    const TASKS: usize = 100_000;
    // Five distinct tasks before each, spread over the whole graph, declared last to first.
    let needs = |index: usize| -> BTreeSet<usize> {
        let spread = [1, 2, index / 2 + 1, index / 3 + 2, index * 7 / 8 + 3, index / 5 + 4];
        spread.into_iter().filter_map(|back| index.checked_sub(back)).take(5).collect()
    };
    let path = |index: usize| format!("data/{:02}/{:03}/{index}.csv", index % 64, index % 1_000);
    let mut builder = GraphBuilder::new();
    for index in (0..TASKS).rev() {
        builder.task(needs(index).into_iter().map(path), [path(index)]);
    }
    let graph = builder.build().unwrap();

    let edges: usize = (0..TASKS).map(|index| needs(index).len()).sum();
    assert!(edges > 490_000);
    assert_eq!((graph.len(), graph.edge_count()), (TASKS, edges));
    let task = |index: usize| graph.task(TASKS - 1 - index).unwrap();
    for index in (0..TASKS).step_by(997) {
        let upstream: BTreeSet<TaskId> = graph.upstream(task(index)).iter().copied().collect();
        assert_eq!(upstream, needs(index).into_iter().map(task).collect());
        assert_eq!(graph.writer_of(&path(index)), Some(task(index)));
    }
    // Each needs the one before it, so there is one order, and everything lies downstream of the
    // first.
    assert!(graph.order().iter().enumerate().all(|(at, &found)| found == task(at)));
    assert_eq!(graph.with_downstream(&[task(0)]), graph.order());
    assert_eq!(graph.with_upstream(&[task(TASKS - 1)]), graph.order());
    run_all(&graph, 8, |_| ());
}

#[test]
fn a_chain_of_fifty_thousand() {
    const TASKS: usize = 50_000;
    let mut builder = GraphBuilder::new();
    for index in 0..TASKS {
        builder.task([format!("s/{index}/out")], [format!("s/{}", index + 1)]);
    }
    let graph = builder.build().unwrap();
    assert_eq!(graph.edge_count(), TASKS - 1);
    assert_eq!(graph.with_upstream(&[graph.task(TASKS - 1).unwrap()]).len(), TASKS);
    run_all(&graph, 4, |_| ());

    let options = Options { jobs: NonZeroUsize::MIN, on_failure: OnFailure::KeepGoing };
    let mut scheduler = Scheduler::new(&graph, graph.order(), options);
    let Next::Start(first) = scheduler.next() else { panic!("nothing starts") };
    assert_eq!(scheduler.finish(first, Ended::Failed).len(), TASKS - 1);
    assert_eq!(scheduler.next(), Next::Done);

    // Between the two ends lies nothing but tasks outside of the selection.
    let ends = [graph.order()[0], graph.order()[TASKS - 1]];
    let mut scheduler = Scheduler::new(&graph, &ends, options);
    for end in ends {
        assert_eq!(scheduler.next(), Next::Start(end));
        assert_eq!(scheduler.next(), Next::Wait);
        scheduler.finish(end, Ended::Succeeded);
    }
    assert_eq!(scheduler.next(), Next::Done);
}

#[test]
fn a_cycle_of_fifty_thousand_behind_and_before_others() {
    const CYCLE: usize = 50_000;
    let mut builder = GraphBuilder::new();
    for index in 0..CYCLE {
        builder.task([format!("c/{index}")], [format!("c/{}", (index + 1) % CYCLE)]);
        builder.task([format!("c/{index}"), format!("free/{index}")], [format!("after/{index}")]);
        builder.task([""; 0], [format!("free/{index}")]);
    }
    let error = builder.build().unwrap_err();
    let GraphError::Cycle { tasks, length, .. } = error else { panic!("{error}") };
    assert_eq!((tasks.len(), length), (10, CYCLE));
}

#[test]
fn many_tasks_write_into_one_directory_and_many_read_from_it() {
    let mut builder = GraphBuilder::new();
    // One task makes 20,000 files, 1,000 tasks one each.
    builder.task([""; 0], (0..20_000).map(|index| format!("made/all/{index}")));
    for index in 0..1_000 {
        builder.task([""; 0], [format!("made/{index}")]);
    }
    for _ in 0..200 {
        builder.task(["made"], [""; 0]);
    }
    for index in 0..20_000 {
        builder.task(["made/all".to_owned(), format!("made/all/{index}/part")], [""; 0]);
    }
    let graph = builder.build().unwrap();
    assert_eq!(graph.edge_count(), 200 * 1_001 + 20_000);
    assert_eq!(graph.outputs_within("made").count(), 21_000);
    run_all(&graph, 16, |_| ());
}

#[test]
fn a_hundred_thousand_tasks_that_wait_for_few_resources() {
    let mut builder = GraphBuilder::new();
    for _ in 0..100_000 {
        builder.task([""; 0], [""; 0]);
    }
    let graph = builder.build().unwrap();
    run_all(&graph, 8, |scheduler| {
        let (gpu, memory) = (scheduler.resource("gpu", 1), scheduler.resource("memory", 1 << 34));
        for (index, task) in graph.tasks().enumerate() {
            // No two demands alike.
            scheduler.demand(task, memory, (index as u64) << 16).unwrap();
            if index % 3 == 0 {
                scheduler.demand(task, gpu, 1).unwrap();
            }
            if index % 1_000 == 0 {
                scheduler.exclusive(task);
            }
        }
    });
}
