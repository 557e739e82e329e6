//! What travels between payload, deployed system, command line and server. Paths and methods are in the doc of each
//! request; all of it goes over TLS with the pinned site CA.

use serde::{Deserialize, Serialize};

use crate::descriptor::Digest;
use crate::event::Event;
use crate::identity::{Mac, MachineIdentity};
use crate::inventory::Inventory;
use crate::job::Job;
use crate::{Assurance, Secret, Timestamp};

/// A signed statement: exact bytes, who signed them, and what for (DESIGN section 8). Made and checked by `trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// First 16 hexadecimal digits of BLAKE3 of the public key.
    pub key: String,
    /// `plan-key`, `plan`, `image` or `time`; signed with the bytes, so one cannot pass for another.
    pub purpose: String,
    /// The bytes, base64.
    pub payload: String,
    /// Ed25519 signature, base64.
    pub signature: String,
}

/// `POST /v1/payload/hello`: the first request of a booted payload. The TLS client certificate, made for this boot,
/// is the session: the server knows later requests by its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// 32 random bytes as hexadecimal digits, new at each boot.
    pub nonce: String,
    /// The one-time token of the per-boot initramfs part, if there was one.
    pub token: Option<Secret>,
    /// Version of the payload.
    pub payload_version: String,
    /// The machine.
    pub inventory: Inventory,
}

/// Answer to [`Hello`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// The server's id of this machine.
    pub machine: String,
    /// What the machine has proven.
    pub assurance: Assurance,
    /// Why a token was not accepted, in words; `None` when there was none or it was.
    pub token_refused: Option<String>,
    /// Six digits an operator compares with the machine's screen to approve it.
    pub approval_code: String,
    /// [`ServerTime`] signed by the plan key.
    pub time: Envelope,
    /// The root's statement on the plan key.
    pub plan_key: Envelope,
}

/// Signed under the purpose `time`: the server's clock, bound to the asker's nonce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTime {
    /// From [`Hello`].
    pub nonce: String,
    /// The server's clock.
    pub now: Timestamp,
}

/// Signed by the site root under the purpose `plan-key`: which key signs plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanKeyStatement {
    /// Ed25519 public key, 64 hexadecimal digits.
    pub public_key: String,
    /// Not before.
    pub not_before: Timestamp,
    /// Not after.
    pub not_after: Timestamp,
}

/// `POST /v1/payload/plan`, asked again until there is one. The body is empty; answer:
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one answer at a time exists")]
pub enum PlanAnswer {
    /// Nothing to do for this machine now.
    Wait {
        /// Why, for the screen: not registered with a job, needs approval.
        reason: String,
        /// Ask again after.
        retry_seconds: u32,
        /// The machine may start from its own disk instead of waiting.
        boot_local: bool,
    },
    /// A plan for this machine and this boot.
    Ready {
        /// The root's statement on the plan key.
        plan_key: Envelope,
        /// [`crate::plan::Plan`] signed by the plan key.
        plan: Envelope,
        /// [`crate::descriptor::ImageDescriptor`] signed by the plan key.
        descriptor: Envelope,
    },
}

/// `POST /v1/payload/events`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventBatch {
    /// The plan they belong to, if any.
    pub plan: Option<String>,
    /// In order.
    pub events: Vec<Event>,
}

/// `POST /v1/confirm`: the deployed system's report of its first boot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfirmRequest {
    /// From [`crate::plan::Confirm`].
    pub token: Secret,
    /// Its host name.
    pub host_name: String,
    /// Its machine id.
    pub machine_id: String,
    /// Kernel release.
    pub kernel: String,
    /// SMBIOS UUID, serial and addresses as the deployed system sees them.
    pub identity: MachineIdentity,
    /// Whether Secure Boot is enforced in the deployed system; `None` on BIOS machines. Reports of older payloads lack it.
    #[serde(default)]
    pub secure_boot: Option<bool>,
}

/// What the deployed system needs for that report; `/etc/gravure/confirm.json` there, readable by root alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmSettings {
    /// `https://address:port` of the server's API.
    pub server: String,
    /// Good for one report.
    pub token: Secret,
    /// The site's CA, PEM.
    pub ca_pem: String,
    /// The plan that deployed this system.
    pub plan: String,
}

/// Where a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Known, nothing planned.
    Registered,
    /// A job waits for it.
    Armed,
    /// It has its plan and works on it.
    Deploying,
    /// The plan failed; the disk does not boot.
    Failed,
    /// Everything was read back and compared; the deployed system has not reported yet.
    Verified,
    /// The deployed system reported its first boot.
    Confirmed,
    /// An image of its disk was made; the disk is as it was.
    Captured,
}

