//! What overrides the params of a definition: `params.yaml` and `-S`.
//!
//! From weakest to strongest: the definition, `params.yaml` under the stage's base name, then
//! under its whole name, then `-S` options likewise. Mappings merge at every depth, all else is
//! replaced.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use crate::error::{PipelineError, Problem};
use crate::name::{MAX_NAME_BYTES, StageName};
use crate::place::Place;
use crate::stage::Stage;
use crate::suggest::closest;
use crate::value::{Map, Params, Value};
use crate::yaml::{Content, Document, Entry, Node};

/// The name of the file, at the root of the project.
pub const PARAMS_FILE: &str = "params.yaml";

/// How many levels a key of `-S` may have.
const MAX_KEYS: usize = 64;
/// For how many unknown names a similar one is searched.
const MAX_SUGGESTIONS: usize = 20;

/// The contents of `params.yaml`, with the place of every value.
#[derive(Debug, Default)]
pub struct ParamsFile {
    document: Option<Document>,
}

impl ParamsFile {
    /// Reads the file of the project at `root`; one that does not exist overrides nothing.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not a mapping in YAML.
    pub fn read(root: &Path) -> Result<Self, PipelineError> {
        match std::fs::read(root.join(PARAMS_FILE)) {
            Ok(bytes) => Self::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => {
                let file = PARAMS_FILE.to_owned();
                Err(Problem::Io { action: "read", file, source }.into())
            }
        }
    }

    /// Reads the text of a `params.yaml`.
    ///
    /// # Errors
    ///
    /// When the text is not a mapping in YAML.
    pub fn parse(bytes: &[u8]) -> Result<Self, PipelineError> {
        let document = Document::parse(PARAMS_FILE, bytes)?;
        let root = &document.root;
        if !matches!(root.content, Content::Map(_)) && !root.is_null() {
            let problem = Problem::ParamsFileNotMapping { found: root.describe() };
            return Err(document.error(root.mark, problem));
        }
        Ok(Self { document: Some(document) })
    }

    /// Where the value at `keys` is overridden for `stage`: under its whole name, or its base.
    ///
    /// A key that is a number selects an item of a list, as in the errors of Python models.
    pub fn lookup(&self, stage: &StageName, keys: &[impl AsRef<str>]) -> Option<Place> {
        let document = self.document.as_ref()?;
        [stage.as_str(), stage.base()].into_iter().find_map(|name| {
            let top = document.root.get(name)?;
            let start = (&top.value, top.key.mark);
            let found = keys.iter().try_fold(start, |(node, _), key| step(node, key.as_ref()));
            found.map(|(_, mark)| document.place(mark))
        })
    }

    /// The top-level names that are neither one of `stages` nor the base of one.
    pub fn unknown_stages<'s>(
        &self,
        stages: impl IntoIterator<Item = &'s StageName>,
    ) -> Vec<UnknownStage> {
        let Some(document) = &self.document else { return Vec::new() };
        let known: HashSet<&str> =
            stages.into_iter().flat_map(|name| [name.as_str(), name.base()]).collect();
        let mut unknown = Vec::new();
        for Entry { key, .. } in top_level(document) {
            if known.contains(key.text()) {
                continue;
            }
            let suggestion = match unknown.len() < MAX_SUGGESTIONS {
                true => closest_in_order(key.text(), &known),
                false => None,
            };
            let (name, place) = (key.text().to_owned(), document.place(key.mark));
            unknown.push(UnknownStage { name, place, suggestion });
        }
        unknown
    }
}

/// A name in `params.yaml` that no stage has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStage {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The stage that was probably meant.
    pub suggestion: Option<String>,
}

/// One `-S STAGE.KEY=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The stage, or the base name of several.
    pub stage: String,
    /// The names that lead to the value; at least one.
    pub keys: Vec<String>,
    /// The value.
    pub value: Value,
}

