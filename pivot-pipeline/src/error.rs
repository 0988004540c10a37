//! What can be wrong with the definition of a pipeline.
//!
//! An error is a [`Problem`] with the places to look at. Its text says what is wrong, its
//! [hint](PipelineError::hint) what to do; whoever prints it adds the places.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::name::NameError;
use crate::path::PathError;
use crate::place::Place;
use crate::value::ValueError;

/// A problem and where it is.
#[derive(Debug)]
pub struct PipelineError {
    problem: Box<Problem>,
    places: Vec<Place>,
}

impl PipelineError {
    /// `problem`, at no place yet.
    pub fn new(problem: Problem) -> Self {
        Self { problem: Box::new(problem), places: Vec::new() }
    }

    /// The same with `place` as the first place to look at.
    pub fn at(mut self, place: Place) -> Self {
        self.places.insert(0, place);
        self
    }

    /// The same with `place` as one more place to look at, unless it is one already.
    pub fn and_at(mut self, place: Place) -> Self {
        if !self.places.contains(&place) {
            self.places.push(place);
        }
        self
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The places to look at, the most important first.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.problem.hint().map(|hint| in_one_line(&hint))
    }
}

/// `text` with its control characters, which may come from a file, made visible.
fn in_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_one_line(&self.problem.to_string()))
    }
}

impl std::error::Error for PipelineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

impl From<Problem> for PipelineError {
    fn from(problem: Problem) -> Self {
        Self::new(problem)
    }
}

