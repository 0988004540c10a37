//! Which server, which bucket, which region: options, then environment, then profile.
//!
//! Google's and Microsoft's buckets have no regions and no profiles; the account of the latter is
//! in the name of the server.

use std::fmt;
use std::sync::Arc;

use crate::credentials::Env;
use crate::credentials::profile::Profiles;
use crate::options::{Addressing, RemoteOptions};
use crate::remote::RemoteError;
use crate::url::{RemoteUrl, check_bucket};

/// What is taken when nothing names a region. Servers that are not AWS mostly do not care.
const USUAL_REGION: &str = "us-east-1";

const USUAL_DOMAIN: &str = "amazonaws.com";

/// Where a bucket is and how its requests are written.
pub(super) struct Place {
    pub(super) url: RemoteUrl,
    pub(super) bucket: String,
    /// What every key begins with; empty or without slashes at its ends.
    pub(super) prefix: String,
    /// The server, if it is not the service's own; without a slash at its end.
    pub(super) endpoint: Option<String>,
    pub(super) service: Service,
    pub(super) env: Env,
}

/// Whose protocol the server speaks.
pub(super) enum Service {
    Amazon(Amazon),
    Google,
    Azure {
        /// The storage account.
        account: String,
    },
}

/// What only the protocol of S3 needs to know.
pub(super) struct Amazon {
    pub(super) region: String,
    /// Where the region was named.
    pub(super) region_from: &'static str,
    /// Whether the bucket stands in the host's name.
    pub(super) is_virtual: bool,
    pub(super) profiles: Arc<Profiles>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.to_string()).finish()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// The place of a URL.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Setup`] if the URL is that of a directory, or if there can be no such bucket,
    /// endpoint or region.
    pub(super) fn resolve(
        url: &RemoteUrl,
        options: &RemoteOptions,
        env: Env,
    ) -> Result<Self, RemoteError> {
        let (bucket, prefix) = match url {
            RemoteUrl::S3 { bucket, prefix } | RemoteUrl::Google { bucket, prefix } => {
                (bucket, prefix)
            }
            RemoteUrl::Azure { container, prefix } => (container, prefix),
            RemoteUrl::Directory(_) => return Err(setup("a directory is no bucket")),
        };
        check_bucket(bucket, prefix).map_err(|error| setup(error.to_string()))?;
        let place = |endpoint: Option<String>, service| {
            let endpoint = endpoint.map(|url| checked_endpoint(&url)).transpose()?;
            let (url, bucket, prefix) = (url.clone(), bucket.clone(), prefix.clone());
            Ok(Self { url, bucket, prefix, endpoint, service, env: Arc::clone(&env) })
        };
        match url {
            RemoteUrl::S3 { .. } => {
                let (endpoint, amazon) = Amazon::resolve(bucket, options, &env)?;
                place(endpoint, Service::Amazon(amazon))
            }
            RemoteUrl::Azure { .. } => {
                let account = azure_account(options.endpoint_url.as_deref(), &env)?;
                let usual = || format!("https://{account}.blob.core.windows.net");
                let endpoint = options.endpoint_url.clone().unwrap_or_else(usual);
                place(Some(endpoint), Service::Azure { account })
            }
            _ => place(options.endpoint_url.clone(), Service::Google),
        }
    }

    /// Whether others on the way can read and change what is sent.
    pub(super) fn is_plain(&self) -> bool {
        self.endpoint.as_deref().is_some_and(|url| url.starts_with("http://"))
    }
}

/// The name of the storage account: in the server's name, else in the environment.
fn azure_account(endpoint: Option<&str>, env: &Env) -> Result<String, RemoteError> {
    let host = endpoint.and_then(|url| url.split_once("://")).map(|(_, host)| host);
    let in_host = host.and_then(|host| host.split_once(".blob.")).map(|(name, _)| name.to_owned());
    let named = ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"].map(|name| env(name));
    let account = in_host.or(named.into_iter().flatten().find(|name| !name.is_empty()));
    let account = account.ok_or_else(|| {
        setup(
            "nothing names the storage account: set AZURE_STORAGE_ACCOUNT_NAME, or the \
             `endpoint_url` to `https://ACCOUNT.blob.core.windows.net`",
        )
    })?;
    let may_be = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if account.is_empty() || !account.bytes().all(may_be) {
        return Err(setup("the name of a storage account has only small letters and digits"));
    }
    Ok(account)
}