impl Override {
    /// Reads `text`; the stage is the longest one of `stages`, or of their bases, that fits.
    ///
    /// ```
    /// use pivot_pipeline::{Override, StageName, Value};
    ///
    /// let stages = ["train", "train.v2@a"].map(|name| StageName::new(name).unwrap());
    /// let set = Override::parse("train.v2.opt.lr=1e-3", &stages)?;
    /// assert_eq!(set.stage, "train.v2");
    /// assert_eq!(set.keys, ["opt", "lr"]);
    /// assert_eq!(set.value, Value::Float(0.001));
    /// # Ok::<(), pivot_pipeline::PipelineError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the text has another form, names no stage, or its value is not YAML in one line.
    pub fn parse<'s>(
        text: &str,
        stages: impl IntoIterator<Item = &'s StageName>,
    ) -> Result<Self, PipelineError> {
        let (target, value) = split(text)?;
        let known: HashSet<&str> =
            stages.into_iter().flat_map(|name| [name.as_str(), name.base()]).collect();
        let longest = target
            .match_indices('.')
            .take_while(|(dot, _)| *dot <= MAX_NAME_BYTES)
            .map(|(dot, _)| &target[..dot])
            .filter(|stage| known.contains(stage))
            .last();
        match longest {
            Some(stage) => Self::new(text, stage, &target[stage.len() + 1..], value),
            None if known.contains(target) => Err(bad(text, "it names no param")),
            None => {
                let name = target.split_once('.').map_or(target, |(stage, _)| stage);
                let suggestion = closest_in_order(name, &known);
                let (text, name) = (text.to_owned(), name.to_owned());
                Err(Problem::OverrideOfNoStage { text, name, suggestion }.into())
            }
        }
    }

    /// Reads `text` while the stages are still unknown: the stage ends at the first dot.
    ///
    /// # Errors
    ///
    /// When the text has another form, or its value is not YAML in one line.
    pub fn parse_before_stages(text: &str) -> Result<Self, PipelineError> {
        let (target, value) = split(text)?;
        match target.split_once('.') {
            Some((stage, keys)) => Self::new(text, stage, keys, value),
            None => Err(bad(text, "it names no param")),
        }
    }

    fn new(text: &str, stage: &str, keys: &str, value: &str) -> Result<Self, PipelineError> {
        let keys: Vec<String> = keys.split('.').map(str::to_owned).collect();
        if stage.is_empty() || keys.iter().any(String::is_empty) {
            return Err(bad(text, "a name is empty"));
        }
        if keys.len() > MAX_KEYS {
            return Err(bad(text, "it has too many names"));
        }
        let value = Value::from_yaml(value).map_err(|error| bad(text, &error.to_string()))?;
        Ok(Self { stage: stage.to_owned(), keys, value })
    }

    /// The value inside a mapping for each key.
    fn as_map(&self) -> Map {
        let (first, rest) = self.keys.split_first().expect("at least one key, see `new`");
        let value = rest.iter().rev().fold(self.value.clone(), |value, key| {
            Value::Map([(key.clone(), value)].into_iter().collect())
        });
        [(first.clone(), value)].into_iter().collect()
    }
}

/// Everything that overrides params, by the name of a stage or the base of several.
#[derive(Debug, Default)]
pub struct Overrides {
    by_name: HashMap<String, Map>,
    order: Vec<String>,
    not_mappings: HashMap<String, (Place, &'static str)>,
}

impl Overrides {
    /// Lays `set`, in order, on what `file` says.
    ///
    /// # Errors
    ///
    /// When the file holds a number that JSON cannot carry.
    pub fn new(file: &ParamsFile, set: &[Override]) -> Result<Self, PipelineError> {
        let mut overrides = Self::default();
        if let Some(document) = &file.document {
            for Entry { key, value } in top_level(document) {
                overrides.read(document, key.text(), value)?;
            }
        }
        // A whole name is stronger than a base wherever it is set, and `-S` is stronger than the
        // file: so a base set by `-S` goes into what the file says for its variants as well.
        let is_variant = |set: &&Override| set.stage.contains('@');
        for set in set.iter().filter(|set| !is_variant(set)) {
            let map = set.as_map();
            for name in overrides.order.clone() {
                if name.split_once('@').is_some_and(|(base, _)| base == set.stage) {
                    overrides.lay(&name, &map);
                }
            }
            overrides.lay(&set.stage, &map);
        }
        for set in set.iter().filter(is_variant) {
            overrides.lay(&set.stage, &set.as_map());
        }
        Ok(overrides)
    }

