//! From a request to its answer: method, name, query, range, headers.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::response::Builder;
use hyper::{Method, Request, Response, StatusCode};

use super::body::Content;
use crate::name::percent_decoded;
use crate::{Ask, Asking, Found, Library, Via, clean_name};

/// Fields of a query looked at.
const MAX_QUERY_FIELDS: usize = 16;

/// Answers one request.
pub(super) async fn respond(
    library: &dyn Library,
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
    let name = percent_decoded(request.uri().path()).and_then(|path| clean_name(&path));
    let (Some(name), Some(query)) = (name, query(request.uri().query().unwrap_or_default())) else {
        return plain(StatusCode::BAD_REQUEST, "path or query cannot be read\n");
    };
    let ask = Ask { name: name.clone(), query, peer: peer.ip(), local, via: Via::Http, asking };
    let found = library.find(ask).await;
    let answer = answer(found, &request);
    tracing::debug!(%peer, name, status = answer.status().as_u16(), ?asking, "HTTP");
    answer
}

fn query(text: &str) -> Option<Vec<(String, String)>> {
    let decoded = |text: &str| String::from_utf8(percent_decoded(&text.replace('+', " "))?).ok();
    let fields = text.split('&').filter(|field| !field.is_empty()).take(MAX_QUERY_FIELDS);
    fields
        .map(|field| {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            Some((decoded(key)?, decoded(value)?))
        })
        .collect()
}

fn answer(found: Found, request: &Request<Incoming>) -> Response<Content> {
    let head = request.method() == Method::HEAD;
    match found {
        Found::Nothing => plain(StatusCode::NOT_FOUND, "no such file\n"),
        Found::Bytes { bytes, media } => {
            let head_of = whole(bytes.len() as u64).header(header::CONTENT_TYPE, media.as_str());
            // Made for this request: the next one may get other content, so parts of it mean nothing.
            let head_of = head_of.header(header::CACHE_CONTROL, "no-store");
            finish(head_of, Content::bytes(if head { Bytes::new() } else { bytes }))
        }
        Found::File { file, len, modified, media } => {
            let builder = whole(len)
                .header(header::CONTENT_TYPE, media.as_str())
                .header(header::ACCEPT_RANGES, "bytes")
                .header(header::ETAG, etag(len, modified));
            finish(builder, if head { Content::bytes(Bytes::new()) } else { Content::file(file, 0, len) })
        }
    }
}

fn whole(len: u64) -> Builder {
    Response::builder().status(StatusCode::OK).header(header::CONTENT_LENGTH, len)
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
    finish(
        builder.header(header::CONTENT_TYPE, "text/plain"),
        Content::bytes(Bytes::from_static(text.as_bytes())),
    )
}

/// Changes whenever the file does, as far as length and time of change tell.
fn etag(len: u64, modified: SystemTime) -> String {
    let nanoseconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("\"{len:x}-{nanoseconds:x}\"")
}
