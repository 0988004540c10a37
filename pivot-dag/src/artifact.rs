//! The paths that tasks read and write, and who writes which of them.
//!
//! Every path and every directory above it becomes one small integer, an [`ArtifactId`]. A parent's
//! id is smaller than its children's, so what holds along the tree is computed by plain loops over
//! the ids.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::graph::{GraphError, TaskId};

/// A path that was mentioned, or a directory above one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactId(u32);

impl ArtifactId {
    /// The directory that relative paths start from; its path is empty.
    const ROOT: Self = Self(0);

    fn index(self) -> usize {
        self.0 as usize
    }

    fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2^32 paths"))
    }
}

/// All paths mentioned so far, as a trie of their components.
pub(crate) struct Artifacts {
    /// The texts of all paths; directories are prefixes of the path that first named them.
    text: String,
    nodes: Vec<Node>,
    /// Every node but the root, found by [`Node::hash`].
    table: HashTable<ArtifactId>,
    hasher: DefaultHashBuilder,
    /// Kept between calls of [`Artifacts::insert`] to save its allocation.
    prefixes: Vec<Prefix>,
}

struct Node {
    parent: ArtifactId,
    start: usize,
    end: usize,
    /// Of all components up to here; hashing the longest path therefore hashes its parents too.
    hash: u64,
}

/// A leading part of a path that ends at a component's end.
#[derive(Clone, Copy)]
struct Prefix {
    end: usize,
    hash: u64,
}

impl Artifacts {
    pub(crate) fn new() -> Self {
        let root = Node { parent: ArtifactId::ROOT, start: 0, end: 0, hash: 0 };
        Self {
            text: String::new(),
            nodes: vec![root],
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            prefixes: Vec::new(),
        }
    }

    /// The id of `path`, new if it was never seen.
    pub(crate) fn insert(&mut self, path: &str) -> ArtifactId {
        let mut prefixes = std::mem::take(&mut self.prefixes);
        self.split(path, &mut prefixes);
        let (mut id, known) = self.deepest(path, &prefixes);
        if known < prefixes.len() {
            let start = self.text.len();
            self.text.push_str(path);
            for &Prefix { end, hash } in &prefixes[known..] {
                id = self.add(Node { parent: id, start, end: start + end, hash });
            }
        }
        self.prefixes = prefixes;
        id
    }

    /// The id of `path`, or else of the nearest directory above it that is known.
    pub(crate) fn nearest(&self, path: &str) -> (ArtifactId, Found) {
        let mut prefixes = Vec::new();
        self.split(path, &mut prefixes);
        let (id, known) = self.deepest(path, &prefixes);
        (id, if known == prefixes.len() { Found::Itself } else { Found::Above })
    }

    pub(crate) fn path(&self, id: ArtifactId) -> &str {
        let node = &self.nodes[id.index()];
        &self.text[node.start..node.end]
    }

    /// The output from which `id` got its owner: `id` itself or a directory above it.
    fn highest_owned(&self, mut id: ArtifactId, owner: &[Option<TaskId>]) -> ArtifactId {
        // Owners are handed down from the output, and what is above an output has none.
        while id != ArtifactId::ROOT {
            let parent = self.nodes[id.index()].parent;
            if owner[parent.index()].is_none() {
                break;
            }
            id = parent;
        }
        id
    }

    fn add(&mut self, node: Node) -> ArtifactId {
        let id = ArtifactId::from_index(self.nodes.len());
        let hash = node.hash;
        self.nodes.push(node);
        let nodes = &self.nodes;
        self.table.insert_unique(hash, id, |id| nodes[id.index()].hash);
        id
    }

    fn split(&self, path: &str, prefixes: &mut Vec<Prefix>) {
        prefixes.clear();
        if path.is_empty() {
            return;
        }
        let (mut start, mut hash) = (0, 0);
        for component in path.split('/') {
            let end = start + component.len();
            hash = self.hasher.hash_one((hash, component));
            prefixes.push(Prefix { end, hash });
            start = end + 1;
        }
    }

    /// The longest known prefix, and how many of `prefixes` it covers.
    fn deepest(&self, path: &str, prefixes: &[Prefix]) -> (ArtifactId, usize) {
        // Longest first: most paths are mentioned more than once, and then one probe is enough.
        for (index, prefix) in prefixes.iter().enumerate().rev() {
            let text = &path[..prefix.end];
            let same = |id: &ArtifactId| {
                let node = &self.nodes[id.index()];
                node.hash == prefix.hash && self.path(*id) == text
            };
            if let Some(&id) = self.table.find(prefix.hash, same) {
                return (id, index + 1);
            }
        }
        (ArtifactId::ROOT, 0)
    }
}

/// What [`Artifacts::nearest`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Itself,
    Above,
}

/// Who writes which path; no output lies inside another.
pub(crate) struct Outputs {
    /// For each artifact the task that writes it or a directory above it.
    owner: Vec<Option<TaskId>>,
    /// For each artifact its part of `placed`: everything written at or below it.
    ranges: Vec<(u32, u32)>,
    /// All outputs, so arranged that those below one directory are neighbors.
    placed: Vec<ArtifactId>,
    /// For each place where in `placed` the next one of another task is.
    next_writer: Vec<u32>,
}

