//! `gravure image boot`: what a machine needs beside the Windows volume, out of an image: files of the EFI system partition, or of the active
//! partition of a BIOS machine, boot store, recovery environment.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gravure_hive::bcd::{Device, StoreIds};
use gravure_imaging::{ErrorKind, ServicedImage};
use gravure_nttypes::Guid;
use gravure_windows::boot::{Authorities, BootFile, BootManager, BootOptions, SecureBoot};
use gravure_windows::{ContentResult, WindowsImage};
use serde::Serialize;

use super::service::now;
use crate::exit::Failure;
use crate::output;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Write the boot files of a Windows image, as bcdboot does
#[derive(Debug, clap::Args)]
#[command(
    after_help = "DIR gets `system` for the EFI system partition and, with --recovery, `recovery` for the recovery partition. With --firmware bios
`system` is for the active partition, the disk is named by its MBR signature (8 hexadecimal digits) and partitions by their first
byte; the boot code of MBR and partition is no file of an image: `gravure disk boot-code` keeps it from a disk. The boot store is
made after the image's own BCD-Template, or ours when it has none. Which boot manager is taken depends on the keys of the
firmware: --db and --dbx take the variables as /sys/firmware/efi/efivars has them.

Examples:
  gravure image boot install.wim:1 --disk 11111111-... --system 22222222-... --windows 33333333-... -o boot
  gravure image boot install.wim:1 --disk G --system G --windows G --recovery G --db db --dbx dbx --secure-boot -o boot
  gravure image boot install.wim:1 --firmware bios --disk 1a2b3c4d --system 1048576 --windows 269484032 -o boot"
)]
pub(super) struct Options {
    /// Image file, with :NUMBER or :NAME
    image: ImageName,
    /// What starts the machine
    #[arg(long, value_enum, default_value_t = Firmware::Uefi)]
    firmware: Firmware,
    /// GUID of the disk; for BIOS its MBR signature
    #[arg(long, value_name = "GUID")]
    disk: String,
    /// GUID of the EFI system partition; for BIOS the first byte of the active partition
    #[arg(long, value_name = "GUID")]
    system: String,
    /// GUID of the Windows partition; for BIOS its first byte
    #[arg(long, value_name = "GUID")]
    windows: String,
    /// GUID of the recovery partition; for BIOS its first byte
    #[arg(long, value_name = "GUID")]
    recovery: Option<String>,
    /// Firmware variable `db`: keys it trusts
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Firmware variable `dbx`: what it has revoked
    #[arg(long, value_name = "FILE")]
    dbx: Option<PathBuf>,
    /// Secure Boot is on
    #[arg(long)]
    secure_boot: bool,
    /// Language of the boot menu
    #[arg(long, default_value = "en-US")]
    locale: String,
    /// Name in the boot menu [default: the image's product name]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Directory to write to
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// What starts a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Firmware {
    /// UEFI, from a disk with a GUID partition table.
    Uefi,
    /// A BIOS, from a disk with an MBR.
    Bios,
}