    /// What overrides the params of `stage`.
    ///
    /// # Errors
    ///
    /// When `params.yaml` has something else than a mapping under the stage's name.
    pub fn for_stage(&self, stage: &StageName) -> Result<Map, PipelineError> {
        let mut params = Params::default();
        let names = [Some(stage.base()), stage.variant().map(|_| stage.as_str())];
        for name in names.into_iter().flatten() {
            if let Some((place, found)) = self.not_mappings.get(name) {
                let problem = Problem::ParamsNotMapping { stage: name.to_owned(), found };
                return Err(PipelineError::new(problem).at(place.clone()));
            }
            if let Some(map) = self.by_name.get(name) {
                params.merge(map);
            }
        }
        Ok(params.into_map())
    }

    /// Lays the overrides on the params of `stages`.
    ///
    /// # Errors
    ///
    /// When `params.yaml` has something else than a mapping under a stage's name.
    pub fn apply(&self, stages: &mut [Stage]) -> Result<(), PipelineError> {
        if self.order.is_empty() && self.not_mappings.is_empty() {
            return Ok(());
        }
        for stage in stages {
            stage.params.merge(&self.for_stage(&stage.name)?);
        }
        Ok(())
    }

    /// Checks that what `params.yaml` says of `stages` is a mapping, for stages whose params
    /// Python has laid out itself.
    ///
    /// # Errors
    ///
    /// When it has something else under a stage's name.
    pub fn check<'s>(
        &self,
        stages: impl IntoIterator<Item = &'s StageName>,
    ) -> Result<(), PipelineError> {
        if !self.not_mappings.is_empty() {
            for stage in stages {
                self.for_stage(stage)?;
            }
        }
        Ok(())
    }

    /// All of them as an object for the request to Python, which then lays base and whole name
    /// on each stage that it finds.
    pub fn to_json(&self) -> serde_json::Value {
        let entry = |name: &String| {
            let map: serde_json::Map<_, _> = self.by_name[name]
                .iter()
                .map(|(key, value)| (key.clone(), value.to_json()))
                .collect();
            (name.clone(), serde_json::Value::Object(map))
        };
        self.order.iter().map(entry).collect()
    }

    fn read(&mut self, document: &Document, name: &str, node: &Node) -> Result<(), PipelineError> {
        match &node.content {
            Content::Map(entries) => {
                let map = document.map(entries, &|_, _| Ok(None))?;
                self.lay(name, &map);
            }
            _ if node.is_null() => {}
            // Only an error if there is a stage of that name.
            _ => {
                let found = (document.place(node.mark), node.describe());
                self.not_mappings.insert(name.to_owned(), found);
            }
        }
        Ok(())
    }

    fn lay(&mut self, name: &str, over: &Map) {
        if !self.by_name.contains_key(name) {
            self.order.push(name.to_owned());
        }
        let below = self.by_name.entry(name.to_owned()).or_default();
        crate::value::merge_maps(below, over);
    }
}

fn top_level(document: &Document) -> &[Entry] {
    match &document.root.content {
        Content::Map(entries) => entries,
        _ => &[],
    }
}

/// One step down from `node`.
fn step<'n>(node: &'n Node, key: &str) -> Option<(&'n Node, crate::yaml::Mark)> {
    match &node.content {
        Content::Map(_) => node.get(key).map(|entry| (&entry.value, entry.key.mark)),
        Content::List(items) => items.get(key.parse::<usize>().ok()?).map(|item| (item, item.mark)),
        Content::Scalar(_) => None,
    }
}

fn split(text: &str) -> Result<(&str, &str), PipelineError> {
    let (target, value) = text.split_once('=').ok_or_else(|| bad(text, "it has no `=`"))?;
    Ok((target.trim(), value))
}

fn bad(text: &str, reason: &str) -> PipelineError {
    Problem::Override { text: text.to_owned(), reason: reason.to_owned() }.into()
}

