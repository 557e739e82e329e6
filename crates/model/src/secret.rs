//! Secrets: no `Debug` that shows them, so they cannot reach a log by accident (DESIGN section 8), and no memory that keeps them when
//! they are gone.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

/// A secret text. It is serialised (that is how it is delivered, once) but never printed, and overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Of bytes that need be no text, such as those of a key file: kept and delivered as base64.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(STANDARD.encode(bytes))
    }

    /// The bytes of [`of_bytes`](Self::of_bytes); `None` where it is no base64.
    pub fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        // Enough from the start: a buffer that grew would leave what it held behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.0.len()));
        STANDARD.decode_vec(&self.0, &mut bytes).ok()?;
        Some(bytes)
    }

    /// The text itself. Callers must not log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_back_and_are_not_shown() {
        for bytes in [&b""[..], b"1234\n", &[0, 255, 13, 10, 128], &[7; 4096]] {
            let secret = Secret::of_bytes(bytes);
            let travelled: Secret = serde_json::from_str(&serde_json::to_string(&secret).unwrap()).unwrap();
            assert_eq!(travelled.bytes().unwrap().as_slice(), bytes);
            assert_eq!(format!("{secret:?}"), "Secret(..)");
        }
        for text in ["hunter2!", "=", "MTIzNA"] {
            assert!(Secret::new(text).bytes().is_none(), "{text}");
        }
    }
}
