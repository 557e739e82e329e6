//! What makes this boot itself: a nonce and a TLS key, kept in memory so that an agent that had to be started again
//! carries on as the same one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files;
use crate::tls::ClientIdentity;

/// The session of this boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Session {
    /// 32 random bytes as hexadecimal digits.
    pub(super) nonce: String,
    /// The key the server knows the session by.
    pub(super) identity: ClientIdentity,
    /// The token was traded: it is good once.
    pub(super) token_used: bool,
}

impl Session {
    /// The session of an earlier agent of this boot, else a new one.
    pub(super) fn resume_or_begin(dir: &Path) -> Result<Self, String> {
        let kept = std::fs::read(dir.join(FILE)).ok();
        if let Some(session) = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(session);
        }
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| format!("no random bytes from the kernel: {error}"))?;
        let identity = ClientIdentity::generate().map_err(|error| error.to_string())?;
        let nonce = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        let session = Self { nonce, identity, token_used: false };
        session.keep(dir)?;
        Ok(session)
    }

    /// Writes the session for the next agent.
    pub(super) fn keep(&self, dir: &Path) -> Result<(), String> {
        let bytes = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        files::write_private(&dir.join(FILE), &bytes).map_err(|error| format!("{FILE}: {error}"))
    }
}

const FILE: &str = "session.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_the_same_session() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let mut first = Session::resume_or_begin(temp.path()).unwrap();
        first.token_used = true;
        first.keep(temp.path()).unwrap();
        let second = Session::resume_or_begin(temp.path()).unwrap();
        assert_eq!((second.nonce.as_str(), second.token_used), (first.nonce.as_str(), true));
        assert_eq!(second.identity.key_pem, first.identity.key_pem);
        assert_eq!(first.nonce.len(), 64);
        let mode = std::fs::metadata(temp.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = Session::resume_or_begin(tempfile::tempdir().unwrap().path()).unwrap();
        assert_ne!(other.nonce, first.nonce);
    }
}
