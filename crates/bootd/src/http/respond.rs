//! From a request to its answer: method, name, query, range, headers.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use gravure_netboot::http::{RangeDecision, RangeQuery, decide_range, media_type, parse_target};
use gravure_netboot::names::{RelativeName, is_expected_probe};

use super::channel::Body;
use super::request::{Method, Request};
use crate::refusals::Refused;
use crate::{Ask, Asking, Found, Library, NoteKind, Presence, Via};

/// An answer, not yet on its way.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// What is sent; empty for HEAD.
    pub(super) body: Body,
    /// What `Content-Length` says: for HEAD that of the content a GET would bring.
    len: u64,
    headers: Vec<(&'static str, String)>,
    /// What was asked for, when it could be a file.
    pub(super) name: Option<RelativeName>,
}

impl Answer {
    /// Status line and headers. GRUB looks for `Content-Length: ` in exactly this case; without a length it takes the file
    /// for endless.
    pub(super) fn head(&self, request: Option<&Request>, now: SystemTime) -> Vec<u8> {
        use std::fmt::Write;
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        // Writing to a String cannot fail.
        let _ = write!(text, "Date: {}\r\nContent-Length: {}\r\n", httpdate::fmt_http_date(now), self.len);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        match request {
            Some(request) if request.keep && request.old => text.push_str("Connection: keep-alive\r\n"),
            Some(request) if request.keep => {}
            _ => text.push_str("Connection: close\r\n"),
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// For what is no request at all.
    pub(super) fn refusal(status: u16) -> Self {
        let mut answer = plain(status, "");
        answer.body = Body::Bytes(Bytes::from(format!("{}\n", reason(status))));
        answer.len = answer.body.len();
        answer
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

/// Makes the answer to one request.
pub(super) async fn respond(
    library: &dyn Library,
    presence: &Presence,
    request: &Request,
    local: SocketAddr,
    peer: SocketAddr,
) -> Answer {
    let asking = match request.method {
        Method::Get => Asking::Content,
        Method::Head => Asking::Length,
        Method::Other => {
            let mut answer = plain(405, "only GET and HEAD are served here\n");
            answer.headers.push(("Allow", "GET, HEAD".to_owned()));
            return answer;
        }
    };
    let target = match parse_target(&request.target) {
        Ok(target) => target,
        Err(error) => {
            let text = || format!("the target {}: {error}", request.target.escape_debug());
            presence.refused(peer.ip(), Via::Http, Refused::Name, text);
            return without_body(plain(404, "no such file\n"), asking);
        }
    };
    let media = media_type(&target.name);
    let name = target.name.clone();
    let ask = Ask {
        name: target.name,
        query: target.query,
        peer: peer.ip(),
        local,
        via: Via::Http,
        asking,
        afresh: request.afresh,
    };
    let mut answer = match library.find(ask).await {
        Found::Nothing => plain(404, "no such file\n"),
        Found::Refused(refusal) => {
            presence.refused(peer.ip(), Via::Http, refusal.kind(), || format!("{name}: {refusal}"));
            plain(404, "no such file\n")
        }
        Found::Bytes(bytes) => made(bytes, media),
        Found::Elsewhere(url) => elsewhere(url),
        Found::File { file, len, modified } => stored(file, len, &etag(len, modified), media, request),
    };
    if answer.status == 404 && !is_expected_probe(&name) {
        presence
            .note(peer.ip(), NoteKind::Missing, || format!("asked for {name} by HTTP, which is not there"));
    }
    tracing::debug!(%peer, %name, status = answer.status, ?asking, "HTTP");
    answer.name = Some(name);
    without_body(answer, asking)
}

/// Content made for this request. The next one may get other content, so there are no parts of it.
fn made(bytes: Bytes, media: &'static str) -> Answer {
    let headers = vec![("Content-Type", media.to_owned()), ("Cache-Control", "no-store".to_owned())];
    Answer { status: 200, len: bytes.len() as u64, body: Body::Bytes(bytes), headers, name: None }
}

/// Where it is; the same method and the same range are meant for there.
fn elsewhere(url: String) -> Answer {
    let headers = vec![("Location", url), ("Cache-Control", "no-store".to_owned())];
    Answer { status: 307, len: 0, body: Body::Nothing, headers, name: None }
}

/// A file or a part of it.
fn stored(file: File, size: u64, etag: &str, media: &'static str, request: &Request) -> Answer {
    let decision = if request.method == Method::Get {
        let (range, if_range) = (request.range.as_deref(), request.if_range.as_deref());
        decide_range(&RangeQuery { range, if_range, etag: Some(etag), size })
    } else {
        RangeDecision::Whole
    };
    let (start, len) = decision.extent(size);
    let mut headers = vec![
        ("Content-Type", media.to_owned()),
        ("Accept-Ranges", "bytes".to_owned()),
        ("ETag", etag.to_owned()),
    ];
    if let Some(range) = decision.content_range(size) {
        headers.push(("Content-Range", range));
    }
    let body = Body::File { file: Arc::new(file), start, len };
    Answer { status: decision.status(), len, body, headers, name: None }
}

/// HEAD is told everything but the content.
fn without_body(mut answer: Answer, asking: Asking) -> Answer {
    if asking == Asking::Length {
        answer.body = Body::Nothing;
    }
    answer
}

fn plain(status: u16, text: &'static str) -> Answer {
    let body = Body::Bytes(Bytes::from_static(text.as_bytes()));
    let headers = vec![("Content-Type", "text/plain".to_owned())];
    Answer { status, len: body.len(), body, headers, name: None }
}

/// Changes whenever the file does, as far as length and time of change tell.
fn etag(len: u64, modified: SystemTime) -> String {
    let nanoseconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("\"{len:x}-{nanoseconds:x}\"")
}
