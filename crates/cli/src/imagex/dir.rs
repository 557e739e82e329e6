//! `wim dir`: the files of an image, in the order of their names.

use std::fmt::Write as _;
use std::process::ExitCode;

use gravure_imaging::{Image, ImageFile, NoMatch, Parents, SelectOptions, Wanted, Wildcards, select};
use gravure_nttypes::{FileAttributes, NtName};
use gravure_tree::{Entry, Node, NodeId};

use super::fields::{self, ATTRIBUTES};
use super::files::{self, CHECK, REF, REFS};
use super::options::{Given, flag, value};
use super::{Command, Console, check_count, mistake, name_case};
use crate::exit::Failure;
use crate::output;

const USAGE: &str =
    "  dir WIMFILE [IMAGE | all] [--path=PATH] [--detailed] [--one-file-only] [--ref=\"GLOB\"]";

pub(super) const COMMAND: Command = Command {
    name: "dir",
    usage: USAGE,
    run,
    options: &[&[CHECK, REF, REFS, value("path"), flag("detailed"), flag("one-file-only")]],
};

fn run(given: &Given, console: &Console) -> Result<ExitCode, Failure> {
    check_count(given, 1, 2, USAGE)?;
    let file = files::open(&given.arguments[0], given, console)?;
    let images = files::images(&file, given.argument(1).map_err(mistake)?)?;
    for index in files::list(&file, images) {
        let image = file.image(index)?;
        let wanted = Wanted {
            path: given.text("path").map_err(mistake)?.unwrap_or("/").to_owned(),
            parents: Parents::Drop,
        };
        let options =
            SelectOptions { case: name_case(), wildcards: Wildcards::Literal, no_match: NoMatch::Fail };
        let (selected, _) = select(image.tree(), &[wanted], &options)?;
        for one in selected {
            list(&file, &image, &one.names, given)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists what has the names `names` from the root down, and all below it.
fn list(file: &ImageFile, image: &Image, names: &[NtName], given: &Given) -> Result<(), Failure> {
    let tree = image.tree();
    let (mut node, mut short_name) = (tree.root(), None);
    for name in names {
        let Some(entry) = tree.child(node, name) else { return Ok(()) };
        (node, short_name) = (entry.node, entry.short_name.clone());
    }
    let path: String = names.iter().map(|name| format!("/{name}")).collect();
    // Depth first, without recursion: an image may be deeper than a stack.
    let mut todo = vec![(node, short_name, path)];
    let mut out = String::new();
    while let Some((node, short_name, path)) = todo.pop() {
        let shown = if path.is_empty() { "/" } else { &path };
        if given.has("detailed") {
            details(&mut out, file, image, node, short_name.as_ref(), shown);
        } else {
            let _ = writeln!(out, "{shown}");
        }
        if out.len() > 1 << 16 {
            output::write(&std::mem::take(&mut out))?;
        }
        if given.has("one-file-only") {
            break;
        }
        let mut entries: Vec<&Entry> = tree.children(node).iter().collect();
        entries.sort_by(|a, b| a.name.folded().cmp(b.name.folded()).then_with(|| a.name.cmp(&b.name)));
        let below = entries.into_iter().rev();
        todo.extend(below.map(|e| (e.node, e.short_name.clone(), format!("{path}/{}", e.name))));
    }
    output::write(&out)
}

fn details(
    out: &mut String,
    file: &ImageFile,
    image: &Image,
    id: NodeId,
    short_name: Option<&NtName>,
    path: &str,
) {
    let tree = image.tree();
    let node = tree.node(id);
    let links = tree.link_count(id).max(1);
    let _ = writeln!(out, "{}", "-".repeat(76));
    field(out, "Full Path", &format!("\"{path}\""));
    field(out, "Short Name", &format!("\"{}\"", short_name.map(ToString::to_string).unwrap_or_default()));
    field(out, "Attributes", &format!("{:#010x}", node.attributes.0));
    for (bit, name) in ATTRIBUTES {
        if node.attributes.contains(FileAttributes(bit)) {
            let _ = writeln!(out, "    FILE_ATTRIBUTE_{name} is set");
        }
    }
    let descriptor = node.security.and_then(|id| tree.security_descriptors().get(id.0 as usize));
    if let Some(descriptor) = descriptor {
        field(out, "Security Descriptor", &fields::hex(descriptor));
    }
    field(out, "Creation Time", &fields::time(node.times.created));
    field(out, "Last Write Time", &fields::time(node.times.written));
    field(out, "Last Access Time", &fields::time(node.times.accessed));
    if let Some(reparse) = &node.reparse {
        field(out, "Reparse Tag", &format!("{:#010x}", reparse.tag.0));
    }
    let group = if links > 1 { id.index() as u64 + 1 } else { 0 };
    field(out, "Link Group ID", &format!("{group:#018x}"));
    field(out, "Link Count", &links.to_string());
    if let Some(unix) = &node.unix {
        let (uid, gid, mode, rdev) = (unix.uid, unix.gid, unix.mode, unix.rdev);
        field(out, "UNIX Data", &format!("uid:{uid} gid:{gid} mode:0{mode:o} rdev:{rdev:#x}"));
    }
    if let Some(ids) = &node.object_id {
        let names = ["Object ID", "Birth Volume ID", "Birth Object ID", "Domain ID"];
        for (name, id) in names.into_iter().zip(ids.chunks(16)) {
            field(out, name, &format!("0x{}", fields::hex(id)));
        }
    }
    streams(out, file, node);
}

fn field(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name:<20}= {value}");
}

fn streams(out: &mut String, file: &ImageFile, node: &Node) {
    let empty = gravure_tree::ContentRef::empty();
    if let Some(efs) = &node.efs {
        out.push_str("\tRaw encrypted data stream:\n");
        fields::content(out, file, efs);
    } else {
        if let Some(reparse) = &node.reparse {
            out.push_str("\tReparse point stream:\n");
            fields::content(out, file, &reparse.content);
        }
        // A link has no data of its own worth a line.
        let data = node.data.as_ref().unwrap_or(&empty);
        if node.reparse.is_none() || !data.is_empty() {
            out.push_str("\tUnnamed data stream:\n");
            fields::content(out, file, data);
        }
    }
    for stream in &node.named_streams {
        let _ = writeln!(out, "\tNamed data stream \"{}\":", stream.name);
        fields::content(out, file, &stream.content);
    }
}
