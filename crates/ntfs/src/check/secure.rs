//! $Secure: descriptors, their copies, both indexes, and who uses them.

use std::collections::HashMap;

use gravure_nttypes::SecurityDescriptor;
use zerocopy::{FromBytes, IntoBytes};

use super::Checker;
use super::finding::Spot;
use super::views::ViewEntry;
use crate::Error;
use crate::disk::{
    FIRST_SECURITY_ID, SDS_ALIGN, SDS_BLOCK_BYTES, SECURITY_HEAD_BYTES, SecurityHeadDisk,
    attribute_type as types, collation, numbers, security_hash,
};
use crate::read::bytes::{at, u32_at, wide};
use crate::read::gather::Value;
use crate::read::secure::{MAX_DESCRIPTOR_BYTES, SDH, SDS, SII};
use crate::read::stream::Stream;
use crate::rule::Rule;

/// Descriptors of a volume at most; each takes 20 bytes here.
const MAX_DESCRIPTORS: usize = 16 << 20;

type Heads = HashMap<u32, [u8; SECURITY_HEAD_BYTES]>;

impl Checker<'_> {
    pub(super) fn check_secure(&mut self) -> Result<(), Error> {
        let Some(file) = self.file(numbers::SECURE)? else { return Ok(()) };
        let spot = Spot::record(numbers::SECURE)
            .attribute(types::DATA, &SDS)
            .at(self.mft.offset(u64::from(numbers::SECURE)));
        let Some(Value::Clusters { stream, .. }) = file.get(types::DATA, &SDS).map(|found| &found.value)
        else {
            self.teller.tell(Rule::SdsStream, spot, "the stream $SDS in clusters", "none");
            return Ok(());
        };
        let stream = stream.clone();
        let heads = self.check_descriptors(&stream)?;
        for (name, order) in [(&SII, collation::NUMBER), (&SDH, collation::SECURITY_HASH)] {
            let mut entries = Vec::new();
            self.view(numbers::SECURE, &file, name, order, &mut |entry| {
                if entries.len() < MAX_DESCRIPTORS {
                    entries.push(entry);
                }
            })?;
            self.check_entries(name, &entries, &heads);
        }
        let mut used: Vec<(u32, u32)> = self.security_ids.iter().map(|(id, record)| (*id, *record)).collect();
        used.sort_unstable();
        for (id, record) in &used {
            if !heads.contains_key(id) {
                let spot = Spot::record(*record)
                    .attribute(types::STANDARD_INFORMATION, &[])
                    .at(self.mft.offset(u64::from(*record)));
                self.teller.tell(
                    Rule::SecurityDangling,
                    spot,
                    "the id of a descriptor in $Secure",
                    format!("{id:#x}"),
                );
            }
        }
        let mut unused: Vec<u32> =
            heads.keys().filter(|id| !self.security_ids.contains_key(id)).copied().collect();
        unused.sort_unstable();
        if let Some(first) = unused.first() {
            self.teller.tell(
                Rule::SecurityUnused,
                spot,
                "only descriptors that files use",
                format!("{} that none does, the first {first:#x}", unused.len()),
            );
        }
        Ok(())
    }

    /// Goes through $SDS block by block, comparing each with its copy.
    fn check_descriptors(&mut self, stream: &Stream) -> Result<Heads, Error> {
        let mut heads = Heads::new();
        let (mut start, mut block, mut copy) = (0u64, Vec::new(), Vec::new());
        let size = stream.size.min(stream.clusters().saturating_mul(self.boot.cluster_bytes));
        while start < size {
            let len = size.saturating_sub(start).min(SDS_BLOCK_BYTES);
            block.resize(at(len), 0);
            let spot = Spot::record(numbers::SECURE).attribute(types::DATA, &SDS);
            let read = stream.read(self.source, start, &mut block);
            if self.readable(spot, read)?.is_none() {
                break;
            }
            let copy_start = start.saturating_add(SDS_BLOCK_BYTES);
            copy.resize(at(size.saturating_sub(copy_start).min(SDS_BLOCK_BYTES)), 0);
            let read = stream.read(self.source, copy_start.min(size), &mut copy);
            if self.readable(spot, read)?.is_none() {
                break;
            }
            self.check_block(stream, start, &block, &copy, &mut heads);
            start = copy_start.saturating_add(SDS_BLOCK_BYTES);
        }
        Ok(heads)
    }

    fn check_block(&mut self, stream: &Stream, start: u64, block: &[u8], copy: &[u8], heads: &mut Heads) {
        let spot = Spot::record(numbers::SECURE).attribute(types::DATA, &SDS);
        let offset_of = |pos: usize| stream.offset_of(start.saturating_add(wide(pos))).unwrap_or(0);
        let mut pos = 0usize;
        let mut end = 0usize;
        while let Some(rest) = block.get(pos..).filter(|rest| rest.len() >= SECURITY_HEAD_BYTES) {
            let Ok((head, body)) = SecurityHeadDisk::read_from_prefix(rest) else { break };
            if head.as_bytes().iter().all(|byte| *byte == 0) {
                break;
            }
            let spot = spot.at(offset_of(pos));
            let expected = start.saturating_add(wide(pos));
            if head.offset.get() != expected {
                self.teller.tell(Rule::SdsOffset, spot, expected, head.offset.get());
            }
            let len = head.len.get();
            let descriptor = at(len).checked_sub(SECURITY_HEAD_BYTES).and_then(|len| body.get(..len));
            let Some(descriptor) =
                descriptor.filter(|descriptor| descriptor.len() >= 20 && len <= MAX_DESCRIPTOR_BYTES)
            else {
                self.teller.tell(Rule::SdsLength, spot, format!("40 to {} bytes", rest.len()), len);
                break;
            };
            let hash = security_hash(descriptor);
            if hash != head.hash.get() {
                self.teller.tell(
                    Rule::SdsHash,
                    spot,
                    format!("{hash:#010x}, the hash of the descriptor"),
                    format!("{:#010x}", head.hash.get()),
                );
            }
            if let Err(error) = SecurityDescriptor::parse(descriptor) {
                self.teller.tell(Rule::Descriptor, spot, "a security descriptor", error);
            }
            let id = head.id.get();
            if id < FIRST_SECURITY_ID {
                self.teller.tell(
                    Rule::SdsId,
                    spot,
                    format!("{FIRST_SECURITY_ID:#x} or more"),
                    format!("{id:#x}"),
                );
            }
            if heads.len() < MAX_DESCRIPTORS {
                let mut bytes = [0; SECURITY_HEAD_BYTES];
                bytes.copy_from_slice(head.as_bytes());
                if heads.insert(id, bytes).is_some() {
                    self.teller.tell(
                        Rule::SdsId,
                        spot,
                        "an id that no other descriptor has",
                        format!("{id:#x}"),
                    );
                }
            }
            end = pos.saturating_add(at(len));
            pos = end.next_multiple_of(at(SDS_ALIGN));
        }
        // What is behind the last descriptor need not be the same.
        let (first, second) = (block.get(..end).unwrap_or_default(), copy.get(..end).unwrap_or_default());
        if second.len() != first.len() {
            self.teller.tell(
                Rule::SdsCopy,
                spot.at(offset_of(0)),
                format!("{end} bytes of a copy behind the block"),
                second.len(),
            );
        } else if let Some(pos) = first.iter().zip(second).position(|(a, b)| a != b) {
            let offset = stream
                .offset_of(start.saturating_add(SDS_BLOCK_BYTES).saturating_add(wide(pos)))
                .unwrap_or(0);
            let byte = |bytes: &[u8]| format!("{:#04x}", bytes.get(pos).copied().unwrap_or(0));
            self.teller.tell(Rule::SdsCopy, spot.at(offset), byte(first), byte(second));
        }
    }

    /// An index of $Secure lists the descriptors, no more and no fewer.
    fn check_entries(&mut self, name: &[u16], entries: &[ViewEntry], heads: &Heads) {
        let spot = Spot::record(numbers::SECURE).attribute(types::INDEX_ROOT, name);
        let mut listed = std::collections::HashSet::new();
        for entry in entries {
            let spot = spot.at(entry.offset);
            if entry.data.len() != SECURITY_HEAD_BYTES {
                self.teller.tell(
                    Rule::SecurityEntry,
                    spot,
                    format!("{SECURITY_HEAD_BYTES} bytes of data"),
                    entry.data.len(),
                );
            }
            let head = entry.data.get(..SECURITY_HEAD_BYTES).unwrap_or_default();
            let (hash, id) = (u32_at(head, 0).unwrap_or(0), u32_at(head, 4).unwrap_or(0));
            let key = if name == SII {
                id.to_le_bytes().to_vec()
            } else {
                [hash.to_le_bytes(), id.to_le_bytes()].concat()
            };
            if entry.key != key {
                self.teller.tell(
                    Rule::SecurityEntry,
                    spot,
                    format!("the key {key:02x?}, as the data has it"),
                    format!("{:02x?}", entry.key),
                );
            }
            match heads.get(&id) {
                Some(known) if known == head => {}
                Some(known) => self.teller.tell(
                    Rule::SecurityEntry,
                    spot,
                    format!("{known:02x?}, as in $SDS"),
                    format!("{head:02x?}"),
                ),
                None => self.teller.tell(
                    Rule::SecurityEntry,
                    spot,
                    "the id of a descriptor in $SDS",
                    format!("{id:#x}"),
                ),
            }
            listed.insert(id);
        }
        let mut missing: Vec<u32> = heads.keys().filter(|id| !listed.contains(id)).copied().collect();
        missing.sort_unstable();
        for id in missing {
            let spot = spot.at(self.mft.offset(u64::from(numbers::SECURE)));
            self.teller.tell(
                Rule::SecurityUnlisted,
                spot,
                format!("an entry for descriptor {id:#x}"),
                "none",
            );
        }
    }
}