/// Everything that can be wrong with the definition of a pipeline.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the message of each variant says what it and its fields are")]
#[non_exhaustive]
pub enum Problem {
    // Finding and reading files.
    #[error("no pipeline found in `{}` or a folder above it", .start.display())]
    NoProject { start: PathBuf },
    #[error("the project `{}` has no pipeline", .root.display())]
    NoDefinition { root: PathBuf },
    #[error("the project's path is not UTF-8 text: `{}`", .root.display())]
    RootNotUtf8 { root: PathBuf },
    #[error("cannot {action} `{file}`")]
    Io { action: &'static str, file: String, source: io::Error },

    // YAML.
    #[error("the file is larger than {limit_mib} MiB")]
    FileTooLarge { limit_mib: usize },
    #[error("the file is not UTF-8 text")]
    NotUtf8,
    #[error("the file contains the control character 0x{code:02x}")]
    ControlCharacter { code: u8 },
    #[error("this is not YAML: {message}")]
    Syntax { message: String },
    #[error("this is not YAML: a tab stands where only spaces may")]
    Tab,
    #[error("lists and mappings nest deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("the aliases of the file stand for too much text")]
    TooManyCopies,
    #[error("this alias stands for a value that contains the alias itself")]
    AliasOfItself,
    #[error("no anchor with this name stands before the alias")]
    UnknownAlias,
    #[error("YAML tags are not supported")]
    Tag,
    #[error("YAML directives are not supported")]
    Directive,
    #[error("a second YAML document begins here")]
    SecondDocument,
    #[error("the key `{key}` occurs twice in this mapping")]
    DuplicateKey { key: String },
    #[error("a key must be a plain value, not a list or a mapping")]
    KeyNotScalar,
    #[error("`<<` merges mappings, but this is {found}")]
    MergeOfNoMapping { found: &'static str },
    #[error("the integer {text} does not fit into 64 bits")]
    HugeInteger { text: String },
    #[error("`{text}` is not a finite number")]
    NotFinite { text: String },
    #[error("the value is not written in one line")]
    NotInline,
    #[error("`{key}` cannot be changed without changing more of the file")]
    CannotEdit { key: String },

    // The shape of pivot.yaml.
    #[error("the file defines no `stages`")]
    NoStages,
    #[error("unknown key `{key}` in {of}")]
    UnknownKey {
        key: String,
        of: String,
        suggestion: Option<String>,
        known: &'static [&'static str],
    },
    #[error("{what} must be {expected}, but it is {found}")]
    WrongType { what: String, expected: &'static str, found: &'static str },
    #[error("`{name}` is not a stage name: {reason}")]
    StageName { name: String, reason: NameError },
    #[error("stage `{stage}` has nothing to run")]
    NoAction { stage: String },
    #[error("stage `{stage}` has both `python` and `cmd`")]
    TwoActions { stage: String },
    #[error("`{target}` does not name a Python function")]
    PythonTarget { target: String },
    #[error("`{path}` cannot be {} of stage `{stage}`: {reason}", with_article(.role))]
    Path { stage: String, role: &'static str, path: String, reason: PathError },
    #[error("incremental output `{path}` needs the cache, but has `cache: false`")]
    IncrementalWithoutCache { path: String },
    #[error("`{amount}` is not an amount of `{name}` for stage `{stage}`")]
    ResourceAmount { stage: String, name: String, amount: String },
    #[error("`{text}` is not a time that stage `{stage}` may take")]
    TimeLimit { stage: String, text: String },

    // Matrix and variants.
    #[error("stage `{stage}` has both `matrix` and `variants`")]
    MatrixAndVariants { stage: String },
    #[error("stage `{stage}` is a variant and cannot have variants itself")]
    VariantOfVariant { stage: String },
    #[error("`{name}` cannot be the name of a dimension of stage `{stage}`")]
    DimensionName { stage: String, name: String },
    #[error("dimension `{name}` of stage `{stage}` has no values")]
    EmptyDimension { stage: String, name: String },
    #[error(
        "the value `{value}` of dimension `{dimension}` cannot be part of a stage name: {reason}"
    )]
    DimensionValue { dimension: String, value: String, reason: NameError },
    #[error("a variant of stage `{stage}` has no name")]
    VariantWithoutName { stage: String },
    #[error("two variants are named `{name}`")]
    SameVariant { name: String },
    #[error("stage `{stage}` has {count} variants, and at most {limit} are possible")]
    TooManyVariants { stage: String, count: u64, limit: u64 },
    #[error("the variants of stage `{stage}` have more than {limit_mib} MiB of text together")]
    VariantsTooLarge { stage: String, limit_mib: u64 },
    #[error("`${{{name}}}` stands for nothing in stage `{stage}`")]
    UnknownVariable { stage: String, name: String, suggestion: Option<String>, known: Vec<String> },
    #[error("`${{` has no closing brace in stage `{stage}`")]
    UnclosedVariable { stage: String },

