//! One HTTP request after another: paced, watched for stalls, and sent again when that may help.
//!
//! It stands between the library that knows the protocol and the one that knows sockets. Neither
//! notices when an upload stops moving, slows down when the server is busy, or counts bytes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::{Instant, Sleep};

use super::failure::Failure;
use super::listing::{is_listing, is_whole, without_foreign_keys};
use super::pace::{Pace, Permit};
use crate::credentials::REFUSAL_STAYS;
use crate::options::RemoteOptions;

/// The longest wait before a request is sent again.
const MAX_DELAY: Duration = Duration::from_secs(20);

/// The names of the service with which a machine gives its own credentials away.
const MACHINES: [&str; 3] = ["metadata.google.internal", "metadata", "169.254.169.254"];

/// The largest answer that is read whole: a page of a listing has 1,000 keys of up to 1 KiB.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Such an answer is there after this time, however little of it comes at a time.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(60);

/// Sends requests for the library.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    client: reqwest::Client,
    pace: Arc<Pace>,
    moved: Arc<AtomicU64>,
    retries: u32,
    retry_delay: Duration,
    stall_timeout: Duration,
    /// By the name of the server that gives tokens.
    refused_tokens: Arc<tokio::sync::Mutex<HashMap<String, (Failure, Instant)>>>,
}

impl Wire {
    /// With the pace and the patience that the options ask for.
    ///
    /// # Errors
    ///
    /// If the system's certificates or resolver cannot be used.
    pub(crate) fn new(options: &RemoteOptions, max_requests: usize) -> Result<Self, Failure> {
        // Another part of the program may have chosen one: either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("pivot/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(max_requests)
            // A redirect would carry the signature to another server.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Failure::client)?;
        Ok(Self {
            client,
            pace: Pace::new(max_requests),
            moved: Arc::default(),
            retries: options.retries,
            retry_delay: options.retry_delay,
            stall_timeout: options.stall_timeout,
            refused_tokens: Arc::default(),
        })
    }