impl MachineState {
    /// The word used in database, API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Armed => "armed",
            Self::Deploying => "deploying",
            Self::Failed => "failed",
            Self::Verified => "verified",
            Self::Confirmed => "confirmed",
            Self::Captured => "captured",
        }
    }
}

/// `GET /v1/machines` and `GET /v1/machines/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MachineReport {
    /// The server's id.
    pub id: String,
    /// Known by.
    pub identity: MachineIdentity,
    /// State.
    pub state: MachineState,
    /// Highest assurance of the current boot.
    pub assurance: Assurance,
    /// Code on the machine's screen while it waits.
    pub approval_code: Option<String>,
    /// First and last time seen.
    pub first_seen: Timestamp,
    /// Last time seen.
    pub last_seen: Timestamp,
    /// Host name given by its last plan.
    pub host_name: Option<String>,
    /// Last plan.
    pub plan: Option<PlanReport>,
    /// Why it is held back: it gets no plan and starts from its disk until an operator lets it go.
    #[serde(default)]
    pub quarantine: Option<String>,
    /// SIDs of the Windows installations on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows_sids: Vec<String>,
    /// Names of other machines that have one of these SIDs: copies of an installation that was not generalised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub same_sid: Vec<String>,
    /// Inventory of the last boot; only with `GET /v1/machines/{id}`.
    pub inventory: Option<Inventory>,
}

/// `GET /v1/journal`: one line of a machine's boot journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// When.
    pub at: Timestamp,
    /// The machine's link-layer address.
    pub mac: Mac,
    /// `dhcp`, `fetched`, `missing`, `server` or `trouble`.
    pub kind: String,
    /// In words.
    pub text: String,
    /// What to do, where something is wrong.
    pub advice: Option<String>,
}

/// The run of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanReport {
    /// Plan id.
    pub id: String,
    /// Job id.
    pub job: String,
    /// Image file name.
    pub image: String,
    /// Digest of its descriptor.
    pub image_digest: Digest,
    /// When it was handed out.
    pub started: Timestamp,
    /// When it ended, verified or failed.
    pub ended: Option<Timestamp>,
    /// When the deployed system reported.
    pub confirmed: Option<Timestamp>,
    /// Stages that ended, in order.
    pub stages: Vec<StageReport>,
    /// What stages moved, in order.
    #[serde(default)]
    pub transfers: Vec<TransferReport>,
    /// Stage and message of the failure.
    pub failure: Option<FailureReport>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// What the deployed system reported of its first boot.
    #[serde(default)]
    pub first_boot: Option<FirstBoot>,
}

/// The deployed system at its first boot, as it reported itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBoot {
    /// Kernel release.
    pub kernel: String,
    /// Whether Secure Boot is enforced; `None` on BIOS machines.
    pub secure_boot: Option<bool>,
}

/// A stage that ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageReport {
    /// Name.
    pub stage: String,
    /// Bytes processed.
    pub bytes: u64,
    /// Time taken.
    pub milliseconds: u64,
}

impl StageReport {
    /// MB/s (10^6 bytes); `None` for stages that move no content.
    pub fn megabytes_per_second(&self) -> Option<u64> {
        let per_millisecond = self.bytes.checked_div(self.milliseconds)?;
        (self.bytes > 0).then(|| per_millisecond.checked_div(1000)).flatten()
    }
}

/// What a stage moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferReport {
    /// Name.
    pub stage: String,
    /// Bytes fetched from a server or sent to it, as they are stored.
    pub network_bytes: u64,
    /// Bytes of content written on the disk.
    pub written_bytes: u64,
    /// Bytes of content that were where they belong already.
    pub kept_bytes: u64,
}

/// `POST /v1/payload/capture/stored`: which contents the store has, for a payload whose plan captures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredRequest {
    /// BLAKE3 of the contents.
    pub ids: Vec<Digest>,
}

/// Answer to [`StoredRequest`]. What is missing goes to `PUT /v1/payload/capture/frames` as frames of the block image format, one behind
/// the other; the manifest to `PUT /v1/payload/capture/manifest`, last. Each of these may be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// Whether each is there, in the order asked.
    pub stored: Vec<bool>,
}

/// Why a plan failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailureReport {
    /// Stage.
    pub stage: String,
    /// Exit code family of DESIGN section 5.
    pub code: u8,
    /// What, where, expected, found.
    pub message: String,
    /// What to do about it.
    pub cure: Option<String>,
}

/// `GET /v1/jobs`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobReport {
    /// The job.
    pub job: Job,
    /// Plans handed out from it.
    pub plans: Vec<String>,
    /// No further machine gets it.
    pub closed: bool,
}

/// Body of every answer that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiError {
    /// Stable word: `not_found`, `refused`, `unauthorised`, `conflict`, `invalid`.
    pub error: String,
    /// What, where, expected, found.
    pub message: String,
    /// What to do about it.
    pub cure: Option<String>,
}
