//! The outputs of a stage: a path alone, or a path with options in either of two forms.

use super::reader::StageReader;
use crate::error::{PipelineError, Problem};
use crate::path::ProjectPath;
use crate::stage::{Out, OutKind};
use crate::yaml::{Content, Entry, Node, ScalarKind};

impl StageReader<'_> {
    /// A path, `path: {…options}`, or a mapping with `path` among the options.
    pub(super) fn out(&self, item: &Node, section: Section) -> Result<Out, PipelineError> {
        let wrong = || Err(self.wrong_type(item, section.item(), "a path, or one with options"));
        let Content::Map(entries) = &item.content else {
            let Content::Scalar(scalar) = &item.content else { return wrong() };
            let path = self.path(scalar, item.mark, "output")?;
            return self.out_with(item, path, section, &mut std::iter::empty());
        };
        if let Some(Entry { value: Node { mark, content: Content::Scalar(path) }, .. }) =
            item.get("path")
            && path.kind != ScalarKind::Null
        {
            let path = self.path(path, *mark, "output")?;
            let mut options = entries.iter().filter(|entry| entry.key.text() != "path");
            return self.out_with(item, path, section, &mut options);
        }
        let [Entry { key, value }] = entries.as_slice() else { return wrong() };
        let options: &[Entry] = match &value.content {
            Content::Map(options) => options,
            _ if value.is_null() => &[],
            _ => return wrong(),
        };
        let path = self.path(&key.scalar, key.mark, "output")?;
        self.out_with(item, path, section, &mut options.iter())
    }

    fn out_with(
        &self,
        item: &Node,
        path: ProjectPath,
        section: Section,
        options: &mut dyn Iterator<Item = &Entry>,
    ) -> Result<Out, PipelineError> {
        let (mut cache, mut incremental) = (None, false);
        let (mut x, mut y, mut template) = (None, None, None);
        for entry in options {
            let Entry { key, value } = entry;
            let what = || format!("`{}` of {} `{path}`", key.text(), section.noun());
            match (key.text(), section) {
                ("cache", _) => cache = Some(self.boolean(value, &what)?),
                ("incremental", Section::Outs) => incremental = self.boolean(value, &what)?,
                ("x", Section::Plots) => x = Some(self.text(value, &what(), "a string")?),
                ("y", Section::Plots) => y = Some(self.text(value, &what(), "a string")?),
                ("template", Section::Plots) => {
                    template = Some(self.text(value, &what(), "a string")?);
                }
                _ => {
                    let of = format!("{} `{path}`", section.noun());
                    let known = section.options();
                    return Err(self.unknown_key(entry, of, known, section.synonyms()));
                }
            }
        }
        let kind = match section {
            Section::Outs if incremental => OutKind::Incremental,
            Section::Outs => OutKind::Plain,
            Section::Metrics => OutKind::Metric,
            Section::Plots => OutKind::Plot { x, y, template },
        };
        if incremental && cache == Some(false) {
            let problem = Problem::IncrementalWithoutCache { path: path.to_string() };
            return Err(self.document.error(item.mark, problem));
        }
        let out = Out::new(path, kind);
        Ok(Out { cache: cache.unwrap_or(out.cache), ..out })
    }
}

/// Which list an output stands in.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Section {
    Outs,
    Metrics,
    Plots,
}

impl Section {
    pub(super) fn of(key: &str) -> Self {
        match key {
            "metrics" => Self::Metrics,
            "plots" => Self::Plots,
            _ => Self::Outs,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Outs => "output",
            Self::Metrics => "metric",
            Self::Plots => "plot",
        }
    }

    fn item(self) -> &'static str {
        match self {
            Self::Outs => "an output",
            Self::Metrics => "a metric",
            Self::Plots => "a plot",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Outs => &["cache", "incremental"],
            Self::Metrics => &["cache"],
            Self::Plots => &["cache", "x", "y", "template"],
        }
    }

    /// What people write who know another tool.
    fn synonyms(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Outs => &[("persist", "incremental")],
            Self::Metrics | Self::Plots => &[],
        }
    }
}
