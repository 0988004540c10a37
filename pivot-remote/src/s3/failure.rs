//! What went wrong with a request, in words that hold no secrets.
//!
//! Servers repeat much of a request in their answers: access keys, the text that was signed. Only
//! the code and the message of an answer are kept.

use http::StatusCode;
use object_store::client::{HttpError, HttpErrorKind};
use thiserror::Error;

use crate::remote::RemoteError;

/// The longest message of a server that is passed on, in characters.
const MAX_MESSAGE: usize = 300;

/// Why a request failed.
#[derive(Clone, Debug, Error)]
#[error("{text}")]
pub(crate) struct Failure {
    /// The status of the answer, if there was one.
    pub(crate) status: Option<u16>,
    text: String,
    /// Whether the same request may well succeed in a moment.
    pub(crate) may_pass: bool,
    /// Whether the server says that it has too much to do.
    pub(crate) is_throttle: bool,
    /// Whether the bucket itself is not there.
    pub(crate) is_about_the_bucket: bool,
}

impl Failure {
    /// A failure that no server spoke of.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status: None, text, may_pass: false, is_throttle: false, is_about_the_bucket: false }
    }

    /// Answers of 403 to questions, where they mean more than one thing.
    pub(crate) fn forbidden(text: &str) -> Self {
        Self { status: Some(403), ..Self::new(text) }
    }

    /// The network's failure.
    pub(crate) fn network(error: reqwest::Error) -> Self {
        let kind = match () {
            () if error.is_timeout() => "no connection in time",
            () if error.is_connect() => "cannot connect",
            () => "the connection broke",
        };
        let text = clean(&format!("{kind}: {}", deepest(&error.without_url())));
        Self { text, may_pass: true, ..Self::new("") }
    }

    /// Nothing can be asked, for want of certificates above all.
    pub(crate) fn client(error: reqwest::Error) -> Self {
        let text = clean(&deepest(&error.without_url()).to_string());
        Self::new(format!(
            "requests cannot be made: {text}; where there are no certificates, install \
             `ca-certificates` or set SSL_CERT_FILE"
        ))
    }

    /// A request in which nothing moved for too long.
    pub(crate) fn stalled(after: std::time::Duration) -> Self {
        let text = format!("nothing was heard for {:.1} s", after.as_secs_f64());
        Self { text, may_pass: true, is_throttle: true, ..Self::new("") }
    }

    /// The same from a service that gives tokens, for which there is no bucket without one.
    pub(crate) fn of_token(self, is_of_machine: bool) -> Self {
        let text = self.text;
        Self::new(match is_of_machine {
            true => format!(
                "no credentials were found: the environment names none, and this machine has none \
                 to give: {text}"
            ),
            false => format!("no token was given for the credentials: {text}"),
        })
    }

    /// A page of a listing without its end.
    pub(crate) fn cut_off() -> Self {
        Self { may_pass: true, ..Self::new("the server's listing has no end") }
    }

    /// An answer that would fill the memory.
    pub(crate) fn too_long(max_bytes: usize) -> Self {
        Self::new(format!("the server's answer is longer than {} MiB", max_bytes >> 20))
    }

    /// An answer that is a refusal.
    pub(crate) fn answer(status: StatusCode, body: &str) -> Self {
        let code = between(body, "<Code>", "</Code>").unwrap_or_default();
        let message = between(body, "<Message>", "</Message>").unwrap_or_default();
        let mut text = format!("the server answered {}", status.as_u16());
        match (code, status.canonical_reason()) {
            ("", Some(reason)) => text = format!("{text} {reason}"),
            ("", None) => {}
            (code, _) => text = format!("{text} {code}"),
        }
        if !message.is_empty() {
            text = format!("{text}: {message}");
        }
        let is_throttle = status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::SERVICE_UNAVAILABLE
            || code == "SlowDown";
        let may_pass = is_throttle
            || status == StatusCode::REQUEST_TIMEOUT
            // Another request for the same key is under way.
            || status == StatusCode::CONFLICT && code != "BlobAlreadyExists"
            || code == "RequestTimeout"
            // Not implemented and the like do not change.
            || matches!(status.as_u16(), 500 | 502 | 504);
        let is_about_the_bucket = matches!(code, "NoSuchBucket" | "ContainerNotFound");
        let status = Some(status.as_u16());
        Self { status, text: clean(&text), may_pass, is_throttle, is_about_the_bucket }
    }

    /// The same with where the bucket is, if the server says so and the request went elsewhere.
    pub(crate) fn in_region(mut self, region: Option<&str>) -> Self {
        let is_region = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        match (self.status, region.filter(is_region)) {
            (Some(300..=400), Some(region)) => {
                self.text += &format!("; the bucket is in the region `{region}`");
            }
            (Some(300..400), None) => self.text += "; the bucket may be in another region",
            _ => {}
        }
        self
    }

    /// What is behind an error of the library.
    pub(crate) fn of(error: &object_store::Error) -> Self {
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(current) = cause {
            if let Some(failure) = current.downcast_ref::<Failure>() {
                return failure.clone();
            }
            cause = current.source();
        }
        match error {
            // Nothing of ours is behind it, so its text may hold a URL or an answer.
            object_store::Error::NotFound { .. } => Self::answer(StatusCode::NOT_FOUND, ""),
            object_store::Error::Precondition { .. } => {
                Self::answer(StatusCode::PRECONDITION_FAILED, "")
            }
            _ => Self::new("the server's answer was not understood"),
        }
    }

    /// The same as an error about `action`, such as "fetch `files/ab/cdef0123456789`".
    pub(crate) fn during(self, action: impl Into<String>) -> RemoteError {
        let Self { status, text, .. } = self;
        RemoteError::Request { action: action.into(), problem: text, status }
    }
}

