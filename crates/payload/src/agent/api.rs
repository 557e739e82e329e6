//! The requests of the payload (`gravure_model::api`), and how they can fail.

use gravure_model::api::{ApiError, EventBatch, Hello, PlanAnswer, StoredAnswer, StoredRequest, Welcome};
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::files::chain;
use crate::tls::{self, ClientIdentity, TlsError};

/// Largest answer: a descriptor of 32 MiB in base64 beside a plan.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// Why a request got no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// No server, or one that is not ours, or an answer that broke off: trying again may help.
    #[error("{0}")]
    Silent(String),
    /// The server has refused, for this reason.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's words.
        message: String,
        /// What the server suggests.
        cure: Option<String>,
    },
}

impl Failure {
    /// The server does not know the session: greet it again.
    pub(super) fn is_unknown_session(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    /// The same events will be refused for ever: they are of a plan that is not this session's, or too odd. An unknown
    /// session (401) and a batch that crossed another one (409) are worth another try.
    pub(super) fn never_takes_events(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 403 | 404 | 410 | 413 | 415 | 422, .. })
    }
}

/// A server's API.
#[derive(Debug, Clone)]
pub(super) struct Api {
    agent: Agent,
    base: String,
}

impl Api {
    /// For the server at `base`, e.g. `https://10.0.0.1:8443`.
    pub(super) fn new(base: &str, ca_pem: &str, identity: &ClientIdentity) -> Result<Self, TlsError> {
        let agent = tls::client(ca_pem, Some(identity))?;
        Ok(Self { agent, base: base.trim_end_matches('/').to_owned() })
    }

    /// Address of the server.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Greets the server.
    pub(super) fn hello(&self, hello: &Hello) -> Result<Welcome, Failure> {
        self.post("/v1/payload/hello", Some(hello))?
            .ok_or_else(|| Failure::Silent("an empty answer".to_owned()))
    }

    /// Asks for a plan.
    pub(super) fn plan(&self) -> Result<PlanAnswer, Failure> {
        let answer = self.post("/v1/payload/plan", None::<&()>)?;
        answer.ok_or_else(|| Failure::Silent("an empty answer".to_owned()))
    }

    /// Hands events over.
    pub(super) fn events(&self, batch: &EventBatch) -> Result<(), Failure> {
        self.post::<_, serde_json::Value>("/v1/payload/events", Some(batch)).map(drop)
    }

    /// Asks which contents of a capture the server has.
    pub(super) fn stored(&self, request: &StoredRequest) -> Result<StoredAnswer, Failure> {
        let answer = self.post("/v1/payload/capture/stored", Some(request))?;
        answer.ok_or_else(|| Failure::Silent("an empty answer".to_owned()))
    }

    /// Sends frames of a capture.
    pub(super) fn put_frames(&self, frames: &[u8]) -> Result<(), Failure> {
        self.put("/v1/payload/capture/frames", frames)
    }

    /// Sends the manifest of a capture, which makes an image of it.
    pub(super) fn put_manifest(&self, manifest: &[u8]) -> Result<(), Failure> {
        self.put("/v1/payload/capture/manifest", manifest)
    }

    fn put(&self, path: &str, body: &[u8]) -> Result<(), Failure> {
        let request = self.agent.put(format!("{}{path}", self.base));
        let answer = request.content_type("application/octet-stream").send(body);
        self.read::<serde_json::Value>(path, answer).map(drop)
    }

    /// Sends `body` as JSON and reads the answer, `None` when it has no content.
    fn post<B: serde::Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&B>,
    ) -> Result<Option<A>, Failure> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let answer = match body {
            Some(body) => {
                let body = serde_json::to_vec(body).map_err(|error| Failure::Silent(error.to_string()))?;
                request.content_type("application/json").send(&body)
            }
            None => request.send_empty(),
        };
        self.read(path, answer)
    }

    fn read<A: DeserializeOwned>(
        &self,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Option<A>, Failure> {
        let silent = |error: ureq::Error| Failure::Silent(format!("{}{path}: {}", self.base, chain(&error)));
        let mut answer = answer.map_err(silent)?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(silent)?;
        if answer.status().is_success() {
            if text.is_empty() {
                return Ok(None);
            }
            return serde_json::from_slice(&text).map(Some).map_err(|error| {
                Failure::Silent(format!("{}{path}: the answer cannot be read: {error}", self.base))
            });
        }
        Err(refusal(status, &text))
    }
}

/// The server's own words if it has some.
fn refusal(status: u16, text: &[u8]) -> Failure {
    match serde_json::from_slice::<ApiError>(text) {
        Ok(error) => Failure::Refused { status, message: error.message, cure: error.cure },
        Err(_) if status >= 500 => Failure::Silent(format!("the server answers with status {status}")),
        Err(_) => Failure::Refused {
            status,
            message: format!("the server answers with status {status}"),
            cure: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_the_servers_words() {
        let text = br#"{"error":"refused","message":"token was used","cure":"arm again"}"#;
        let failure = refusal(403, text);
        assert_eq!(failure.to_string(), "token was used");
        assert!(!failure.is_unknown_session() && failure.never_takes_events());
        assert!(refusal(422, b"<html>").never_takes_events());
        assert!(refusal(401, b"").is_unknown_session() && !refusal(401, b"").never_takes_events());
        assert!(!refusal(409, b"").never_takes_events());
        assert_eq!(refusal(502, b""), Failure::Silent("the server answers with status 502".into()));
    }
}
