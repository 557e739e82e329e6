//! A store in a bucket of an S3-compatible server (path style, Signature Version 4).
//!
//! Own requests over the project's HTTP client (`gravure-fetch`) rather than the `object_store` crate: that one is asynchronous and brings a second HTTP
//! client and TLS stack, which the payload would have to carry; a store needs six kinds of requests.

use std::fmt;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gravure_fetch::{Attempt, FetchError, Headers, Patience, read_range};
use gravure_io::ReadAt;
use gravure_model::Secret;
use quick_xml::events::Event;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::http::fetch_error;
use crate::objects::{Listed, Objects, Put, Session, unique_name};

/// Bytes of an object without a range.
const MAX_OBJECT_BYTES: u64 = 256 << 20;
/// Bytes of an answer that is XML.
const MAX_XML_BYTES: u64 = 8 << 20;
/// A session this old belongs to a writer that ended without a word: nothing is captured for a week.
const SESSION_SECONDS: u64 = 7 * 24 * 3600;

/// Where a bucket is and who asks.
#[derive(Clone)]
pub struct S3Config {
    /// Address of the server, e.g. `https://s3.example.com`.
    pub endpoint: String,
    /// Name of the bucket.
    pub bucket: String,
    /// Names of all objects begin with it; empty, or a folder.
    pub prefix: String,
    /// Region, for the signature.
    pub region: String,
    /// Who asks.
    pub access_key: String,
    /// The proof.
    pub secret_key: Secret,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A store in a bucket.
#[derive(Debug, Clone)]
pub struct S3Objects {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    agent: ureq::Agent,
    patience: Patience,
    config: S3Config,
    host: String,
    name: String,
}

/// An answer that was read whole.
struct Answer {
    status: u16,
    len: Option<u64>,
    body: Vec<u8>,
}

/// A request.
#[derive(Clone, Copy)]
struct Request<'a> {
    method: &'a str,
    /// Name of the object; empty for the bucket.
    object: &'a str,
    /// Sorted by name, not encoded.
    query: &'a [(&'a str, &'a str)],
    only_new: bool,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn new(method: &'a str, object: &'a str) -> Self {
        Self { method, object, query: &[], only_new: false, body: &[] }
    }
}

impl S3Objects {
    /// The store in the bucket of `config`; nothing is asked yet.
    pub fn new(agent: ureq::Agent, config: S3Config, patience: Patience) -> Self {
        let endpoint = config.endpoint.trim_end_matches('/').to_owned();
        let host = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, host)| host).to_owned();
        let mut name = format!("{endpoint}/{}", config.bucket);
        if !config.prefix.is_empty() {
            name.push_str(&format!("/{}", config.prefix.trim_matches('/')));
        }
        Self {
            shared: Arc::new(Shared { agent, patience, config: S3Config { endpoint, ..config }, host, name }),
        }
    }

    /// The address of an object, signed so that whoever has it may use `method` on it for `seconds` from now (at most a week).
    pub fn signed_url(&self, method: &str, name: &str, seconds: u32) -> String {
        self.shared.signed_url(method, name, seconds, Utc::now())
    }

    /// All objects below a folder with what changes when one is replaced (`ETag`).
    pub fn list_tagged(&self, folder: &str) -> Result<Vec<(Listed, String)>, Error> {
        Ok(self.shared.list(folder)?.into_iter().map(|listed| (listed.object, listed.tag)).collect())
    }

    /// Makes the bucket. One that is there is fine.
    pub fn create_bucket(&self) -> Result<(), Error> {
        let answer = self.shared.send(&Request::new("PUT", ""))?;
        match answer.status {
            200 | 204 | 409 => Ok(()),
            status => Err(self.shared.unexpected("bucket", status, &answer.body)),
        }
    }
}

