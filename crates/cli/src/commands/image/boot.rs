//! `gravure image boot`: what a UEFI machine needs beside the Windows volume, out of an image: files of the EFI system partition,
//! boot store, recovery environment.

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

/// Write the boot files of a Windows image for a UEFI machine, as bcdboot does
#[derive(Debug, clap::Args)]
#[command(
    after_help = "DIR gets `system` for the EFI system partition and, with --recovery, `recovery` for the recovery partition. The boot store is
made after the image's own BCD-Template, or ours when it has none. Which boot manager is taken depends on the keys of the
firmware: --db and --dbx take the variables as /sys/firmware/efi/efivars has them.

Examples:
  gravure image boot install.wim:1 --disk 11111111-... --system 22222222-... --windows 33333333-... -o boot
  gravure image boot install.wim:1 --disk G --system G --windows G --recovery G --db db --dbx dbx --secure-boot -o boot"
)]
pub(super) struct Options {
    /// Image file, with :NUMBER or :NAME
    image: ImageName,
    /// GUID of the disk
    #[arg(long, value_name = "GUID", value_parser = guid)]
    disk: Guid,
    /// GUID of the EFI system partition
    #[arg(long, value_name = "GUID", value_parser = guid)]
    system: Guid,
    /// GUID of the Windows partition
    #[arg(long, value_name = "GUID", value_parser = guid)]
    windows: Guid,
    /// GUID of the recovery partition
    #[arg(long, value_name = "GUID", value_parser = guid)]
    recovery: Option<Guid>,
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

fn guid(text: &str) -> Result<Guid, String> {
    text.parse().map_err(|error: gravure_nttypes::GuidError| error.to_string())
}

#[derive(Debug, Serialize)]
struct Report {
    manager: BootManager,
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
    let device = |partition: Guid| Device::Gpt { disk: options.disk, partition };
    let fresh = || Guid(uuid::Uuid::new_v4().to_bytes_le());
    let found = image.boot_files(&BootOptions {
        system: device(options.system),
        windows: device(options.windows),
        recovery: options.recovery.map(device),
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
    })?;
    let mut files = Vec::new();
    for (name, list) in [("system", &found.system), ("recovery", &found.recovery)] {
        for BootFile { path, content } in list {
            let to = options.output.join(name).join(path);
            let above = to.parent().unwrap_or(&options.output);
            std::fs::create_dir_all(above).map_err(|error| Failure::io("create", above, &error))?;
            std::fs::write(&to, reader.read(content)?).map_err(|error| Failure::io("write", &to, &error))?;
            files.push(format!("{name}/{path}"));
        }
    }
    let report = Report {
        manager: found.manager,
        reason: found.reason,
        loader: found.loader,
        from_template: found.is_from_template,
        files,
        notes: found.notes,
    };
    output::document(common.format, &report, |report| {
        let year = match report.manager {
            BootManager::Signed2011 => 2011,
            BootManager::Signed2023 => 2023,
        };
        let template = if report.from_template { "the image's template" } else { "ours" };
        let notes: String = report.notes.iter().map(|note| format!("note: {note}\n")).collect();
        format!(
            "{notes}{}: {} files, boot manager of {year} ({}), boot store after {template}",
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
