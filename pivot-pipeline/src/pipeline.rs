//! All stages of a project, checked as a whole.

use std::collections::{HashMap, HashSet};
use std::fmt;

use pivot_dag::{Graph, TaskId};

use crate::discover::Project;
use crate::error::{PipelineError, Problem};
use crate::graph::graph_of;
use crate::path::ProjectPath;
use crate::place::Place;
use crate::stage::Stage;
use crate::suggest::closest;

/// The stages of a project and the graph that follows from their files.
///
/// Stages and the tasks of the graph have the same order, so either leads to the other.
pub struct Pipeline {
    project: Project,
    stages: Vec<Stage>,
    by_name: HashMap<String, TaskId>,
    graph: Graph,
}

impl Pipeline {
    /// Checks `stages` as a whole and finds out who needs whom.
    ///
    /// A stored pipeline is a list of stages in JSON; it is checked again when it is read.
    ///
    /// # Errors
    ///
    /// When two stages have one name, an output overwrites the definition of the project, outputs
    /// overlap, or stages need each other in a circle.
    pub fn new(project: Project, stages: Vec<Stage>) -> Result<Self, PipelineError> {
        check_names(&stages)?;
        for stage in &stages {
            check_outputs(&project, stage)?;
            check_repeats(stage)?;
        }
        let graph = graph_of(&stages)?;
        let by_name = graph
            .tasks()
            .zip(&stages)
            .map(|(task, stage)| (stage.name.as_str().to_owned(), task))
            .collect();
        Ok(Self { project, stages, by_name, graph })
    }

    /// The project that the stages belong to.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// All stages in the order of their declaration.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Who needs whom.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The stage of a task of [`Self::graph`].
    pub fn stage(&self, task: TaskId) -> &Stage {
        &self.stages[task.index()]
    }

    /// The task of the stage with exactly this name.
    pub fn task(&self, name: &str) -> Option<TaskId> {
        self.by_name.get(name).copied()
    }

    /// The tasks that a word of the user means: a stage, all variants of a base, or all whose
    /// name fits a pattern with `*` and `?`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn select(&self, word: &str) -> Result<Vec<TaskId>, NoSuchStage> {
        if let Some(task) = self.task(word) {
            return Ok(vec![task]);
        }
        let is_pattern = word.contains(['*', '?']);
        let meant = |stage: &Stage| match is_pattern {
            true => fits_pattern(word, stage.name.as_str()),
            false => stage.name.base() == word,
        };
        let tasks: Vec<_> = self
            .graph
            .tasks()
            .zip(&self.stages)
            .filter(|(_, s)| meant(s))
            .map(|(t, _)| t)
            .collect();
        if !tasks.is_empty() {
            return Ok(tasks);
        }
        let known = self.stages.iter().flat_map(|stage| [stage.name.as_str(), stage.name.base()]);
        let suggestion = closest(word, known).map(str::to_owned);
        Err(NoSuchStage { word: word.to_owned(), suggestion })
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { project, stages, .. } = self;
        f.debug_struct("Pipeline")
            .field("project", project)
            .field("stages", stages)
            .finish_non_exhaustive()
    }
}

/// A word that means no stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no stage `{word}`")]
pub struct NoSuchStage {
    /// The word.
    pub word: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl NoSuchStage {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.suggestion.as_ref().map(|name| format!("did you mean `{name}`?"))
    }
}

fn check_names(stages: &[Stage]) -> Result<(), PipelineError> {
    let mut seen: HashMap<&str, &Place> = HashMap::with_capacity(stages.len());
    for stage in stages {
        if let Some(first) = seen.insert(stage.name.as_str(), &stage.place) {
            let problem = Problem::SameStage { name: stage.name.to_string() };
            return Err(PipelineError::new(problem).at(stage.place.clone()).and_at(first.clone()));
        }
    }
    Ok(())
}

fn check_outputs(project: &Project, stage: &Stage) -> Result<(), PipelineError> {
    for out in &stage.outs {
        let path = out.path.as_str();
        let why = if contains(path, project.definition.file()) {
            Some("it defines the pipeline")
        } else {
            out.path.forbidden_as_output()
        };
        if let Some(why) = why {
            let (stage_name, path) = (stage.name.to_string(), path.to_owned());
            let problem = Problem::ForbiddenOutput { stage: stage_name, path, why };
            return Err(PipelineError::new(problem).at(stage.place.clone()));
        }
    }
    Ok(())
}

/// Whether `inner` is `outer` or lies inside of it.
fn contains(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_repeats(stage: &Stage) -> Result<(), PipelineError> {
    let outs: Vec<&ProjectPath> = stage.outs.iter().map(|out| &out.path).collect();
    let deps: Vec<&ProjectPath> = stage.deps.iter().collect();
    for (role, paths) in [("dependency", deps), ("output", outs)] {
        if let Some(path) = repeated(&paths) {
            let (stage_name, path) = (stage.name.to_string(), path.to_string());
            let problem = Problem::RepeatedPath { stage: stage_name, role, path };
            return Err(PipelineError::new(problem).at(stage.place.clone()));
        }
    }
    Ok(())
}

fn repeated<'p>(paths: &[&'p ProjectPath]) -> Option<&'p ProjectPath> {
    // Most lists are so short that a set costs more than it saves.
    if paths.len() <= 8 {
        return (1..paths.len()).find(|&i| paths[..i].contains(&paths[i])).map(|i| paths[i]);
    }
    let mut seen = HashSet::with_capacity(paths.len());
    paths.iter().find(|path| !seen.insert(**path)).copied()
}

