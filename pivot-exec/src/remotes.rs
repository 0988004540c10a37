//! The remotes of a project: from a name in the configuration to something that can be asked.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pivot_pipeline::closest;
use pivot_remote::{
    Addressing, Indexed, Interrupt, RemoteError, RemoteOptions, RemoteUrl, UrlError,
};
use thiserror::Error;

use crate::config::{AddressingStyle, Config, RemoteConfig};
use crate::locked::LockedOut;
use crate::project::OpenProject;

/// How long the name of a remote may be.
const MAX_NAME_BYTES: usize = 100;

/// Why there is no remote to use.
#[derive(Debug, Error)]
pub enum RemoteChoiceError {
    /// The project has none.
    #[error("the project has no remote")]
    None,
    /// It has some, but it is not said which to use.
    #[error("no remote is the default one")]
    NoDefault {
        /// Those that there are, sorted.
        known: Vec<String>,
    },
    /// There is none of this name.
    #[error("there is no remote `{name}`")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
        /// Those that there are, sorted.
        known: Vec<String>,
    },
    /// Its URL cannot be used.
    #[error("remote `{name}` cannot be used")]
    Url {
        /// The remote.
        name: String,
        /// What is wrong with its URL.
        source: UrlError,
    },
    /// It has a setting of another kind of remote.
    #[error("remote `{name}` is {url}, for which `{setting}` means nothing")]
    Setting {
        /// The remote.
        name: String,
        /// Where it is.
        url: RemoteUrl,
        /// The setting that means nothing for it.
        setting: &'static str,
    },
    /// It is a directory that is no other place than the project's own.
    #[error("remote `{name}` cannot be used: it {problem}")]
    Place {
        /// The remote.
        name: String,
        /// Completes "the directory …".
        problem: &'static str,
    },
    /// It cannot be opened.
    #[error("remote `{name}` cannot be used")]
    Open {
        /// The remote.
        name: String,
        /// Why.
        source: RemoteError,
    },
}

impl RemoteChoiceError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::None => Some("add one: `pivot remote add origin s3://bucket/prefix`".to_owned()),
            Self::NoDefault { known } => Some(format!(
                "choose one with `pivot remote default NAME` or `-r NAME`: {}",
                known.join(", ")
            )),
            Self::Unknown { suggestion: Some(suggestion), .. } => {
                Some(format!("did you mean `{suggestion}`?"))
            }
            Self::Unknown { known, .. } if known.is_empty() => Self::None.hint(),
            Self::Unknown { known, .. } => Some(format!("known remotes: {}", known.join(", "))),
            Self::Url { name, .. } => Some(format!("correct `remotes.{name}` in {CONFIG}")),
            Self::Setting { name, setting, .. } => {
                Some(format!("remove it: `pivot config unset remotes.{name}.{setting}`"))
            }
            Self::Place { name, .. } => {
                Some(format!("set `remotes.{name}` in {CONFIG} to a directory elsewhere"))
            }
            Self::Open { .. } => None,
        }
    }
}

const CONFIG: &str = crate::config::CONFIG_FILE;

/// The remote `name`, or the default one, with its settings.
///
/// # Errors
/// When there is no such remote, or none is the default.
pub fn choose_remote<'c>(
    config: &'c Config,
    name: Option<&str>,
) -> Result<(&'c str, &'c RemoteConfig), RemoteChoiceError> {
    let known = || config.remotes.keys().cloned().collect::<Vec<_>>();
    let name = match (name, &config.default_remote) {
        (Some(name), _) => name,
        (None, Some(name)) => name.as_str(),
        (None, None) if config.remotes.is_empty() => return Err(RemoteChoiceError::None),
        (None, None) => return Err(RemoteChoiceError::NoDefault { known: known() }),
    };
    match config.remotes.get_key_value(name) {
        Some((name, remote)) => Ok((name, remote)),
        None => Err(RemoteChoiceError::Unknown {
            name: name.to_owned(),
            suggestion: closest(name, config.remotes.keys().map(String::as_str)).map(Into::into),
            known: known(),
        }),
    }
}

/// Opens the remote `name`, or the default one; it remembers in the state what the remote holds.
/// Nothing is read or sent yet.
///
/// # Errors
/// When there is no such remote, or its settings cannot be used.
pub fn open_remote<'p>(
    project: &'p OpenProject,
    name: Option<&str>,
    jobs: Option<NonZeroUsize>,
    interrupt: Interrupt,
) -> Result<(String, Indexed<'p>), RemoteChoiceError> {
    let options = RemoteOptions { jobs, interrupt, ..RemoteOptions::default() };
    open_remote_with(project, name, options)
}

