//! Credentials by way of a profile: keys, a program, a role.

use std::process::{Command, Stdio};
use std::time::SystemTime;

use http::{Method, Request};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use serde_json::Value;

use super::profile::Section;
use super::time::parse_utc;
use super::{Answer, Chain, Found, static_keys};
use crate::s3::failure::{Failure, between};

impl Chain {
    /// Asks a profile, and the profiles that it takes its credentials from.
    pub(super) async fn in_profile(&self, name: &str) -> Result<Answer, Failure> {
        if self.profiles.get(name).is_none() {
            return Ok(Answer::Absent("there is no such profile".to_owned()));
        }
        let mut chain = self.profiles.chain(name).map_err(Failure::new)?;
        let base = chain.pop().expect("a chain has at least the profile itself");
        let (kind, mut found) = match self.in_section(base, chain.is_empty()).await? {
            Answer::Found(kind, found) => (kind, found),
            Answer::Absent(lack) if chain.is_empty() => return Ok(Answer::Absent(lack)),
            Answer::Absent(lack) => {
                return Err(Failure::new(format!("the source profile: {lack}")));
            }
        };
        let kind = if chain.is_empty() { kind } else { format!("role by {kind}") };
        while let Some(section) = chain.pop() {
            let credential = self.keys(&found).await?;
            found = self.assume(section, &credential).await?;
        }
        Ok(Answer::Found(kind, found))
    }

    /// Asks one profile for credentials of its own. `may_be_role` is whether it is the one that
    /// was asked for, and not one whose keys serve to take a role.
    async fn in_section(&self, section: &Section, may_be_role: bool) -> Result<Answer, Failure> {
        let get = |key: &str| section.get(key).map(String::as_str);
        if let (true, Some(role)) = (may_be_role, get("role_arn")) {
            if let Some(file) = get("web_identity_token_file") {
                let found = self.web_identity_service(file, role, get("role_session_name"))?;
                return Ok(Answer::Found("role by web identity".to_owned(), found));
            }
            let source = match get("credential_source") {
                Some("Environment") => self.environment()?,
                Some("EcsContainer") => self.container().await?,
                Some("Ec2InstanceMetadata") => self.instance()?,
                _ => {
                    return Err(Failure::new("a role needs a source_profile or credential_source"));
                }
            };
            return match source {
                Answer::Found(kind, found) => {
                    let credential = self.keys(&found).await?;
                    let found = self.assume(section, &credential).await?;
                    Ok(Answer::Found(format!("role by {kind}"), found))
                }
                Answer::Absent(lack) => Err(Failure::new(lack)),
            };
        }
        if let (Some(id), Some(secret)) = (get("aws_access_key_id"), get("aws_secret_access_key")) {
            let found = static_keys(id, secret, get("aws_session_token"), None)?;
            return Ok(Answer::Found("keys".to_owned(), found));
        }
        if let (Some(account), Some(role)) = (get("sso_account_id"), get("sso_role_name")) {
            let found = self.single_sign_on(section, account, role).await?;
            return Ok(Answer::Found("single sign-on".to_owned(), found));
        }
        if let Some(command) = get("credential_process") {
            return Ok(Answer::Found("credential_process".to_owned(), by_process(command).await?));
        }
        Ok(Answer::Absent("it has no credentials".to_owned()))
    }

    /// Takes a role with the credentials of someone who may.
    async fn assume(
        &self,
        section: &Section,
        credential: &AwsCredential,
    ) -> Result<Found, Failure> {
        let role = section.get("role_arn").map_or("", String::as_str);
        if section.contains_key("mfa_serial") {
            let text = "the role asks for a second factor: take it with another tool, and use \
                the profile that this one writes";
            return Err(Failure::new(text));
        }
        let name = section.get("role_session_name").map_or("pivot", String::as_str);
        let mut query = format!(
            "Action=AssumeRole&Version=2011-06-15&RoleArn={}&RoleSessionName={}",
            encoded(role),
            encoded(name)
        );
        for (setting, parameter) in
            [("external_id", "ExternalId"), ("duration_seconds", "DurationSeconds")]
        {
            if let Some(value) = section.get(setting) {
                query = format!("{query}&{parameter}={}", encoded(value));
            }
        }
        let url = format!("{}/?{query}", self.sts_endpoint().trim_end_matches('/'));
        let mut request = built(Method::GET, &url, &[])?;
        AwsAuthorizer::new(credential, "sts", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|_| Failure::new("the request cannot be signed"))?;
        let (status, body) = self.wire.ask(request).await?;
        let text = String::from_utf8_lossy(&body);
        if !status.is_success() {
            return Err(Failure::answer(status, &text));
        }
        let field = |name: &str| between(&text, &format!("<{name}>"), &format!("</{name}>"));
        match (field("AccessKeyId"), field("SecretAccessKey"), field("SessionToken")) {
            (Some(id), Some(secret), Some(token)) => {
                static_keys(id, secret, Some(token), field("Expiration").and_then(parse_utc))
            }
            _ => Err(Failure::new("the security token service gave no keys")),
        }
    }
}

/// Runs a program that prints credentials, and may take its time: it may ask the user. What it says
/// to them is not kept from them.
async fn by_process(command: &str) -> Result<Found, Failure> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let command = command.to_owned();
    // A thread of its own and not one of the runtime's, which would be waited for at the end.
    std::thread::spawn(move || sender.send(output_of(&command)));
    receiver.await.unwrap_or_else(|_| Err(Failure::new("credential_process cannot be run")))
}

fn output_of(command: &str) -> Result<Found, Failure> {
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| Failure::new(format!("credential_process cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("credential_process failed: {}", output.status)));
    }
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| Failure::new("credential_process printed something else than credentials"))?;
    let until = answer["Expiration"].as_str().and_then(parse_utc);
    keys_of_json(&answer, ["AccessKeyId", "SecretAccessKey", "SessionToken"], until)
}

pub(super) fn keys_of_json(
    value: &Value,
    [id, secret, token]: [&str; 3],
    until: Option<SystemTime>,
) -> Result<Found, Failure> {
    match (value[id].as_str(), value[secret].as_str()) {
        (Some(id), Some(secret)) => static_keys(id, secret, value[token].as_str(), until),
        _ => Err(Failure::new("there are no keys in the answer")),
    }
}

pub(super) fn built(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<HttpRequest, Failure> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(HttpRequestBody::empty())
        .map_err(|_| Failure::new("a setting holds characters that a request cannot hold"))
}

/// As a value in a query: everything but letters, digits and `-._~` is escaped.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
