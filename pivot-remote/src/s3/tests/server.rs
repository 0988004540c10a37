//! A real S3 server in this process that can be told to misbehave.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::options::RemoteOptions;
use crate::s3::S3Remote;

pub(super) const KEY_ID: &str = "AKIATESTTESTTEST";
pub(super) const SECRET: &str = "verysecretverysecretverysecret";

/// What clients of Google's dialect show.
pub(super) const TOKEN: &str = "ya29.atokenthatisverysecret";

/// How a client tells who it is.
#[derive(Clone, Copy, PartialEq)]
enum Caller {
    Signs,
    ShowsToken,
}

type Body = BoxBody<Bytes, io::Error>;

/// How the server misbehaves when a rule fits a request.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Answers with this status and text, without doing anything. `{count}` is another number in
    /// each answer.
    Answer(u16, String),
    /// Closes the connection without doing anything.
    Reset,
    /// Does what it is asked, and closes the connection instead of answering.
    ResetAfter,
    /// Never answers.
    Stall,
    /// Sends half of the body, then closes the connection.
    Cut,
    /// Sends half of the body, then nothing.
    StallBody,
    /// Sends other bytes, as many as there should be.
    Corrupt,
    /// Sends more bytes than there are, in an honest frame.
    TooLong,
    /// Sends half of the body as if that were all.
    TooShort,
}

/// A fault for requests of this method whose URL contains this text, so many times.
#[derive(Debug)]
struct Rule {
    method: Method,
    part: String,
    fault: Fault,
    times: usize,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    log: Vec<String>,
}

/// A server with a bucket named `bucket`.
pub(super) struct Server {
    pub(super) dir: TempDir,
    pub(super) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::start_for(Caller::Signs)
    }

    /// The same for clients that speak the dialect of Google's servers and show `TOKEN`.
    pub(super) fn start_google() -> Self {
        Self::start_for(Caller::ShowsToken)
    }

    fn start_for(caller: Caller) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bucket")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        if caller == Caller::Signs {
            builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        }
        let service = builder.build();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        runtime.spawn(accept(listener, service, caller, Arc::clone(&script)));
        Self { dir, address, script, _runtime: runtime }
    }

    /// Misbehaves for the next so many fitting requests.
    pub(super) fn fault(&self, method: Method, part: &str, fault: Fault, times: usize) {
        let rule = Rule { method, part: part.to_owned(), fault, times };
        self.script.lock().unwrap().rules.push(rule);
    }

    /// How many requests of this method had this text in their URLs.
    pub(super) fn count(&self, method: Method, part: &str) -> usize {
        let script = self.script.lock().unwrap();
        let method = format!("{method} ");
        script.log.iter().filter(|line| line.starts_with(&method) && line.contains(part)).count()
    }

    pub(super) fn forget_log(&self) {
        self.script.lock().unwrap().log.clear();
    }

    /// Behaves again; says how many faults did not come to pass.
    pub(super) fn forget_rules(&self) -> usize {
        let rules = std::mem::take(&mut self.script.lock().unwrap().rules);
        rules.iter().map(|rule| rule.times).sum()
    }

    /// Options that do not wait for long before they try again.
    pub(super) fn options(&self) -> RemoteOptions {
        RemoteOptions {
            endpoint_url: Some(format!("http://{}", self.address)),
            retry_delay: Duration::from_millis(2),
            ..RemoteOptions::default()
        }
    }

    /// A remote that takes a second of silence for a failure. A busy machine may be silent
    /// for as long, so this is only for tests of silence.
    pub(super) fn impatient_remote(&self) -> S3Remote {
        let stall_timeout = Duration::from_secs(1);
        self.remote_with(&RemoteOptions { stall_timeout, ..self.options() })
    }

    pub(super) fn remote(&self) -> S3Remote {
        self.remote_with(&self.options())
    }

    pub(super) fn remote_with(&self, options: &RemoteOptions) -> S3Remote {
        S3Remote::with_env(&super::s3("bucket", "some/prefix"), options, env(&keys())).unwrap()
    }
}

/// The keys of the server.
pub(super) fn keys() -> [(&'static str, &'static str); 2] {
    [("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)]
}

/// An environment of these variables.
pub(super) fn env(variables: &[(&str, &str)]) -> crate::credentials::Env {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let variables: Vec<_> = variables.iter().map(owned).collect();
    Arc::new(move |name| {
        variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    })
}

async fn accept(
    listener: TcpListener,
    service: S3Service,
    caller: Caller,
    script: Arc<Mutex<Script>>,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let (service, script) = (service.clone(), Arc::clone(&script));
        let answer = service_fn(move |request| {
            answer(service.clone(), caller, Arc::clone(&script), request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), answer);
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}

async fn answer(
    service: S3Service,
    caller: Caller,
    script: Arc<Mutex<Script>>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let line = format!("{} {}", request.method(), request.uri());
    let (fault, count) = {
        let mut script = script.lock().unwrap();
        script.log.push(line.clone());
        let fits = |rule: &&mut Rule| {
            rule.times > 0 && rule.method == *request.method() && line.contains(&rule.part)
        };
        let fault = script.rules.iter_mut().find(fits).map(|rule| {
            rule.times -= 1;
            rule.fault.clone()
        });
        (fault, script.log.len())
    };
    match fault {
        Some(Fault::Reset) => return Err(io::Error::other("reset")),
        Some(Fault::Stall) => std::future::pending::<()>().await,
        Some(Fault::Answer(status, text)) => {
            // As real servers do, the whole request is read before the answer.
            let _ = request.into_body().collect().await;
            let mut response =
                Response::new(whole(text.replace("{count}", &count.to_string()).into()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(response);
        }
        _ => {}
    }
    if caller == Caller::ShowsToken {
        let shown = request.headers_mut().remove("authorization");
        if shown.is_none_or(|shown| shown != format!("Bearer {TOKEN}")) {
            let mut response = Response::new(whole(Bytes::new()));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            return Ok(response);
        }
        if request.headers_mut().remove("x-goog-if-generation-match").is_some() {
            request.headers_mut().insert("if-none-match", HeaderValue::from_static("*"));
        }
    }
    let response = hyper::service::Service::call(&service, request)
        .await
        .map_err(|_| io::Error::other("no answer"))?;
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| io::Error::other("no body"))?.to_bytes();
    let half = body.slice(..body.len() / 2);
    let mut set_length = |count: usize| {
        parts.headers.insert("content-length", HeaderValue::from(count));
    };
    let body = match fault {
        None | Some(Fault::Answer(..) | Fault::Reset | Fault::Stall) => whole(body),
        Some(Fault::ResetAfter) => return Err(io::Error::other("reset")),
        Some(Fault::Cut) => then(half, stream::iter([Err(io::Error::other("cut"))])),
        Some(Fault::StallBody) => then(half, stream::pending()),
        Some(Fault::Corrupt) => whole(body.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into()),
        Some(Fault::TooLong) => {
            set_length(body.len() + 5);
            parts.headers.remove("content-range");
            parts.status = StatusCode::OK;
            whole([&body[..], b"extra"].concat().into())
        }
        Some(Fault::TooShort) => {
            set_length(half.len());
            whole(half)
        }
    };
    Ok(Response::from_parts(parts, body))
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|error: Infallible| match error {}).boxed()
}

/// A body that begins with these bytes and goes on as the stream says.
fn then(
    start: Bytes,
    rest: impl futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send + Sync + 'static,
) -> Body {
    use futures_util::StreamExt;
    let start = stream::iter([Ok(Frame::data(start))]);
    BodyExt::boxed(StreamBody::new(start.chain(rest)))
}