/// The closest of `known`, of equals the first by name, so that messages are always the same.
fn closest_in_order(word: &str, known: &HashSet<&str>) -> Option<String> {
    let mut known: Vec<_> = known.iter().copied().collect();
    known.sort_unstable();
    closest(word, known).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::printed;

    const FILE: &str = "\
train:
  learning_rate: 0.001
  layers:
  - {size: 64}
  - {size: 32}
train@big:
  opt: {lr: 1}
seed: 20
empty:
";

    fn names(names: &[&str]) -> Vec<StageName> {
        names.iter().map(|name| StageName::new(*name).unwrap()).collect()
    }

    fn name(name: &str) -> StageName {
        StageName::new(name).unwrap()
    }

    fn set(text: &str) -> Override {
        Override::parse_before_stages(text).unwrap()
    }

    fn shown(overrides: &Overrides, stage: &str) -> String {
        Value::Map(overrides.for_stage(&name(stage)).unwrap()).to_string()
    }

    #[test]
    fn no_file_overrides_nothing() {
        let root = tempfile::tempdir().unwrap();
        let overrides = Overrides::new(&ParamsFile::read(root.path()).unwrap(), &[]).unwrap();
        assert_eq!(shown(&overrides, "train"), "{}");
        assert_eq!(overrides.to_json(), serde_json::json!({}));
        std::fs::write(root.path().join("params.yaml"), "").unwrap();
        ParamsFile::read(root.path()).unwrap();
        std::fs::remove_file(root.path().join("params.yaml")).unwrap();
        std::fs::create_dir(root.path().join("params.yaml")).unwrap();
        let error = ParamsFile::read(root.path()).unwrap_err();
        assert_eq!(printed(&error), "error: cannot read `params.yaml`");
    }

    #[test]
    fn the_whole_name_is_stronger_than_the_base() {
        let file = ParamsFile::parse(
            b"train: {lr: 1, opt: {a: 1, b: 1}, l: [1, 2]}\ntrain@x: {opt: {b: 2}, l: [3]}",
        )
        .unwrap();
        let overrides = Overrides::new(&file, &[]).unwrap();
        assert_eq!(shown(&overrides, "train"), "{lr: 1, opt: {a: 1, b: 1}, l: [1, 2]}");
        assert_eq!(shown(&overrides, "train@y"), "{lr: 1, opt: {a: 1, b: 1}, l: [1, 2]}");
        assert_eq!(shown(&overrides, "train@x"), "{lr: 1, opt: {a: 1, b: 2}, l: [3]}");
        assert_eq!(shown(&overrides, "other"), "{}");
    }

    #[test]
    fn an_option_is_stronger_than_the_file() {
        let file = ParamsFile::parse(b"train@x: {lr: 1, n: 1}\ntrain: {lr: 0}").unwrap();
        let options = [set("train@x.n=3"), set("train.lr=2"), set("train.n=2"), set("new.a.b=[1]")];
        let overrides = Overrides::new(&file, &options).unwrap();
        assert_eq!(shown(&overrides, "train@x"), "{lr: 2, n: 3}");
        assert_eq!(shown(&overrides, "train@y"), "{lr: 2, n: 2}");
        assert_eq!(
            overrides.to_json(),
            serde_json::json!({
                "train@x": {"lr": 2, "n": 3},
                "train": {"lr": 2, "n": 2},
                "new": {"a": {"b": [1]}},
            })
        );
    }

    #[test]
    fn finds_the_line_of_a_value() {
        let file = ParamsFile::parse(FILE.as_bytes()).unwrap();
        let at = |stage: &str, keys: &[&str]| {
            file.lookup(&name(stage), keys).map(|place| place.to_string())
        };
        assert_eq!(at("train", &[]).unwrap(), "params.yaml:1:1");
        assert_eq!(at("train", &["learning_rate"]).unwrap(), "params.yaml:2:3");
        assert_eq!(at("train", &["layers", "1", "size"]).unwrap(), "params.yaml:5:6");
        assert_eq!(at("train@big", &["opt", "lr"]).unwrap(), "params.yaml:7:9");
        assert_eq!(at("train@big", &["learning_rate"]).unwrap(), "params.yaml:2:3");
        assert_eq!(at("train", &["opt"]), None);
        assert_eq!(at("train", &["layers", "2"]), None);
        assert_eq!(at("train", &["learning_rate", "x"]), None);
        assert_eq!(at("other", &["x"]), None);
    }

    #[test]
    fn reports_names_of_no_stage() {
        let file = ParamsFile::parse(b"trian: {}\ntrain: {}\nseed: 1\nx@b: {}\nx: {}").unwrap();
        let unknown = file.unknown_stages(&names(&["train", "x@a"]));
        let shown: Vec<_> =
            unknown.iter().map(|u| format!("{} {} {:?}", u.place, u.name, u.suggestion)).collect();
        assert_eq!(
            shown,
            [
                "params.yaml:1:1 trian Some(\"train\")",
                "params.yaml:3:1 seed None",
                "params.yaml:4:1 x@b Some(\"x@a\")",
            ]
        );
    }

    #[test]
    fn only_a_stage_needs_a_mapping() {
        let file = ParamsFile::parse(b"seed: 1\ntrain: [1]").unwrap();
        let overrides = Overrides::new(&file, &[]).unwrap();
        assert_eq!(shown(&overrides, "other"), "{}");
        assert_eq!(
            printed(&overrides.for_stage(&name("train@x")).unwrap_err()),
            "error: the params of stage `train` must be a mapping, but they are a list\n  \
             --> params.yaml:2:8\nhint: write `train: {NAME: VALUE}`"
        );
    }

    #[test]
    fn bad_files() {
        let cases = [
            (
                "- a",
                "error: params.yaml must be a mapping of stages to params, but it is a list\n  --> params.yaml:1:1",
            ),
            (
                "a: 1\na: 2",
                "error: the key `a` occurs twice in this mapping\n  --> params.yaml:2:1\n  --> params.yaml:1:1\nhint: remove one of the two, or give it another name",
            ),
        ];
        for (text, expected) in cases {
            let error = ParamsFile::parse(text.as_bytes()).unwrap_err();
            assert_eq!(printed(&error), expected);
        }
        let file = ParamsFile::parse(b"a: {b: .inf}").unwrap();
        assert_eq!(
            printed(&Overrides::new(&file, &[]).unwrap_err()),
            "error: `.inf` is not a finite number\n  --> params.yaml:1:8\n\
             hint: put it in quotes and let the stage convert it"
        );
    }

    #[test]
    fn options_name_the_longest_stage() {
        let stages = names(&["train", "a.b@c.d", "a"]);
        let cases = [
            ("train.lr=0.1", "train", "lr", "0.1"),
            (" train.lr = 0.1 ", "train", "lr", "0.1"),
            ("a.b@c.d.e.f=~", "a.b@c.d", "e f", "null"),
            ("a.b.c=x", "a.b", "c", "x"),
            ("a.c=no", "a", "c", "no"),
            ("a.c=", "a", "c", "null"),
            ("a.c=x=y", "a", "c", "x=y"),
            ("a.c=[1, {k: v}]", "a", "c", "[1, {k: v}]"),
            ("a.c=\"1\"", "a", "c", "\"1\""),
            ("a.c=1 2", "a", "c", "\"1 2\""),
            ("a.c=s3://b:80/x", "a", "c", "\"s3://b:80/x\""),
        ];
        for (text, stage, keys, value) in cases {
            let set = Override::parse(text, &stages).unwrap();
            assert_eq!(
                (set.stage.as_str(), set.keys.join(" "), set.value.to_string()),
                (stage, keys.to_owned(), value.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn bad_options() {
        let stages = names(&["train", "tune@a"]);
        let form = "write STAGE.KEY=VALUE, for example `-S train.lr=0.1`";
        let cases = [
            ("train.lr", "it has no `=`", form),
            ("train=1", "it names no param", form),
            ("train..lr=1", "a name is empty", form),
            ("train.=1", "a name is empty", form),
            ("trian.lr=1", "there is no stage `trian`", "did you mean `train`?"),
            ("train.lr=a: b", "the value is not written in one line", form),
            ("train.lr=- 1", "the value is not written in one line", form),
            ("train.lr=.nan", "`.nan` is not a finite number", form),
            ("train.lr=[1", "this is not YAML: unclosed bracket '['", form),
            ("train.lr=!!str 1", "YAML tags are not supported", form),
        ];
        for (text, reason, hint) in cases {
            assert_eq!(
                printed(&Override::parse(text, &stages).unwrap_err()),
                format!("error: `{text}` does not set a param: {reason}\nhint: {hint}"),
            );
        }
        assert!(Override::parse(&format!("train{}=1", ".a".repeat(100_000)), &stages).is_err());
    }
}
