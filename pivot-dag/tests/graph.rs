//! What a graph is made of, and the mistakes it refuses.

use petgraph::algo::{has_path_connecting, is_cyclic_directed};
use petgraph::graph::{DiGraph, NodeIndex};
use pivot_dag::{Graph, GraphBuilder, GraphError, TaskId};
use proptest::prelude::*;

type Declared<'a> = (&'a [&'a str], &'a [&'a str]);
/// A name, the tasks, and the edges between them.
type EdgeCase<'a> = (&'a str, &'a [Declared<'a>], &'a [(usize, usize)]);

fn build(tasks: &[Declared<'_>]) -> Result<Graph, GraphError> {
    let mut builder = GraphBuilder::new();
    for (reads, writes) in tasks {
        builder.task(*reads, *writes);
    }
    builder.build()
}

fn indexes(tasks: &[TaskId]) -> Vec<usize> {
    tasks.iter().map(|task| task.index()).collect()
}

fn edges(graph: &Graph) -> Vec<(usize, usize)> {
    graph.edges().map(|(from, to)| (from.index(), to.index())).collect()
}

#[test]
fn edges_follow_from_paths() {
    let cases: &[EdgeCase<'_>] = &[
        ("nothing in common", &[(&["a"], &["b"]), (&["c"], &["d"])], &[]),
        ("equal", &[(&["a"], &["b"]), (&["b"], &["c"])], &[(0, 1)]),
        ("declared the other way round", &[(&["b"], &["c"]), (&["a"], &["b"])], &[(1, 0)]),
        (
            "a slash at the end",
            &[(&[], &["b/"]), (&["b"], &[]), (&["b//"], &[])],
            &[(0, 1), (0, 2)],
        ),
        ("inside a written directory", &[(&[], &["d"]), (&["d/x/y"], &[])], &[(0, 1)]),
        (
            "around written paths",
            &[(&[], &["d/x/1"]), (&[], &["d/y"]), (&["d"], &[])],
            &[(0, 2), (1, 2)],
        ),
        ("the whole root", &[(&[], &["d/x"]), (&[], &["e"]), (&[""], &[])], &[(0, 2), (1, 2)]),
        ("names that only begin alike", &[(&[], &["d"]), (&["d2", "d.csv", "e/d"], &[])], &[]),
        ("a directory that is only read", &[(&["d/x"], &["e"]), (&["d"], &["f"])], &[]),
        (
            "both are neighbors once",
            &[(&[], &["d/x", "d/y"]), (&["d", "d/x", "d/y"], &[])],
            &[(0, 1)],
        ),
        (
            "outputs of two tasks in turn",
            &[(&[], &["d/1", "d/3"]), (&[], &["d/2"]), (&["d"], &[])],
            &[(0, 2), (1, 2)],
        ),
        ("more than ascii", &[(&[], &["données/été"]), (&["données"], &[])], &[(0, 1)]),
    ];
    for (name, tasks, expected) in cases {
        let graph = build(tasks).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(edges(&graph), *expected, "{name}");
        assert_eq!(graph.edge_count(), expected.len(), "{name}");
    }
}

#[test]
fn mistakes_name_both_sides() {
    let cases: &[(&[Declared<'_>], &str)] = &[
        (&[(&[], &["a"]), (&[], &["b", "a"])], "tasks #0 and #1 both write `a`"),
        (&[(&[], &["a", "a/"])], "tasks #0 and #0 both write `a`"),
        (
            &[(&[], &["d/x/y"]), (&[], &["d"])],
            "task #1 writes `d`, and task #0 writes `d/x/y` inside of it",
        ),
        (
            &[(&[], &["d"]), (&["d/x/q"], &["d/x/y"])],
            "task #0 writes `d`, and task #1 writes `d/x/y` inside of it",
        ),
        (&[(&["a"], &["a"])], "task #0 reads `a` and writes `a`"),
        (&[(&["d/x/y"], &["d"])], "task #0 reads `d/x/y` and writes `d`"),
        (&[(&["d"], &["d/x/y"])], "task #0 reads `d` and writes `d/x/y`"),
        (&[(&[], &["d/a"]), (&["d"], &["d/b"])], "task #1 reads `d` and writes `d/b`"),
        (
            &[(&["c"], &["a"]), (&["a"], &["b"]), (&["b"], &["c"])],
            "3 tasks need one another in a cycle: #0 -> `a` -> #1 -> `b` -> #2 -> `c` -> #0",
        ),
        (
            &[(&["z"], &[]), (&["d/in", "q"], &["e"]), (&["f", "e/x"], &["d"]), (&["d"], &["z"])],
            "2 tasks need one another in a cycle: #1 -> `e/x` -> #2 -> `d/in` -> #1",
        ),
    ];
    for (tasks, expected) in cases {
        assert_eq!(build(tasks).unwrap_err().to_string(), *expected);
    }
}

#[test]
fn a_long_cycle_is_cut_short_in_the_report() {
    let mut builder = GraphBuilder::new();
    for index in 0..5_000 {
        builder.task([format!("p{index}")], [format!("p{}", (index + 1) % 5_000)]);
    }
    let error = builder.build().unwrap_err();
    let GraphError::Cycle { tasks, paths, length } = &error else { panic!("{error}") };
    assert_eq!(*length, 5_000);
    assert_eq!(indexes(tasks), (0..10).collect::<Vec<_>>());
    assert_eq!(paths.len(), 10);
    assert!(error.to_string().ends_with("#9 -> `p10` -> ... -> #0"), "{error}");
}

#[test]
fn questions_about_paths() {
    let graph = build(&[
        (&["raw", "notes.txt"], &["clean/a", "clean/b"]),
        (&["clean", "notes.txt"], &["model"]),
        (&["model/weights", "raw/extra.csv"], &[]),
    ])
    .unwrap();

    let sources: Vec<_> = graph.sources().map(|(task, path)| (task.index(), path)).collect();
    assert_eq!(sources, [(0, "raw"), (0, "notes.txt"), (1, "notes.txt"), (2, "raw/extra.csv")]);

    for (path, expected) in [
        ("clean/a", Some(0)),
        ("clean/a/deep/er", Some(0)),
        ("model/", Some(1)),
        ("model/never/mentioned", Some(1)),
        ("clean", None),
        ("clean/c", None),
        ("raw", None),
        ("nowhere/at/all", None),
        ("", None),
    ] {
        assert_eq!(graph.writer_of(path).map(TaskId::index), expected, "{path}");
    }

    let within = |path| -> Vec<_> {
        graph.outputs_within(path).map(|(task, path)| (task.index(), path)).collect()
    };
    assert_eq!(within("clean/"), [(0, "clean/a"), (0, "clean/b")]);
    assert_eq!(within("clean/b"), [(0, "clean/b")]);
    assert_eq!(within(""), [(0, "clean/a"), (0, "clean/b"), (1, "model")]);
    assert_eq!(within("clean/c"), []);
    assert_eq!(within("model/weights"), []);
}

#[test]
fn tasks_are_found_by_their_index() {
    let graph = build(&[(&[], &["a"]), (&["a"], &[])]).unwrap();
    assert_eq!(graph.tasks().map(Some).collect::<Vec<_>>(), [graph.task(0), graph.task(1)]);
    assert_eq!(graph.task(2), None);
    let empty = build(&[]).unwrap();
    assert!(empty.is_empty() && empty.order().is_empty());
    assert_eq!(format!("{graph:?}"), "Graph { tasks: 2, edges: 1, .. }");
}

/// Few components, so that equal, nested and surrounding paths are frequent.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-c]", 1..4).prop_map(|components| components.join("/"))
}

fn declarations() -> impl Strategy<Value = Vec<(Vec<String>, Vec<String>)>> {
    let reads = prop::collection::vec(path(), 0..3);
    // Writes deep down overlap less often, so that most graphs get past the first checks.
    let writes = prop::collection::vec("[a-c]/[a-c]/[a-z]", 0..2);
    let shallow = prop::collection::vec(path(), 0..2);
    prop::collection::vec((reads, prop_oneof![4 => writes, 1 => shallow]), 0..12)
}

fn inside(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn touch(one: &str, other: &str) -> bool {
    inside(one, other) || inside(other, one)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Compares with the definition, pair by pair.
    #[test]
    fn agrees_with_the_definition(tasks in declarations()) {
        let mut builder = GraphBuilder::new();
        for (reads, writes) in &tasks {
            builder.task(reads, writes);
        }
        let writes: Vec<_> = tasks
            .iter()
            .enumerate()
            .flat_map(|(task, declared)| declared.1.iter().map(move |path| (task, path)))
            .collect();
        let overlap = writes.iter().enumerate().any(|(index, (_, path))| {
            writes[index + 1..].iter().any(|(_, other)| touch(path, other))
        });
        let needs = |reader: usize, writer: usize| {
            tasks[reader].0.iter().any(|read| tasks[writer].1.iter().any(|path| touch(read, path)))
        };
        let own_input = (0..tasks.len()).any(|task| needs(task, task));
        let mut oracle = DiGraph::<(), ()>::new();
        let nodes: Vec<_> = tasks.iter().map(|_| oracle.add_node(())).collect();
        for writer in 0..tasks.len() {
            for reader in (0..tasks.len()).filter(|reader| *reader != writer) {
                if needs(reader, writer) {
                    oracle.add_edge(nodes[writer], nodes[reader], ());
                }
            }
        }

        match builder.build() {
            Err(GraphError::SameOutput { path, first, second }) => {
                prop_assert!(tasks[first.index()].1.contains(&path));
                prop_assert!(tasks[second.index()].1.contains(&path));
            }
            Err(GraphError::NestedOutputs { outer, outer_task, inner, inner_task }) => {
                prop_assert!(inside(&inner, &outer) && inner != outer);
                prop_assert!(tasks[outer_task.index()].1.contains(&outer));
                prop_assert!(tasks[inner_task.index()].1.contains(&inner));
            }
            Err(GraphError::OwnInput { task, path, output }) => {
                prop_assert!(!overlap && touch(&path, &output));
                prop_assert!(tasks[task.index()].0.contains(&path));
                prop_assert!(tasks[task.index()].1.contains(&output));
            }
            Err(GraphError::Cycle { tasks: cycle, paths, length }) => {
                prop_assert!(!overlap && !own_input);
                prop_assert_eq!(cycle.len(), length.min(10));
                prop_assert_eq!(cycle.len(), paths.len());
                for index in 0..cycle.len() - usize::from(length > 10) {
                    let next = cycle[(index + 1) % cycle.len()].index();
                    prop_assert!(needs(next, cycle[index].index()));
                    prop_assert!(tasks[next].0.iter().any(|read| touch(read, &paths[index])));
                }
                prop_assert!(cycle.iter().skip(1).all(|task| *task > cycle[0]));
            }
            Ok(graph) => {
                prop_assert!(!overlap && !own_input && !is_cyclic_directed(&oracle));
                let mut expected: Vec<_> =
                    oracle.raw_edges().iter().map(|e| (e.source(), e.target())).collect();
                expected.sort_unstable();
                let found: Vec<_> = graph.edges().map(|(a, b)| (node(a), node(b))).collect();
                prop_assert_eq!(found, expected);

                let place = |task: &TaskId| graph.order().iter().position(|other| other == task);
                for task in graph.tasks() {
                    prop_assert!(graph.upstream(task).is_sorted());
                    for needed in graph.upstream(task) {
                        prop_assert!(place(needed) < place(&task));
                        prop_assert!(graph.downstream(*needed).contains(&task));
                    }
                    let reaches = |a, b| has_path_connecting(&oracle, node(a), node(b), None);
                    let order = || graph.order().iter().copied();
                    let above: Vec<_> = order().filter(|other| reaches(*other, task)).collect();
                    let below: Vec<_> = order().filter(|other| reaches(task, *other)).collect();
                    prop_assert_eq!(graph.with_upstream(&[task]), above);
                    prop_assert_eq!(graph.with_downstream(&[task, task]), below);
                }

                let sources: Vec<_> =
                    graph.sources().map(|(task, path)| (task.index(), path.to_owned())).collect();
                let expected: Vec<_> = tasks
                    .iter()
                    .enumerate()
                    .flat_map(|(task, (reads, _))| reads.iter().map(move |p| (task, p.clone())))
                    .filter(|(_, path)| !writes.iter().any(|(_, output)| touch(path, output)))
                    .collect();
                prop_assert_eq!(sources, expected);
            }
        }
    }
}

fn node(task: TaskId) -> NodeIndex {
    NodeIndex::new(task.index())
}
