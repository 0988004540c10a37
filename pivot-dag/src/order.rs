//! In which order tasks can run, which cycle prevents it, and who depends on whom at any distance.
//!
//! All of it is iterative, so that a chain may be as long as memory allows.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::adjacency::Adjacency;
use crate::graph::TaskId;

/// From how many of a cycle's tasks a shorter way round is looked for.
const CYCLE_SEARCHES: usize = 10;

/// Every task after those it needs, otherwise in declaration order; or a cycle.
///
/// The cycle lists every task once: each needs the one before it, the first needs the last.
pub(crate) fn order(
    upstream: &Adjacency,
    downstream: &Adjacency,
) -> Result<Vec<TaskId>, Vec<TaskId>> {
    let mut missing: Vec<usize> =
        TaskId::first(upstream.len()).map(|task| upstream.of(task).len()).collect();
    let mut ready: BinaryHeap<Reverse<TaskId>> = TaskId::first(upstream.len())
        .filter(|task| missing[task.index()] == 0)
        .map(Reverse)
        .collect();
    let mut order = Vec::with_capacity(upstream.len());
    while let Some(Reverse(task)) = ready.pop() {
        order.push(task);
        for &next in downstream.of(task) {
            missing[next.index()] -= 1;
            if missing[next.index()] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    if order.len() == upstream.len() {
        return Ok(order);
    }
    let stuck: Vec<bool> = missing.iter().map(|&count| count > 0).collect();
    Err(short_cycle(upstream, downstream, &stuck))
}

/// `from` and everything reachable from them, in no useful order.
pub(crate) fn closure(edges: &Adjacency, from: &[TaskId]) -> Vec<TaskId> {
    let mut seen = vec![false; edges.len()];
    let mut found = Vec::new();
    for &task in from {
        if !std::mem::replace(&mut seen[task.index()], true) {
            found.push(task);
        }
    }
    let mut next = 0;
    while let Some(&task) = found.get(next) {
        next += 1;
        for &neighbor in edges.of(task) {
            if !std::mem::replace(&mut seen[neighbor.index()], true) {
                found.push(neighbor);
            }
        }
    }
    found
}

/// A cycle among the `stuck` tasks, each of which needs another stuck one.
///
/// The shortest of all would cost a search from every task; this one is the shortest through any of
/// a few tasks.
fn short_cycle(upstream: &Adjacency, downstream: &Adjacency, stuck: &[bool]) -> Vec<TaskId> {
    let start = TaskId::first(stuck.len())
        .find(|task| stuck[task.index()])
        .expect("an order is missing only if some task is stuck");
    // Going upstream among stuck tasks never ends, so it comes back to a task it has seen.
    let mut seen = vec![false; stuck.len()];
    let mut task = start;
    while !std::mem::replace(&mut seen[task.index()], true) {
        task = *upstream
            .of(task)
            .iter()
            .find(|needed| stuck[needed.index()])
            .expect("a stuck task needs a stuck task");
    }

    let mut cycle = shortest_through(downstream, stuck, task);
    let others: Vec<TaskId> = cycle.iter().skip(1).take(CYCLE_SEARCHES - 1).copied().collect();
    for other in others {
        let another = shortest_through(downstream, stuck, other);
        if another.len() < cycle.len() {
            cycle = another;
        }
    }
    let first = (0..cycle.len()).min_by_key(|&index| cycle[index]).expect("a cycle has tasks");
    cycle.rotate_left(first);
    cycle
}

/// The shortest way from `task` downstream back to it, which exists.
fn shortest_through(downstream: &Adjacency, stuck: &[bool], task: TaskId) -> Vec<TaskId> {
    let mut came_from: Vec<Option<TaskId>> = vec![None; stuck.len()];
    let mut queue = VecDeque::from([task]);
    while let Some(current) = queue.pop_front() {
        for &next in downstream.of(current) {
            if stuck[next.index()] && came_from[next.index()].is_none() {
                came_from[next.index()] = Some(current);
                queue.push_back(next);
            }
        }
        if came_from[task.index()].is_some() {
            break;
        }
    }
    let mut cycle = Vec::new();
    let mut current = task;
    loop {
        cycle.push(current);
        current = came_from[current.index()].expect("the task lies on a cycle");
        if current == task {
            break;
        }
    }
    cycle.reverse();
    cycle
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of tasks, the edges, and the tasks in order or on the cycle.
    type Case<'a> = (usize, &'a [(usize, usize)], &'a [usize]);

    fn order_of(count: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, Vec<usize>> {
        let mut downstream = Adjacency::default();
        for from in 0..count {
            for edge in edges.iter().filter(|edge| edge.0 == from) {
                downstream.push(TaskId::from_index(edge.1));
            }
            downstream.close();
        }
        let indexes = |tasks: Vec<TaskId>| tasks.into_iter().map(TaskId::index).collect();
        order(&downstream.transposed(), &downstream).map(indexes).map_err(indexes)
    }

    #[test]
    fn the_order_breaks_ties_by_declaration() {
        let cases: &[Case<'_>] = &[
            (0, &[], &[]),
            (3, &[], &[0, 1, 2]),
            (3, &[(2, 0)], &[1, 2, 0]),
            (3, &[(2, 1), (1, 0)], &[2, 1, 0]),
            (4, &[(3, 0), (3, 1), (0, 2), (1, 2)], &[3, 0, 1, 2]),
        ];
        for (count, edges, expected) in cases {
            assert_eq!(order_of(*count, edges).as_deref(), Ok(*expected), "{edges:?}");
        }
    }

    #[test]
    fn a_cycle_holds_neither_what_leads_to_it_nor_what_follows() {
        let cases: &[Case<'_>] = &[
            (2, &[(0, 1), (1, 0)], &[0, 1]),
            (5, &[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)], &[1, 2, 3]),
            // 0 → 1 → 2 → 3 → 0 has the short way 1 → 0.
            (4, &[(0, 1), (1, 2), (2, 3), (3, 0), (1, 0)], &[0, 1]),
            // Two cycles side by side: one of them.
            (4, &[(2, 3), (3, 2), (0, 1), (1, 0)], &[0, 1]),
        ];
        for (count, edges, expected) in cases {
            assert_eq!(order_of(*count, edges).as_ref().unwrap_err(), expected, "{edges:?}");
        }
    }
}
