//! `wim info`: what a file says of itself and of its images.

use std::fmt::Write as _;
use std::process::ExitCode;

use gravure_imaging::ImageFile;
use gravure_wim::{Header, HeaderFlags, ImageInfo, Layout, Method, ResourceHeader};

use super::fields::{self, Place};
use super::files::{self, CHECK, Images};
use super::options::{Given, alias, flag, value};
use super::{Command, Console, check_count, mistake};
use crate::exit::Failure;
use crate::output;

const USAGE: &str = "  info WIMFILE [IMAGE [NEW_NAME [NEW_DESC]]]
      [--boot] [--check] [--nocheck] [--include-integrity] [--image-property NAME=VALUE]
      [--header] [--blobs] [--xml] [--extract-xml=FILE]";

pub(super) const COMMAND: Command = Command {
    name: "info",
    usage: USAGE,
    run,
    options: &[&[
        CHECK,
        flag("boot"),
        flag("nocheck"),
        flag("include-integrity"),
        value("image-property"),
        flag("header"),
        flag("blobs"),
        alias("lookup-table", flag("blobs")),
        flag("xml"),
        value("extract-xml"),
    ]],
};

fn run(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 1, 4, USAGE)?;
    let file = files::open_alone(&given.arguments[0], console)?;
    if given.has("check") {
        files::check(&file, console)?;
    }
    let which = given.argument(1).map_err(mistake)?;
    let is_change = given.has("boot") || given.arguments.len() > 2 || given.has("image-property");
    if is_change {
        return super::change::info(given, console, &file);
    }
    let images = match which {
        None => None,
        Some(which) => Some(files::images(&file, Some(which))?),
    };
    let is_special = ["header", "blobs", "xml", "extract-xml"].iter().any(|option| given.has(option));
    let mut out = String::new();
    if given.has("header") {
        header(&mut out, file.wim().header());
    }
    if given.has("blobs") {
        blobs(&mut out, &file);
    }
    if given.has("xml") || given.has("extract-xml") {
        let xml = xml(&file)?;
        if let Some(path) = given.value("extract-xml") {
            let written = std::fs::write(path, &xml);
            written.map_err(|error| Failure::io("write", path.as_ref(), &error))?;
        }
        if given.has("xml") {
            output::write_bytes(&xml)?;
        }
    }
    if !is_special {
        if images.is_none() {
            summary(&mut out, &file);
            if file.wim().info().image_count() > 0 {
                out.push_str("Available Images:\n-----------------\n");
            }
        }
        let info = file.wim().info();
        let wanted: Vec<(u32, ImageInfo)> = match images {
            Some(Images::One(index)) => {
                info.image(index.index()).map(|it| (index.number(), it)).into_iter().collect()
            }
            _ => (1..).zip(info.images()).collect(),
        };
        for (number, image) in wanted {
            if images.is_some() {
                let title = format!("Information for Image {number}");
                let _ = writeln!(out, "{title}\n{}", "-".repeat(title.len()));
            }
            image_fields(&mut out, number, &image);
        }
    }
    output::write(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// The XML document as it is stored.
fn xml(file: &ImageFile) -> Result<Vec<u8>, Failure> {
    let place = file.wim().header().xml;
    // Checked when the file was opened, which read the document.
    let mut bytes = vec![0; usize::try_from(place.stored_size).unwrap_or(0)];
    let read = file.source().read_exact_at(place.offset, &mut bytes);
    read.map_err(|error| Failure::io("read", file.name().as_ref(), &error))?;
    Ok(bytes)
}

fn summary(out: &mut String, file: &ImageFile) {
    let header = file.wim().header();
    out.push_str("WIM Information:\n----------------\n");
    let mut field = |name: &str, value: String| {
        let _ = writeln!(out, "{:<16}{value}", format!("{name}:"));
    };
    field("Path", file.name().to_owned());
    field("GUID", format!("0x{}", fields::hex(&header.guid.0)));
    field("Version", header.version().to_string());
    field("Image Count", file.wim().info().image_count().to_string());
    field("Compression", compression_name(header).to_owned());
    let chunk_size = header.compression.map_or(0, |compression| compression.chunk_size());
    field("Chunk Size", format!("{chunk_size} bytes"));
    field("Part Number", format!("{}/{}", header.part, header.parts));
    field("Boot Index", header.boot_number.to_string());
    // Without XML document and integrity table, as the document itself counts; of a set, that is the whole.
    let size = file.wim().info().total_bytes().unwrap_or(header.xml.offset);
    field("Size", format!("{size} bytes"));
    let attributes = [
        ("Pipable", header.layout == Layout::Pipable),
        ("Integrity info", !header.integrity.is_absent()),
        ("Relative path junction", header.flags.contains(HeaderFlags::LINKS_FIXED)),
        ("Write in progress", header.flags.contains(HeaderFlags::WRITE_IN_PROGRESS)),
        ("Readonly", header.flags.contains(HeaderFlags::READ_ONLY)),
    ];
    let set: Vec<&str> = attributes.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect();
    field("Attributes", set.join(", "));
    out.push('\n');
}

fn image_fields(out: &mut String, number: u32, image: &ImageInfo) {
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(out, "{:<24}{value}", format!("{name}:"));
    };
    let text = |path: &str| image.text(path).unwrap_or_default();
    field("Index", &number.to_string());
    field("Name", &text("NAME"));
    field("Description", &text("DESCRIPTION"));
    for (name, path) in [("Display Name", "DISPLAYNAME"), ("Display Description", "DISPLAYDESCRIPTION")] {
        if let Some(value) = image.text(path) {
            field(name, &value);
        }
    }
    let counts = image.counts();
    field("Directory Count", &counts.directories.to_string());
    field("File Count", &counts.files.to_string());
    field("Total Bytes", &counts.total_bytes.to_string());
    field("Hard Link Bytes", &counts.hard_link_bytes.to_string());
    if let Some(created) = image.created() {
        field("Creation Time", &fields::time(created));
    }
    if let Some(modified) = image.modified() {
        field("Last Modification Time", &fields::time(modified));
    }
    if image.element().child("WINDOWS").is_some() {
        windows_fields(image, &mut field);
    }
    if let Some(flags) = image.flags() {
        field("Flags", &flags);
    }
    field("WIMBoot compatible", if image.is_wimboot() { "yes" } else { "no" });
    out.push('\n');
}

