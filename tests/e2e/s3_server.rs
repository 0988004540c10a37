//! A real S3 server in the tests' own process, which counts what it is asked and can refuse.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;

use crate::support::{Project, eventually};

pub(crate) const KEY_ID: &str = "AKIATESTTESTTEST";
pub(crate) const SECRET: &str = "verysecretverysecretverysecret";
/// The remote that tests use: the bucket is there.
pub(crate) const URL: &str = "s3://bucket/team";

/// The bytes of an answer that has not been given.
const UNANSWERED: usize = usize::MAX;

#[derive(Debug, Default)]
struct Log {
    /// `METHOD PATH?QUERY` with the bytes of the answer.
    answers: Vec<(String, usize)>,
    /// Requests that contain this text are answered with this status and code.
    refused: Option<(String, u16, &'static str)>,
    ignored: Option<Ignored>,
}

/// Requests that contain `part` are never answered, once `left` of them were.
#[derive(Debug)]
struct Ignored {
    part: String,
    left: usize,
    /// How many came and were not answered.
    count: usize,
}

/// The server; it ends with this value.
pub(crate) struct S3Server {
    dir: tempfile::TempDir,
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    _runtime: tokio::runtime::Runtime,
}

impl S3Server {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0").expect("there is a loopback address")
    }

    /// A server at this address, if there is such a one here.
    pub(crate) fn start_at(address: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bucket")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let listener = runtime.block_on(TcpListener::bind(address)).ok()?;
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        runtime.spawn(accept(listener, builder.build(), Arc::clone(&log)));
        Some(Self { dir, address, log, _runtime: runtime })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds this server to a project as `origin`, with credentials that fit.
    pub(crate) fn added_to(&self, project: Project) -> Project {
        let project = with_keys(project, KEY_ID, SECRET);
        self.add(&project, URL);
        project
    }

    pub(crate) fn add(&self, project: &Project, url: &str) {
        let endpoint = self.endpoint();
        project.pivot(&format!("remote add origin {url} --endpoint-url {endpoint}")).succeeds();
    }

    /// Where the bucket keeps what has this key below the remote's prefix.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.dir.path().join("bucket/team").join(key)
    }

    /// How many files the bucket has below this key.
    pub(crate) fn files(&self, key: &str) -> usize {
        let shards = std::fs::read_dir(self.path(key)).into_iter().flatten().flatten();
        shards.map(|shard| std::fs::read_dir(shard.path()).unwrap().count()).sum()
    }

    /// How many requests contained this text since the last call of `forget`.
    pub(crate) fn count(&self, part: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.answers.iter().filter(|(line, _)| line.contains(part)).count()
    }

    /// How many bytes of objects were downloaded since then.
    pub(crate) fn downloaded_bytes(&self) -> usize {
        let log = self.log.lock().unwrap();
        let is_object = |line: &str| line.starts_with("GET ") && line.contains("/files/");
        let bytes = log.answers.iter().filter(|(line, _)| is_object(line)).map(|(_, bytes)| *bytes);
        bytes.filter(|bytes| *bytes != UNANSWERED).sum()
    }

    /// Answers requests that contain this text with an error.
    pub(crate) fn refuse(&self, part: &str, status: u16, code: &'static str) {
        self.log.lock().unwrap().refused = Some((part.to_owned(), status, code));
    }

    /// Answers so many more requests that contain this text, and then no more of them.
    pub(crate) fn ignore_after(&self, count: usize, part: &str) {
        let ignored = Ignored { part: part.to_owned(), left: count, count: 0 };
        self.log.lock().unwrap().ignored = Some(ignored);
    }

    /// Waits until a request has come that will not be answered.
    pub(crate) fn wait_until_ignoring(&self) {
        eventually("a request is not answered", || {
            self.log.lock().unwrap().ignored.as_ref().is_some_and(|ignored| ignored.count > 0)
        });
    }

    /// Behaves again, and has counted nothing.
    pub(crate) fn forget(&self) {
        *self.log.lock().unwrap() = Log::default();
    }
}

/// A project whose commands have these credentials and no others.
pub(crate) fn with_keys(project: Project, key_id: &str, secret: &str) -> Project {
    let home = project.path("no-home").display().to_string();
    project
        .env("AWS_ACCESS_KEY_ID", key_id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", &home)
}

async fn accept(listener: TcpListener, service: S3Service, log: Arc<Mutex<Log>>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (service, log) = (service.clone(), Arc::clone(&log));
        let answer = service_fn(move |request| answer(service.clone(), Arc::clone(&log), request));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), answer);
        tokio::spawn(async move {
            // A client that is killed breaks its connection.
            let _ = connection.await;
        });
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(
    service: S3Service,
    log: Arc<Mutex<Log>>,
    request: Request<Incoming>,
) -> Result<Answer, std::io::Error> {
    let line = format!("{} {}", request.method(), request.uri());
    let (number, refusal, is_ignored) = {
        let mut log = log.lock().unwrap();
        log.answers.push((line.clone(), UNANSWERED));
        let refused = log.refused.iter().find(|(part, ..)| line.contains(part));
        let refusal = refused.map(|(_, status, code)| (*status, *code));
        let is_ignored = match &mut log.ignored {
            Some(ignored) if line.contains(&ignored.part) => {
                let is_ignored = ignored.left == 0;
                ignored.left = ignored.left.saturating_sub(1);
                ignored.count += usize::from(is_ignored);
                is_ignored
            }
            _ => false,
        };
        (log.answers.len() - 1, refusal, is_ignored)
    };
    if is_ignored {
        std::future::pending::<()>().await;
    }
    if let Some((status, code)) = refusal {
        let _ = request.into_body().collect().await;
        let text = format!("<Error><Code>{code}</Code></Error>");
        let mut answer = Response::new(Full::new(Bytes::from(text)).boxed());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        return Ok(answer);
    }
    let answered = Service::call(&service, request).await;
    let (parts, body) = answered.map_err(|_| std::io::Error::other("no answer"))?.into_parts();
    let body = body.collect().await.map_err(|_| std::io::Error::other("no body"))?.to_bytes();
    if let Some((_, bytes)) = log.lock().unwrap().answers.get_mut(number) {
        *bytes = body.len();
    }
    Ok(Response::from_parts(parts, Full::new(body).boxed()))
}
