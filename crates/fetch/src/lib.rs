//! Ranges of files over HTTP: asked for, resumed where a connection broke, tried again with growing pauses. What is done with the bytes,
//! and whether they are right, is the business of whoever asks.
#![forbid(unsafe_code)]

use std::io::Read;
use std::ops::Range;
use std::time::{Duration, Instant};

use gravure_model::Ctl;
use ureq::http::{HeaderMap, StatusCode, header};

/// First pause after a failure; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Step in which a long pause looks whether it was asked to stop.
const PAUSE_STEP: Duration = Duration::from_millis(50);
/// Bytes read before somebody may take them.
const STEP_BYTES: u64 = 64 << 10;

/// Why bytes did not come. Can be kept and told more than once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The server does not have it.
    #[error("{url} not found")]
    NotFound {
        /// The address.
        url: String,
    },
    /// The server could not be reached, or answered wrongly.
    #[error("{url}: {why}")]
    Network {
        /// The address.
        url: String,
        /// What happened, after how many attempts.
        why: String,
    },
    /// Asked to stop.
    #[error("stopped")]
    Stopped,
}

/// What one attempt came to, when it did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The connection broke or could not be made; worth another try.
    Again {
        /// What happened.
        why: String,
        /// Bytes that came before.
        received: u64,
    },
    /// No other try would go better.
    Fail(FetchError),
}

impl Attempt {
    /// Worth another try; nothing came.
    pub fn again(why: String) -> Self {
        Self::Again { why, received: 0 }
    }

    /// What an error of the client means.
    pub fn of(url: &str, error: &ureq::Error) -> Self {
        let why = error.to_string();
        match error {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound
            | ureq::Error::Protocol(_) => Self::again(why),
            _ => Self::Fail(FetchError::Network { url: url.to_owned(), why }),
        }
    }

    /// What a status means that is none of success.
    pub fn of_status(url: &str, status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                Self::Fail(FetchError::NotFound { url: url.to_owned() })
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Self::again(format!("server says {status}"))
            }
            status if status.is_server_error() => Self::again(format!("server says {status}")),
            status => {
                Self::Fail(FetchError::Network { url: url.to_owned(), why: format!("server says {status}") })
            }
        }
    }
}

/// An agent with the timeouts this crate counts on. Callers that pin a CA make their own.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(30)))
        .http_status_as_error(false)
        .build();
    ureq::Agent::new_with_config(config)
}

/// How long to go on trying.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Without receiving a byte. A server that restarts is back within it.
    pub limit: Duration,
    /// Ends all waiting when asked to stop.
    pub ctl: Ctl,
}

impl Default for Patience {
    fn default() -> Self {
        Self { limit: Duration::from_secs(120), ctl: Ctl::default() }
    }
}

