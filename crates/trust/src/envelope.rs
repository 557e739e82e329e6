//! One envelope for every signed statement: key id, purpose, exact bytes, signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gravure_model::api::Envelope;

use crate::{Error, PublicKey, SigningKey};

/// Separates our signatures from any other use of a key.
const DOMAIN: &[u8] = b"gravure envelope v1\0";

/// Largest statement accepted, bytes of plain payload: a descriptor of a 1 TB image has 18 MB of hashes.
const MAX_PAYLOAD_BYTES: usize = 32 << 20;

/// What a statement is for. Part of what is signed, so that none can pass for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The root's statement on the plan key.
    PlanKey,
    /// A plan.
    Plan,
    /// An image descriptor.
    Image,
    /// The server's time.
    Time,
    /// A block image, by its id.
    BlockImage,
    /// An order on a medium that deploys without a server.
    OfflineJob,
}

impl Purpose {
    /// The word in the envelope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlanKey => "plan-key",
            Self::Plan => "plan",
            Self::Image => "image",
            Self::Time => "time",
            Self::BlockImage => "block-image",
            Self::OfflineJob => "offline-job",
        }
    }

    /// What messages call the statement.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::PlanKey => "statement on the plan key",
            Self::Plan => "plan",
            Self::Image => "image descriptor",
            Self::Time => "server time",
            Self::BlockImage => "block image",
            Self::OfflineJob => "order of the medium",
        }
    }
}

/// What is signed: lengths in front, so that no two (purpose, bytes) pairs share a message.
fn message(purpose: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    for part in [purpose.as_bytes(), payload] {
        out.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Signs exact bytes.
pub(crate) fn seal(key: &SigningKey, purpose: Purpose, payload: &[u8]) -> Envelope {
    let signature = key.sign(&message(purpose.as_str(), payload));
    Envelope {
        key: key.public().id(),
        purpose: purpose.as_str().to_owned(),
        payload: STANDARD.encode(payload),
        signature: STANDARD.encode(signature),
    }
}

/// Checks an envelope against `key` and gives the exact bytes that were signed.
pub(crate) fn open(key: &PublicKey, purpose: Purpose, envelope: &Envelope) -> Result<Vec<u8>, Error> {
    let what = purpose.title();
    if envelope.purpose != purpose.as_str() {
        return Err(Error::OtherPurpose { expected: purpose.as_str(), found: envelope.purpose.clone() });
    }
    if envelope.key != key.id() {
        return Err(Error::OtherKey { what, expected: key.id(), found: envelope.key.clone() });
    }
    let malformed = |expected: &'static str, text: &str| Error::Malformed {
        what,
        expected,
        found: format!("{} characters", text.len()),
    };
    if envelope.payload.len() / 4 > MAX_PAYLOAD_BYTES / 3 {
        return Err(malformed("at most 32 MiB", &envelope.payload));
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| malformed("base64", &envelope.payload))?;
    let signature =
        STANDARD.decode(&envelope.signature).ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
    let signature = signature.ok_or_else(|| malformed("a signature of 64 bytes", &envelope.signature))?;
    if !key.accepts(&message(purpose.as_str(), &payload), &signature) {
        return Err(Error::BadSignature { what, key: key.id() });
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_purpose_and_key_open() {
        let key = SigningKey::generate().unwrap();
        let sealed = seal(&key, Purpose::Plan, b"content");
        assert_eq!(open(&key.public(), Purpose::Plan, &sealed).unwrap(), b"content");

        let other = SigningKey::generate().unwrap();
        let error = open(&other.public(), Purpose::Plan, &sealed).unwrap_err();
        assert!(matches!(error, Error::OtherKey { .. }), "{error}");

        let error = open(&key.public(), Purpose::Image, &sealed).unwrap_err();
        assert!(matches!(error, Error::OtherPurpose { .. }), "{error}");

        let relabelled = Envelope { purpose: "image".into(), ..sealed.clone() };
        let error = open(&key.public(), Purpose::Image, &relabelled).unwrap_err();
        assert!(matches!(error, Error::BadSignature { .. }), "{error}");

        let changed = Envelope { payload: STANDARD.encode(b"Content"), ..sealed.clone() };
        let error = open(&key.public(), Purpose::Plan, &changed).unwrap_err();
        assert!(matches!(error, Error::BadSignature { .. }), "{error}");

        let cut = Envelope { signature: "AAAA".into(), ..sealed };
        let error = open(&key.public(), Purpose::Plan, &cut).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }
}
