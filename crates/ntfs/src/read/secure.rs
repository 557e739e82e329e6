//! Security descriptors by id, read from $Secure when they are first used.

use std::collections::HashMap;
use std::sync::Arc;

use gravure_io::ReadAt;
use gravure_tree::SecurityId;
use zerocopy::FromBytes;

use super::bytes::{at, wide};
use super::fault::Fault;
use super::gather::Value;
use super::index::{Entry, IndexKind, Visitor};
use super::stream::Stream;
use super::volume::Volume;
use crate::Error;
use crate::disk::{
    SDS_BLOCK_BYTES, SECURITY_HEAD_BYTES, SecurityHeadDisk, attribute_type as types, numbers, security_hash,
};

pub(crate) const SDS: [u16; 4] = [0x24, 0x53, 0x44, 0x53];
pub(crate) const SII: [u16; 4] = [0x24, 0x53, 0x49, 0x49];
pub(crate) const SDH: [u16; 4] = [0x24, 0x53, 0x44, 0x48];
/// Largest descriptor.
pub(crate) const MAX_DESCRIPTOR_BYTES: u32 = 0x1_0000;

/// The descriptors of a volume on their way into a tree's table.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    stream: Stream,
    places: HashMap<u32, SecurityHeadDisk>,
    known: HashMap<u32, SecurityId>,
    /// Those that stand in files themselves, as before version 3.
    own: HashMap<Arc<[u8]>, SecurityId>,
    pub(crate) table: Vec<Arc<[u8]>>,
}

impl Visitor for Descriptors {
    fn entry(&mut self, entry: &Entry<'_>) {
        if let Ok((head, _)) = SecurityHeadDisk::read_from_prefix(entry.data) {
            self.places.insert(head.id.get(), head);
        }
    }

    // Descriptors that are not found are told where they are missed.
    fn fault(&mut self, _: u64, _: Fault) {}
}

impl Descriptors {
    /// Reads the index by id.
    pub(crate) fn open(volume: &Volume, source: &dyn ReadAt) -> Result<Self, Error> {
        let mut this = Self::default();
        let (_, file) = volume.file(source, numbers::SECURE)?;
        // Volumes before version 3 have quotas here.
        let Some(Value::Clusters { stream, .. }) = file.get(types::DATA, &SDS).map(|found| &found.value)
        else {
            return Ok(this);
        };
        this.stream = stream.clone();
        volume.walk(source, &file, &SII, IndexKind::View, &mut this)?;
        Ok(this)
    }

    /// The place in the table of descriptor `id`; `None` when there is none that is whole.
    pub(crate) fn by_id(&mut self, source: &dyn ReadAt, id: u32) -> Result<Option<SecurityId>, Error> {
        if let Some(known) = self.known.get(&id) {
            return Ok(Some(*known));
        }
        let Some(place) = self.places.get(&id).copied() else { return Ok(None) };
        for copy in [0, SDS_BLOCK_BYTES] {
            if let Some(descriptor) = self.read(source, &place, copy)? {
                let id_in_table = self.of(&descriptor);
                self.known.insert(id, id_in_table);
                return Ok(Some(id_in_table));
            }
        }
        Ok(None)
    }

    /// The place in the table of a descriptor.
    pub(crate) fn of(&mut self, descriptor: &[u8]) -> SecurityId {
        if let Some(known) = self.own.get(descriptor) {
            return *known;
        }
        let id = SecurityId(u32::try_from(self.table.len()).unwrap_or(u32::MAX));
        let descriptor: Arc<[u8]> = descriptor.into();
        self.table.push(Arc::clone(&descriptor));
        self.own.insert(descriptor, id);
        id
    }

    fn read(
        &self,
        source: &dyn ReadAt,
        place: &SecurityHeadDisk,
        copy: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let (offset, len) = (place.offset.get().saturating_add(copy), place.len.get());
        let is_inside = offset.checked_add(u64::from(len)).is_some_and(|end| end <= self.stream.size);
        if !is_inside || len > MAX_DESCRIPTOR_BYTES || at(len) <= SECURITY_HEAD_BYTES {
            return Ok(None);
        }
        let mut bytes = vec![0; at(len)];
        self.stream.read(source, offset, &mut bytes)?;
        let descriptor = bytes.split_off(SECURITY_HEAD_BYTES);
        let head = SecurityHeadDisk::read_from_prefix(&bytes).ok().map(|(head, _)| head);
        let is_whole = head.is_some_and(|head| head.id.get() == place.id.get())
            && security_hash(&descriptor) == place.hash.get();
        Ok((is_whole && wide(descriptor.len()) > 0).then_some(descriptor))
    }
}