fn windows_fields(image: &ImageInfo, field: &mut impl FnMut(&str, &str)) {
    let text = |path: &str| image.text(&format!("WINDOWS/{path}"));
    let number = |path: &str| image.number(&format!("WINDOWS/VERSION/{path}")).unwrap_or(0).to_string();
    let architecture = match image.number("WINDOWS/ARCH") {
        None | Some(0) => "x86",
        Some(5) => "ARM",
        Some(6) => "ia64",
        Some(9) => "x86_64",
        Some(12) => "ARM64",
        Some(_) => "unknown",
    };
    field("Architecture", architecture);
    for (name, path) in [
        ("Product Name", "PRODUCTNAME"),
        ("Edition ID", "EDITIONID"),
        ("Installation Type", "INSTALLATIONTYPE"),
        ("HAL", "HAL"),
        ("Product Type", "PRODUCTTYPE"),
        ("Product Suite", "PRODUCTSUITE"),
    ] {
        if let Some(value) = text(path) {
            field(name, &value);
        }
    }
    let languages = image.windows().map(|windows| windows.languages).unwrap_or_default();
    if !languages.is_empty() {
        field("Languages", &languages.iter().map(|language| format!("{language} ")).collect::<String>());
    }
    for (name, path) in [("Default Language", "LANGUAGES/DEFAULT"), ("System Root", "SYSTEMROOT")] {
        if let Some(value) = text(path) {
            field(name, &value);
        }
    }
    for (name, path) in [
        ("Major Version", "MAJOR"),
        ("Minor Version", "MINOR"),
        ("Build", "BUILD"),
        ("Service Pack Build", "SPBUILD"),
        ("Service Pack Level", "SPLEVEL"),
    ] {
        field(name, &number(path));
    }
}