impl From<Failure> for HttpError {
    fn from(failure: Failure) -> Self {
        // Of a kind that the library does not retry: that was done.
        HttpError::new(HttpErrorKind::Unknown, failure)
    }
}

/// What stands between two texts.
pub(crate) fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inside, _)| inside)
}

/// The cause of all causes.
fn deepest<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e dyn std::error::Error {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest
}

fn clean(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_to_its_message() {
        let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>Not the\x1b[31m same</Message>\
            <AWSAccessKeyId>AKIASECRET</AWSAccessKeyId><StringToSign>SECRET</StringToSign></Error>";
        let failure = Failure::answer(StatusCode::FORBIDDEN, body);
        assert!(!failure.may_pass);
        let text = "the server answered 403 SignatureDoesNotMatch: Not the[31m same";
        assert_eq!(failure.to_string(), text);
        assert!(!format!("{:?}", failure.during("send")).contains("SECRET"));
    }

    #[test]
    fn where_the_bucket_is() {
        let at = |status: u16, region| {
            let status = StatusCode::from_u16(status).unwrap();
            Failure::answer(status, "").in_region(region).to_string()
        };
        assert!(at(301, Some("eu-west-1")).ends_with("; the bucket is in the region `eu-west-1`"));
        assert!(at(400, Some("eu-west-1")).ends_with("the region `eu-west-1`"));
        assert!(at(301, None).ends_with("; the bucket may be in another region"));
        assert!(at(301, Some("evil\x1b")).ends_with("another region"));
        assert!(!at(403, Some("eu-west-1")).contains("region"));
        assert!(!at(400, None).contains("region"));
    }

    #[test]
    fn what_may_pass() {
        let cases = [
            (403, false, false),
            (404, false, false),
            (400, false, false),
            (408, true, false),
            (409, true, false),
            (429, true, true),
            (500, true, false),
            (501, false, false),
            (502, true, false),
            (503, true, true),
        ];
        for (status, may_pass, is_throttle) in cases {
            let failure = Failure::answer(StatusCode::from_u16(status).unwrap(), "");
            assert_eq!(
                (failure.may_pass, failure.is_throttle),
                (may_pass, is_throttle),
                "{status}"
            );
        }
    }
}
