//! The neighbors of every task, in one array.
//!
//! Written once and never changed: the neighbors of one task lie side by side and come as a slice.

use crate::graph::TaskId;

/// For each task a list of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adjacency {
    /// Where in `targets` the list of each task ends; it starts where the one before ends.
    ends: Vec<usize>,
    targets: Vec<TaskId>,
}

impl Adjacency {
    /// Adds `target` to the list of the task that [`Adjacency::close`] will close.
    pub(crate) fn push(&mut self, target: TaskId) {
        self.targets.push(target);
    }

    /// Ends the list of one task and begins that of the next.
    pub(crate) fn close(&mut self) {
        self.ends.push(self.targets.len());
    }

    /// The same edges seen from the other end; every list is in declaration order.
    pub(crate) fn transposed(&self) -> Self {
        let mut ends = vec![0; self.ends.len()];
        for target in &self.targets {
            ends[target.index()] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        // `ends` holds each list's start here; filling the lists moves it to their ends.
        let mut targets = vec![TaskId::FIRST; self.targets.len()];
        for source in TaskId::first(self.len()) {
            for target in self.of(source) {
                let free = &mut ends[target.index()];
                targets[*free] = source;
                *free += 1;
            }
        }
        Self { ends, targets }
    }

    pub(crate) fn of(&self, task: TaskId) -> &[TaskId] {
        let index = task.index();
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.targets[start..self.ends[index]]
    }

    /// The number of tasks.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of edges.
    pub(crate) fn edges(&self) -> usize {
        self.targets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_turns_edges_round_and_sorts_them() {
        let [a, b, c] = [0, 1, 2].map(TaskId::from_index);
        let mut upstream = Adjacency::default();
        upstream.close();
        upstream.push(c);
        upstream.push(a);
        upstream.close();
        upstream.push(a);
        upstream.close();

        let downstream = upstream.transposed();
        assert_eq!([a, b, c].map(|task| downstream.of(task)), [&[b, c][..], &[], &[b]]);
        assert_eq!(downstream.transposed().of(b), [a, c]);
        assert_eq!(downstream.edges(), 3);
    }
}
