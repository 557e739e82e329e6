//! How sure the server is that a machine is the one it says it is (DESIGN section 8).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Levels in ascending order; a plan or secret names the least it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// The machine says so; anybody on the network could.
    #[default]
    Claimed,
    /// It traded a one-time token that was issued while a plan was armed for it.
    Token,
    /// An operator compared the code on the machine's screen.
    Approved,
    /// A TPM quote over the boot measurements. The level exists; the proof is not built yet.
    Attested,
}

impl Assurance {
    /// All levels, lowest first.
    pub const ALL: [Self; 4] = [Self::Claimed, Self::Token, Self::Approved, Self::Attested];

    /// The word used in database, API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Token => "token",
            Self::Approved => "approved",
            Self::Attested => "attested",
        }
    }
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no assurance level; expected claimed, token, approved or attested")]
pub struct UnknownAssurance(String);

impl FromStr for Assurance {
    type Err = UnknownAssurance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| UnknownAssurance(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_keep_their_words() {
        assert!(Assurance::ALL.is_sorted());
        for level in Assurance::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
            assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{level}\""));
        }
    }
}
