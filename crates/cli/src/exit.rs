//! How a command ends: the exit codes of DESIGN section 5, and what to do about each failure.

use std::error::Error as StdError;
use std::process::ExitCode;

use gravure_imaging::ErrorKind;

/// Something asked for was not done, but the command went on: exit code 10.
pub(crate) const PARTIAL: u8 = 10;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
    pub(crate) cure: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { code: kind.exit_code(), message: message.into(), cure: None }
    }

    /// Whether it ends with the exit code of `kind`.
    pub(crate) fn is(&self, kind: ErrorKind) -> bool {
        self.code == kind.exit_code()
    }

    pub(crate) fn with_cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// A failed access to `path`.
    pub(crate) fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{what} {}: {error}", path.display()))
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

impl From<gravure_imaging::Error> for Failure {
    fn from(error: gravure_imaging::Error) -> Self {
        let kind = error.kind();
        let failure = Self::new(kind, chain(&error));
        if is_encrypted(&error) {
            return failure
                .with_cure("decrypt it first: the key is in no image file, only Windows setup has it");
        }
        if is_limit(&error) {
            return failure.with_cure(crate::limits::CURE);
        }
        if matches!(error, gravure_imaging::Error::NotFound { what: "partition", .. }) {
            return failure.with_cure("`gravure ls FILE` lists the partitions of a block image");
        }
        match kind {
            ErrorKind::Integrity => failure.with_cure("the image is damaged: take another copy of it"),
            ErrorKind::Permission => failure.with_cure("run as root, or choose a place you may write"),
            ErrorKind::NotFound => {
                failure.with_cure("`gravure info FILE` lists the images, `gravure ls FILE:N` their files")
            }
            _ => failure,
        }
    }
}

/// Whether this is about an encrypted download image.
fn is_encrypted(error: &gravure_imaging::Error) -> bool {
    let gravure_imaging::Error::Wim { source, .. } = error else { return false };
    matches!(&**source, gravure_wim::Error::Unsupported { what: "encryption", .. })
}

/// Whether a file asks for more than it is granted.
fn is_limit(error: &gravure_imaging::Error) -> bool {
    let gravure_imaging::Error::Wim { source, .. } = error else { return false };
    matches!(&**source, gravure_wim::Error::Limit { .. })
}

impl From<gravure_windows::Error> for Failure {
    fn from(error: gravure_windows::Error) -> Self {
        use gravure_windows::Error;
        let kind = match &error {
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::Refused { .. } => ErrorKind::Refused,
            Error::Corrupt { .. } | Error::Inf { .. } | Error::Hive { .. } => ErrorKind::Integrity,
            Error::Invalid { .. } => ErrorKind::Usage,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
                _ => ErrorKind::Io,
            },
            Error::Content { source, .. } => source
                .downcast_ref::<gravure_imaging::Error>()
                .map_or(ErrorKind::Failed, gravure_imaging::Error::kind),
            _ => ErrorKind::Failed,
        };
        let failure = Self::new(kind, chain(&error));
        match error {
            Error::NotFound { what: "driver repository", .. } => {
                failure.with_cure("`gravure driver add` makes one with its first package")
            }
            Error::NotFound { what: "Windows", .. } => {
                failure.with_cure("the image must be of a Windows volume")
            }
            _ => failure,
        }
    }
}

impl From<gravure_debian::Error> for Failure {
    fn from(error: gravure_debian::Error) -> Self {
        let kind = match &error {
            gravure_debian::Error::Recipe { .. } => ErrorKind::Usage,
            gravure_debian::Error::NotFound { .. } | gravure_debian::Error::NoModule { .. } => {
                ErrorKind::NotFound
            }
            gravure_debian::Error::Hash { .. } => ErrorKind::Integrity,
            gravure_debian::Error::Io { .. } => ErrorKind::Io,
            _ => ErrorKind::Failed,
        };
        let failure = Self::new(kind, chain(&error));
        match error {
            gravure_debian::Error::ProgramMissing { program } => {
                failure.with_cure(format!("install it: apt-get install {program}"))
            }
            _ => failure,
        }
    }
}

/// 0, or 10 when `skipped` things that were asked for were not done.
pub(crate) fn done_or_partial(skipped: u64) -> ExitCode {
    if skipped == 0 { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) }
}
