//! Where credentials come from: the places where the AWS tools have them, in their order.
//!
//! Environment, web identity, profiles in `~/.aws` (keys, `credential_process`, single sign-on,
//! roles by way of other profiles), containers, instances. What was tried is kept for people who
//! wonder, without any secret.

mod container;
pub(crate) mod profile;
mod session;
mod sign_on;
mod time;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};

use crate::diagnosis::{CredentialAttempt, CredentialOutcome};
use crate::s3::failure::Failure;
use crate::s3::place::domain_of;
use crate::s3::wire::{Connector, Wire};
use profile::Profiles;

/// Credentials that end sooner than this are asked for anew.
const MARGIN: Duration = Duration::from_secs(300);

/// For so long a search that was in vain is not repeated.
pub(crate) const REFUSAL_STAYS: Duration = Duration::from_secs(30);

/// Asks an environment variable.
pub(crate) type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The places where credentials may be, and those that were found.
pub(crate) struct Chain {
    env: Env,
    profiles: Arc<Profiles>,
    /// Asked for by name, so that it goes before the environment.
    profile: Option<String>,
    region: String,
    wire: Wire,
    found: tokio::sync::Mutex<Option<Found>>,
    /// Why the last search failed, and when.
    refused: Mutex<Option<(Failure, Instant)>>,
    attempts: Mutex<Vec<CredentialAttempt>>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What a place has to give.
#[derive(Clone)]
enum Found {
    Keys {
        credential: Arc<AwsCredential>,
        until: Option<SystemTime>,
    },
    /// A service that gives keys and renews them.
    Service(AwsCredentialProvider),
}

/// What a place said: its kind and its credentials, or what is missing.
enum Answer {
    Found(String, Found),
    Absent(String),
}

impl Chain {
    pub(crate) fn new(
        env: Env,
        profiles: Arc<Profiles>,
        profile: Option<String>,
        region: String,
        wire: Wire,
    ) -> Self {
        let (found, attempts) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { env, profiles, profile, region, wire, found, refused: Mutex::default(), attempts }
    }

    /// What was tried so far.
    pub(crate) fn attempts(&self) -> Vec<CredentialAttempt> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Searches, unless that was in vain a moment ago: each object needs credentials, and a search
    /// may wait for services that are not there.
    async fn search(&self) -> Result<(Arc<AwsCredential>, Found), Failure> {
        let refused = || self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((failure, since)) = &*refused()
            && since.elapsed() < REFUSAL_STAYS
        {
            return Err(failure.clone());
        }
        let searched = self.search_all().await;
        *refused() = searched.as_ref().err().map(|failure| (failure.clone(), Instant::now()));
        searched
    }

    async fn search_all(&self) -> Result<(Arc<AwsCredential>, Found), Failure> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let named = self.profile.is_some();
        let mut lacking = Vec::new();
        let mut places = vec!["environment", "web identity", "profile", "container", "instance"];
        if named {
            // The user has said which: nothing else will do.
            places = vec!["profile"];
        }
        for place in places {
            let profile = self.profile_name();
            let source = match place {
                "profile" => format!("profile `{profile}`"),
                place => place.to_owned(),
            };
            let answer = match place {
                "environment" => self.environment(),
                "web identity" => self.web_identity(),
                "profile" => self.in_profile(&profile).await,
                "container" => self.container().await,
                _ => self.instance(),
            };
            let answer = match answer {
                Ok(Answer::Found(kind, found)) => match self.keys(&found).await {
                    Ok(credential) => {
                        self.note(source, CredentialOutcome::Used(kind));
                        return Ok((credential, found));
                    }
                    Err(failure) if place == "instance" => Ok(Answer::Absent(failure.to_string())),
                    Err(failure) => Err(failure),
                },
                Ok(absent) => Ok(absent),
                Err(failure) => Err(failure),
            };
            match answer {
                Ok(Answer::Absent(lack)) => {
                    lacking.push(format!("{source}: {lack}"));
                    self.note(source, CredentialOutcome::Absent(lack));
                }
                Ok(Answer::Found(..)) => unreachable!("what was found was returned"),
                // Going on would use other credentials than the user means.
                Err(failure) => {
                    self.note(source.clone(), CredentialOutcome::Failed(failure.to_string()));
                    return Err(Failure::new(format!("credentials from {source}: {failure}")));
                }
            }
        }
        Err(Failure::new(format!("no credentials were found ({})", lacking.join("; "))))
    }

