//! From a request to its answer: method, name, query, range, headers.

use std::fs::File;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use gravure_netboot::http::{RangeDecision, RangeQuery, decide_range, media_type, parse_target};
use gravure_netboot::names::is_expected_probe;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::response::Builder;
use hyper::{Method, Request, Response, StatusCode};

use super::body::Content;
use crate::{Ask, Asking, Found, Library, NoteKind, Presence, Via};

/// Answers one request.
pub(super) async fn respond(
    library: &dyn Library,
    presence: &Presence,
    request: Request<Incoming>,
    local: SocketAddr,
    peer: SocketAddr,
) -> Response<Content> {
    let asking = match *request.method() {
        Method::GET => Asking::Content,
        Method::HEAD => Asking::Length,
        _ => {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
    };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = match parse_target(target) {
        Ok(target) => target,
        Err(error) => {
            tracing::debug!(%peer, %error, "HTTP request");
            return plain(StatusCode::NOT_FOUND, "no such file\n");
        }
    };
    let media = media_type(&target.name);
    let name = target.name.clone();
    let ask = Ask { name: target.name, query: target.query, peer: peer.ip(), local, via: Via::Http, asking };
    let answer = match library.find(ask).await {
        Found::Nothing => plain(StatusCode::NOT_FOUND, "no such file\n"),
        Found::Bytes(bytes) => made(bytes, media, asking),
        Found::File { file, len, modified } => stored(file, len, &etag(len, modified), media, &request),
    };
    // Parts are of images, in their thousands; what boots is fetched whole.
    match (answer.status(), asking) {
        (StatusCode::OK, Asking::Content) => {
            presence.fetched(peer.ip(), || format!("fetched {name} by HTTP"))
        }
        (StatusCode::NOT_FOUND, _) if !is_expected_probe(&name) => {
            presence.note(peer.ip(), NoteKind::Missing, || {
                format!("asked for {name} by HTTP, which is not there")
            });
        }
        _ => {}
    }
    tracing::debug!(%peer, %name, status = answer.status().as_u16(), ?asking, "HTTP");
    answer
}

/// Content made for this request. The next one may get other content, so there are no parts of it.
fn made(bytes: Bytes, media: &'static str, asking: Asking) -> Response<Content> {
    let builder = Response::builder().header(header::CONTENT_LENGTH, bytes.len());
    let builder = builder.header(header::CONTENT_TYPE, media).header(header::CACHE_CONTROL, "no-store");
    finish(builder, Content::bytes(if asking == Asking::Length { Bytes::new() } else { bytes }))
}

/// A file or a part of it.
fn stored(
    file: File,
    size: u64,
    etag: &str,
    media: &'static str,
    request: &Request<Incoming>,
) -> Response<Content> {
    let field = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    let get = request.method() == Method::GET;
    let decision = if get {
        let (range, if_range) = (field(header::RANGE), field(header::IF_RANGE));
        decide_range(&RangeQuery { range, if_range, etag: Some(etag), size })
    } else {
        RangeDecision::Whole
    };
    let (start, len) = decision.extent(size);
    let mut builder = Response::builder()
        .status(decision.status())
        .header(header::CONTENT_LENGTH, len)
        .header(header::CONTENT_TYPE, media)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, etag);
    if let Some(range) = decision.content_range(size) {
        builder = builder.header(header::CONTENT_RANGE, range);
    }
    finish(builder, if get { Content::file(file, start, len) } else { Content::bytes(Bytes::new()) })
}

fn finish(builder: Builder, content: Content) -> Response<Content> {
    builder.body(content).unwrap_or_else(|error| {
        tracing::error!(%error, "an HTTP answer could not be made");
        let mut answer = Response::new(Content::bytes(Bytes::new()));
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}

fn plain(status: StatusCode, text: &'static str) -> Response<Content> {
    let builder = Response::builder().status(status).header(header::CONTENT_LENGTH, text.len());
    let bytes = Bytes::from_static(text.as_bytes());
    finish(builder.header(header::CONTENT_TYPE, "text/plain"), Content::bytes(bytes))
}

/// Changes whenever the file does, as far as length and time of change tell.
fn etag(len: u64, modified: SystemTime) -> String {
    let nanoseconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("\"{len:x}-{nanoseconds:x}\"")
}