impl Patience {
    /// Repeats `attempt` until it works, fails for good, or has brought nothing for as long as patience lasts.
    pub fn persist<T>(
        &self,
        url: &str,
        is_closed: &dyn Fn() -> bool,
        mut attempt: impl FnMut() -> Result<T, Attempt>,
    ) -> Result<T, FetchError> {
        let mut pause = FIRST_PAUSE;
        let mut started = Instant::now();
        let mut count = 0u32;
        loop {
            if is_closed() || self.ctl.check().is_err() {
                return Err(FetchError::Stopped);
            }
            let before = Instant::now();
            match attempt() {
                Ok(done) => return Ok(done),
                Err(Attempt::Fail(error)) => return Err(error),
                Err(Attempt::Again { why, received }) => {
                    count += 1;
                    // A connection that carried bytes shows that the server is alive.
                    if received > 0 || before.elapsed() > LONGEST_PAUSE {
                        (started, pause) = (Instant::now(), FIRST_PAUSE);
                    }
                    if started.elapsed() >= self.limit {
                        let why = format!("{why} (attempt {count}, none succeeded for {:?})", self.limit);
                        return Err(FetchError::Network { url: url.to_owned(), why });
                    }
                }
            }
            let until = Instant::now() + pause;
            while Instant::now() < until && !is_closed() && self.ctl.check().is_ok() {
                std::thread::sleep(PAUSE_STEP.min(until.saturating_duration_since(Instant::now())));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Headers of a request beside those of ranges: name and value.
pub type Headers = Vec<(&'static str, String)>;

/// Who asks, and for what.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The client.
    pub agent: &'a ureq::Agent,
    /// The address.
    pub url: &'a str,
    /// Further headers, made for each attempt: signatures have times.
    pub headers: &'a dyn Fn() -> Headers,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What the server says of the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Bytes.
    pub size: u64,
    /// Its version: a tag, or a time.
    pub version: Option<String>,
}

/// Asks once for the bytes `range`, appends what comes to `bytes`; `take` may take from there whenever something came. `check` judges
/// what the server says of the whole file before a byte is read.
pub fn ask(
    request: &Request<'_>,
    range: Range<u64>,
    bytes: &mut Vec<u8>,
    check: &dyn Fn(&Whole) -> Result<(), String>,
    take: &mut dyn FnMut(&mut Vec<u8>),
) -> Result<Whole, Attempt> {
    let url = request.url;
    let fail = |why: String| Attempt::Fail(FetchError::Network { url: url.to_owned(), why });
    let wanted = range.end.saturating_sub(range.start);
    let last = range.end.checked_sub(1).filter(|_| wanted > 0);
    let last = last.ok_or_else(|| fail("no bytes asked for".to_owned()))?;
    let mut builder = request.agent.get(url).header(header::RANGE, format!("bytes={}-{last}", range.start));
    builder = builder.header(header::ACCEPT_ENCODING, "identity");
    for (name, value) in (request.headers)() {
        builder = builder.header(name, value);
    }
    let response = builder.call().map_err(|error| Attempt::of(url, &error))?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK => return Err(fail("server does not send ranges".to_owned())),
        status => return Err(Attempt::of_status(url, status)),
    }
    let whole = whole(response.headers(), range.start).map_err(fail)?;
    check(&whole).map_err(fail)?;
    let expected = wanted.min(whole.size.saturating_sub(range.start));
    let mut body = response.into_body().into_reader().take(wanted);
    let mut received = 0;
    loop {
        let before = bytes.len();
        let step = body.by_ref().take(STEP_BYTES).read_to_end(bytes);
        // What came before a connection broke counts.
        match step {
            Ok(0) => break,
            Ok(len) => received += len as u64,
            Err(error) => {
                received += (bytes.len() - before) as u64;
                return Err(Attempt::Again { why: error.to_string(), received });
            }
        }
        take(bytes);
    }
    if received < expected {
        let why = format!("connection ended {} bytes early", expected - received);
        return Err(Attempt::Again { why, received });
    }
    Ok(whole)
}

fn whole(headers: &HeaderMap, start: u64) -> Result<Whole, String> {
    let text =
        |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let content_range = text(header::CONTENT_RANGE).unwrap_or_default();
    let Some((first, size)) = parse_content_range(&content_range) else {
        return Err(format!("Content-Range {content_range:?} makes no sense"));
    };
    if first != start {
        return Err(format!("Content-Range {content_range:?} does not start at {start}"));
    }
    let version = text(header::ETAG).or_else(|| text(header::LAST_MODIFIED));
    Ok(Whole { size, version })
}

/// First byte and size of the whole file in `bytes 0-99/1000`.
fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (first.parse().ok()?, last.parse::<u64>().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first, size))
}

/// The bytes `range` of a file of `size` bytes, with patience; goes on where a connection broke.
pub fn read_range(
    request: &Request<'_>,
    size: u64,
    range: Range<u64>,
    patience: &Patience,
) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    if range.is_empty() {
        return Ok(bytes);
    }
    let check = |whole: &Whole| match whole.size {
        found if found == size => Ok(()),
        found => Err(format!("the file has {found} bytes, expected {size}")),
    };
    patience.persist(request.url, &|| false, || {
        let from = range.start + bytes.len() as u64;
        ask(request, from..range.end, &mut bytes, &check, &mut |_| {})
    })?;
    Ok(bytes)
}

