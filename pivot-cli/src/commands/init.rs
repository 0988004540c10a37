//! `pivot init`: a first pipeline to change, for people who start from nothing.

use std::fs;
use std::path::Path;

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Make a new project: a first pipeline and `.pivot`
///
/// A project that has a pipeline.py or pivot.yaml already needs no `init`; `pivot run` makes
/// `.pivot` by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

const PIPELINE: &str = r#"from pivot import stage


def shout(text):
    return text.upper()


@stage(deps=["hello.txt"], outs=["loud.txt"])
def loud(source, target):
    with open(source) as file:
        text = file.read()
    with open(target, "w") as file:
        file.write(shout(text))
"#;

const DEFINITIONS: [&str; 3] = ["pivot.yaml", "pivot.yml", "pipeline.py"];

pub(crate) fn run(global: &Global, _: &Arguments) -> Result<Exit, Report> {
    let root = project::start_directory(global)?;
    let known = DEFINITIONS.iter().find(|name| root.join(name).exists());
    let made = pivot_exec::make_layout(&root);
    made.map_err(|error| Report::new("cannot make `.pivot`").caused_by(&error))?;
    if let Some(name) = known {
        output::data(&format!("made .pivot; the pipeline is in {name}: try `pivot run`\n"));
        return Ok(Exit::Done);
    }
    write_new(&root, "pipeline.py", PIPELINE)?;
    write_new(&root, "hello.txt", "hello, pipeline\n")?;
    output::data("made .pivot, pipeline.py and hello.txt: try `pivot run`\n");
    Ok(Exit::Done)
}

/// Writes a file that is not there yet; one that is there is the user's.
fn write_new(root: &Path, name: &str, text: &str) -> Result<(), Report> {
    let path = root.join(name);
    if path.exists() {
        return Ok(());
    }
    fs::write(&path, text)
        .map_err(|error| Report::new(format!("cannot write `{name}`")).caused_by(&error))
}