impl Shared {
    fn key(&self, name: &str) -> String {
        match self.config.prefix.trim_matches('/') {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    fn unexpected(&self, name: &str, status: u16, body: &[u8]) -> Error {
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        Error::Network { url: format!("{}/{name}", self.name), why: format!("status {status} {text}") }
    }

    /// Sends a request, again where the connection or the server failed.
    fn send(&self, request: &Request<'_>) -> Result<Answer, Error> {
        let url = format!("{}/{}", self.name, request.object);
        self.patience.persist(&url, &|| false, || self.attempt(request, &url)).map_err(fetch_error)
    }

    /// Path, query and address of a request.
    fn place(&self, request: &Request<'_>) -> (String, String, String) {
        let mut path = format!("/{}", encode(&self.config.bucket));
        if !request.object.is_empty() {
            path.push_str(&format!("/{}", encode_path(&self.key(request.object))));
        }
        let query: Vec<String> =
            request.query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let query = query.join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{mark}{query}", self.config.endpoint);
        (path, query, url)
    }

    /// The headers that say who asks, as of now.
    fn headers(&self, request: &Request<'_>, path: &str, query: &str) -> Headers {
        let hash = hex(&Sha256::digest(request.body));
        let time = Utc::now();
        let authorization = self.sign(request.method, path, query, &hash, time);
        vec![("x-amz-date", time.stamp()), ("x-amz-content-sha256", hash), ("authorization", authorization)]
    }

    fn attempt(&self, request: &Request<'_>, shown: &str) -> Result<Answer, Attempt> {
        let (path, query, url) = self.place(request);
        let mut builder = ureq::http::Request::builder().method(request.method).uri(url);
        for (name, value) in self.headers(request, &path, &query) {
            builder = builder.header(name, value);
        }
        if request.only_new {
            builder = builder.header("if-none-match", "*");
        }
        let invalid = |error: ureq::http::Error| {
            Attempt::Fail(FetchError::Network { url: shown.to_owned(), why: error.to_string() })
        };
        let response = if request.method == "PUT" {
            self.agent.run(builder.body(request.body).map_err(invalid)?)
        } else {
            self.agent.run(builder.body(()).map_err(invalid)?)
        };
        let response = response.map_err(|error| Attempt::of(shown, &error))?;
        let status = response.status().as_u16();
        if status >= 500 && status != 501 || status == 429 {
            return Err(Attempt::again(format!("status {status}")));
        }
        let len = response.headers().get("content-length").and_then(|len| len.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        if request.method != "HEAD" {
            let read = response.into_body().into_reader().take(MAX_OBJECT_BYTES).read_to_end(&mut body);
            read.map_err(|error| Attempt::again(error.to_string()))?;
            if len.is_some_and(|len| len != body.len() as u64) {
                let why = format!("{} bytes came of {}", body.len(), len.unwrap_or(0));
                return Err(Attempt::again(why));
            }
        }
        Ok(Answer { status, len, body })
    }

    /// The `Authorization` header: Signature Version 4 over method, path, query, host, date and the hash of the content.
    fn sign(&self, method: &str, path: &str, query: &str, hash: &str, time: Utc) -> String {
        let (stamp, day) = (time.stamp(), time.day());
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{}\nx-amz-content-sha256:{hash}\nx-amz-date:{stamp}\n\n{signed}\n{hash}",
            self.host
        );
        let (key, scope) = (&self.config.access_key, self.scope(&day));
        let signature = self.signature(&canonical, &stamp, &day);
        format!("AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, Signature={signature}")
    }

    /// The same in the query, over method, path, host and date: whoever has the address needs nothing else.
    fn signed_url(&self, method: &str, name: &str, seconds: u32, time: Utc) -> String {
        let (stamp, day) = (time.stamp(), time.day());
        let credential = format!("{}/{}", self.config.access_key, self.scope(&day));
        let query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={stamp}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host",
            encode(&credential)
        );
        let (path, _, url) = self.place(&Request::new(method, name));
        let canonical = format!("{method}\n{path}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.host);
        format!("{url}?{query}&X-Amz-Signature={}", self.signature(&canonical, &stamp, &day))
    }

    fn scope(&self, day: &str) -> String {
        format!("{day}/{}/s3/aws4_request", self.config.region)
    }

    fn signature(&self, canonical: &str, stamp: &str, day: &str) -> String {
        let digest = hex(&Sha256::digest(canonical));
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{}\n{digest}", self.scope(day));
        let secret = format!("AWS4{}", self.config.secret_key.reveal());
        let parts = [day, &self.config.region, "s3", "aws4_request", &text];
        hex(&parts.iter().fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes()).to_vec()))
    }

    fn head(&self, name: &str) -> Result<Option<u64>, Error> {
        let answer = self.send(&Request::new("HEAD", name))?;
        match answer.status {
            200 => Ok(answer.len),
            404 => Ok(None),
            status => Err(self.unexpected(name, status, &[])),
        }
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, Error> {
        let answer = self.send(&Request::new("GET", name))?;
        match answer.status {
            200 => Ok(answer.body),
            404 => Err(Error::no_object(name, &self.name)),
            status => Err(self.unexpected(name, status, &answer.body)),
        }
    }

    /// All objects below a folder.
    fn list(&self, folder: &str) -> Result<Vec<Found>, Error> {
        let prefix = self.key(&format!("{folder}/"));
        let mut out = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = Vec::new();
            if let Some(token) = &token {
                query.push(("continuation-token", token.as_str()));
            }
            query.extend([("list-type", "2"), ("prefix", prefix.as_str())]);
            let answer = self.send(&Request { query: &query, ..Request::new("GET", "") })?;
            if answer.status != 200 || answer.body.len() as u64 > MAX_XML_BYTES {
                return Err(self.unexpected(folder, answer.status, &answer.body));
            }
            let page = parse_listing(&answer.body).map_err(|found| Error::Corrupt {
                name: format!("{}/{folder}", self.name),
                expected: "a listing".to_owned(),
                found,
            })?;
            let own = self.key("");
            out.extend(page.objects.into_iter().filter_map(|mut found| {
                found.object.name = found.object.name.strip_prefix(&own)?.to_owned();
                Some(found)
            }));
            token = page.next;
            if token.is_none() {
                out.sort();
                return Ok(out);
            }
        }
    }
}