impl Outputs {
    /// # Errors
    /// When two outputs are the same path or one lies inside the other.
    pub(crate) fn new(
        artifacts: &Artifacts,
        writes: impl Iterator<Item = (TaskId, ArtifactId)>,
    ) -> Result<Self, GraphError> {
        let nodes = &artifacts.nodes;
        let mut owner = vec![None; nodes.len()];
        let mut count = vec![0_u32; nodes.len()];
        for (task, id) in writes {
            if let Some(first) = owner[id.index()].replace(task) {
                let path = artifacts.path(id).to_owned();
                return Err(GraphError::SameOutput { path, first, second: task });
            }
            count[id.index()] = 1;
        }
        for index in 1..nodes.len() {
            let parent = nodes[index].parent;
            match (owner[parent.index()], owner[index]) {
                (Some(outer), Some(inner)) => {
                    return Err(nested(artifacts, &owner, (parent, outer), (index, inner)));
                }
                (above, None) => owner[index] = above,
                (None, Some(_)) => {}
            }
        }

        let written: Vec<bool> = count.iter().map(|&own| own == 1).collect();
        for index in (1..nodes.len()).rev() {
            count[nodes[index].parent.index()] += count[index];
        }
        // Each directory deals out its stretch of `placed` to its children in turn.
        let mut ranges = vec![(0, count[0]); nodes.len()];
        let mut dealt = vec![0_u32; nodes.len()];
        let mut placed = vec![ArtifactId::ROOT; count[0] as usize];
        for index in 1..nodes.len() {
            let parent = nodes[index].parent.index();
            let start = ranges[parent].0 + dealt[parent];
            dealt[parent] += count[index];
            ranges[index] = (start, start + count[index]);
            if written[index] {
                placed[start as usize] = ArtifactId::from_index(index);
            }
        }
        let mut next_writer: Vec<u32> = (1..=count[0]).collect();
        for place in (1..placed.len()).rev() {
            if owner[placed[place - 1].index()] == owner[placed[place].index()] {
                next_writer[place - 1] = next_writer[place];
            }
        }
        Ok(Self { owner, ranges, placed, next_writer })
    }

    /// The task that writes `id` or a directory above it.
    pub(crate) fn owner(&self, id: ArtifactId) -> Option<TaskId> {
        self.owner[id.index()]
    }

    /// The output that is `id` or a directory above it, given that there is one.
    pub(crate) fn around(&self, id: ArtifactId, artifacts: &Artifacts) -> ArtifactId {
        artifacts.highest_owned(id, &self.owner)
    }

    /// The outputs at or below `id`.
    pub(crate) fn within(&self, id: ArtifactId) -> &[ArtifactId] {
        let (start, end) = self.ranges[id.index()];
        &self.placed[start as usize..end as usize]
    }

    /// Like [`Outputs::within`], but of outputs of one task that are neighbors only the first.
    pub(crate) fn within_by_writer(&self, id: ArtifactId) -> impl Iterator<Item = ArtifactId> {
        let (start, end) = self.ranges[id.index()];
        let next = move |place: u32| (place < end).then_some(place);
        std::iter::successors(next(start), move |&place| next(self.next_writer[place as usize]))
            .map(|place| self.placed[place as usize])
    }

    /// The task that writes exactly `id`, which [`Outputs::within`] gave.
    pub(crate) fn writer(&self, id: ArtifactId) -> TaskId {
        self.owner(id).expect("every placed artifact is written")
    }
}

fn nested(
    artifacts: &Artifacts,
    owner: &[Option<TaskId>],
    (above, outer_task): (ArtifactId, TaskId),
    (index, inner_task): (usize, TaskId),
) -> GraphError {
    GraphError::NestedOutputs {
        outer: artifacts.path(artifacts.highest_owned(above, owner)).to_owned(),
        outer_task,
        inner: artifacts.path(ArtifactId::from_index(index)).to_owned(),
        inner_task,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_has_one_id_however_it_was_reached() {
        let mut artifacts = Artifacts::new();
        let file = artifacts.insert("a/b/c.txt");
        let directory = artifacts.insert("a/b");
        assert_eq!(artifacts.insert("a/b/c.txt"), file);
        assert_eq!(artifacts.path(file), "a/b/c.txt");
        assert_eq!(artifacts.path(directory), "a/b");
        assert_eq!(artifacts.nodes.len(), 4, "root, a, a/b, a/b/c.txt");
    }

    #[test]
    fn components_are_not_confused_with_prefixes_of_names() {
        let mut artifacts = Artifacts::new();
        let paths = ["", "a", "ab", "a/b", "a/", "/a", "b/a", "a/b/", "é/a"];
        let ids: Vec<_> = paths.iter().map(|path| artifacts.insert(path)).collect();
        for (index, path) in paths.iter().enumerate() {
            assert_eq!(artifacts.path(ids[index]), *path);
            assert!(!ids[index + 1..].contains(&ids[index]), "{path:?} shares its id");
        }
    }

    #[test]
    fn the_nearest_known_directory_stands_in_for_an_unknown_path() {
        let mut artifacts = Artifacts::new();
        let directory = artifacts.insert("data/raw");
        assert_eq!(artifacts.nearest("data/raw"), (directory, Found::Itself));
        assert_eq!(artifacts.nearest("data/raw/x/y"), (directory, Found::Above));
        assert_eq!(artifacts.nearest("other/x"), (ArtifactId::ROOT, Found::Above));
        assert_eq!(artifacts.nearest(""), (ArtifactId::ROOT, Found::Itself));
    }

    #[test]
    fn a_path_of_a_hundred_thousand_components_is_only_long() {
        let mut artifacts = Artifacts::new();
        let long = "d/".repeat(100_000) + "file";
        let id = artifacts.insert(&long);
        assert_eq!(artifacts.insert(&long), id);
        assert_eq!(artifacts.path(id).len(), long.len());
    }
}
