//! Contents on their way to their places.

use std::sync::{Mutex, PoisonError};

use gravure_ntfs::{Part, Piece, Place, VolumePlan};
use gravure_tree::NodeId;

use super::compact::Compaction;
use super::device::VolumeDevice;
use super::residents::Residents;
use crate::reading::Target;
use crate::uses::{self, Use};
use crate::volume::verify::CopiedPart;
use crate::{Error, ErrorKind};

/// Zeros behind a content that came in pieces.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A volume that takes contents from many threads.
pub(super) struct VolumeTarget<'a, 't> {
    plan: &'a VolumePlan<'t>,
    compaction: &'a Compaction,
    device: &'a dyn VolumeDevice,
    residents: Residents,
    /// Copied bytes as they were written, for reading back; `None` when nobody does.
    copied: Option<Mutex<Vec<CopiedPart>>>,
}

impl<'a, 't> VolumeTarget<'a, 't> {
    /// With `notes_copied` it is noted what was copied where.
    pub(super) fn new(
        plan: &'a VolumePlan<'t>,
        compaction: &'a Compaction,
        device: &'a dyn VolumeDevice,
        notes_copied: bool,
    ) -> Self {
        let copied = notes_copied.then(Mutex::default);
        Self { plan, compaction, device, residents: Residents::new(plan.resident_bytes()), copied }
    }