    fn note(&self, source: String, outcome: CredentialOutcome) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.push(CredentialAttempt { source, outcome });
    }

    async fn keys(&self, found: &Found) -> Result<Arc<AwsCredential>, Failure> {
        match found {
            Found::Keys { credential, .. } => Ok(Arc::clone(credential)),
            Found::Service(service) => {
                service.get_credential().await.map_err(|error| Failure::of(&error))
            }
        }
    }

    fn profile_name(&self) -> String {
        let from_env = || (self.env)("AWS_PROFILE").or_else(|| (self.env)("AWS_DEFAULT_PROFILE"));
        self.profile.clone().or_else(from_env).unwrap_or_else(|| "default".to_owned())
    }

    fn environment(&self) -> Result<Answer, Failure> {
        let [id, secret, token] =
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
                .map(|name| (self.env)(name).filter(|value| !value.is_empty()));
        match (id, secret) {
            (Some(id), Some(secret)) => {
                let found = static_keys(&id, &secret, token.as_deref(), None)?;
                Ok(Answer::Found("keys".to_owned(), found))
            }
            (None, None) => Ok(Answer::Absent("no AWS_ACCESS_KEY_ID".to_owned())),
            (Some(_), None) => Ok(Answer::Absent("no AWS_SECRET_ACCESS_KEY".to_owned())),
            (None, Some(_)) => {
                Ok(Answer::Absent("AWS_SECRET_ACCESS_KEY without AWS_ACCESS_KEY_ID".to_owned()))
            }
        }
    }

    fn web_identity(&self) -> Result<Answer, Failure> {
        let env = |name| (self.env)(name);
        match (env("AWS_WEB_IDENTITY_TOKEN_FILE"), env("AWS_ROLE_ARN")) {
            (Some(file), Some(role)) => {
                let name = env("AWS_ROLE_SESSION_NAME");
                let found = self.web_identity_service(&file, &role, name.as_deref())?;
                Ok(Answer::Found("role by web identity".to_owned(), found))
            }
            _ => Ok(Answer::Absent("no AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN".to_owned())),
        }
    }

    fn web_identity_service(
        &self,
        file: &str,
        role: &str,
        session_name: Option<&str>,
    ) -> Result<Found, Failure> {
        let mut settings = vec![
            (AmazonS3ConfigKey::WebIdentityTokenFile, file.to_owned()),
            (AmazonS3ConfigKey::RoleArn, role.to_owned()),
            (AmazonS3ConfigKey::StsEndpoint, self.sts_endpoint()),
        ];
        if let Some(name) = session_name {
            settings.push((AmazonS3ConfigKey::RoleSessionName, name.to_owned()));
        }
        self.service(&settings, &self.wire)
    }

    fn sts_endpoint(&self) -> String {
        (self.env)("AWS_ENDPOINT_URL_STS")
            .unwrap_or_else(|| format!("https://sts.{}.{}", self.region, domain_of(&self.region)))
    }

    fn instance(&self) -> Result<Answer, Failure> {
        let is_off = (self.env)("AWS_EC2_METADATA_DISABLED");
        if is_off.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Answer::Absent("AWS_EC2_METADATA_DISABLED is set".to_owned()));
        }
        let mut settings = Vec::new();
        if let Some(endpoint) = (self.env)("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            let endpoint = endpoint.trim_end_matches('/').to_owned();
            settings.push((AmazonS3ConfigKey::MetadataEndpoint, endpoint));
        }
        let found = self.service(&settings, &self.wire.impatient()?)?;
        Ok(Answer::Found("role of the instance".to_owned(), found))
    }

    /// One of the services that the library knows to ask.
    fn service(
        &self,
        settings: &[(AmazonS3ConfigKey, String)],
        wire: &Wire,
    ) -> Result<Found, Failure> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name("none")
            .with_region(&self.region)
            .with_allow_http(true)
            .with_http_connector(Connector(wire.clone()));
        for (key, value) in settings {
            builder = builder.with_config(*key, value);
        }
        let store = builder.build().map_err(|error| Failure::of(&error))?;
        Ok(Found::Service(Arc::clone(store.credentials())))
    }
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut found = self.found.lock().await;
        let is_fresh = match &*found {
            None => false,
            Some(Found::Service(_) | Found::Keys { until: None, .. }) => true,
            Some(Found::Keys { until: Some(until), .. }) => *until > SystemTime::now() + MARGIN,
        };
        let credential = match &*found {
            Some(known) if is_fresh => self.keys(known).await,
            _ => self.search().await.map(|(credential, new)| {
                *found = Some(new);
                credential
            }),
        };
        credential.map_err(|failure| object_store::Error::Generic {
            store: "credentials",
            source: Box::new(failure),
        })
    }
}

/// Keys that were found, if a header can hold them.
fn static_keys(
    id: &str,
    secret: &str,
    token: Option<&str>,
    until: Option<SystemTime>,
) -> Result<Found, Failure> {
    let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    let [id, secret] = [id, secret].map(str::trim);
    let token = token.map(str::trim).filter(|token| !token.is_empty());
    if !is_visible(id) || !is_visible(secret) || !token.is_none_or(is_visible) {
        return Err(Failure::new("the keys there hold characters that keys do not have"));
    }
    let credential = AwsCredential {
        key_id: id.to_owned(),
        secret_key: secret.to_owned(),
        token: token.map(str::to_owned),
    };
    Ok(Found::Keys { credential: Arc::new(credential), until })
}
