//! Two nodes compared, aspect by aspect.

use std::collections::{BTreeMap, HashMap, HashSet};

use gravure_nttypes::FileTime;
use gravure_tree::{ContentRef, Node, NodeId, Origin, Sha1Hash, Tree};

use super::{Aspect, Difference, kind_name};
use crate::chain::sha1_of;
use crate::directory::{UnixKind, kind_of, link_target, mode_of};
use crate::{Error, Image};

/// Set by the kernel where a security module is active, whatever was asked for.
const SELINUX_LABEL: &[u8] = b"security.selinux";

/// Compares nodes of two trees.
pub(super) struct Fields<'a> {
    trees: [&'a Tree; 2],
    images: [Option<&'a Image>; 2],
    ignore: &'a HashSet<Aspect>,
    /// Which node of the other tree each node is, both ways: hard links must agree.
    partners: [HashMap<NodeId, NodeId>; 2],
    short_names: [HashMap<String, String>; 2],
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        trees: [&'a Tree; 2],
        images: [Option<&'a Image>; 2],
        ignore: &'a HashSet<Aspect>,
    ) -> Self {
        let short_names = trees.map(|tree| {
            let mut names = HashMap::new();
            if !ignore.contains(&Aspect::ShortName) {
                for step in tree.walk() {
                    if let Some(short) = &step.entry.short_name {
                        names.insert(step.display_path(), short.to_string());
                    }
                }
            }
            names
        });
        Self { trees, images, ignore, partners: [HashMap::new(), HashMap::new()], short_names }
    }

    /// What differs between node `a` of the first tree and `b` of the second, which are both at `path`.
    pub(super) fn compare(&mut self, a: NodeId, b: NodeId, path: &str) -> Result<Vec<Difference>, Error> {
        let mut found = Found { ignore: self.ignore, list: Vec::new() };
        let (first, second) = (self.trees[0].node(a), self.trees[1].node(b));
        let (kind, other) = (kind_of(first), kind_of(second));
        if kind != other {
            found.text(Aspect::Kind, kind_text(self.trees[0], a, kind), kind_text(self.trees[1], b, other));
            return Ok(found.list);
        }
        let short = |side: usize| self.short_names[side].get(path).cloned().unwrap_or_else(none);
        found.text(Aspect::ShortName, short(0), short(1));
        if !self.links(a, b, kind, &mut found) {
            // Compared under its first name.
            return Ok(found.list);
        }
        if kind == UnixKind::File {
            data(first.data.as_ref(), second.data.as_ref(), &mut found);
        }
        self.reparse(first, second, path, &mut found)?;
        streams(first, second, &mut found);
        if let (Some(unix), Some(other)) = (first.unix, second.unix) {
            let owner = |uid: u32, gid: u32| format!("{uid}:{gid}");
            found.text(Aspect::Owner, owner(unix.uid, unix.gid), owner(other.uid, other.gid));
            if kind != UnixKind::Link {
                let mode = |node: &Node| format!("{:04o}", mode_of(node));
                found.text(Aspect::Mode, mode(first), mode(second));
            }
        }
        self.times(first, second, &mut found);
        let attributes = |node: &Node| format!("{:#x}", node.attributes.0);
        found.text(Aspect::Attributes, attributes(first), attributes(second));
        self.security(first, second, &mut found);
        xattrs(first, second, &mut found);
        if self.images.iter().all(Option::is_some) {
            link_flags(first, second, &mut found);
            tagged_items(first, second, &mut found);
        }
        // Volumes keep 64 bytes where an image may have the first 16 alone: the rest is zero then.
        let object = |node: &Node| {
            let id = node.object_id.as_deref()?;
            let len = id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1).max(16.min(id.len()));
            id.get(..len).map(hex)
        };
        let object = |node: &Node| object(node).unwrap_or_else(none);
        found.text(Aspect::ObjectId, object(first), object(second));
        Ok(found.list)
    }

    /// Whether names that are one file on one side are one on the other; true when the file was not met before.
    fn links(&mut self, a: NodeId, b: NodeId, kind: UnixKind, found: &mut Found<'_>) -> bool {
        // Links of links are not kept by the format.
        if matches!(kind, UnixKind::Link | UnixKind::Directory) {
            return true;
        }
        let [there, back] = &mut self.partners;
        let is_first = !there.contains_key(&a) || !back.contains_key(&b);
        let partner = *there.entry(a).or_insert(b);
        let behind = *back.entry(b).or_insert(a);
        if partner != b || behind != a {
            let text = |same: bool| if same { "another name of one file" } else { "a file of its own" };
            found.text(Aspect::HardLinks, text(partner != b).into(), text(behind != a).into());
        }
        is_first
    }

    fn times(&self, first: &Node, second: &Node, found: &mut Found<'_>) {
        found.text(Aspect::Times, time(first.times.written), time(second.times.written));
        let both_images = self.images.iter().all(Option::is_some);
        if both_images && first.times.created != second.times.created {
            let created = |node: &Node| format!("created {}", time(node.times.created));
            found.text(Aspect::Times, created(first), created(second));
        }
    }

    fn security(&self, first: &Node, second: &Node, found: &mut Found<'_>) {
        let descriptor = |side: usize, node: &Node| {
            let index = usize::try_from(node.security?.0).ok()?;
            self.trees[side].security_descriptors().get(index)
        };
        let text = |bytes: Option<&std::sync::Arc<[u8]>>| {
            bytes.map_or_else(none, |bytes| format!("{} bytes, SHA-1 {}", bytes.len(), sha1_of(bytes)))
        };
        let (a, b) = (descriptor(0, first), descriptor(1, second));
        if a != b {
            found.text(Aspect::Security, text(a), text(b));
        }
    }

    fn reparse(&self, first: &Node, second: &Node, path: &str, found: &mut Found<'_>) -> Result<(), Error> {
        let (Some(a), Some(b)) = (&first.reparse, &second.reparse) else {
            let tag = |node: &Node| {
                node.reparse.as_ref().map_or_else(none, |reparse| format!("reparse tag {:#x}", reparse.tag.0))
            };
            found.text(Aspect::Target, tag(first), tag(second));
            return Ok(());
        };
        if self.ignore.contains(&Aspect::Target) || (a.tag == b.tag && hash(&a.content) == hash(&b.content)) {
            return Ok(());
        }
        // The same target can be said in several forms, and is, by different programs.
        let read = |side: usize, content: &ContentRef| match (&content.origin, self.images[side]) {
            (Origin::Inline(bytes), _) => Ok(bytes.to_vec()),
            (_, Some(image)) => crate::extract::read_content(image, content, path),
            (_, None) => Ok(Vec::new()),
        };
        let (data, other) = (read(0, &a.content)?, read(1, &b.content)?);
        let text = |tag, data: &[u8]| match link_target(tag, data) {
            Ok(target) => target.to_string_lossy().into_owned(),
            Err(_) => format!("reparse tag {:#x}, {} bytes, SHA-1 {}", tag.0, data.len(), sha1_of(data)),
        };
        found.text(Aspect::Target, text(a.tag, &data), text(b.tag, &other));
        Ok(())
    }
}

/// Differences of one pair.
struct Found<'a> {
    ignore: &'a HashSet<Aspect>,
    list: Vec<Difference>,
}

