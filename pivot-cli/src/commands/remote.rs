//! `pivot remote`: which other caches the project knows.

use std::fmt::Write as _;

use pivot_exec::{
    AddressingStyle, ConfigError, RemoteConfig, choose_remote, remote_name_problem,
    remote_place_problem,
};
use pivot_pipeline::{Map, Value, YamlText};
use pivot_remote::RemoteUrl;
use serde_json::json;

use crate::exit::Exit;
use crate::report::Report;
use crate::show::output;
use crate::{Global, project};

/// Add, list and remove remotes: caches elsewhere that outputs are pushed to and pulled from
///
/// They are kept in `.pivot/config.yaml`, which is of this machine only.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add a remote; the first one becomes the default
    Add(Add),
    /// List the remotes; `*` marks the default
    List(List),
    /// Forget a remote; what it holds stays there
    Remove(Remove),
    /// Show the default remote, or make another one the default
    Default(Default),
}

#[derive(Debug, clap::Args)]
struct Add {
    /// What to call it, such as `origin`
    name: String,
    /// Where it is: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`,
    /// `file:///path` or a path
    url: String,
    /// The server to ask instead of the service's own, such as `https://minio.example.com`
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The region that requests are signed for
    #[arg(long)]
    region: Option<String>,
    /// The profile in `~/.aws` whose credentials are used
    #[arg(long)]
    profile: Option<String>,
    /// Where the bucket stands in requests: in the host's name (virtual), or in the path
    #[arg(long, value_name = "STYLE", value_parser = ["auto", "path", "virtual"])]
    addressing_style: Option<String>,
    /// Do not sign requests: for buckets that anyone may read
    #[arg(long)]
    anonymous: bool,
    /// Make it the default
    #[arg(long)]
    default: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Remove {
    /// The remote
    name: String,
}

#[derive(Debug, clap::Args)]
struct Default {
    /// The remote to use from now on
    name: Option<String>,
}

pub(crate) fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Report> {
    match &arguments.command {
        Command::Add(arguments) => add(global, arguments),
        Command::List(arguments) => list(global, arguments),
        Command::Remove(arguments) => remove(global, &arguments.name),
        Command::Default(Default { name: Some(name) }) => set_default(global, name),
        Command::Default(Default { name: None }) => show_default(global),
    }
}

fn add(global: &Global, arguments: &Add) -> Result<Exit, Report> {
    let Add { name, endpoint_url, .. } = arguments;
    if let Some(problem) = remote_name_problem(name) {
        return Err(Report::new(format!("a remote cannot have this name: it {problem}")));
    }
    let url = RemoteUrl::parse(&arguments.url).map_err(url_report)?;
    let settings = settings(arguments);
    if let Some((key, _)) = settings.iter().find(|(key, _)| !url.settings().contains(&key.as_str()))
    {
        let option = key.replace('_', "-");
        return Err(Report::new(format!("`--{option}` means nothing for {url}")));
    }
    if let Some(endpoint) = endpoint_url {
        check_endpoint(endpoint)?;
    }
    let root = project::root(global)?;
    let start = project::start_directory(global)?;
    let (config, _) = pivot_exec::read_config(&root)?;
    if let Some(problem) = remote_place_problem(&root, &config, &url.relative_to(&start)) {
        return Err(Report::new(format!("this cannot be a remote: it {problem}"))
            .hint("a remote keeps what is lost with the project: choose a directory elsewhere"));
    }
    let url = match &url {
        // The user means it from where the command works, the file from the project's root.
        RemoteUrl::Directory(path) if path.is_relative() => match start == root {
            true => arguments.url.clone(),
            false => start.join(path).display().to_string(),
        },
        RemoteUrl::Directory(_) => arguments.url.clone(),
        _ => url.to_string(),
    };
    let value = if settings.is_empty() {
        Value::from(url.as_str())
    } else {
        let url = ("url".to_owned(), Value::from(url.as_str()));
        Value::Map(std::iter::once(url).chain(settings).collect())
    };
    let mut is_default = false;
    edit(global, |config, text| {
        if let Some(known) = config.remotes.get(name) {
            let message = format!("there is a remote `{name}` already");
            return Err(Report::new(message)
                .body(format!("  {name}  {}", shown_url(known)))
                .hint(format!("choose another name, or `pivot remote remove {name}` first")));
        }
        text.set(&["remotes", name], &value).map_err(ConfigError::from)?;
        let needs_default = config.remotes.is_empty() && config.default_remote.is_none();
        if arguments.default || needs_default {
            is_default = true;
            text.set(&["default_remote"], &Value::from(name.as_str()))
                .map_err(ConfigError::from)?;
        }
        Ok(())
    })?;
    let default = if is_default { ", the default remote" } else { "" };
    output::note(&format!("added `{name}`{default}: {url}"));
    Ok(Exit::Done)
}

/// What is written beside the URL.
fn settings(arguments: &Add) -> Map {
    let Add { endpoint_url, region, profile, addressing_style, .. } = arguments;
    let texts = [
        ("endpoint_url", endpoint_url),
        ("region", region),
        ("profile", profile),
        ("addressing_style", addressing_style),
    ];
    let texts =
        texts.into_iter().filter_map(|(key, text)| Some((key, Value::from(text.as_deref()?))));
    let anonymous = arguments.anonymous.then_some(("anonymous", Value::Bool(true)));
    texts.chain(anonymous).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The endpoint is not a secret, but may be written with one.
fn check_endpoint(endpoint: &str) -> Result<(), Report> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let Some(host) = rest.map(|rest| rest.split('/').next().unwrap_or_default()) else {
        return Err(Report::new("the endpoint has to begin with `https://` or `http://`"));
    };
    if endpoint.contains('@') {
        return Err(url_report(pivot_remote::UrlError::Credentials));
    }
    if host.is_empty() || endpoint.contains(|c: char| c.is_control() || c == ' ') {
        return Err(Report::new("the endpoint names no server: write `https://host:port`"));
    }
    Ok(())
}

fn url_report(error: pivot_remote::UrlError) -> Report {
    let report = Report::of(&error);
    match error {
        pivot_remote::UrlError::Credentials => report.hint(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with `--profile`",
        ),
        _ => report,
    }
}

/// The URL as it may be shown: a person may have written a password into the file.
fn shown_url(remote: &RemoteConfig) -> String {
    match RemoteUrl::parse(&remote.url) {
        Ok(url) => url.to_string(),
        Err(error) => format!("({error})"),
    }
}

fn list(global: &Global, arguments: &List) -> Result<Exit, Report> {
    let (config, _) = pivot_exec::read_config(&project::root(global)?)?;
    let is_default = |name: &String| config.default_remote.as_ref() == Some(name);
    if arguments.json {
        let remotes = config.remotes.iter().map(|(name, remote)| {
            json!({
                "name": name,
                "url": shown_url(remote),
                "endpoint_url": remote.endpoint_url,
                "region": remote.region,
                "profile": remote.profile,
                "addressing_style": remote.addressing_style.map(AddressingStyle::name),
                "anonymous": remote.anonymous,
                "default": is_default(name),
            })
        });
        output::json(&json!({ "schema_version": 1, "remotes": remotes.collect::<Vec<_>>() }));
        return Ok(Exit::Done);
    }
    let width = config.remotes.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (name, remote) in &config.remotes {
        let mark = if is_default(name) { '*' } else { ' ' };
        write!(text, "{mark} {name:width$}  {}", shown_url(remote)).expect("a string takes all");
        let settings = [
            ("endpoint_url", remote.endpoint_url.clone()),
            ("region", remote.region.clone()),
            ("profile", remote.profile.clone()),
            ("addressing_style", remote.addressing_style.map(|style| style.name().to_owned())),
            ("anonymous", remote.anonymous.map(|is_anonymous| is_anonymous.to_string())),
        ];
        for (key, value) in settings {
            if let Some(value) = value {
                write!(text, "  {key}={value}").expect("a string takes all");
            }
        }
        text.push('\n');
    }
    output::data(&text);
    if config.remotes.is_empty() {
        output::note("no remotes; add one: `pivot remote add origin s3://bucket/prefix`");
    }
    Ok(Exit::Done)
}

fn remove(global: &Global, name: &str) -> Result<Exit, Report> {
    let mut next = None;
    edit(global, |config, text| {
        choose_remote(config, Some(name))?;
        text.unset(&["remotes", name]).map_err(ConfigError::from)?;
        if config.default_remote.as_deref() == Some(name) {
            text.unset(&["default_remote"]).map_err(ConfigError::from)?;
            next = Some(config.remotes.len() - 1);
        }
        Ok(())
    })?;
    output::note(&format!("removed `{name}`; what it holds is still there"));
    if next.is_some_and(|others| others > 0) {
        output::note("no remote is the default now: choose one with `pivot remote default NAME`");
    }
    Ok(Exit::Done)
}

fn set_default(global: &Global, name: &str) -> Result<Exit, Report> {
    edit(global, |config, text| {
        choose_remote(config, Some(name))?;
        text.set(&["default_remote"], &Value::from(name)).map_err(ConfigError::from)?;
        Ok(())
    })?;
    output::note(&format!("`{name}` is the default remote"));
    Ok(Exit::Done)
}

fn show_default(global: &Global) -> Result<Exit, Report> {
    let (config, _) = pivot_exec::read_config(&project::root(global)?)?;
    let (name, _) = choose_remote(&config, None)?;
    output::data(&format!("{name}\n"));
    Ok(Exit::Done)
}

fn edit(
    global: &Global,
    change: impl FnOnce(&pivot_exec::Config, &mut YamlText) -> Result<(), Report>,
) -> Result<(), Report> {
    pivot_exec::edit_config(&project::root(global)?, change)
}