/// The same with `options`, to which what the configuration says is added.
///
/// # Errors
/// Like [`open_remote`].
pub fn open_remote_with<'p>(
    project: &'p OpenProject,
    name: Option<&str>,
    options: RemoteOptions,
) -> Result<(String, Indexed<'p>), RemoteChoiceError> {
    let (name, settings) = choose_remote(&project.config, name)?;
    let url = RemoteUrl::parse(&settings.url)
        .map_err(|source| RemoteChoiceError::Url { name: name.to_owned(), source })?;
    let foreign = |setting: &&str| !url.settings().contains(setting);
    if let Some(setting) = settings.bucket_settings().into_iter().find(foreign) {
        return Err(RemoteChoiceError::Setting { name: name.to_owned(), url, setting });
    }
    let root = project.root();
    if let Some(problem) = remote_place_problem(root, &project.config, &url) {
        return Err(RemoteChoiceError::Place { name: name.to_owned(), problem });
    }
    let RemoteConfig { endpoint_url, region, profile, addressing_style, anonymous, .. } =
        settings.clone();
    let addressing = match addressing_style {
        None | Some(AddressingStyle::Auto) => Addressing::Auto,
        Some(AddressingStyle::Path) => Addressing::Path,
        Some(AddressingStyle::Virtual) => Addressing::Virtual,
    };
    let anonymous = anonymous.unwrap_or(false);
    let options = RemoteOptions { endpoint_url, region, profile, addressing, anonymous, ..options };
    let remote = pivot_remote::open_with(&url, &options, root)
        .map_err(|source| RemoteChoiceError::Open { name: name.to_owned(), source })?;
    let remote = Indexed::new(remote, &project.state);
    // To ask a directory costs no more than to look into the index.
    let is_directory = matches!(url, RemoteUrl::Directory(_));
    Ok((name.to_owned(), if is_directory { remote.asking() } else { remote }))
}

/// Why a directory is no place for what shall not be lost with the project, if so; completes "the
/// directory …". A bucket is.
pub fn remote_place_problem(root: &Path, config: &Config, url: &RemoteUrl) -> Option<&'static str> {
    let RemoteUrl::Directory(directory) = url else { return None };
    let directory = real_path(&root.join(directory));
    let cache = config.cache.dir.as_deref().unwrap_or(Path::new(".pivot/cache"));
    let cache = real_path(&root.join(cache));
    if directory == real_path(root) {
        Some("is the project itself")
    } else if directory.starts_with(&cache) {
        Some("is the project's own cache")
    } else if directory.starts_with(real_path(&root.join(".pivot"))) {
        Some("lies in the project's `.pivot`")
    } else {
        None
    }
}

/// The output that the remote's directory lies in, if it does: what is sent there would change it.
pub fn output_around_remote<'o>(
    root: &Path,
    url: &RemoteUrl,
    outs: &'o [LockedOut],
) -> Option<&'o LockedOut> {
    let RemoteUrl::Directory(directory) = url.relative_to(root) else { return None };
    let directory = real_path(&directory);
    let inner = directory.strip_prefix(real_path(root)).ok()?;
    outs.iter().find(|out| inner.starts_with(&out.artifact.path))
}

/// The path without links, as far as it exists.
fn real_path(path: &Path) -> PathBuf {
    let real = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = real else { return path.to_owned() };
    match path.strip_prefix(above) {
        Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
        _ => real,
    }
}

/// What is wrong with `name` as the name of a remote, if anything; completes "the name …".
pub fn remote_name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_NAME_BYTES {
        Some("is longer than 100 characters")
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        Some("may only have letters, digits, `_` and `-`")
    } else if name.starts_with('-') {
        Some("begins with `-`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str], default: Option<&str>) -> Config {
        let remote = |name: &&str| ((*name).to_owned(), RemoteConfig::default());
        Config {
            remotes: names.iter().map(remote).collect(),
            default_remote: default.map(str::to_owned),
            ..Config::default()
        }
    }

    #[test]
    fn the_named_remote_goes_before_the_default_one() {
        let both = config(&["origin", "backup"], Some("origin"));
        assert_eq!(choose_remote(&both, None).unwrap().0, "origin");
        assert_eq!(choose_remote(&both, Some("backup")).unwrap().0, "backup");
        for (config, name, hint) in [
            (config(&[], None), None, "add one"),
            (config(&["a", "b"], None), None, "a, b"),
            (config(&["origin"], None), Some("orign"), "did you mean `origin`?"),
            (config(&["origin"], Some("gone")), None, "known remotes: origin"),
        ] {
            let error = choose_remote(&config, name).unwrap_err();
            assert!(error.hint().unwrap().contains(hint), "{error:?}");
        }
    }

    #[test]
    fn a_name_fits_on_the_command_line_and_into_a_key() {
        for name in ["origin", "team_2", "a-b"] {
            assert_eq!(remote_name_problem(name), None);
        }
        for name in ["", "-r", "a.b", "a b", "é", "a/b", &"x".repeat(101)] {
            assert!(remote_name_problem(name).is_some(), "{name}");
        }
    }
}
