//! `gravure info`: what an image file says of itself.

use std::path::PathBuf;
use std::process::ExitCode;

use gravure_imaging::{ImageFile, PipedFile, Which};
use gravure_wim::{ImageInfo, Layout};
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{self, bytes};
use crate::stored::is_of_device;
use crate::target::{ImageName, Source};
use crate::{Common, interrupt};

/// Show what is in an image file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure info install.wim
  gravure info install.wim:2 --format json
  gravure info http://server/images/debian.wim      only header and tables are fetched
  ssh server cat pipable.wim | gravure info -       what stands at the front of a pipable image")]
pub(crate) struct Options {
    /// Image file, address or - for standard input, with :NUMBER or :NAME to show one image only
    image: ImageName,
    /// Further files of the same set
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct FileInfo {
    file: String,
    format: &'static str,
    guid: String,
    version: String,
    compression: String,
    chunk_size_bytes: Option<u32>,
    part: u16,
    parts: u16,
    pipable: bool,
    solid: bool,
    /// Not known before a pipe has ended.
    integrity_table: Option<bool>,
    boot_image: Option<u32>,
    /// Not known before a pipe has ended.
    blobs: Option<usize>,
    images: Vec<ImageLine>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ImageLine {
    number: u32,
    name: Option<String>,
    description: Option<String>,
    directories: u64,
    files: u64,
    total_bytes: u64,
    hard_link_bytes: u64,
    created_unix_seconds: Option<i64>,
    modified_unix_seconds: Option<i64>,
    windows: Option<String>,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    if is_of_device(&options.image, &interrupt::ctl())? {
        return super::block::info(&options.image, common);
    }
    let which = &options.image.which;
    let (mut info, wanted) = match options.image.open_source(&options.references, &interrupt::ctl())? {
        Source::File(file) => {
            let wanted = if *which == Which::Only { None } else { Some(file.find(which)?.number()) };
            (describe(&file), wanted)
        }
        Source::Pipe(pipe) => {
            let wanted = if *which == Which::Only { None } else { Some(pipe.find(which)?.number()) };
            (describe_pipe(&pipe), wanted)
        }
    };
    if let Some(wanted) = wanted {
        info.images.retain(|image| image.number == wanted);
    }
    output::document(common.format, &info, text)?;
    Ok(ExitCode::SUCCESS)
}

fn describe(file: &ImageFile) -> FileInfo {
    let wim = file.wim();
    let header = wim.header();
    FileInfo {
        file: file.name().to_owned(),
        format: "wim",
        guid: header.guid.to_string(),
        version: format!("{:#x}", header.version()),
        compression: header.compression.map_or_else(|| "none".to_owned(), |used| used.method().to_string()),
        chunk_size_bytes: header.compression.map(|used| used.chunk_size()),
        part: header.part,
        parts: header.parts,
        pipable: header.layout == Layout::Pipable,
        solid: wim.resources().iter().any(|resource| resource.solid.is_some()),
        integrity_table: Some(header.integrity.size != 0),
        boot_image: wim.boot_image().map(|image| image.number()),
        blobs: Some(wim.blobs().len()),
        images: wim.info().images().zip(1..).map(|(image, number)| line(number, &image)).collect(),
        warnings: file.warnings().to_vec(),
    }
}

/// What stands at the front of a pipe: blob table and integrity table come last and are not waited for.
fn describe_pipe(pipe: &PipedFile<'_>) -> FileInfo {
    let header = pipe.header();
    FileInfo {
        file: "standard input".to_owned(),
        format: "wim",
        guid: header.guid.to_string(),
        version: format!("{:#x}", header.version()),
        compression: header.compression.map_or_else(|| "none".to_owned(), |used| used.method().to_string()),
        chunk_size_bytes: header.compression.map(|used| used.chunk_size()),
        part: header.part,
        parts: header.parts,
        pipable: true,
        solid: false,
        integrity_table: None,
        boot_image: Some(header.boot_number).filter(|number| *number > 0),
        blobs: None,
        images: pipe.info().images().zip(1..).map(|(image, number)| line(number, &image)).collect(),
        warnings: pipe.warnings().to_vec(),
    }
}

fn line(number: u32, image: &ImageInfo) -> ImageLine {
    let counts = image.counts();
    ImageLine {
        number,
        name: image.name(),
        description: image.description(),
        directories: counts.directories,
        files: counts.files,
        total_bytes: counts.total_bytes,
        hard_link_bytes: counts.hard_link_bytes,
        created_unix_seconds: image.created().map(|time| time.to_unix().0),
        modified_unix_seconds: image.modified().map(|time| time.to_unix().0),
        windows: image.windows().map(|windows| {
            let version = &windows.version;
            let number = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
            let edition = windows.edition.clone().unwrap_or_default();
            let build =
                format!("{}.{}.{}", number(version.major), number(version.minor), number(version.build));
            format!("{edition} {build} {}", windows.architecture_name().unwrap_or("unknown architecture"))
        }),
    }
}

fn text(info: &FileInfo) -> String {
    let mut text = format!("{}: WIM version {}, {}", info.file, info.version, info.compression);
    if let Some(size) = info.chunk_size_bytes {
        text.push_str(&format!(" in chunks of {size} bytes"));
    }
    if info.parts > 1 {
        text.push_str(&format!(", part {} of {}", info.part, info.parts));
    }
    if info.pipable {
        text.push_str(", pipable");
    }
    if info.solid {
        text.push_str(", solid");
    }
    text.push_str(match info.integrity_table {
        Some(true) => ", integrity table",
        Some(false) => ", no integrity table",
        None => "",
    });
    let blobs = info.blobs.map_or_else(String::new, |count| format!("{count} blobs, "));
    text.push_str(&format!("\n{blobs}{} images, GUID {}\n", info.images.len(), info.guid));
    for image in &info.images {
        let boot = if info.boot_image == Some(image.number) { ", bootable" } else { "" };
        let name = image.name.as_deref().unwrap_or("(no name)");
        text.push_str(&format!("\n{}: {name}{boot}\n", image.number));
        if let Some(description) = &image.description {
            text.push_str(&format!("   {description}\n"));
        }
        if let Some(windows) = &image.windows {
            text.push_str(&format!("   Windows {windows}\n"));
        }
        let (directories, files) = (image.directories, image.files);
        text.push_str(&format!(
            "   {directories} directories, {files} files, {}\n",
            bytes(image.total_bytes)
        ));
    }
    for warning in &info.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}
