//! Why a deployment ended, in the form that travels: stage, exit code family, message, cure.

use std::error::Error as StdError;

/// The end of a deployment that did not succeed. Nothing on the disk looks bootable then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}: {message}")]
pub struct Failure {
    /// The plan step it happened in.
    pub stage: String,
    /// Exit code family of DESIGN section 5.
    pub code: u8,
    /// What, where, expected, found: the whole chain of causes.
    pub message: String,
    /// What to do about it.
    pub cure: Option<String>,
}

/// A failure inside a step; the executor adds the stage.
#[derive(Debug)]
pub(crate) struct StepError {
    pub(crate) code: u8,
    pub(crate) message: String,
    pub(crate) cure: Option<&'static str>,
}

/// Exit code families of DESIGN section 5 that steps use.
pub(crate) mod code {
    pub(crate) const FAILED: u8 = 1;
    pub(crate) const NOT_FOUND: u8 = 3;
    pub(crate) const REFUSED: u8 = 4;
    pub(crate) const INTEGRITY: u8 = 5;
    pub(crate) const IO: u8 = 6;
    pub(crate) const UNSUPPORTED: u8 = 9;
    pub(crate) const INTERRUPTED: u8 = 130;
}

impl StepError {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), cure: None }
    }

    pub(crate) fn with_cure(mut self, cure: &'static str) -> Self {
        self.cure = Some(cure);
        self
    }

    pub(crate) fn at(self, stage: &str) -> Failure {
        let cure = self.cure.map(str::to_owned);
        Failure { stage: stage.to_owned(), code: self.code, message: self.message, cure }
    }
}

/// An error with all its causes, `: ` between them.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<gravure_linux::Error> for StepError {
    fn from(error: gravure_linux::Error) -> Self {
        let code = match &error {
            gravure_linux::Error::Refused { .. } => code::REFUSED,
            _ => code::IO,
        };
        Self::new(code, chain(&error))
    }
}

impl From<gravure_disk::Error> for StepError {
    fn from(error: gravure_disk::Error) -> Self {
        let code = match &error {
            gravure_disk::Error::Io { .. } => code::IO,
            gravure_disk::Error::Differs { .. } => code::INTEGRITY,
            _ => code::FAILED,
        };
        Self::new(code, chain(&error))
    }
}

impl From<gravure_model::Cancelled> for StepError {
    fn from(_: gravure_model::Cancelled) -> Self {
        Self::new(code::INTERRUPTED, "interrupted")
    }
}
