//! The catalogue of texts that payload and console show to people. One place, so that another language is one more
//! column (issue: French follows). Texts of errors are not here: they are made where the facts are.

/// Languages of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Language {
    /// English.
    #[default]
    English,
}

/// A message to people. Fields are filled into the text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// First line on the screen.
    Welcome {
        /// Version of the payload.
        version: String,
    },
    /// Drivers are being loaded.
    LoadingDrivers,
    /// The network is being brought up.
    BringingUpNetwork,
    /// An address was obtained.
    NetworkUp {
        /// Interface.
        interface: String,
        /// Address.
        address: String,
    },
    /// No interface has a link or an answer yet.
    NoNetworkYet {
        /// In words.
        why: String,
    },
    /// Talking to the server.
    ContactingServer {
        /// URL.
        server: String,
    },
    /// The server does not answer; it is asked again.
    ServerSilent {
        /// Why.
        why: String,
        /// Seconds until the next try.
        seconds: u32,
    },
    /// Registered, nothing to do.
    Waiting {
        /// The server's reason.
        reason: String,
    },
    /// To be compared by an operator.
    ApprovalCode {
        /// Six digits.
        code: String,
    },
    /// The plan that is about to run.
    PlanHeader {
        /// Image path.
        image: String,
        /// Disk with model, serial, size.
        disk: String,
        /// Host name.
        host_name: String,
    },
    /// The plan that is about to run makes an image of the disk.
    CaptureHeader {
        /// Name of the image.
        image: String,
        /// Disk with model, serial, size.
        disk: String,
    },
    /// A stage began.
    Stage {
        /// Stage name as in the plan.
        stage: String,
    },
    /// A stage goes on.
    StageProgress {
        /// Stage name.
        stage: String,
        /// Percent.
        percent: u8,
        /// MB/s.
        megabytes_per_second: u64,
    },
    /// A stage ended.
    StageDone {
        /// Stage name.
        stage: String,
        /// Seconds with one decimal.
        seconds: String,
    },
    /// All verified.
    Verified {
        /// Files compared.
        files: u64,
        /// Megabytes compared.
        megabytes: u64,
    },
    /// What a stage moved.
    Transferred {
        /// Stage name.
        stage: String,
        /// Megabytes over the network.
        network_megabytes: u64,
        /// Megabytes of content written.
        written_megabytes: u64,
        /// Megabytes of content that were there already.
        kept_megabytes: u64,
    },
    /// The image of the disk is complete.
    Captured {
        /// Megabytes of content.
        megabytes: u64,
    },
    /// Failed; the disk does not boot.
    Failed {
        /// Stage.
        stage: String,
        /// What happened.
        message: String,
    },
    /// What to do about a failure.
    Cure {
        /// In words.
        cure: String,
    },
    /// About to restart.
    Restarting,
    /// About to switch off.
    PoweringOff,
}

impl Message {
    /// The text in `language`, one line, without line end.
    pub fn text(&self, language: Language) -> String {
        let Language::English = language;
        match self {
            Self::Welcome { version } => format!("Gravure {version}"),
            Self::LoadingDrivers => "Loading drivers".to_owned(),
            Self::BringingUpNetwork => "Bringing up the network".to_owned(),
            Self::NetworkUp { interface, address } => format!("Network: {interface} has {address}"),
            Self::NoNetworkYet { why } => format!("No network yet: {why}"),
            Self::ContactingServer { server } => format!("Contacting {server}"),
            Self::ServerSilent { why, seconds } => {
                format!("No answer from the server ({why}); next try in {seconds} s")
            }
            Self::Waiting { reason } => format!("Waiting: {reason}"),
            Self::ApprovalCode { code } => format!("Approval code: {code}"),
            Self::PlanHeader { image, disk, host_name } => {
                format!("Deploying {image} as {host_name} to {disk}")
            }
            Self::CaptureHeader { image, disk } => {
                format!("Capturing {disk} as {image}; nothing is written on it")
            }
            Self::Stage { stage } => format!("{}: started", stage_name(stage)),
            Self::StageProgress { stage, percent, megabytes_per_second } => {
                format!("{}: {percent} % ({megabytes_per_second} MB/s)", stage_name(stage))
            }
            Self::StageDone { stage, seconds } => format!("{}: done in {seconds} s", stage_name(stage)),
            Self::Verified { files, megabytes } => {
                format!("Verified: {files} files, {megabytes} MB read back and equal")
            }
            Self::Transferred { stage, network_megabytes, written_megabytes, kept_megabytes } => format!(
                "{}: {network_megabytes} MB over the network, {written_megabytes} MB written, {kept_megabytes} MB were there",
                stage_name(stage)
            ),
            Self::Captured { megabytes } => format!("Captured: {megabytes} MB are in the server's store"),
            Self::Failed { stage, message } => format!("FAILED in {}: {message}", stage_name(stage)),
            Self::Cure { cure } => format!("What to do: {cure}"),
            Self::Restarting => "Restarting".to_owned(),
            Self::PoweringOff => "Switching off".to_owned(),
        }
    }
}

/// What people call a plan step; other stages keep their own name.
fn stage_name(stage: &str) -> &str {
    match stage {
        "check_disk" => "Check disk",
        "prepare" => "Prepare disk",
        "format" => "Format",
        "apply" => "Apply image",
        "personalise" => "Personalise",
        "service_windows" => "Drivers and settings",
        "service_linux" => "Layers",
        "apply_volume" => "Apply image",
        "install_uefi_boot" | "install_bios_boot" | "install_windows_boot" => "Install boot loader",
        "verify" => "Verify",
        "restore_disk" => "Restore disk",
        "capture_disk" => "Capture disk",
        "write_table" => "Write partition table",
        "firmware_entry" => "Enter in boot list",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_single_lines_with_their_facts() {
        let failed = Message::Failed { stage: "apply".into(), message: "blob 17 damaged".into() };
        assert_eq!(failed.text(Language::English), "FAILED in Apply image: blob 17 damaged");
        let progress =
            Message::StageProgress { stage: "verify".into(), percent: 40, megabytes_per_second: 12 };
        assert_eq!(progress.text(Language::English), "Verify: 40 % (12 MB/s)");
    }
}