impl Found<'_> {
    fn text(&mut self, aspect: Aspect, first: String, second: String) {
        if first != second && !self.ignore.contains(&aspect) {
            self.list.push(Difference { aspect, first, second });
        }
    }
}

fn none() -> String {
    "none".to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kind_text(tree: &Tree, node: NodeId, kind: UnixKind) -> String {
    match kind {
        UnixKind::Special(special) => format!("{special:?}"),
        _ => kind_name(tree, node).to_owned(),
    }
}

fn time(time: FileTime) -> String {
    let (seconds, nanos) = time.to_unix();
    format!("{seconds}.{nanos:09}")
}

fn hash(content: &ContentRef) -> Option<Sha1Hash> {
    match (&content.origin, content.sha1) {
        (Origin::Inline(bytes), _) => Some(sha1_of(bytes)),
        (Origin::Empty, _) => Some(Sha1Hash::ZERO),
        (_, sha1) => sha1,
    }
}

fn data(first: Option<&ContentRef>, second: Option<&ContentRef>, found: &mut Found<'_>) {
    let (Some(a), Some(b)) = (first, second) else { return };
    let is_known = |content: &ContentRef| content.origin != Origin::Missing;
    if is_known(a) && is_known(b) && a.size != b.size {
        found.text(Aspect::Size, a.size.to_string(), b.size.to_string());
        return;
    }
    // Without a hash the content could not be read, which was told.
    if let (Some(a), Some(b)) = (hash(a), hash(b)) {
        found.text(Aspect::Content, format!("SHA-1 {a}"), format!("SHA-1 {b}"));
    }
}

fn streams(first: &Node, second: &Node, found: &mut Found<'_>) {
    let list = |node: &Node| {
        let named = node.named_streams.iter().map(|stream| {
            let hash = hash(&stream.content).map_or_else(none, |sha1| sha1.to_string());
            (stream.name.to_string(), hash)
        });
        let efs = node
            .efs
            .iter()
            .map(|efs| ("(encrypted data)".to_owned(), hash(efs).map_or_else(none, |sha1| sha1.to_string())));
        named.chain(efs).collect::<BTreeMap<_, _>>()
    };
    let (a, b) = (list(first), list(second));
    if a != b {
        let text = |map: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
            let own = map.iter().filter(|(name, hash)| other.get(*name) != Some(hash));
            let own: Vec<String> = own.map(|(name, hash)| format!("{name} SHA-1 {hash}")).collect();
            if own.is_empty() { none() } else { own.join(", ") }
        };
        found.text(Aspect::Streams, text(&a, &b), text(&b, &a));
    }
}

/// What an image notes of a link beside its target. Directories and volumes have no such notes.
fn link_flags(first: &Node, second: &Node, found: &mut Found<'_>) {
    if let (Some(a), Some(b)) = (&first.reparse, &second.reparse) {
        let text = |flags: u16, reserved: u16| format!("flags {flags:#x}, reserved {reserved:#x}");
        found.text(Aspect::LinkFlags, text(a.link_flags, a.reserved), text(b.link_flags, b.reserved));
    }
}

