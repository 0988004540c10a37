//! The settings of a project on this machine: `.pivot/config.yaml`.
//!
//! A person writes the file; Pivot reads it, and changes single values of it in place
//! (`config_file.rs`), but never writes it anew. A key that is not known
//! is an error, since a misspelt setting would otherwise do nothing in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pivot_cache::CheckoutMode;
use pivot_pipeline::{PipelineError, Resources, YamlText};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::plain_file;
use crate::run::Executor;

/// The file, relative to the project.
pub const CONFIG_FILE: &str = ".pivot/config.yaml";

/// What `.pivot/config.yaml` says; a missing file says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Remotes by name.
    #[serde(deserialize_with = "nothing_as_default")]
    pub remotes: BTreeMap<String, RemoteConfig>,
    /// The remote that is used when none is named.
    pub default_remote: Option<String>,
    /// The interpreter that runs stages, relative to the project.
    pub python: Option<PathBuf>,
    /// Where and how the cache keeps outputs.
    pub cache: CacheConfig,
    /// How runs behave.
    pub core: CoreConfig,
    /// What counts as a stage's code.
    pub fingerprint: FingerprintConfig,
    /// How much there is of resources, where that is not what the machine has.
    #[serde(deserialize_with = "amounts")]
    pub resources: Resources,
}

/// The part of the configuration about what counts as a stage's code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FingerprintConfig {
    /// How much of an installed package's version counts.
    pub packages: PackageVersions,
}

/// How much of an installed package's version counts for the stages that use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageVersions {
    /// The version and the hashes of the installed files.
    #[default]
    Exact,
    /// The version's first two numbers.
    Minor,
    /// Nothing: packages are no dependencies.
    Ignore,
}

fn amounts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Resources, D::Error> {
    let given: BTreeMap<String, serde_json::Value> = nothing_as_default(deserializer)?;
    let amount = |(name, value): (String, serde_json::Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match pivot_pipeline::resource_amount(&name, &text) {
            Some(amount) => Ok((name, amount)),
            None => Err(de::Error::custom(format!("`{text}` is not an amount of `{name}`"))),
        }
    };
    given.into_iter().map(amount).collect()
}

fn jobs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroUsize>, D::Error> {
    let Some(given) = Option::<serde_json::Value>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let number = given.as_u64().and_then(|number| usize::try_from(number).ok());
    match number.and_then(NonZeroUsize::new) {
        Some(jobs) => Ok(Some(jobs)),
        None => Err(de::Error::custom(format!("`jobs` is a number of at least 1, not {given}"))),
    }
}

/// Where a remote is and how it is reached: in the file, a URL or a mapping with `url`.
///
/// There is no place for keys and passwords here; they are found where other programs find them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Such as `s3://bucket/prefix` or a path, unchecked.
    pub url: String,
    /// The server to ask instead of the provider's own, such as `https://minio.example.com`.
    pub endpoint_url: Option<String>,
    /// The region that requests are signed for.
    pub region: Option<String>,
    /// The section of the credentials file to use.
    pub profile: Option<String>,
    /// Where the bucket's name stands in requests.
    pub addressing_style: Option<AddressingStyle>,
    /// Requests are not signed: for buckets that anyone may read.
    pub anonymous: Option<bool>,
}

impl RemoteConfig {
    /// The names of the settings that are there and only mean something for a bucket.
    pub fn bucket_settings(&self) -> Vec<&'static str> {
        let Self { url: _, endpoint_url, region, profile, addressing_style, anonymous } = self;
        let settings = [
            ("endpoint_url", endpoint_url.is_some()),
            ("region", region.is_some()),
            ("profile", profile.is_some()),
            ("addressing_style", addressing_style.is_some()),
            ("anonymous", anonymous.is_some()),
        ];
        settings.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect()
    }
}

/// Where the name of a bucket stands in the URLs of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressingStyle {
    /// In the path if the remote has an `endpoint_url`, else in the host.
    Auto,
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    Virtual,
}

