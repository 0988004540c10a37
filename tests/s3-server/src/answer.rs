//! One request and its answer, with what goes wrong in between.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use s3s::service::S3Service;

use crate::script::{Fault, Script};
use crate::{Caller, TOKEN};

type Body = BoxBody<Bytes, io::Error>;

pub(crate) async fn answer(
    service: S3Service,
    caller: Caller,
    script: Arc<Mutex<Script>>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let line = format!("{} {}", request.method(), request.uri());
    let (number, fault) = script.lock().unwrap_or_else(PoisonError::into_inner).ask(line);
    match &fault {
        Some(Fault::Reset) => return Err(io::Error::other("reset")),
        Some(Fault::Stall) => std::future::pending::<()>().await,
        Some(Fault::Answer(status, text)) => {
            // As real servers do, the whole request is read before the answer.
            let _ = BodyExt::collect(request.into_body()).await;
            let text = text.replace("{count}", &number.to_string());
            return Ok(bare(*status, text.into()));
        }
        _ => {}
    }
    if caller == Caller::ShowsToken && !as_of_google(&mut request) {
        return Ok(bare(401, Bytes::new()));
    }
    let response = hyper::service::Service::call(&service, request).await;
    let (mut parts, body) = response.map_err(|_| io::Error::other("no answer"))?.into_parts();
    let body = BodyExt::collect(body).await.map_err(|_| io::Error::other("no body"))?.to_bytes();
    if let Some(asked) = script.lock().unwrap_or_else(PoisonError::into_inner).log.get_mut(number) {
        asked.answer_bytes = Some(body.len());
    }
    let half = body.slice(..body.len() / 2);
    let mut set_length = |count: usize| {
        parts.headers.insert("content-length", HeaderValue::from(count));
    };
    let body = match fault {
        None | Some(Fault::Answer(..) | Fault::Reset | Fault::Stall) => whole(body),
        Some(Fault::ResetAfter) => return Err(io::Error::other("reset")),
        Some(Fault::Slow(pause)) => slowly(&body, pause),
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

/// Takes Google's dialect out of a request; whether it shows the right token.
fn as_of_google(request: &mut Request<Incoming>) -> bool {
    let headers = request.headers_mut();
    if headers.remove("x-goog-if-generation-match").is_some() {
        headers.insert("if-none-match", HeaderValue::from_static("*"));
    }
    headers.remove("authorization").is_some_and(|shown| shown == format!("Bearer {TOKEN}"))
}

fn bare(status: u16, text: Bytes) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = StatusCode::from_u16(status).expect("a test names a status");
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|error: Infallible| match error {}).boxed()
}

fn slowly(bytes: &Bytes, pause: Duration) -> Body {
    let piece_bytes = bytes.len().div_ceil(5).max(1);
    let starts = (0..bytes.len()).step_by(piece_bytes);
    let pieces = starts.map(|start| bytes.slice(start..bytes.len().min(start + piece_bytes)));
    let pieces = stream::iter(pieces.collect::<Vec<_>>()).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(piece))
    });
    BodyExt::boxed(StreamBody::new(pieces))
}

/// A body that begins with these bytes and goes on as the stream says.
fn then(
    start: Bytes,
    rest: impl futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send + Sync + 'static,
) -> Body {
    let start = stream::iter([Ok(Frame::data(start))]);
    BodyExt::boxed(StreamBody::new(start.chain(rest)))
}
