//! The graph of a pipeline, and its mistakes in the words of stages.

use pivot_dag::{Graph, GraphBuilder, GraphError, TaskId};

use crate::error::{PipelineError, Problem};
use crate::stage::Stage;

/// Builds the graph of `stages`; its tasks are the stages, in the same order.
pub(crate) fn graph_of(stages: &[Stage]) -> Result<Graph, PipelineError> {
    let mut builder = GraphBuilder::new();
    for stage in stages {
        builder.task(&stage.deps, stage.outs.iter().map(|out| &out.path));
    }
    builder.build().map_err(|error| in_words_of_stages(error, stages))
}

fn in_words_of_stages(error: GraphError, stages: &[Stage]) -> PipelineError {
    let stage = |task: TaskId| &stages[task.index()];
    let name = |task: TaskId| stage(task).name.to_string();
    let place = |task: TaskId| stage(task).place.clone();
    let both = |problem, first: TaskId, second: TaskId| {
        let error = PipelineError::new(problem).at(place(first));
        if place(first) == place(second) { error } else { error.and_at(place(second)) }
    };
    match error {
        GraphError::SameOutput { path, first, second } if first == second => {
            let problem = Problem::RepeatedPath { stage: name(first), role: "output", path };
            PipelineError::new(problem).at(place(first))
        }
        GraphError::SameOutput { path, first, second } => {
            let problem = Problem::SameOutput { path, first: name(first), second: name(second) };
            // The later one is the one that was probably just written.
            both(problem, second, first)
        }
        GraphError::NestedOutputs { outer, outer_task, inner, inner_task }
            if outer_task == inner_task =>
        {
            let problem = Problem::OwnNestedOutputs { stage: name(outer_task), outer, inner };
            PipelineError::new(problem).at(place(outer_task))
        }
        GraphError::NestedOutputs { outer, outer_task, inner, inner_task } => {
            let problem = Problem::NestedOutputs {
                outer: name(outer_task),
                outer_path: outer,
                inner: name(inner_task),
                inner_path: inner,
            };
            both(problem, inner_task, outer_task)
        }
        GraphError::OwnInput { task, path, output } => {
            let problem = Problem::OwnInput { stage: name(task), path, output };
            PipelineError::new(problem).at(place(task))
        }
        GraphError::Cycle { tasks, paths, length } => {
            let stages = tasks.iter().map(|&task| name(task)).collect();
            let problem = Problem::Cycle { stages, paths, length };
            let mut error = PipelineError::new(problem);
            for task in tasks {
                error = error.and_at(place(task));
            }
            error
        }
    }
}