    // Params.
    #[error("the params of stage `{stage}` must be a mapping, but they are {found}")]
    ParamsNotMapping { stage: String, found: &'static str },
    #[error("params.yaml must be a mapping of stages to params, but it is {found}")]
    ParamsFileNotMapping { found: &'static str },
    #[error("`{text}` does not set a param: {reason}")]
    Override { text: String, reason: String },
    #[error("`{text}` does not set a param: there is no stage `{name}`")]
    OverrideOfNoStage { text: String, name: String, suggestion: Option<String> },

    // The pipeline as a whole.
    #[error("cannot read what Python declared as stage `{stage}`")]
    Declared { stage: String, source: serde_json::Error },
    #[error("param `{param}` of stage `{stage}` cannot be used: {reason}")]
    DeclaredParam { stage: String, param: String, reason: ValueError },
    #[error("Python declared no stage `{stage}`")]
    NotDeclared { stage: String },
    #[error("two stages are named `{name}`")]
    SameStage { name: String },
    #[error("stage `{stage}` cannot write `{path}`: {why}")]
    ForbiddenOutput { stage: String, path: String, why: &'static str },
    #[error("stage `{stage}` names the {role} `{path}` twice")]
    RepeatedPath { stage: String, role: &'static str, path: String },
    #[error("stages `{first}` and `{second}` both write `{path}`")]
    SameOutput { path: String, first: String, second: String },
    #[error(
        "stage `{inner}` writes `{inner_path}` inside `{outer_path}`, which stage `{outer}` writes"
    )]
    NestedOutputs { outer: String, outer_path: String, inner: String, inner_path: String },
    #[error("stage `{stage}` writes `{inner}` inside its own output `{outer}`")]
    OwnNestedOutputs { stage: String, outer: String, inner: String },
    #[error("stage `{stage}` {}", own_input(.path, .output))]
    OwnInput { stage: String, path: String, output: String },
    /// `paths[i]` is written by `stages[i]` and read by the stage after it.
    #[error("stages need one another in a circle: {}", cycle(.stages, *.length))]
    Cycle { stages: Vec<String>, paths: Vec<String>, length: usize },
}

impl Problem {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::RootNotUtf8 { .. } => "rename the folder",
            Self::NoProject { .. } => {
                "`pivot init` makes a first pipeline here; a project elsewhere is named with -C"
            }
            Self::NoDefinition { .. } => "create a pivot.yaml or a pipeline.py there",
            Self::NotUtf8 => "save the file as UTF-8",
            Self::Tab => "indent with spaces",
            Self::Tag => "put a value in quotes to make it a string, else leave the tag out",
            Self::SecondDocument => "keep all in one document: remove the line `---`",
            Self::DuplicateKey { key } if key == "<<" => {
                "merge several mappings with one list: `<<: [*a, *b]`"
            }
            Self::DuplicateKey { .. } => "remove one of the two, or give it another name",
            Self::TooManyCopies | Self::AliasOfItself => "write the values out",
            Self::HugeInteger { .. } | Self::NotFinite { .. } => {
                "put it in quotes and let the stage convert it"
            }
            Self::NotInline => "write a list as `[1, 2]` and a mapping as `{a: 1}`",
            Self::CannotEdit { .. } => "change it with an editor",
            Self::NoStages => "define them as `stages: {NAME: {python: module.function}}`",
            Self::UnknownKey { suggestion, known, .. } => {
                return Some(match suggestion {
                    Some(suggestion) => format!("did you mean `{suggestion}`?"),
                    None => format!("known keys: {}", known.join(", ")),
                });
            }
            Self::WrongType { what, expected, found } => {
                return wrong_type_hint(what, expected, found);
            }
            Self::StageName { .. } => "stage names are made of letters, digits and `_-.@`",
            Self::NoAction { .. } => "add `python: module.function` or `cmd: …`",
            Self::TwoActions { .. } => "keep one of them, or make two stages",
            Self::PythonTarget { .. } => "write `module.function`, with dots between the parts",
            Self::Path { reason, .. } => reason.hint(),
            Self::IncrementalWithoutCache { .. } => {
                "an incremental output is restored from the cache before each run"
            }
            Self::ResourceAmount { name, .. } if name == "memory" => {
                "write bytes as a whole number, or a size such as 8GB or 512MiB"
            }
            Self::ResourceAmount { .. } => "write a whole number",
            Self::TimeLimit { .. } => crate::time_limit::EXPECTED,
            Self::MatrixAndVariants { .. } => {
                "use `matrix` for combinations, `variants` for a list"
            }
            Self::VariantOfVariant { .. } => "leave the `@` out of the name",
            Self::DimensionName { name, .. } if name == "variant" => {
                "`${variant}` already stands for the variant's whole name"
            }
            Self::DimensionName { .. } => {
                "begin with a letter and go on with letters, digits, `_` or `-`"
            }
            Self::EmptyDimension { .. } => "give it at least one value, or remove it",
            Self::DimensionValue { .. } => {
                "use a short value such as `a`, and put the rest into overrides: `a: {params: …}`"
            }
            Self::VariantWithoutName { .. } => "begin each variant with `name: …`",
            Self::SameVariant { .. } => "make the values differ once they are joined with `_`",
            Self::UnknownVariable { name, suggestion, known, .. } => {
                return Some(unknown_variable_hint(name, suggestion.as_deref(), known));
            }
            Self::UnclosedVariable { .. } => "write `$${` for a `${` that is meant literally",
            Self::ParamsNotMapping { stage, .. } => {
                return Some(format!("write `{stage}: {{NAME: VALUE}}`"));
            }
            Self::Override { .. } => "write STAGE.KEY=VALUE, for example `-S train.lr=0.1`",
            Self::OverrideOfNoStage { suggestion, .. } => {
                return suggestion.as_ref().map(|name| format!("did you mean `{name}`?"));
            }
            Self::SameStage { .. } => "rename one of them",
            Self::ForbiddenOutput { .. } => "give the stage another output",
            Self::RepeatedPath { .. } => "remove one of the two",
            Self::SameOutput { .. } => "give one of them another output, or merge the two stages",
            Self::NestedOutputs { .. } | Self::OwnNestedOutputs { .. } => {
                "write to a folder of its own, or let one stage write all of it"
            }
            Self::OwnInput { .. } => {
                "remove it from the deps; an incremental output is there when the stage starts"
            }
            Self::Cycle { stages, paths, .. } => {
                return paths.first().zip(stages.first()).map(|(path, writer)| {
                    let reader = stages.get(1).unwrap_or(writer);
                    format!(
                        "`{writer}` writes `{path}`, which `{reader}` reads; one such link must go"
                    )
                });
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn wrong_type_hint(what: &str, expected: &str, found: &str) -> Option<String> {
    let scalar = ["a boolean", "an integer", "a number"].contains(&found);
    let wants_text = ["string", "path", "name"].iter().any(|word| expected.contains(word));
    let hint = if expected.starts_with("`true`") && found == "a string" {
        "in YAML 1.2 `yes`, `no`, `on` and `off` are strings"
    } else if what.starts_with("`params`") && found == "a list" {
        "write `params: {NAME: VALUE}`; params.yaml may override the values"
    } else if wants_text && scalar {
        "put it in quotes"
    } else if expected.starts_with("a list") && ["a string", "a mapping"].contains(&found) {
        "begin each item with `- `, or put brackets around them"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

fn unknown_variable_hint(name: &str, suggestion: Option<&str>, known: &[String]) -> String {
    if let Some(suggestion) = suggestion {
        return format!("did you mean `${{{suggestion}}}`?");
    }
    let literal = format!("write `$${{{name}}}` if it is meant literally");
    if known.is_empty() {
        return format!("only the dimensions of a matrix have names here; {literal}");
    }
    let known: Vec<_> = known.iter().map(|known| format!("`${{{known}}}`")).collect();
    format!("known are {}; {literal}", known.join(", "))
}

pub(crate) fn with_article(noun: &str) -> String {
    format!("{} {noun}", if noun.starts_with('o') { "an" } else { "a" })
}

fn own_input(path: &str, output: &str) -> String {
    match path == output {
        true => format!("both reads and writes `{path}`"),
        false => format!("reads `{path}` and writes `{output}`, one inside the other"),
    }
}

/// `a -> b -> a`, with dots for the stages that are left out.
fn cycle(stages: &[String], length: usize) -> String {
    let mut text: String = stages.iter().map(|stage| format!("`{stage}` -> ")).collect();
    if length > stages.len() {
        text.push_str(&format!("… {} more … -> ", length - stages.len()));
    }
    text + &format!("`{}`", stages.first().map_or("", String::as_str))
}

/// The error as the program prints it.
#[cfg(test)]
pub(crate) fn printed(error: &PipelineError) -> String {
    use std::fmt::Write as _;
    let mut text = format!("error: {error}");
    for place in error.places() {
        write!(text, "\n  --> {place}").unwrap();
    }
    if let Some(hint) = error.hint() {
        write!(text, "\nhint: {hint}").unwrap();
    }
    text
}