impl Amazon {
    /// The endpoint, if something names one, and the rest.
    fn resolve(
        bucket: &str,
        options: &RemoteOptions,
        env: &Env,
    ) -> Result<(Option<String>, Self), RemoteError> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let profiles = Arc::new(Profiles::read(&|name| set(name)));
        let in_env = || set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE"));
        let name = options.profile.clone().or_else(in_env);
        let profile = profiles.get(name.as_deref().unwrap_or("default"));
        let in_profile = |key: &str| profile.and_then(|section| section.get(key)).cloned();
        let endpoint = options
            .endpoint_url
            .clone()
            .or_else(|| set("AWS_ENDPOINT_URL_S3"))
            .or_else(|| set("AWS_ENDPOINT_URL"))
            .or_else(|| profile.and_then(|profile| profiles.service_endpoint(profile, "s3")))
            .or_else(|| in_profile("endpoint_url"));
        let (region, region_from) = None
            .or_else(|| options.region.clone().map(|region| (region, "the settings")))
            .or_else(|| set("AWS_REGION").map(|region| (region, "AWS_REGION")))
            .or_else(|| set("AWS_DEFAULT_REGION").map(|region| (region, "AWS_DEFAULT_REGION")))
            .or_else(|| in_profile("region").map(|region| (region, "the profile")))
            .unwrap_or_else(|| (USUAL_REGION.to_owned(), "nothing names another"));
        let is_region = region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_region || region.is_empty() {
            return Err(setup("a region is written like `eu-central-1`"));
        }
        let style = in_profile("s3.addressing_style");
        let addressing = match (options.addressing, style.as_deref()) {
            (Addressing::Auto, Some("path")) => Addressing::Path,
            (Addressing::Auto, Some("virtual")) => Addressing::Virtual,
            (addressing, _) => addressing,
        };
        let is_virtual = match addressing {
            Addressing::Path => false,
            Addressing::Virtual => true,
            // A certificate for `*.host` does not cover a bucket with a dot in its name.
            Addressing::Auto => endpoint.is_none() && !bucket.contains(['.', '_']),
        };
        Ok((endpoint, Self { region, region_from, is_virtual, profiles }))
    }

    /// The endpoint as the library wants it: with the bucket if this stands in the host's name.
    pub(super) fn library_endpoint(&self, place: &Place) -> Option<String> {
        let in_china = || format!("https://s3.{}.{}", self.region, domain_of(&self.region));
        let endpoint = match &place.endpoint {
            Some(endpoint) => endpoint.clone(),
            // The library only knows the usual domain.
            None if domain_of(&self.region) != USUAL_DOMAIN => in_china(),
            None => return None,
        };
        match endpoint.split_once("://") {
            Some((scheme, host)) if self.is_virtual => {
                Some(format!("{scheme}://{}.{host}", place.bucket))
            }
            _ => Some(endpoint),
        }
    }
}

/// The domain of the servers of AWS in a region.
pub(crate) fn domain_of(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { USUAL_DOMAIN }
}

fn setup(problem: impl Into<String>) -> RemoteError {
    RemoteError::Setup { problem: problem.into() }
}

