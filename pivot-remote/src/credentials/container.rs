//! Credentials of the role of a container: a task of ECS, a pod of EKS.
//!
//! The container's environment names a service close by, and perhaps a token to show to it.

use std::time::SystemTime;

use http::Method;
use serde_json::Value;

use super::session::{built, keys_of_json};
use super::time::parse_utc;
use super::{Answer, Chain, Found};
use crate::s3::failure::Failure;

/// Where ECS has its service, and EKS its own.
const NEARBY: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

impl Chain {
    /// Asks the service that the environment names, if it names one.
    pub(super) async fn container(&self) -> Result<Answer, Failure> {
        let env = |name| (self.env)(name).filter(|value| !value.is_empty());
        let relative = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let url = match (relative, env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            (Some(path), _) => format!("http://{}/{}", NEARBY[0], path.trim_start_matches('/')),
            (None, Some(url)) => url,
            (None, None) => {
                let lack = "no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or …_FULL_URI";
                return Ok(Answer::Absent(lack.to_owned()));
            }
        };
        if !is_trusted(&url) {
            let text = "AWS_CONTAINER_CREDENTIALS_FULL_URI has to begin with `https://`, or be \
                on this machine or of the container's host";
            return Err(Failure::new(text));
        }
        let token = match env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            // Read each time: whoever runs the container puts a new one there now and then.
            Some(file) => Some(std::fs::read_to_string(&file).map_err(|error| {
                let kind = error.kind();
                Failure::new(format!("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: {kind}"))
            })?),
            None => env("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        };
        let token = token.as_deref().map(str::trim);
        let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
        let request = built(Method::GET, &url, &headers)?;
        let (status, body) = self.wire.impatient()?.ask(request).await?;
        if !status.is_success() {
            return Err(Failure::answer(status, ""));
        }
        let found = keys_of_service(&body)?;
        Ok(Answer::Found("role of the container".to_owned(), found))
    }
}

/// Whether a token may be shown there: nobody on the way can read it.
fn is_trusted(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let is_here = matches!(host, "localhost" | "[::1]") || {
        let address = host.parse::<std::net::Ipv4Addr>();
        address.is_ok_and(|address| address.is_loopback())
    };
    uri.scheme_str() == Some("https") || is_here || NEARBY.contains(&host)
}

fn keys_of_service(body: &[u8]) -> Result<Found, Failure> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|_| Failure::new("the container's service gave something else than keys"))?;
    let until: Option<SystemTime> = answer["Expiration"].as_str().and_then(parse_utc);
    keys_of_json(&answer, ["AccessKeyId", "SecretAccessKey", "Token"], until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown_to_strangers() {
        for url in [
            "https://anywhere.example.com/x",
            "http://localhost:80/x",
            "http://127.0.0.9/",
            "http://[::1]:8080/x",
            "http://169.254.170.2/v2",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ] {
            assert!(is_trusted(url), "{url}");
        }
        for url in ["http://example.com/", "http://169.254.170.3/", "ftp://x/", "", "/x"] {
            assert!(!is_trusted(url), "{url}");
        }
    }
}
