//! `gravure ls`: the files of an image or an NTFS volume.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use gravure_imaging::{ErrorKind, ScanOptions, UncleanVolumes, Which, is_ntfs_volume, volume_tree};
use gravure_tree::{Node, NodeId, Tree, UnixType, WalkEntry};
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{self, Row};
use crate::stored::{self, is_of_device};
use crate::target::ImageName;
use crate::{Common, interrupt};

/// List the files of an image, of a partition in a block image, or of an NTFS volume
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure ls debian.wim
  gravure ls install.wim:1 /Windows/Boot --depth all
  gravure ls debian.wim:1 --format csv > files.csv
  ssh server cat x.wim | gravure ls -                    put aside in TMPDIR first; one of several images is -- -:2
  gravure ls /dev/sda3 /Windows --depth one              an NTFS volume, which is read without mounting it
  gravure ls disk.gim                                    partitions of a block image
  gravure ls disk.gim:2/etc                              a directory on its second partition (NTFS, FAT, exFAT, ext2/3/4, XFS, Btrfs)
  gravure ls disk.gim:2/subvolid=5                       all of Btrfs, not what its default subvolume has
  gravure ls /srv/store.gim/#golden:1/EFI")]
pub(crate) struct Options {
    /// Image file, with :NUMBER or :NAME when it holds several, block image with :PARTITION/PATH; or an NTFS volume, a partition or
    /// file
    image: ImageName,
    /// List what is below this path only
    #[arg(default_value = "/")]
    path: String,
    /// How deep
    #[arg(long, value_enum, default_value_t = Depth::All)]
    depth: Depth,
    /// Further files of the same set
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Depth {
    /// Everything below
    All,
    /// The entries of the directory itself
    One,
}

/// One name.
#[derive(Debug, Serialize)]
struct Line {
    path: String,
    kind: &'static str,
    size_bytes: u64,
    sha1: Option<String>,
    attributes: u32,
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    links: u32,
    modified_unix_seconds: i64,
    short_name: Option<String>,
    named_streams: Vec<String>,
    reparse_tag: Option<u32>,
}

impl Row for Line {
    fn columns() -> &'static [&'static str] {
        &[
            "path",
            "kind",
            "size_bytes",
            "sha1",
            "attributes",
            "mode",
            "uid",
            "gid",
            "links",
            "modified_unix_seconds",
        ]
    }

    fn cells(&self) -> Vec<String> {
        let number = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
        vec![
            self.path.clone(),
            self.kind.to_owned(),
            self.size_bytes.to_string(),
            self.sha1.clone().unwrap_or_default(),
            format!("{:#x}", self.attributes),
            self.mode.clone().unwrap_or_default(),
            number(self.uid),
            number(self.gid),
            self.links.to_string(),
            self.modified_unix_seconds.to_string(),
        ]
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    if let Some((image, number, path)) = stored::split_part(&options.image, &options.path, &interrupt::ctl())?
    {
        return super::block::browse(&image, number, &path, common);
    }
    if is_of_device(&options.image, &interrupt::ctl())? {
        return super::block::list(&options.image, common);
    }
    let (tree, warnings) = open(options)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let wanted = format!("/{}", options.path.trim_matches('/'));
    if tree.lookup(&wanted).is_none() {
        return Err(Failure::new(ErrorKind::NotFound, format!("path {wanted} not found"))
            .with_cure("names are case-sensitive; list the directory above it"));
    }
    let prefix = if wanted == "/" { wanted.clone() } else { format!("{wanted}/") };
    let rows = tree.walk().filter_map(|step| {
        let path = step.display_path();
        let rest = path.strip_prefix(&prefix);
        let shown =
            path == wanted || rest.is_some_and(|rest| options.depth == Depth::All || !rest.contains('/'));
        shown.then(|| line(&tree, &step, path))
    });
    output::listing(common.format, rows, |line| {
        let mode = line.mode.clone().unwrap_or_else(|| format!("{:#x}", line.attributes));
        format!("{:9} {mode:>8} {:>12} {}", line.kind, line.size_bytes, line.path)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The files, and what is odd about them. A volume is listed as it stands: nothing is taken from it.
fn open(options: &Options) -> Result<(Tree, Vec<String>), Failure> {
    let ctl = interrupt::ctl();
    let path = Path::new(&options.image.file);
    if options.image.which == Which::Only && is_ntfs_volume(path) {
        let scan = ScanOptions { unclean: UncleanVolumes::Read, ..ScanOptions::default() };
        return Ok(volume_tree(path, &scan, &ctl, &gravure_model::event::Silent)?);
    }
    let image = options.image.open(&options.references, &ctl)?;
    let warnings = image.warnings().to_vec();
    Ok((image.into_tree(), warnings))
}

fn line(tree: &Tree, step: &WalkEntry<'_>, path: String) -> Line {
    let id: NodeId = step.entry.node;
    let node = tree.node(id);
    let data = node.data.as_ref().or(node.efs.as_ref());
    Line {
        path,
        kind: kind(node),
        size_bytes: data.map_or(0, |content| content.size),
        sha1: data
            .filter(|content| !content.is_empty())
            .and_then(|content| content.sha1)
            .map(|sha1| sha1.to_string()),
        attributes: node.attributes.0,
        mode: node.unix.map(|unix| format!("{:04o}", unix.mode & 0o7777)),
        uid: node.unix.map(|unix| unix.uid),
        gid: node.unix.map(|unix| unix.gid),
        links: tree.link_count(id),
        modified_unix_seconds: node.times.written.to_unix().0,
        short_name: step.entry.short_name.as_ref().map(ToString::to_string),
        named_streams: node.named_streams.iter().map(|stream| stream.name.to_string()).collect(),
        reparse_tag: node.reparse.as_ref().map(|reparse| reparse.tag.0),
    }
}

fn kind(node: &Node) -> &'static str {
    match node.unix.map(|unix| unix.file_type()) {
        Some(UnixType::CharDevice) => "chardev",
        Some(UnixType::BlockDevice) => "blockdev",
        Some(UnixType::Fifo) => "fifo",
        Some(UnixType::Socket) => "socket",
        _ if node.reparse.is_some() => "link",
        _ if node.is_directory() => "directory",
        _ => "file",
    }
}