/// A moment in UTC, as signatures want it.
#[derive(Debug, Clone, Copy)]
struct Utc(u64);

impl Utc {
    fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// Year, month, day by the civil calendar (Hinnant's days algorithm, valid for all of ours).
    fn date(self) -> (u64, u64, u64) {
        let days = self.0 / 86_400 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let part = (5 * of_year + 2) / 153;
        let day = of_year - (153 * part + 2) / 5 + 1;
        let month = if part < 10 { part + 3 } else { part - 9 };
        (year_of_era + era * 400 + u64::from(month <= 2), month, day)
    }

    fn day(self) -> String {
        let (year, month, day) = self.date();
        format!("{year:04}{month:02}{day:02}")
    }

    fn stamp(self) -> String {
        let of_day = self.0 % 86_400;
        format!("{}T{:02}{:02}{:02}Z", self.day(), of_day / 3600, of_day / 60 % 60, of_day % 60)
    }

    /// Reads `2026-11-28T17:49:04.000Z`.
    fn parse(text: &str) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (shifted, part) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
        let (era, of_era) = (shifted / 400, shifted % 400);
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * part + 2) / 5 + day;
        let days = days.checked_sub(719_469)?;
        Some(Self(days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// Percent encoding as signatures want it.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    object: Listed,
    age_seconds: u64,
    /// Another one when the object is replaced.
    tag: String,
}

#[derive(Debug, Default)]
struct Page {
    /// With whole keys for names.
    objects: Vec<Found>,
    next: Option<String>,
}

fn parse_listing(xml: &[u8]) -> Result<Page, String> {
    let mut reader = quick_xml::Reader::from_reader(xml);
    let mut page = Page::default();
    let mut element = Vec::new();
    let (mut key, mut len, mut age, mut tag) = (String::new(), 0, 0, String::new());
    let now = Utc::now().0;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => element = start.local_name().as_ref().to_vec(),
            Event::Text(text) => {
                let text = text.decode().map_err(|error| error.to_string())?;
                match element.as_slice() {
                    b"Key" => key.push_str(&text),
                    b"ETag" => tag.push_str(&text),
                    b"Size" => len = text.parse().map_err(|_| format!("size {text:?}"))?,
                    b"LastModified" => {
                        age = Utc::parse(&text).map_or(0, |modified| now.saturating_sub(modified.0));
                    }
                    b"NextContinuationToken" => page.next.get_or_insert_default().push_str(&text),
                    _ => {}
                }
            }
            Event::End(end) => {
                if end.local_name().as_ref() == b"Contents" {
                    let object = Listed { name: std::mem::take(&mut key), len };
                    page.objects.push(Found { object, age_seconds: age, tag: std::mem::take(&mut tag) });
                }
                element.clear();
            }
            Event::Eof => return Ok(page),
            _ => {}
        }
    }
}

/// An object that never changes, read in ranges.
struct S3Source {
    shared: Arc<Shared>,
    name: String,
    size: u64,
}