impl AddressingStyle {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            AddressingStyle::Auto => "auto",
            AddressingStyle::Path => "path",
            AddressingStyle::Virtual => "virtual",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoteMapping {
    url: String,
    endpoint_url: Option<String>,
    region: Option<String>,
    profile: Option<String>,
    addressing_style: Option<AddressingStyle>,
    anonymous: Option<bool>,
}

impl<'de> Deserialize<'de> for RemoteConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UrlOrMapping;

        impl<'de> Visitor<'de> for UrlOrMapping {
            type Value = RemoteConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or a mapping with `url`")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<RemoteConfig, E> {
                Ok(RemoteConfig { url: url.to_owned(), ..RemoteConfig::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RemoteConfig, A::Error> {
                let mapping = RemoteMapping::deserialize(MapAccessDeserializer::new(map))?;
                let RemoteMapping {
                    url,
                    endpoint_url,
                    region,
                    profile,
                    addressing_style,
                    anonymous,
                } = mapping;
                Ok(RemoteConfig { url, endpoint_url, region, profile, addressing_style, anonymous })
            }
        }

        deserializer.deserialize_any(UrlOrMapping)
    }
}

/// A key without a value is as good as none.
fn nothing_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// The part of the configuration about the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// The cache's directory, relative to the project; `.pivot/cache` unless set.
    pub dir: Option<PathBuf>,
    /// How outputs are brought back into the project.
    pub checkout_mode: CheckoutSetting,
}

/// The part of the configuration about runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoreConfig {
    /// How many stages run at the same time; the number of processors unless set.
    #[serde(deserialize_with = "jobs")]
    pub jobs: Option<NonZeroUsize>,
    /// How much of a run survives when the machine loses power.
    pub durability: Durability,
    /// How Python stages are executed.
    pub executor: Executor,
}

/// How much of a run survives when the machine loses power. Whatever is lost runs again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// All of a run that has ended: the file system is synced once at its end.
    #[default]
    Batch,
    /// Each stage that has ended: its objects and its lock wait for the disk.
    Full,
    /// What the system happens to have written.
    None,
}

/// How outputs are brought back into the project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckoutSetting {
    /// A reflink where the file system can, else a copy of small and a hard link of large files.
    #[default]
    Auto,
    /// Always a copy.
    Copy,
    /// Always a reflink.
    Reflink,
    /// Always a hard link.
    Hardlink,
    /// Always a symbolic link.
    Symlink,
}

