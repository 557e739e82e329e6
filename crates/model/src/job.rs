//! Jobs: what an operator asks for. A plan is made from a job when a machine shows up (DESIGN section 4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::MachineSelector;
use crate::inventory::FirmwareMode;
use crate::{Assurance, Secret, Timestamp};

/// What `gravure plan create` sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// For whom.
    pub machine: MachineSelector,
    /// File name in the server's image directory.
    pub image: String,
    /// Zero-based image in the file.
    #[serde(default)]
    pub image_index: u32,
    /// Host name template: `{serial}`, `{uuid}`, `{mac}`, `{model}`, `{asset}`, `{n}` (a number that no other machine has
    /// with the rest of the name, so that `{room}-{n:03}` counts each room), each with a width behind a colon: `{serial:-8}`, `{n:03}`;
    /// and the columns of the site's `names.csv`: `{name}`, `{room}`.
    pub name: String,
    /// Which disk, when the rule "the one that is there" is not enough.
    #[serde(default)]
    pub disk: DiskRule,
    /// Least assurance; the server raises it to what the job's secrets need.
    #[serde(default = "default_assurance")]
    pub assurance: Assurance,
    /// Required for `any`: when the job ends.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// Required for `any`: how many machines at most.
    #[serde(default)]
    pub max_machines: Option<u32>,
    /// What to do when all is verified.
    #[serde(default)]
    pub then: Afterwards,
    /// Allows a target that holds data; without it the plan step refuses.
    #[serde(default)]
    pub wipe: bool,
    /// What is put into a Windows image; the usual for one when `None`. A Linux image takes the layers of it, and what they name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsRequest>,
    /// The disk is read instead of written: `image` is to be made of it, in the site's store. `name` is empty then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureRequest>,
    /// How an image of a whole disk is restored; the usual for one when `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreRequest>,
}

/// How an image of a whole disk is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestoreRequest {
    /// Disk and partitions get identifiers of their own, the same ones when the machine is deployed again by the same job; else those of the
    /// image, so that all machines have the same.
    pub new_ids: bool,
    /// The largest file system fills what room is left.
    pub grow: bool,
    /// The machine may be unlike the one that the image was made of, in ways that keep most systems from starting.
    pub any_hardware: bool,
}

impl Default for RestoreRequest {
    fn default() -> Self {
        Self { new_ids: true, grow: true, any_hardware: false }
    }
}

/// How an image of a machine's disk is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureRequest {
    /// What the image says of itself, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All bytes are kept, whatever stands there; else those that file systems use, and unclean ones are refused.
    pub raw: bool,
    /// An image of this name is replaced.
    pub replace: bool,
    /// What opens encrypted volumes (LUKS, BitLocker), as [`Secret::of_bytes`]: contents of key files, passphrases, recovery passwords. Taken in
    /// and handed to the machine, never shown again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Secret>,
}

/// What is put into a Windows image. Of this a Linux image takes layers and facts alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowsRequest {
    /// Which drivers.
    pub drivers: DriverRule,
    /// Whether simple packages are published in driver store and driver database, as DISM does.
    pub publish_drivers: bool,
    /// Drivers that are not signed may start the machine.
    pub allow_unsigned: bool,
    /// Names of layers in the server's layer directory, in their order.
    pub layers: Vec<String>,
    /// What `${NAME}` stands for in layers.
    pub facts: BTreeMap<String, String>,
    /// Settings for the answer file in TOML. Taken in and handed to machines, never shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Secret>,
    /// The image may be of a system in use, which runs no setup.
    pub accept_in_use: bool,
    /// The machine may be left without a driver for what it starts from.
    pub accept_missing_drivers: bool,
    /// Boot code taken from a disk by `gravure disk boot-code`, in hexadecimal digits: what BIOS machines need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_code: Option<String>,
}

/// Which drivers go into a Windows image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverRule {
    /// Those of the server's repository that fit the machine's devices.
    #[default]
    Match,
    /// These, and all that came out of the driver pack of the machine's model, as far as it is for the image's Windows.
    MatchAndModel,
    /// None but the image's own.
    None,
}

fn default_assurance() -> Assurance {
    Assurance::Token
}

/// A job as the server keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The server's id.
    pub id: String,
    /// 32 random bytes as hexadecimal digits; GUIDs and serials of the layout derive from it and the machine.
    pub seed: String,
    /// What was asked for.
    pub request: JobRequest,
    /// When.
    pub created: Timestamp,
}

/// How the target disk is found. Removable, read-only and busy disks are never candidates unless named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum DiskRule {
    /// The one candidate; more than one is refused.
    #[default]
    Only,
    /// The disk with this serial number.
    Serial {
        /// Serial number, exact.
        serial: String,
    },
    /// The disk with this kernel name, for tests and for machines without serials.
    Name {
        /// Kernel name, e.g. `nvme0n1`.
        name: String,
    },
    /// The smallest candidate.
    Smallest,
    /// The largest candidate.
    Largest,
}

/// What the payload does after the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Afterwards {
    /// Restart into the deployed system.
    #[default]
    Reboot,
    /// Switch off.
    PowerOff,
}

/// What the planner needs to know besides job and inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanContext {
    /// How the machine was started.
    pub firmware: FirmwareMode,
    /// Number of this machine within the job, from 1.
    pub ordinal: u32,
}