impl ReadAt for S3Source {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let request = Request::new("GET", &self.name);
        let (path, query, url) = self.shared.place(&request);
        let headers = || self.shared.headers(&request, &path, &query);
        let ranged = gravure_fetch::Request { agent: &self.shared.agent, url: &url, headers: &headers };
        let bytes =
            read_range(&ranged, self.size, offset..end, &self.shared.patience).map_err(
                |error| match error {
                    FetchError::NotFound { url } => io::Error::new(io::ErrorKind::NotFound, url),
                    error => io::Error::other(error),
                },
            )?;
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

#[derive(Debug)]
struct S3Session {
    shared: Arc<Shared>,
    name: String,
}

impl Session for S3Session {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for S3Session {
    fn drop(&mut self) {
        // One that stays counts as ended after a week.
        let _ = self.shared.send(&Request::new("DELETE", &format!("sessions/{}", self.name)));
    }
}

impl Objects for S3Objects {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error> {
        if !name.starts_with("packs/") && !name.starts_with("index/") {
            // What may be replaced is read at once.
            return Ok(Arc::new(self.shared.get(name)?));
        }
        let size = self.shared.head(name)?.ok_or_else(|| Error::no_object(name, &self.shared.name))?;
        Ok(Arc::new(S3Source { shared: Arc::clone(&self.shared), name: name.to_owned(), size }))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, Error> {
        // Not every server knows the condition; those that do not are asked before.
        if self.shared.head(name)?.is_some() {
            return Ok(Put::Exists);
        }
        let request = Request { only_new: true, body: bytes, ..Request::new("PUT", name) };
        let answer = self.shared.send(&request)?;
        match answer.status {
            200 | 201 => Ok(Put::Created),
            409 | 412 => Ok(Put::Exists),
            501 => self.replace(name, bytes).map(|()| Put::Created),
            status => Err(self.shared.unexpected(name, status, &answer.body)),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let answer = self.shared.send(&Request { body: bytes, ..Request::new("PUT", name) })?;
        match answer.status {
            200 | 201 => Ok(()),
            status => Err(self.shared.unexpected(name, status, &answer.body)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        Ok(self.shared.list(folder)?.into_iter().map(|found| found.object).collect())
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let answer = self.shared.send(&Request::new("DELETE", name))?;
        match answer.status {
            200 | 204 | 404 => Ok(()),
            status => Err(self.shared.unexpected(name, status, &answer.body)),
        }
    }

    fn begin_session(&self) -> Result<Box<dyn Session>, Error> {
        let name = unique_name()?;
        self.replace(&format!("sessions/{name}"), b"")?;
        Ok(Box::new(S3Session { shared: Arc::clone(&self.shared), name }))
    }

    fn sessions(&self) -> Result<Vec<String>, Error> {
        let listed = self.shared.list("sessions")?;
        let alive = listed.into_iter().filter(|found| found.age_seconds < SESSION_SECONDS);
        Ok(alive.filter_map(|found| found.object.name.strip_prefix("sessions/").map(str::to_owned)).collect())
    }

    fn clean(&self) -> Result<(), Error> {
        for Found { object, .. } in
            self.shared.list("sessions")?.iter().filter(|found| found.age_seconds >= SESSION_SECONDS)
        {
            self.remove(&object.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, stamp, text) in [
            (0, "19700101T000000Z", "1970-01-01T00:00:00.000Z"),
            (951_782_400, "20000229T000000Z", "2000-02-29T00:00:00Z"),
            (1_795_888_144, "20261128T174904Z", "2026-11-28T17:49:04.123Z"),
            (4_107_542_399, "21000228T235959Z", "2100-02-28T23:59:59.000Z"),
        ] {
            assert_eq!(Utc(seconds).stamp(), stamp);
            assert_eq!(Utc::parse(text).map(|time| time.0), Some(seconds), "{text}");
        }
        assert!(Utc::parse("yesterday").is_none());
    }

    #[test]
    fn hmac_of_rfc_4231() {
        let found = hex(&hmac(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(found, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let found = hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"));
        assert_eq!(found, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn signatures_are_those_of_the_documentation() {
        // "Authenticating Requests: Using Query Parameters" in the documentation of S3, with its keys.
        let config = S3Config {
            endpoint: "https://s3.amazonaws.com".to_owned(),
            bucket: "examplebucket".to_owned(),
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        };
        let objects = S3Objects::new(gravure_fetch::agent(), config, Patience::default());
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F\
            aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host";
        let canonical =
            format!("GET\n/test.txt\n{query}\nhost:examplebucket.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD");
        let signature = objects.shared.signature(&canonical, "20130524T000000Z", "20130524");
        assert_eq!(signature, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
        let url = objects.shared.signed_url("GET", "a/b c", 86_400, Utc(1_369_353_600));
        let (place, signed) = url.split_once('?').unwrap();
        assert_eq!(place, "https://s3.amazonaws.com/examplebucket/a/b%20c");
        assert!(signed.starts_with(query) && signed.len() == query.len() + "&X-Amz-Signature=".len() + 64);
    }

    #[test]
    fn listings_have_names_lengths_and_a_token() {
        let xml = br#"<?xml version="1.0"?><ListBucketResult xmlns="x"><Name>b</Name><IsTruncated>true</IsTruncated>
            <Contents><Key>p/packs/ab/1</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;1f&quot;</ETag><Size>7</Size></Contents>
            <Contents><Key>p/packs/ab/2</Key><Size>8</Size></Contents>
            <NextContinuationToken>tok/en=</NextContinuationToken></ListBucketResult>"#;
        let page = parse_listing(xml).unwrap();
        let found: Vec<_> =
            page.objects.iter().map(|found| (found.object.name.as_str(), found.object.len)).collect();
        assert_eq!(found, [("p/packs/ab/1", 7), ("p/packs/ab/2", 8)]);
        assert!(page.objects[0].tag.contains("1f") && page.objects[1].tag.is_empty());
        assert!(page.objects[0].age_seconds > 0);
        assert_eq!(page.next.as_deref(), Some("tok/en="));
        assert!(parse_listing(b"<a><b></a>").is_err());
    }
}