/// The name that scripts look for.
fn compression_name(header: &Header) -> &'static str {
    match header.compression.map(|compression| compression.method()) {
        None => "None",
        Some(Method::Xpress) => "XPRESS",
        Some(Method::Lzx) => "LZX",
        Some(Method::Lzms) => "LZMS",
        Some(_) => "Unknown",
    }
}

fn header(out: &mut String, header: &Header) {
    let field = |out: &mut String, name: &str, value: String| {
        let _ = writeln!(out, "{name:<28}= {value}");
    };
    let place = |out: &mut String, names: [&str; 4], place: &ResourceHeader| {
        field(out, names[0], place.stored_size.to_string());
        field(out, names[1], format!("{:#x}", place.flags.0));
        field(out, names[2], place.offset.to_string());
        field(out, names[3], place.size.to_string());
    };
    let magic = if header.layout == Layout::Pipable { "WLPWM" } else { "MSWIM" };
    field(out, "Magic Characters", format!("{magic}\\0\\0\\0"));
    field(out, "Header Size", "208".to_owned());
    field(out, "Version", format!("{:#x}", header.version()));
    field(out, "Flags", format!("{:#x}", header.flags.0));
    for (bit, name) in FLAGS {
        if header.flags.contains(HeaderFlags(bit)) {
            let _ = writeln!(out, "    WIM_HDR_FLAG_{name} is set");
        }
    }
    let chunk_size = header.compression.map_or(0, |compression| compression.chunk_size());
    field(out, "Chunk Size", chunk_size.to_string());
    field(out, "GUID", fields::hex(&header.guid.0));
    field(out, "Part Number", header.part.to_string());
    field(out, "Total Parts", header.parts.to_string());
    field(out, "Image Count", header.image_count.to_string());
    let table = ["Blob Table Size", "Blob Table Flags", "Blob Table Offset", "Blob Table Original_size"];
    place(out, table, &header.blob_table);
    place(out, ["XML Data Size", "XML Data Flags", "XML Data Offset", "XML Data Original Size"], &header.xml);
    let boot =
        ["Boot Metadata Size", "Boot Metadata Flags", "Boot Metadata Offset", "Boot Metadata Original Size"];
    place(out, boot, &header.boot_metadata);
    field(out, "Boot Index", header.boot_number.to_string());
    let integrity = ["Integrity Size", "Integrity Flags", "Integrity Offset", "Integrity Original_size"];
    place(out, integrity, &header.integrity);
}

/// Names of header flags.
const FLAGS: [(u32, &str); 13] = [
    (0x1, "RESERVED"),
    (0x2, "COMPRESSION"),
    (0x4, "READONLY"),
    (0x8, "SPANNED"),
    (0x10, "RESOURCE_ONLY"),
    (0x20, "METADATA_ONLY"),
    (0x40, "WRITE_IN_PROGRESS"),
    (0x80, "RP_FIX"),
    (0x1_0000, "COMPRESS_RESERVED"),
    (0x2_0000, "COMPRESS_XPRESS"),
    (0x4_0000, "COMPRESS_LZX"),
    (0x8_0000, "COMPRESS_LZMS"),
    (0x20_0000, "COMPRESS_XPRESS_2"),
];

/// Metadata resources, then file contents.
fn blobs(out: &mut String, file: &ImageFile) {
    let wim = file.wim();
    for image in wim.images() {
        if let Some(metadata) = wim.metadata_resource(image) {
            let place = Place::of_metadata(wim, metadata);
            fields::blob(out, &metadata.sha1, metadata.header.size, Some(&place));
        }
    }
    for (_, blob) in wim.blobs() {
        fields::blob(out, &blob.sha1, blob.size, Place::of(wim, blob).as_ref());
    }
}