/// A whole file of at most `limit` bytes, with patience.
pub fn read_file(request: &Request<'_>, limit: u64, patience: &Patience) -> Result<Vec<u8>, FetchError> {
    let url = request.url;
    patience.persist(url, &|| false, || {
        let mut builder = request.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in (request.headers)() {
            builder = builder.header(name, value);
        }
        let response = builder.call().map_err(|error| Attempt::of(url, &error))?;
        if response.status() != StatusCode::OK {
            return Err(Attempt::of_status(url, response.status()));
        }
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let mut bytes = Vec::new();
        let read = response.into_body().into_reader().take(limit + 1).read_to_end(&mut bytes);
        let received = bytes.len() as u64;
        if let Err(error) = read {
            return Err(Attempt::Again { why: error.to_string(), received });
        }
        if received > limit {
            let why = format!("more than {limit} bytes");
            return Err(Attempt::Fail(FetchError::Network { url: url.to_owned(), why }));
        }
        if length.is_some_and(|length| length != received) {
            let why = format!("{received} bytes came of {}", length.unwrap_or(0));
            return Err(Attempt::Again { why, received });
        }
        Ok(bytes)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn content_range_is_checked() {
        assert_eq!(parse_content_range("bytes 0-99/1000"), Some((0, 1000)));
        for bad in
            ["", "bytes */1000", "bytes 5-4/10", "bytes 0-10/10", "0-9/10", "bytes 0-9/*", "bytes -9/10"]
        {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    /// Answers one request after the other with these bytes, then closes. Returns what was asked for.
    fn serve(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut range = String::new();
                while let Some(Ok(line)) = lines.next() {
                    if line.is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: ") {
                        range = value.to_owned();
                    }
                }
                asked.push(range);
                stream.write_all(&answer).unwrap();
            }
            asked
        });
        (url, thread)
    }

    fn partial(range: &str, length: usize, body: &str) -> Vec<u8> {
        let head = "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n";
        format!("{head}Content-Range: bytes {range}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    fn read(url: &str, size: u64, range: Range<u64>) -> Result<Vec<u8>, FetchError> {
        let agent = agent();
        let request = Request { agent: &agent, url, headers: &Vec::new };
        read_range(&request, size, range, &Patience { limit: Duration::ZERO, ctl: Ctl::default() })
    }

    #[test]
    fn a_connection_that_breaks_is_taken_up_where_it_was() {
        let (url, server) = serve(vec![
            partial("2-9/10", 8, "234"),
            b"HTTP/1.1 503 x\r\n".to_vec(),
            partial("5-9/10", 5, "56789"),
        ]);
        let agent = agent();
        let request = Request { agent: &agent, url: &url, headers: &Vec::new };
        let bytes = read_range(&request, 10, 2..10, &Patience::default()).unwrap();
        assert_eq!(bytes, b"23456789");
        assert_eq!(server.join().unwrap(), ["bytes=2-9", "bytes=5-9", "bytes=5-9"]);
    }

    #[test]
    fn what_no_other_try_would_mend_fails_at_once() {
        let cases: [(Vec<u8>, &str); 4] = [
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), "not found"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".to_vec(), "server does not send ranges"),
            (partial("0-1/11", 2, "ab"), "the file has 11 bytes, expected 10"),
            (partial("3-4/10", 2, "ab"), "does not start at 0"),
        ];
        for (answer, message) in cases {
            let (url, server) = serve(vec![answer]);
            let error = read(&url, 10, 0..2).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            server.join().unwrap();
        }
        assert_eq!(read("http://127.0.0.1:1/", 10, 4..4).unwrap(), b"");
    }

    #[test]
    fn whole_files_come_whole_or_not_at_all() {
        let answer =
            |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nabc").into_bytes();
        let (url, server) = serve(vec![answer(9), answer(3), answer(3)]);
        let agent = agent();
        let request = Request { agent: &agent, url: &url, headers: &Vec::new };
        assert_eq!(read_file(&request, 3, &Patience::default()).unwrap(), b"abc");
        let error = read_file(&request, 2, &Patience::default()).unwrap_err().to_string();
        assert!(error.contains("more than 2 bytes"), "{error}");
        server.join().unwrap();
    }
}