/// A partition as the firmware's kind of table names it.
fn device(firmware: Firmware, disk: &str, option: &str, partition: &str) -> Result<Device, Failure> {
    let usage = |option: &str, found: &str, expected: &str| {
        Failure::new(ErrorKind::Usage, format!("{option} {found:?}: expected {expected}"))
    };
    match firmware {
        Firmware::Uefi => {
            let guid = |option: &str, text: &str| {
                text.parse::<Guid>()
                    .map_err(|_| usage(option, text, "a GUID, as a GUID partition table has them"))
            };
            Ok(Device::Gpt { disk: guid("--disk", disk)?, partition: guid(option, partition)? })
        }
        Firmware::Bios => {
            let digits = disk.trim_start_matches("0x");
            let signature = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8);
            let signature =
                signature.ok_or_else(|| usage("--disk", disk, "an MBR signature of 8 hexadecimal digits"))?;
            let offset = partition.parse::<u64>().ok().filter(|offset| *offset > 0 && offset % 512 == 0);
            let offset = offset.ok_or_else(|| {
                usage(option, partition, "the first byte of the partition, a multiple of 512")
            })?;
            Ok(Device::Mbr { signature, offset })
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// Of UEFI machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    manager: Option<BootManager>,
    reason: String,
    loader: String,
    from_template: bool,
    files: Vec<String>,
    notes: Vec<String>,
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let source = options.image.open_file(&[], &interrupt::ctl())?;
    let mut serviced = ServicedImage::open(&source, source.find(&options.image.which)?)?;
    let reader = serviced.reader();
    let read = |content: &gravure_tree::ContentRef| -> ContentResult { Ok(reader.read(content)?) };
    let mut image = WindowsImage::open(&mut serviced.tree, &read, now())?;
    let system = image.system()?;
    let device = |option: &str, partition: &str| device(options.firmware, &options.disk, option, partition);
    let fresh = || Guid(uuid::Uuid::new_v4().to_bytes_le());
    let wanted = BootOptions {
        system: device("--system", &options.system)?,
        windows: device("--windows", &options.windows)?,
        recovery: options.recovery.as_deref().map(|place| device("--recovery", place)).transpose()?,
        description: options
            .description
            .clone()
            .or(system.product_name)
            .unwrap_or_else(|| "Windows".to_owned()),
        locale: options.locale.clone(),
        ids: StoreIds { loader: fresh(), resume: fresh(), recovery: fresh(), ramdisk: fresh() },
        secure_boot: SecureBoot {
            db: options.db.as_deref().map(keys).transpose()?,
            dbx: options.dbx.as_deref().map(keys).transpose()?,
            is_enforced: options.secure_boot,
        },
        arch: system.arch,
        now: now(),
    };
    let (mut report, for_system, for_recovery) = match options.firmware {
        Firmware::Uefi => {
            let found = image.boot_files(&wanted)?;
            let report = Report {
                manager: Some(found.manager),
                reason: found.reason,
                loader: found.loader,
                from_template: found.is_from_template,
                files: Vec::new(),
                notes: found.notes,
            };
            (report, found.system, found.recovery)
        }
        Firmware::Bios => {
            let found = image.bios_boot_files(&wanted)?;
            let report = Report {
                manager: None,
                reason: "started by the boot code of MBR and partition".to_owned(),
                loader: "bootmgr".to_owned(),
                from_template: found.is_from_template,
                files: Vec::new(),
                notes: found.notes,
            };
            (report, found.system, found.recovery)
        }
    };
    for (name, list) in [("system", &for_system), ("recovery", &for_recovery)] {
        for BootFile { path, content } in list {
            let to = options.output.join(name).join(path);
            let above = to.parent().unwrap_or(&options.output);
            std::fs::create_dir_all(above).map_err(|error| Failure::io("create", above, &error))?;
            std::fs::write(&to, reader.read(content)?).map_err(|error| Failure::io("write", &to, &error))?;
            report.files.push(format!("{name}/{path}"));
        }
    }
    output::document(common.format, &report, |report| {
        let manager = match report.manager {
            Some(BootManager::Signed2011) => "boot manager of 2011",
            Some(BootManager::Signed2023) => "boot manager of 2023",
            None => "bootmgr",
        };
        let template = if report.from_template { "the image's template" } else { "ours" };
        let notes: String = report.notes.iter().map(|note| format!("note: {note}\n")).collect();
        format!(
            "{notes}{}: {} files, {manager} ({}), boot store after {template}",
            options.output.display(),
            report.files.len(),
            report.reason
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A variable as efivarfs has it: four bytes of attributes in front.
fn keys(path: &Path) -> Result<Authorities, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
    let data = bytes.get(4..).ok_or_else(|| {
        let message =
            format!("{}: expected a firmware variable, found {} bytes", path.display(), bytes.len());
        Failure::new(ErrorKind::Integrity, message)
    })?;
    Ok(Authorities::parse(data)?)
}
