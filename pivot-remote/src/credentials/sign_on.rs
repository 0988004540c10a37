//! Credentials by single sign-on: the token that `aws sso login` left is traded for keys.
//!
//! Such a token is good for an hour. One of a session can be renewed without asking the user again,
//! as the AWS tools do it, and is then left in its place for them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use object_store::client::HttpRequestBody;
use serde_json::{Value, json};

use super::profile::Section;
use super::session::{built, encoded, keys_of_json};
use super::time::{format_utc, parse_utc};
use super::{Chain, Found, MARGIN};
use crate::s3::failure::Failure;

impl Chain {
    /// Trades the token of the profile's sign-on for keys of a role in an account.
    pub(super) async fn single_sign_on(
        &self,
        section: &Section,
        account: &str,
        role: &str,
    ) -> Result<Found, Failure> {
        let session = section.get("sso_session");
        let shared = match session {
            Some(name) => Some(self.profiles.session(name).ok_or_else(|| {
                Failure::new(format!("there is no section `[sso-session {name}]`"))
            })?),
            None => None,
        };
        let get = |key: &str| shared.and_then(|s| s.get(key)).or_else(|| section.get(key));
        let start_url = get("sso_start_url").ok_or_else(|| Failure::new("no sso_start_url"))?;
        let region = get("sso_region").ok_or_else(|| Failure::new("no sso_region"))?;
        let file = self.token_file(session.unwrap_or(start_url)).ok_or_else(log_in)?;
        let token = self.token(&file, region).await?;
        let endpoint = (self.env)("AWS_ENDPOINT_URL_SSO")
            .unwrap_or_else(|| format!("https://portal.sso.{region}.amazonaws.com"));
        let url = format!(
            "{}/federation/credentials?role_name={}&account_id={}",
            endpoint.trim_end_matches('/'),
            encoded(role),
            encoded(account)
        );
        let request = built(Method::GET, &url, &[("x-amz-sso_bearer_token", &token)])?;
        let (status, body) = self.wire.ask(request).await?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(log_in());
        }
        if !status.is_success() {
            return Err(Failure::answer(status, ""));
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| not_understood())?;
        let keys = &answer["roleCredentials"];
        let until = keys["expiration"].as_u64().map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
        keys_of_json(keys, ["accessKeyId", "secretAccessKey", "sessionToken"], until)
    }

    /// Where the tools keep the token of a session, or of a start URL.
    fn token_file(&self, name: &str) -> Option<PathBuf> {
        let algorithm = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
        let digest = ring::digest::digest(algorithm, name.as_bytes());
        let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.profiles.sso_cache.as_ref()?.join(format!("{digits}.json")))
    }

    /// The token in a file, renewed if it is about to end.
    async fn token(&self, file: &Path, region: &str) -> Result<String, Failure> {
        let text = fs::read(file).map_err(|_| log_in())?;
        let mut saved: Value = serde_json::from_slice(&text).map_err(|_| log_in())?;
        let until = saved["expiresAt"].as_str().and_then(parse_utc).ok_or_else(log_in)?;
        let now = SystemTime::now();
        if until <= now + MARGIN {
            match self.renewed(&saved, region).await {
                Ok(renewed) => {
                    saved = renewed;
                    // The next program would have to renew it again; that is no concern of ours.
                    let _ = write_private(file, &saved);
                }
                Err(_) if until > now => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(saved["accessToken"].as_str().ok_or_else(log_in)?.to_owned())
    }

    /// The same sign-on with a new token.
    async fn renewed(&self, saved: &Value, region: &str) -> Result<Value, Failure> {
        let field = |name: &str| saved[name].as_str().ok_or_else(log_in);
        let body = json!({
            "clientId": field("clientId")?,
            "clientSecret": field("clientSecret")?,
            "refreshToken": field("refreshToken")?,
            "grantType": "refresh_token",
        });
        let registered = saved["registrationExpiresAt"].as_str().and_then(parse_utc);
        if registered.is_some_and(|until| until <= SystemTime::now()) {
            return Err(log_in());
        }
        let endpoint = (self.env)("AWS_ENDPOINT_URL_SSO_OIDC")
            .unwrap_or_else(|| format!("https://oidc.{region}.amazonaws.com"));
        let url = format!("{}/token", endpoint.trim_end_matches('/'));
        let mut request = built(Method::POST, &url, &[("content-type", "application/json")])?;
        *request.body_mut() = HttpRequestBody::from(body.to_string());
        let (status, body) = self.wire.ask(request).await?;
        if !status.is_success() {
            return Err(log_in());
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| not_understood())?;
        let mut renewed = saved.clone();
        renewed["accessToken"] = answer["accessToken"].as_str().ok_or_else(not_understood)?.into();
        let seconds = answer["expiresIn"].as_u64().unwrap_or(0).min(366 * 24 * 60 * 60);
        let until = SystemTime::now() + Duration::from_secs(seconds);
        renewed["expiresAt"] = format_utc(until).into();
        if let Some(token) = answer["refreshToken"].as_str() {
            renewed["refreshToken"] = token.into();
        }
        Ok(renewed)
    }
}

fn log_in() -> Failure {
    Failure::new("there is no valid sign-on: run `aws sso login`")
}

fn not_understood() -> Failure {
    Failure::new("the sign-on service's answer was not understood")
}

/// Replaces a file by one that only this user may read.
fn write_private(file: &Path, value: &Value) -> std::io::Result<()> {
    let parent = file.parent().unwrap_or(Path::new("."));
    // Temporary files are made for their owner alone.
    let mut temporary = tempfile::NamedTempFile::new_in(parent)?;
    temporary.write_all(value.to_string().as_bytes())?;
    temporary.persist(file)?;
    Ok(())
}
