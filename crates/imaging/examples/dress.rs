//! Makes an image look like one of Windows: every file gets one of some hundred security descriptors, long names get short
//! ones. The result is an NTFS volume to be captured, for benchmarks.
//!
//! `dress IMAGE VOLUME BYTES`: the only image of IMAGE, the file VOLUME to make, its size.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use gravure_imaging::{ImageFile, VolumeApplyOptions, VolumeFile, VolumeVerify, Which, apply_to_volume};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_nttypes::{FileAttributes, NtName};
use gravure_tree::{NodeId, SecurityId, Tree};

/// As many as a Windows installation has, roughly.
const DESCRIPTORS: u32 = 400;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, volume, bytes] = arguments.as_slice() else {
        eprintln!("dress IMAGE VOLUME BYTES");
        return ExitCode::from(2);
    };
    match run(Path::new(image), Path::new(volume), bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{image}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(image: &Path, volume: &Path, bytes: &str) -> Result<(), Failure> {
    let file = ImageFile::open_path(image)?;
    let image = file.image(file.find(&Which::Only)?)?;
    let mut tree = image.tree().clone();
    dress(&mut tree);
    let device = VolumeFile::open(volume, Some(bytes.parse()?))?;
    let options = VolumeApplyOptions { verify: VolumeVerify::Decode, ..VolumeApplyOptions::default() };
    apply_to_volume(&image.with_tree(tree), &device, &options, &Ctl::default(), &Silent)?;
    Ok(())
}

fn dress(tree: &mut Tree) {
    tree.set_security_descriptors((0..DESCRIPTORS).map(descriptor).collect());
    let mut dirs = vec![tree.root()];
    let mut number = 0u32;
    while let Some(dir) = dirs.pop() {
        finish(tree, dir, &mut number);
        let mut children = tree.node_mut(dir).children.take().unwrap_or_default();
        for (index, entry) in children.iter_mut().enumerate() {
            entry.short_name = short_name(&entry.name, index);
            if tree.node(entry.node).is_directory() {
                dirs.push(entry.node);
            } else {
                finish(tree, entry.node, &mut number);
            }
        }
        tree.node_mut(dir).children = Some(children);
    }
}

/// What a node of Windows has and one of Linux has not, and the other way round.
fn finish(tree: &mut Tree, id: NodeId, number: &mut u32) {
    *number += 1;
    let security = SecurityId(*number % DESCRIPTORS);
    let node = tree.node_mut(id);
    node.unix = None;
    node.unknown_items.clear();
    node.security = Some(security);
    node.attributes = if node.is_directory() { FileAttributes::DIRECTORY } else { FileAttributes::ARCHIVE };
}

/// A name of eight and three characters for one that is longer, no two alike in a directory.
fn short_name(name: &NtName, index: usize) -> Option<NtName> {
    let name = name.to_string();
    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
    if stem.len() <= 8 && extension.len() <= 3 {
        return None;
    }
    let kept = |text: &str, most: usize| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).take(most).collect::<String>().to_ascii_uppercase()
    };
    let short = format!("{}{index:05X}~1", kept(stem, 1));
    let extension = kept(extension, 3);
    Some(NtName::from(if extension.is_empty() { short } else { format!("{short}.{extension}") }.as_str()))
}

/// Descriptor `n`: owner and group SYSTEM, and a list of some entries that is like no other one's.
fn descriptor(n: u32) -> Arc<[u8]> {
    let system = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    let entries = 1 + n % 8;
    let mut out = vec![1, 0, 4, 0x80];
    for offset in [20u32, 32, 0, 44] {
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out.extend_from_slice(&system);
    out.extend_from_slice(&system);
    out.extend_from_slice(&[2, 0, (8 + 20 * entries) as u8, 0, entries as u8, 0, 0, 0]);
    for entry in 0..entries {
        out.extend_from_slice(&[0, 0, 20, 0]);
        out.extend_from_slice(&(((n << 3) | entry) & 0x1f_01ff).to_le_bytes());
        out.extend_from_slice(&system);
    }
    out.into()
}