    /// Takes out what was noted of copied bytes.
    pub(super) fn take_copied(&self) -> Vec<CopiedPart> {
        let noted = self.copied.as_ref();
        noted
            .map(|noted| std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner)))
            .unwrap_or_default()
    }

    /// What stands in file records.
    pub(super) fn residents(&self) -> &Residents {
        &self.residents
    }

    /// Whether a content is to be read. What is compressed anew comes another way.
    pub(super) fn wants(&self, wanted: Use) -> bool {
        let is_recoded = wanted.part == uses::Part::Data && self.compaction.is_recoded(wanted.node);
        !is_recoded && !matches!(place(self.plan, wanted), None | Some(Place::Empty))
    }

    /// Whether stored bytes are wanted, not what they decode to.
    pub(super) fn copies(&self, wanted: Use) -> bool {
        matches!(place(self.plan, wanted), Some(Place::Compressed { .. }))
    }

    /// Writes what `pieces` take of the bytes that stand at `offset` in the content.
    fn write_pieces(&self, pieces: &[Piece], offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = offset + bytes.len() as u64;
        for piece in pieces {
            let (from, to) = (piece.pos.max(offset), piece.pos.saturating_add(piece.allocated).min(end));
            if from < to {
                let at = |pos: u64| usize::try_from(pos - offset).unwrap_or(usize::MAX);
                self.write(piece.offset + (from - piece.pos), &bytes[at(from)..at(to)])?;
            }
        }
        Ok(())
    }

    /// Writes zeros where clusters go on behind the end of a content of `size` bytes.
    fn fill_up(&self, pieces: &[Piece], size: u64) -> Result<(), Error> {
        for piece in pieces {
            let mut at = size.saturating_sub(piece.pos);
            while at < piece.allocated {
                let step = usize::try_from(piece.allocated - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
                self.write(piece.offset + at, &ZEROS[..step])?;
                at += step as u64;
            }
        }
        Ok(())
    }

    /// Writes zeros where a content would stand of which nothing can be read. What stands in file records is zero already.
    pub(super) fn blank(&self, uses: &[Use]) -> Result<(), Error> {
        for wanted in uses {
            match place(self.plan, *wanted) {
                Some(Place::Clusters { offset, allocated }) => {
                    self.fill_up(&[Piece { pos: 0, offset, allocated }], 0)?;
                }
                Some(Place::Pieces) => self.fill_up(&self.plan.pieces(wanted.node), 0)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.device.write_all_at(offset, bytes).map_err(Error::io("write", self.device.name()))
    }
}

/// Where a content goes.
pub(super) fn place(plan: &VolumePlan<'_>, wanted: Use) -> Option<Place> {
    let part = match wanted.part {
        uses::Part::Data => Part::Data,
        uses::Part::Named(index) => Part::Named(index),
        uses::Part::Reparse => Part::Reparse,
        uses::Part::Efs => return None,
    };
    plan.place_of(wanted.node, part)
}

impl Target for VolumeTarget<'_, '_> {
    /// A content with the zeros behind it.
    type Handles = Vec<u8>;
    /// Where the content is on the volume, for each use what there is of it.
    type Open = Vec<Piece>;

    fn handles(&self) -> Vec<u8> {
        Vec::new()
    }

    fn whole(&self, buffer: &mut Vec<u8>, uses: &[Use], bytes: &[u8]) -> Result<(), Error> {
        buffer.clear();
        for wanted in uses {
            match place(self.plan, *wanted) {
                Some(Place::Resident { slot }) => self.residents.put(slot, bytes),
                Some(Place::Clusters { offset, allocated }) => {
                    if buffer.is_empty() {
                        buffer.extend_from_slice(bytes);
                    }
                    // Uses may differ in what follows: a sparse file is allocated in larger units.
                    buffer.resize(usize::try_from(allocated).unwrap_or(bytes.len()), 0);
                    self.write(offset, buffer)?;
                }
                Some(Place::Pieces) => {
                    let pieces = self.plan.pieces(wanted.node);
                    self.write_pieces(&pieces, 0, bytes)?;
                    self.fill_up(&pieces, bytes.len() as u64)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&self, _buffer: &mut Vec<u8>, uses: &[Use]) -> Result<Vec<Piece>, Error> {
        let mut places = Vec::with_capacity(uses.len());
        for wanted in uses {
            match place(self.plan, *wanted) {
                Some(Place::Clusters { offset, allocated }) => {
                    places.push(Piece { pos: 0, offset, allocated })
                }
                Some(Place::Pieces) => places.extend(self.plan.pieces(wanted.node)),
                // Its stored bytes come by themselves.
                Some(Place::Compressed { .. }) => {}
                other => {
                    return Err(Error::Other {
                        what: format!("a large content has no clusters but {other:?}"),
                        source: "plan and contents differ".into(),
                        kind: ErrorKind::Failed,
                    });
                }
            }
        }
        Ok(places)
    }

    fn piece(&self, _uses: &[Use], places: &Vec<Piece>, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_pieces(places, offset, bytes)
    }

    fn finish(
        &self,
        _buffer: &mut Vec<u8>,
        _uses: &[Use],
        places: &Vec<Piece>,
        size: u64,
    ) -> Result<(), Error> {
        self.fill_up(places, size)
    }

    fn stored(&self, buffer: &mut Vec<u8>, uses: &[Use], from: u64, bytes: &[u8]) -> Result<(), Error> {
        let len = bytes.len() as u64;
        let mut digest = None;
        for wanted in uses {
            let Some(Place::Compressed { offset, allocated, stored_bytes }) = place(self.plan, *wanted)
            else {
                continue;
            };
            let end = from.saturating_add(len);
            if end > stored_bytes {
                return Err(Error::Other {
                    what: format!("a compressed content of {stored_bytes} bytes has {end}"),
                    source: "plan and contents differ".into(),
                    kind: ErrorKind::Failed,
                });
            }
            if end < stored_bytes {
                self.write(offset + from, bytes)?;
            } else {
                buffer.clear();
                buffer.extend_from_slice(bytes);
                buffer.resize(usize::try_from(allocated - from).unwrap_or(bytes.len()), 0);
                self.write(offset + from, buffer)?;
            }
            if let Some(copied) = &self.copied {
                let blake3 = *digest.get_or_insert_with(|| *blake3::hash(bytes).as_bytes());
                let part = CopiedPart { offset: offset + from, len, node: wanted.node, blake3 };
                copied.lock().unwrap_or_else(PoisonError::into_inner).push(part);
            }
        }
        Ok(())
    }

    fn node(&self, _buffer: &mut Vec<u8>, _node: NodeId) -> Result<(), Error> {
        Ok(())
    }
}
