//! `gravure mount`: an image as a directory, without unpacking it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use gravure_imaging::{LinkTargets, MountOptions, StreamNames, UnixMetadata};
use gravure_wim::HeaderFlags;

use super::apply::parse_size;
use crate::exit::Failure;
use crate::mounting::{Ground, ToMount, mount};
use crate::output;
use crate::target::{ImageName, STDIN};
use crate::{Common, interrupt};

/// Show an image as a directory, read-only, without unpacking it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Contents are read, decoded and checked when a program reads them: a damaged one is an input/output error for the program
and a line in the log. Security descriptors, attributes, creation times and object ids are to be had as the extended
attributes system.ntfs_acl, system.ntfs_attrib, system.ntfs_crtime and system.ntfs_object_id.

Examples:
  gravure mount install.wim:2 /mnt                  until `gravure unmount /mnt`
  gravure mount install.esd:1 /mnt --cache 512M     solid images: more decoded chunks kept
  gravure mount http://server/images/debian.wim /mnt     only what is read is fetched
  gravure mount install.wim:1 /mnt --streams windows     cat '/mnt/file:stream'
  gravure mount delta.wim:1 /mnt --ref base.wim --foreground"
)]
pub(crate) struct Options {
    /// Image file or address, with :NUMBER or :NAME when it holds several
    image: ImageName,
    /// Directory to mount on
    dir: PathBuf,
    /// How named streams are to be had
    #[arg(long, value_enum, default_value_t = Streams::Xattr)]
    streams: Streams,
    /// Do not show owners, modes, devices and extended attributes of Unix files
    #[arg(long)]
    no_unix_data: bool,
    /// Let other users look, too
    #[arg(long)]
    allow_other: bool,
    /// Further files that content may lie in
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    /// Decoded chunks to keep in memory, with K, M or G
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64M")]
    cache: u64,
    /// Threads; one for each processor by default, and four at least
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Stay until the image is unmounted or Ctrl-C is pressed
    #[arg(long, short = 'f')]
    foreground: bool,
    /// File for what could not be read [default: the system's log]
    #[arg(long, value_name = "FILE", conflicts_with = "foreground")]
    log: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Streams {
    /// As extended attributes user.NAME, those of up to 64 KiB
    Xattr,
    /// As FILE:NAME
    Windows,
    /// Not at all
    None,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    let ground = match options.foreground {
        true => Ground::Fore,
        false => Ground::Back { log: options.log.as_deref(), keeps_stdin: options.image.file == STDIN },
    };
    let open = || {
        let ctl = interrupt::ctl();
        let file = options.image.open_file(&options.references, &ctl)?;
        let index = file.find(&options.image.which)?;
        let is_fixed = file.wim().header().flags.contains(HeaderFlags::LINKS_FIXED);
        let mount = MountOptions {
            streams: match options.streams {
                Streams::Xattr => StreamNames::Xattr,
                Streams::Windows => StreamNames::Windows,
                Streams::None => StreamNames::None,
            },
            unix: if options.no_unix_data { UnixMetadata::Leave } else { UnixMetadata::Keep },
            plain_mode: None,
            links: if is_fixed { LinkTargets::BelowTarget } else { LinkTargets::Keep },
            allow_other: options.allow_other,
            threads: options.threads,
            cache_bytes: usize::try_from(options.cache).unwrap_or(usize::MAX),
        };
        let name = format!("{}:{}", options.image.file, index.number());
        Ok(ToMount { image: file.image(index)?, name, options: mount })
    };
    let (image, dir) = (&options.image.file, options.dir.display().to_string());
    let result = serde_json::json!({ "image": image, "directory": dir });
    let told = || {
        output::document(common.format, &result, |_| {
            format!("mounted {image} on {dir}; `gravure unmount {dir}` takes it away")
        })
    };
    mount(&options.dir, ground, open, told)
}
