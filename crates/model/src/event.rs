//! Events: one typed stream that screen, command line, log and web console read (DESIGN section 4).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;
use crate::descriptor::Digest;

/// Receives events. Called from worker threads; must be quick and must not fail.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn event(&self, event: EventKind);
}

/// Takes events and drops them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: EventKind) {}
}

/// An event with its place in the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without gaps, per boot of the payload; the server drops what it has seen.
    pub sequence: u64,
    /// By the sender's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. Kinds this version does not know are kept as they came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventKind {
    /// A kind of this version.
    Known(Known),
    /// A kind of another version.
    Unknown(Value),
}

impl From<Known> for EventKind {
    fn from(known: Known) -> Self {
        Self::Known(known)
    }
}

/// The kinds of this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Known {
    /// A stage began.
    StageStarted {
        /// Stage name: a plan step, or `capture`, `apply`, `verify`.
        stage: String,
        /// Bytes it will process, if known.
        total_bytes: Option<u64>,
    },
    /// A stage goes on. Sent at most a few times a second.
    Progress {
        /// Stage name.
        stage: String,
        /// Bytes processed.
        done_bytes: u64,
        /// Bytes in all, if known.
        total_bytes: Option<u64>,
    },
    /// A stage ended well.
    StageFinished {
        /// Stage name.
        stage: String,
        /// Bytes processed.
        bytes: u64,
        /// Time taken.
        milliseconds: u64,
    },
    /// Something odd that did not stop the work; it is counted in the result.
    Warning {
        /// Stage name, if within one.
        stage: Option<String>,
        /// Plain English.
        message: String,
    },
    /// Something worth knowing: what serves a device, which boot manager was taken.
    Note {
        /// Stage name, if within one.
        stage: Option<String>,
        /// Plain English.
        message: String,
    },
    /// The work ended without success. Nothing on the disk looks bootable.
    Failed {
        /// Stage it happened in.
        stage: String,
        /// Exit code family of DESIGN section 5.
        code: u8,
        /// What, where, expected, found.
        message: String,
        /// What to do about it.
        cure: Option<String>,
    },
    /// Everything was read back and is what was asked for.
    Verified {
        /// The plan.
        plan: String,
        /// Digest of the image descriptor.
        image: Digest,
        /// Files compared.
        files: u64,
        /// Bytes compared.
        bytes: u64,
    },
    /// What the Windows that now stands on the disk is known by. Sent before it is said to be verified.
    Windows {
        /// SID of the machine; `None` when its setup will make one.
        machine_sid: Option<String>,
        /// Name of the machine.
        computer_name: Option<String>,
    },
    /// What a stage moved, told when it has ended well.
    Transferred {
        /// Stage name.
        stage: String,
        /// Bytes fetched from a server or sent to it, as they are stored.
        network_bytes: u64,
        /// Bytes of content written on the disk.
        written_bytes: u64,
        /// Bytes of content that were where they belong already.
        kept_bytes: u64,
    },
    /// The image of a disk is complete where it was sent to. The disk is as it was.
    Captured {
        /// The plan.
        plan: String,
        /// Id of the image.
        image: Digest,
        /// Bytes of content in it.
        bytes: u64,
    },
    /// The payload is about to leave: restart, power off.
    Leaving {
        /// In words.
        how: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_events_survive() {
        let text = r#"{"sequence":7,"at":5,"event":"from_the_future","depth":[1,2]}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert!(matches!(event.kind, EventKind::Unknown(_)));
        let back: Value = serde_json::to_value(&event).unwrap();
        assert_eq!(back["event"], "from_the_future");
        assert_eq!(back["depth"][1], 2);
    }

    #[test]
    fn known_events_are_read_as_known() {
        let event = Event {
            sequence: 1,
            at: Timestamp(2),
            kind: Known::StageStarted { stage: "apply".into(), total_bytes: Some(3) }.into(),
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