/// Whether `name` fits `pattern`, where `*` stands for any text and `?` for one character.
pub fn fits_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on when the text after the last `*` does not fit: one character later.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match &mut retry {
                Some((after, start)) => {
                    *start += 1;
                    (p, n) = (*after, *start);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::parse_definition;
    use crate::discover::Definition;
    use crate::error::printed;

    fn pipeline(yaml: &str) -> Result<Pipeline, PipelineError> {
        let definition = Definition::Yaml("pivot.yaml".into());
        let project = Project { root: "/project".into(), definition };
        Pipeline::new(project, parse_definition("pivot.yaml", yaml.as_bytes())?)
    }

    fn error(yaml: &str) -> String {
        printed(&pipeline(yaml).expect_err("an error"))
    }

    #[test]
    fn stages_and_tasks_lead_to_each_other() {
        let pipeline = pipeline(
            "stages:\n  b: {cmd: x, deps: [a.txt], outs: [b.txt]}\n  a: {cmd: x, outs: [a.txt]}\n",
        )
        .unwrap();
        let names: Vec<_> = pipeline
            .graph()
            .order()
            .iter()
            .map(|&task| pipeline.stage(task).name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(pipeline.task("b").map(TaskId::index), Some(0));
        assert_eq!(pipeline.task("c"), None);
        assert_eq!(pipeline.stages().len(), 2);
    }

    #[test]
    fn a_word_selects_a_stage_its_variants_or_a_pattern() {
        let pipeline = pipeline(
            "stages:\n  prep: {cmd: x}\n  train: {cmd: x, matrix: {m: [a, b]}}\n  trail: {cmd: x}\n",
        )
        .unwrap();
        let select = |word: &str| -> Vec<&str> {
            let tasks = pipeline.select(word).unwrap();
            tasks.into_iter().map(|task| pipeline.stage(task).name.as_str()).collect()
        };
        assert_eq!(select("prep"), ["prep"]);
        assert_eq!(select("train"), ["train@a", "train@b"]);
        assert_eq!(select("train@b"), ["train@b"]);
        assert_eq!(select("tra*"), ["train@a", "train@b", "trail"]);
        assert_eq!(select("*@?"), ["train@a", "train@b"]);
        assert_eq!(select("*"), ["prep", "train@a", "train@b", "trail"]);
        let error = pipeline.select("trian").unwrap_err();
        assert_eq!(error.to_string(), "there is no stage `trian`");
        assert_eq!(error.hint().unwrap(), "did you mean `train`?");
        assert!(pipeline.select("x*").is_err());
    }

    #[test]
    fn patterns() {
        let yes = [("*", ""), ("a*c", "abc"), ("a*c", "ac"), ("*a*b*", "xxaxxbxx"), ("a?", "ab")];
        let no = [("a", "b"), ("a*c", "ab"), ("?", ""), ("*a?", "a"), ("", "a"), ("a", "")];
        for (pattern, name) in yes {
            assert!(fits_pattern(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in no {
            assert!(!fits_pattern(pattern, name), "{pattern} {name}");
        }
        // Quadratic at worst, not exponential.
        assert!(!fits_pattern(&format!("{}b", "*a".repeat(1000)), &"a".repeat(1000)));
    }

    #[test]
    fn outputs_that_would_destroy_the_project() {
        for (path, why) in [
            ("pivot.yaml", "it defines the pipeline"),
            ("./pipeline.py", "it defines the pipeline"),
            ("params.yaml", "it holds the params"),
            (".git", "it belongs to Git"),
            (".git/hooks/x", "it belongs to Git"),
        ] {
            let shown = path.trim_start_matches("./");
            assert_eq!(
                error(&format!("stages:\n  train: {{cmd: x, outs: ['{path}']}}\n")),
                format!(
                    "error: stage `train` cannot write `{shown}`: {why}\n  --> pivot.yaml:2:3\n\
                     hint: give the stage another output"
                )
            );
        }
        assert!(contains("sub", "sub/pivot.yaml"));
        assert!(!contains("su", "sub/pivot.yaml"));
    }

    #[test]
    fn mistakes_across_stages() {
        let cases = [
            (
                "stages:\n  t@a: {cmd: x}\n  t: {cmd: x, matrix: {m: [a]}}\n",
                "error: two stages are named `t@a`\n  --> pivot.yaml:3:3\n  --> pivot.yaml:2:3\n\
                 hint: rename one of them",
            ),
            (
                "stages:\n  t: {cmd: x, outs: [a/b, ./a//b]}\n",
                "error: stage `t` names the output `a/b` twice\n  --> pivot.yaml:2:3\n\
                 hint: remove one of the two",
            ),
            (
                "stages:\n  t: {cmd: x, deps: [a, b, a]}\n",
                "error: stage `t` names the dependency `a` twice\n  --> pivot.yaml:2:3\n\
                 hint: remove one of the two",
            ),
        ];
        for (yaml, expected) in cases {
            assert_eq!(error(yaml), expected, "{yaml}");
        }
        let many: Vec<_> = (0..1000).map(|n| format!("d{n}")).collect();
        let yaml = format!("stages:\n  t: {{cmd: x, deps: [{}, d7]}}\n", many.join(", "));
        assert!(error(&yaml).starts_with("error: stage `t` names the dependency `d7` twice"));
    }

    #[test]
    fn a_pipeline_is_stored_as_its_stages() {
        let first = pipeline("stages:\n  t: {cmd: x, outs: [a], params: {n: 1}}\n").unwrap();
        let json = serde_json::to_string(first.stages()).unwrap();
        let stages = serde_json::from_str(&json).unwrap();
        let second = Pipeline::new(first.project().clone(), stages).unwrap();
        assert_eq!(first.stages(), second.stages());
    }
}