/// Items whose meaning is not known: which there are, and what they hold.
fn tagged_items(first: &Node, second: &Node, found: &mut Found<'_>) {
    if first.unknown_items == second.unknown_items {
        return;
    }
    let text = |node: &Node, other: &Node| {
        let own = node.unknown_items.iter().filter(|item| !other.unknown_items.contains(item));
        let own: Vec<String> = own
            .map(|item| {
                format!("tag {:#x} ({} bytes, SHA-1 {})", item.tag, item.data.len(), sha1_of(&item.data))
            })
            .collect();
        if own.is_empty() { "the same in another order or number".to_owned() } else { own.join(", ") }
    };
    found.text(Aspect::TaggedItems, text(first, second), text(second, first));
}

fn xattrs(first: &Node, second: &Node, found: &mut Found<'_>) {
    let list = |node: &Node| {
        let all = node.extended_attributes.iter();
        all.map(|one| (one.name.clone(), one.value.clone())).collect::<BTreeMap<_, _>>()
    };
    let (mut a, mut b) = (list(first), list(second));
    if !(a.contains_key(SELINUX_LABEL) && b.contains_key(SELINUX_LABEL)) {
        a.remove(SELINUX_LABEL);
        b.remove(SELINUX_LABEL);
    }
    if a != b {
        let text = |map: &BTreeMap<Vec<u8>, Vec<u8>>, other: &BTreeMap<Vec<u8>, Vec<u8>>| {
            let own = map.iter().filter(|(name, value)| other.get(*name) != Some(value));
            let own: Vec<String> = own
                .map(|(name, value)| {
                    let (name, hash) = (String::from_utf8_lossy(name), sha1_of(value));
                    format!("{name} ({} bytes, SHA-1 {hash})", value.len())
                })
                .collect();
            if own.is_empty() { none() } else { own.join(", ") }
        };
        found.text(Aspect::ExtendedAttributes, text(&a, &b), text(&b, &a));
    }
}

#[cfg(test)]
mod tests {
    use gravure_nttypes::{FileAttributes, ReparseTag};
    use gravure_tree::{Reparse, TaggedItem};
    use gravure_wim::ImageIndex;

    use super::*;

    /// An image with one link of these flags and items.
    fn image(link_flags: u16, reserved: u16, items: &[(u32, &[u8])]) -> (Image, NodeId) {
        let mut tree = Tree::new(Node { children: Some(Vec::new()), ..Node::default() });
        let content = ContentRef::inline(&b"\0\0\0\0\0\0\0\0\0\0\0\0"[..]);
        let link = Node {
            attributes: FileAttributes::REPARSE_POINT,
            reparse: Some(Reparse { tag: ReparseTag::SYMLINK, reserved, link_flags, content }),
            unknown_items: items
                .iter()
                .map(|(tag, data)| TaggedItem { tag: *tag, data: data.to_vec() })
                .collect(),
            ..Node::default()
        };
        let id = tree.add(tree.root(), "link".into(), link).unwrap();
        (Image::without_files(ImageIndex::from_number(1).unwrap(), tree, Vec::new()), id)
    }

    fn compare(
        first: &(Image, NodeId),
        second: &(Image, NodeId),
        ignore: &[Aspect],
    ) -> Vec<(Aspect, String)> {
        let ignore = ignore.iter().copied().collect();
        let images = [Some(&first.0), Some(&second.0)];
        let mut fields = Fields::new([first.0.tree(), second.0.tree()], images, &ignore);
        let found = fields.compare(first.1, second.1, "/link").unwrap();
        found.into_iter().map(|one| (one.aspect, format!("{} | {}", one.first, one.second))).collect()
    }

    #[test]
    fn flags_of_links_and_unknown_items_count_between_images() {
        let plain = image(0, 0, &[]);
        assert_eq!(compare(&plain, &image(0, 0, &[]), &[]), []);
        let flags = compare(&plain, &image(1, 0xd000, &[]), &[]);
        assert_eq!(
            flags,
            [(Aspect::LinkFlags, "flags 0x0, reserved 0x0 | flags 0x1, reserved 0xd000".to_owned())]
        );
        assert_eq!(compare(&plain, &image(1, 0, &[]), &[Aspect::LinkFlags]), []);
        let (one, other) = (image(0, 0, &[(7, b"same"), (9, b"a")]), image(0, 0, &[(7, b"same"), (9, b"b")]));
        let items = compare(&one, &other, &[]);
        assert_eq!((items.len(), items[0].0), (1, Aspect::TaggedItems));
        assert!(
            items[0]
                .1
                .starts_with("tag 0x9 (1 bytes, SHA-1 86f7e437faa5a7fce15d1ddcb9eaeaea377667b8) | tag 0x9 ")
        );
        let turned = image(0, 0, &[(9, b"a"), (7, b"same")]);
        // Their order says nothing.
        assert_eq!(compare(&one, &turned, &[]), []);
        assert_eq!(compare(&one, &other, &[Aspect::TaggedItems]), []);
    }
}