/// An endpoint without a slash at its end. No message repeats it: it may hold a password.
fn checked_endpoint(url: &str) -> Result<String, RemoteError> {
    let url = url.trim().trim_end_matches('/');
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| setup("an endpoint begins with `https://` or `http://`"))?;
    if rest.contains('@') {
        return Err(setup("an endpoint must not hold credentials: leave out all up to the `@`"));
    }
    if rest.contains(['?', '#']) || rest.is_empty() || url.parse::<http::Uri>().is_err() {
        return Err(setup("an endpoint is written like `https://host:9000`"));
    }
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(options: &RemoteOptions, vars: &[(&str, &str)]) -> Result<Place, RemoteError> {
        let vars: Vec<_> = vars.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let env: Env = Arc::new(move |name| {
            vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        });
        Place::resolve(&RemoteUrl::parse("s3://b/p/q").unwrap(), options, env)
    }

    fn amazon(place: &Place) -> &Amazon {
        let Service::Amazon(amazon) = &place.service else { panic!("{place}") };
        amazon
    }

    fn library_endpoint(place: &Place) -> String {
        amazon(place).library_endpoint(place).unwrap()
    }

    #[test]
    fn options_go_before_the_environment_before_the_profile() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        std::fs::write(&config, "[default]\nregion = eu-west-1\nendpoint_url = http://x/\n")
            .unwrap();
        let config = config.to_str().unwrap();
        let place = resolve(&RemoteOptions::default(), &[]).unwrap();
        assert_eq!((place.to_string().as_str(), amazon(&place).is_virtual), ("s3://b/p/q", true));
        assert_eq!(amazon(&place).region, "us-east-1");
        let vars = [("AWS_CONFIG_FILE", config)];
        let place = resolve(&RemoteOptions::default(), &vars).unwrap();
        assert_eq!(
            (place.to_string().as_str(), amazon(&place).is_virtual),
            ("s3://b/p/q at http://x", false)
        );
        assert_eq!(
            (amazon(&place).region.as_str(), amazon(&place).region_from),
            ("eu-west-1", "the profile")
        );
        let vars = [
            ("AWS_CONFIG_FILE", config),
            ("AWS_REGION", "eu-west-2"),
            ("AWS_ENDPOINT_URL", "https://y"),
        ];
        let options = RemoteOptions { addressing: Addressing::Virtual, ..RemoteOptions::default() };
        let place = resolve(&options, &vars).unwrap();
        assert_eq!((amazon(&place).region.as_str(), place.is_plain()), ("eu-west-2", false));
        assert_eq!(library_endpoint(&place), "https://b.y");
        let options = RemoteOptions { region: Some("eu-west-3".to_owned()), ..options };
        assert_eq!(amazon(&resolve(&options, &vars).unwrap()).region, "eu-west-3");
    }

    #[test]
    fn endpoints_that_cannot_be() {
        for url in [
            "",
            "host",
            "ftp://host",
            "https://",
            "http://u:secret@host",
            "http://h/?x=1",
            "http://h h",
        ] {
            let options =
                RemoteOptions { endpoint_url: Some(url.to_owned()), ..RemoteOptions::default() };
            let error = resolve(&options, &[]).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        let options = RemoteOptions { region: Some("a b".to_owned()), ..RemoteOptions::default() };
        assert!(resolve(&options, &[]).is_err());
    }

    #[test]
    fn buckets_and_prefixes_that_cannot_be() {
        let env: Env = Arc::new(|_| None);
        let at = |bucket: &str, prefix: &str| {
            let url = RemoteUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
            Place::resolve(&url, &RemoteOptions::default(), Arc::clone(&env))
        };
        for (bucket, prefix) in
            [("", ""), ("a/b", ""), ("b", "a//b"), ("b", "/a"), ("b", "a/../b"), ("b", "a\nb")]
        {
            let error = at(bucket, prefix).unwrap_err();
            assert!(matches!(error, RemoteError::Setup { .. }), "{bucket} {prefix}: {error:?}");
        }
        assert!(at("b", "a b/ü&?").is_ok());
    }

    #[test]
    fn the_profile_tells_what_it_tells_the_aws_tools() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        let text = "[default]\nendpoint_url = https://all\nservices = mine\ns3 =\n  max = 4\n\
            \taddressing_style = virtual\n[services mine]\ns3 =\n  endpoint_url = https://s3/\n";
        std::fs::write(&config, text).unwrap();
        let vars = [("AWS_CONFIG_FILE", config.to_str().unwrap())];
        let place = resolve(&RemoteOptions::default(), &vars).unwrap();
        assert_eq!(library_endpoint(&place), "https://b.s3");
        let options = RemoteOptions { addressing: Addressing::Path, ..RemoteOptions::default() };
        let place = resolve(&options, &vars).unwrap();
        assert_eq!(library_endpoint(&place), "https://s3");
    }

    #[test]
    fn another_domain_in_china() {
        let region = Some("cn-north-1".to_owned());
        let options = RemoteOptions { region, ..RemoteOptions::default() };
        let place = resolve(&options, &[]).unwrap();
        assert_eq!(place.to_string(), "s3://b/p/q");
        assert_eq!(library_endpoint(&place), "https://b.s3.cn-north-1.amazonaws.com.cn");
    }
}