impl From<CheckoutSetting> for CheckoutMode {
    fn from(setting: CheckoutSetting) -> Self {
        match setting {
            CheckoutSetting::Auto => Self::Auto,
            CheckoutSetting::Copy => Self::Copy,
            CheckoutSetting::Reflink => Self::Reflink,
            CheckoutSetting::Hardlink => Self::Hardlink,
            CheckoutSetting::Symlink => Self::Symlink,
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says something that is not understood.
    #[error("{message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Line and column, both counted from 1.
        position: Option<(u64, u64)>,
        /// What is wrong.
        message: String,
    },
    /// With the change, the file would not be understood; it is as it was.
    #[error("{message}")]
    Rejected {
        /// What would be wrong.
        message: String,
    },
    /// The file is no YAML that Pivot reads, or cannot be changed as asked.
    #[error(transparent)]
    Yaml(#[from] PipelineError),
    /// The file cannot be written.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Config {
    /// Reads the configuration of the project at `root`.
    ///
    /// # Errors
    /// When the file exists but cannot be read or understood.
    pub fn read(root: &Path) -> Result<Self, ConfigError> {
        let path = root.join(CONFIG_FILE);
        match plain_file::read_text(&path) {
            Ok(Some(text)) => Self::parse(&text, &path),
            Ok(None) => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    /// What `text`, the content of the file at `path`, says.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        // It refuses what the other parser passes over, such as tags.
        let written = YamlText::parse(CONFIG_FILE, text.to_owned())?;
        serde_saphyr::from_str(text).map_err(|error| {
            let position = error.location().map(|at| (at.line(), at.column()));
            let mut message = in_plain_words(&first_line(&error.to_string()));
            if let Some(key) = position.and_then(|(line, column)| written.key_at(line, column)) {
                message = format!("`{key}`: {message}");
            }
            ConfigError::Content { path: path.to_owned(), position, message }
        })
    }
}

/// The parser renders a snippet below its first line; the place is shown by our own message.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest.to_owned(),
        _ => line.to_owned(),
    }
}

/// Where the parser speaks of what it is made of.
fn in_plain_words(message: &str) -> String {
    match message {
        "invalid boolean" => "write true or false".to_owned(),
        "expected mapping start" => "a mapping is expected here".to_owned(),
        "expected string scalar" => "a text is expected here".to_owned(),
        other => match other.split_once(", expected ") {
            Some((found, known)) if found.starts_with("unknown variant ") => {
                format!("{} is not {known}", found.trim_start_matches("unknown variant "))
            }
            Some((found, known)) if found.starts_with("unknown field ") => {
                format!("there is no such setting; expected {known}")
            }
            _ => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".pivot")).unwrap();
        fs::write(dir.path().join(".pivot/config.yaml"), text).unwrap();
        Config::read(dir.path())
    }

    #[test]
    fn the_documented_form_is_read() {
        let text = "remotes:\n  origin: s3://my-bucket/pivot-cache\ndefault_remote: origin\n";
        let config = read(text).unwrap();
        assert_eq!(config.remotes["origin"].url, "s3://my-bucket/pivot-cache");
        assert_eq!(config.default_remote.as_deref(), Some("origin"));
        assert_eq!(read("# nothing yet\n").unwrap(), Config::default());
    }

    #[test]
    fn a_remote_may_be_a_mapping() {
        let text = "remotes:\n  r2: {url: s3://b, endpoint_url: https://x, region: auto}\n";
        let r2 = &read(text).unwrap().remotes["r2"];
        assert_eq!((r2.url.as_str(), r2.region.as_deref()), ("s3://b", Some("auto")));
        assert_eq!(r2.endpoint_url.as_deref(), Some("https://x"));
        assert_eq!(read("remotes:\ndefault_remote:\nresources:\n").unwrap(), Config::default());
        let text = "remotes:\n  open: {url: s3://b, addressing_style: path, anonymous: true}\n";
        let open = &read(text).unwrap().remotes["open"];
        assert_eq!(open.addressing_style, Some(AddressingStyle::Path));
        assert_eq!(open.bucket_settings(), ["addressing_style", "anonymous"]);
        for text in [
            "remotes: {r2: {region: x}}",
            "remotes: {r2: {url: s3://b, key: x}}",
            "remotes: {r2: {url: s3://b, addressing_style: host}}",
            "remotes: {r2: {url: s3://b, anonymous: perhaps}}",
        ] {
            assert!(read(text).is_err(), "accepted {text}");
        }
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        for (text, message) in [
            ("core: {jobs: 0}", "`jobs` is a number of at least 1, not 0"),
            ("core: {jobs: many}", "`jobs` is a number of at least 1, not \"many\""),
            ("core: {jobs: !!str 3}", "tags"),
            ("remotes: !mine {}", "tags"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
        assert_eq!(read("core: {jobs: 3}").unwrap().core.jobs, NonZeroUsize::new(3));
    }

    #[test]
    fn a_misspelt_key_is_an_error_with_its_place() {
        let error = read("cache:\n  checkout_mod: copy\n").unwrap_err();
        let ConfigError::Content { position: Some((line, _)), message, .. } = error else {
            panic!("no place in {error:?}");
        };
        assert_eq!(line, 2);
        assert!(message.contains("checkout_mod"), "{message}");
    }
}
