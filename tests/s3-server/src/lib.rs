//! A real S3 server in the process of a test, which counts what it is asked and can misbehave.
//!
//! It keeps a bucket named `bucket` in a directory. A [`Fault`] stands between the network and the
//! server behind it. Requests are named by words that all stand in `METHOD PATH?QUERY`, such as
//! `GET list-type=2`; no words are all requests.

mod answer;
mod script;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;

pub use script::Fault;
use script::{Rule, Script, is_one_of};

/// The id of the key that the server takes.
pub const KEY_ID: &str = "AKIATESTTESTTEST";

/// The secret of that key.
pub const SECRET: &str = "verysecretverysecretverysecret";

/// What clients show that speak the dialect of Google's servers.
pub const TOKEN: &str = "ya29.atokenthatisverysecret";

/// The server; it ends with this value.
#[derive(Debug)]
pub struct Server {
    dir: tempfile::TempDir,
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _runtime: tokio::runtime::Runtime,
}

/// How a client tells who it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Caller {
    /// With a signature made with [`SECRET`].
    Signs,
    /// With [`TOKEN`].
    ShowsToken,
}

impl Server {
    /// A server on a free port, for clients that sign their requests.
    ///
    /// # Panics
    ///
    /// If the system has no port or no place for files, as all of these functions.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0").expect("there is a loopback address")
    }

    /// The same at another address, if there is such a one here.
    pub fn start_at(address: &str) -> Option<Self> {
        Self::start_for(Caller::Signs, address)
    }

    /// A server for clients that speak the dialect of Google's servers and show [`TOKEN`].
    pub fn start_google() -> Self {
        Self::start_for(Caller::ShowsToken, "127.0.0.1:0").expect("there is a loopback address")
    }

    fn start_for(caller: Caller, address: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("there is room for files");
        std::fs::create_dir(dir.path().join("bucket")).expect("there is room for files");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread can be started");
        let files = s3s_fs::FileSystem::new(dir.path()).expect("the directory is there");
        let mut builder = S3ServiceBuilder::new(files);
        if caller == Caller::Signs {
            builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        }
        let listener = runtime.block_on(TcpListener::bind(address)).ok()?;
        let address = listener.local_addr().ok()?;
        let script = Arc::new(Mutex::new(Script::default()));
        runtime.spawn(accept(listener, builder.build(), caller, Arc::clone(&script)));
        Some(Self { dir, address, script, _runtime: runtime })
    }

    /// Where it listens, such as `http://127.0.0.1:40000`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory of the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.dir.path().join("bucket")
    }

    /// How many uploads in parts were neither completed nor taken back.
    pub fn abandoned_uploads(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path()).expect("the directory is there");
        let names = entries.flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".upload")).count()
    }

    /// Misbehaves for the next so many of these requests.
    pub fn fault(&self, requests: &str, fault: Fault, times: usize) {
        self.add(requests, fault, 0, times);
    }

    /// Answers these requests with an error of S3, from now on.
    pub fn refuse(&self, requests: &str, status: u16, code: &str) {
        let text = format!("<Error><Code>{code}</Code></Error>");
        self.add(requests, Fault::Answer(status, text), 0, usize::MAX);
    }

    /// Answers so many more of these requests, and then none.
    pub fn ignore_after(&self, count: usize, requests: &str) {
        self.add(requests, Fault::Stall, count, usize::MAX);
    }

    fn add(&self, requests: &str, fault: Fault, skipped: usize, times: usize) {
        let requests = requests.to_owned();
        self.script().rules.push(Rule { requests, fault, skipped, times });
    }

    /// How many requests are not being answered.
    pub fn ignored(&self) -> usize {
        self.script().ignored
    }

    /// How many of these requests came since the last call of `forget` or `forget_log`.
    pub fn count(&self, requests: &str) -> usize {
        self.script().log.iter().filter(|asked| is_one_of(&asked.line, requests)).count()
    }

    /// How many bytes of objects were downloaded since then.
    pub fn downloaded_bytes(&self) -> usize {
        let is_object = |line: &str| line.starts_with("GET ") && line.contains("/files/");
        let script = self.script();
        let objects = script.log.iter().filter(|asked| is_object(&asked.line));
        objects.filter_map(|asked| asked.answer_bytes).sum()
    }

    /// Behaves again, and has counted nothing.
    pub fn forget(&self) {
        *self.script() = Script::default();
    }

    /// Has counted nothing.
    pub fn forget_log(&self) {
        self.script().log.clear();
    }

    /// Behaves again; says how many faults did not come to pass.
    pub fn forget_rules(&self) -> usize {
        let rules = std::mem::take(&mut self.script().rules);
        rules.iter().map(|rule| rule.times).sum()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            answer::answer(service.clone(), caller, Arc::clone(&script), request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), answer);
        tokio::spawn(async move {
            // A client that is killed breaks its connection.
            let _ = connection.await;
        });
    }
}