    /// The same for servers that either answer at once or are not there.
    pub(crate) fn impatient(&self) -> Result<Self, Failure> {
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(1))
            .no_proxy()
            .build()
            .map_err(Failure::client)?;
        let stall_timeout = self.stall_timeout.min(Duration::from_secs(2));
        Ok(Self { client, retries: self.retries.min(1), stall_timeout, ..self.clone() })
    }

    /// How many bytes of objects and of everything else went over the wire.
    pub(crate) fn moved_bytes(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// How often the server made us slow down.
    #[cfg(test)]
    pub(crate) fn slowdowns(&self) -> u64 {
        self.pace.slowdowns()
    }

    /// Sends a small request and reads the answer whole, whatever its status is.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub(crate) async fn ask(&self, request: HttpRequest) -> Result<(StatusCode, Bytes), Failure> {
        let (response, _permit) = self.persistently(request, true).await?;
        let (parts, body) = response.into_parts();
        Ok((parts.status, self.read_whole(body).await?))
    }

    /// Asks for a token. The library does so again for each object, so a service that has refused
    /// is not asked for a while.
    async fn ask_for_token(
        &self,
        request: HttpRequest,
    ) -> Result<(http::Response<reqwest::Body>, Permit), Failure> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let mut refused = self.refused_tokens.lock().await;
        match refused.get(&host) {
            Some((failure, since)) if since.elapsed() < REFUSAL_STAYS => {
                return Err(failure.clone());
            }
            _ => {}
        }
        let is_of_machine = MACHINES.contains(&host.as_str());
        let answer = match is_of_machine {
            // Only machines of some clouds have such a service.
            true => self.impatient()?.persistently(request, false).await,
            false => self.persistently(request, false).await,
        };
        answer.map_err(|failure| {
            let failure = failure.of_token(is_of_machine);
            refused.insert(host, (failure.clone(), Instant::now()));
            failure
        })
    }

    /// Sends a request until the answer is no failure that may pass.
    async fn persistently(
        &self,
        request: HttpRequest,
        takes_refusals: bool,
    ) -> Result<(http::Response<reqwest::Body>, Permit), Failure> {
        let is_listing = is_listing(request.method(), request.uri().query());
        let mut attempt = 0;
        loop {
            let permit = self.pace.acquire().await;
            let answer = match self.once(request.clone()).await {
                // The library gives up on a page that breaks off.
                Ok(response) if is_listing && response.status().is_success() => {
                    self.page(response).await
                }
                other => other,
            };
            let failure = match answer {
                Ok(response) if response.status().is_success() => {
                    permit.succeeded();
                    return Ok((response, permit));
                }
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let is_expected = matches!(
                        parts.status,
                        StatusCode::NOT_MODIFIED
                            | StatusCode::NOT_FOUND
                            | StatusCode::PRECONDITION_FAILED
                            | StatusCode::CONFLICT
                    );
                    let body = self.read_whole(body).await.unwrap_or_default();
                    let mut text = String::from_utf8_lossy(&body);
                    // Azure's answers to questions for one object have no body.
                    if let (true, Some(code)) =
                        (body.is_empty(), parts.headers.get("x-ms-error-code"))
                    {
                        let code = code.to_str().unwrap_or_default();
                        text = format!("<Code>{code}</Code>").into();
                    }
                    let region = parts.headers.get("x-amz-bucket-region");
                    let region = region.and_then(|region| region.to_str().ok());
                    let failure = Failure::answer(parts.status, &text).in_region(region);
                    let is_expected = is_expected && !failure.is_about_the_bucket;
                    if !failure.may_pass && (is_expected || takes_refusals) {
                        let body = Bytes::from(text.into_owned());
                        let response = http::Response::from_parts(parts, body.into());
                        return Ok((response, permit));
                    }
                    failure
                }
                Err(failure) => failure,
            };
            if failure.is_throttle {
                permit.throttled();
            }
            drop(permit);
            if !failure.may_pass || attempt >= self.retries {
                return Err(failure);
            }
            tokio::time::sleep(jittered(self.retry_delay, attempt)).await;
            attempt += 1;
        }
    }

    /// Sends a request once and waits for the head of the answer as long as bytes move.
    async fn once(&self, request: HttpRequest) -> Result<http::Response<reqwest::Body>, Failure> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse();
        let url = url.map_err(|_| Failure::new("the server's URL cannot be used"))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let frames = Arc::new(AtomicU64::new(0));
        if body.content_length() > 0 {
            let moved = Arc::clone(&self.moved);
            let body = Sent { body, frames: Arc::clone(&frames), moved };
            *request.body_mut() = Some(reqwest::Body::wrap(body));
        }
        let mut answer = std::pin::pin!(self.client.execute(request));
        loop {
            let before = frames.load(Ordering::Relaxed);
            match tokio::time::timeout(self.stall_timeout, &mut answer).await {
                Ok(answer) => return Ok(answer.map_err(Failure::network)?.into()),
                Err(_) if frames.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(Failure::stalled(self.stall_timeout)),
            }
        }
    }

    /// Reads a page of a listing whole and takes out what is not ours.
    async fn page(
        &self,
        response: http::Response<reqwest::Body>,
    ) -> Result<http::Response<reqwest::Body>, Failure> {
        let (parts, body) = response.into_parts();
        let page = self.read_whole(body).await?;
        if !is_whole(&page) {
            return Err(Failure::cut_off());
        }
        Ok(http::Response::from_parts(parts, without_foreign_keys(&page).into()))
    }

    /// Reads an answer that is not an object's bytes.
    async fn read_whole(&self, mut body: reqwest::Body) -> Result<Bytes, Failure> {
        let end = Instant::now() + MAX_ANSWER_TIME;
        let mut bytes = Vec::new();
        loop {
            let patience = end.min(Instant::now() + self.stall_timeout);
            match tokio::time::timeout_at(patience, body.frame()).await {
                Ok(None) => return Ok(bytes.into()),
                Ok(Some(Ok(frame))) => {
                    bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
                }
                Ok(Some(Err(error))) => return Err(Failure::network(error)),
                Err(_) => return Err(Failure::stalled(self.stall_timeout)),
            }
            if bytes.len() > MAX_ANSWER_BYTES {
                return Err(Failure::too_long(MAX_ANSWER_BYTES));
            }
        }
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (response, permit) = match is_for_token(request.uri()) {
            true => self.ask_for_token(request).await?,
            false => self.persistently(request, false).await?,
        };
        let (parts, body) = response.into_parts();
        let body = Received {
            body,
            stall_timeout: self.stall_timeout,
            patience: Box::pin(tokio::time::sleep(self.stall_timeout)),
            moved: Arc::clone(&self.moved),
            permit: Some(permit),
        };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// Hands the library the same wire again, whatever it asks for.
#[derive(Debug)]
pub(crate) struct Connector(pub(crate) Wire);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// Whether a request is that of the library for a token of Google's or Microsoft's. Those of AWS
/// are looked for elsewhere, and remembered there.
fn is_for_token(url: &http::Uri) -> bool {
    let path = url.path();
    path.starts_with("/computeMetadata/")
        || path.ends_with("/oauth2/token")
        || path.ends_with("/oauth2/v2.0/token")
}

/// The wait before a request is sent again, between half and one and a half of its mean, so that
/// many clients do not come back at the same time.
fn jittered(delay: Duration, attempt: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let mean = delay.saturating_mul(1 << attempt.min(16)).min(MAX_DELAY);
    let random = RandomState::new().hash_one(attempt) % 1000;
    mean.mul_f64(0.5 + random as f64 / 1000.0)
}

/// The body of a request that tells that it is being read.
struct Sent {
    body: HttpRequestBody,
    frames: Arc<AtomicU64>,
    moved: Arc<AtomicU64>,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let count = frame.data_ref().map_or(0, Bytes::len);
            self.frames.fetch_add(1, Ordering::Relaxed);
            self.moved.fetch_add(count as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.content_length() as u64)
    }
}

/// The body of an answer, which fails if it does not go on.
struct Received {
    body: reqwest::Body,
    stall_timeout: Duration,
    patience: Pin<Box<Sleep>>,
    moved: Arc<AtomicU64>,
    /// Given back at the end or at the first failure: the library asks for the rest while it
    /// still holds this body.
    permit: Option<Permit>,
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.patience.as_mut().reset(Instant::now() + this.stall_timeout);
                let count = frame.data_ref().map_or(0, Bytes::len);
                this.moved.fetch_add(count as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.permit = None;
                let failure = Failure::network(error);
                Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Interrupted, failure))))
            }
            Poll::Ready(None) => {
                this.permit = None;
                Poll::Ready(None)
            }
            Poll::Pending => this.patience.as_mut().poll(context).map(|()| {
                this.permit = None;
                let failure = Failure::stalled(this.stall_timeout);
                Some(Err(HttpError::new(HttpErrorKind::Timeout, failure)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
