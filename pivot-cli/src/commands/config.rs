//! `pivot config`: the settings in `.pivot/config.yaml`, without an editor.

use pivot_exec::{CONFIG_FILE, ConfigError};
use pivot_pipeline::Value;

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Show and change the settings in `.pivot/config.yaml`; comments and order in it are kept
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show one setting; the exit code is 1 if it is not set
    Get {
        /// The setting, such as `core.jobs`
        key: String,
    },
    /// Change one setting
    Set {
        /// The setting, such as `core.jobs`
        key: String,
        /// The value, as in one line of YAML
        value: String,
    },
    /// Remove one setting
    Unset {
        /// The setting, such as `core.jobs`
        key: String,
    },
    /// Show all settings of the file
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    let root = project::root(global)?;
    match &arguments.command {
        Command::Get { key } => {
            let (_, text) = pivot_exec::read_config(&root)?;
            let Some(value) = text.value().get(&parts(key)) else {
                return Err(not_set(key));
            };
            output::data(&format!("{}\n", shown(value)));
        }
        Command::Set { key, value } => {
            // What is no YAML in one line, such as `a: b`, is meant as it stands.
            let value = Value::from_yaml(value).unwrap_or_else(|_| Value::from(value.as_str()));
            pivot_exec::edit_config(&root, |_, text| {
                Ok::<_, ConfigError>(text.set(&parts(key), &value)?)
            })
            .map_err(|error| refused(error, key))?;
        }
        Command::Unset { key } => {
            pivot_exec::edit_config(&root, |_, text| match text.unset(&parts(key)) {
                Ok(true) => Ok(()),
                Ok(false) => Err(not_set(key)),
                Err(error) => Err(ConfigError::from(error).into()),
            })?;
        }
        Command::List { json } => {
            let (_, text) = pivot_exec::read_config(&root)?;
            if *json {
                let settings = text.value().to_json();
                output::json(&serde_json::json!({ "schema_version": 1, "config": settings }));
            } else {
                output::data(&flat(text.value()));
            }
        }
    }
    Ok(Exit::Done)
}

fn parts(key: &str) -> Vec<&str> {
    key.split('.').collect()
}

fn not_set(key: &str) -> Report {
    Report::new(format!("`{key}` is not set")).hint("`pivot config list` shows what is set")
}

/// The file as it would have been is not understood: the value or the key is at fault.
fn refused(error: ConfigError, key: &str) -> Report {
    match error {
        ConfigError::Rejected { message } => {
            Report::new(format!("`{key}` cannot be set to this: {message}"))
                .hint(format!("{CONFIG_FILE} is as it was"))
        }
        error => error.into(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_json().to_string(),
    }
}

/// A line a setting, with its whole key.
fn flat(value: &Value) -> String {
    let mut text = String::new();
    let mut waiting = vec![(String::new(), value)];
    while let Some((key, value)) = waiting.pop() {
        match value {
            Value::Map(map) => {
                let dot = if key.is_empty() { "" } else { "." };
                let inner = map.iter().map(|(name, value)| (format!("{key}{dot}{name}"), value));
                waiting.extend(inner.rev());
            }
            other => text.push_str(&format!("{key}: {}\n", shown(other))),
        }
    }
    text
}
