//! Which stages a user means: names, base names of variants, patterns and outputs.

use std::collections::HashSet;

use pivot_dag::TaskId;
use pivot_pipeline::{NoSuchStage, Pipeline};

/// How far a selection reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The named stages and all that they need.
    WithUpstream,
    /// The named stages alone.
    Alone,
}

/// The stages that `words` name, in the graph's order; all stages when there are no words.
///
/// A word is a stage, the base name of variants, a pattern, or the path of an output.
///
/// # Errors
/// When a word names nothing.
pub fn select(
    pipeline: &Pipeline,
    words: &[String],
    reach: Reach,
) -> Result<Vec<TaskId>, NoSuchStage> {
    let graph = pipeline.graph();
    if words.is_empty() {
        return Ok(graph.order().to_vec());
    }
    let mut named = Vec::new();
    for word in words {
        match (pipeline.select(word), graph.writer_of(word.trim_start_matches("./"))) {
            (Ok(tasks), _) => named.extend(tasks),
            (Err(_), Some(writer)) => named.push(writer),
            (Err(error), None) => return Err(error),
        }
    }
    Ok(match reach {
        Reach::WithUpstream => graph.with_upstream(&named),
        Reach::Alone => {
            let wanted: HashSet<TaskId> = named.into_iter().collect();
            graph.order().iter().copied().filter(|task| wanted.contains(task)).collect()
        }
    })
}
