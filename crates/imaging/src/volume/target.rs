//! Contents on their way to their places.

use gravure_ntfs::{Part, Place, VolumePlan};
use gravure_tree::NodeId;

use super::device::VolumeDevice;
use super::residents::Residents;
use crate::reading::Target;
use crate::uses::{self, Use};
use crate::{Error, ErrorKind};

/// Zeros behind a content that came in pieces.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A volume that takes contents from many threads.
pub(super) struct VolumeTarget<'a, 't> {
    plan: &'a VolumePlan<'t>,
    device: &'a dyn VolumeDevice,
    residents: Residents,
}

impl<'a, 't> VolumeTarget<'a, 't> {
    pub(super) fn new(plan: &'a VolumePlan<'t>, device: &'a dyn VolumeDevice) -> Self {
        Self { plan, device, residents: Residents::new(plan.resident_bytes()) }
    }

    /// What stands in file records.
    pub(super) fn residents(&self) -> &Residents {
        &self.residents
    }

    /// Whether a content is to be decoded; compressed ones are copied.
    pub(super) fn wants(&self, wanted: Use) -> bool {
        matches!(place(self.plan, wanted), Some(Place::Resident { .. } | Place::Clusters { .. }))
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
    /// Offset and bytes of clusters for each use.
    type Open = Vec<(u64, u64)>;

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
                _ => {}
            }
        }
        Ok(())
    }

    fn open(&self, _buffer: &mut Vec<u8>, uses: &[Use]) -> Result<Vec<(u64, u64)>, Error> {
        let mut places = Vec::with_capacity(uses.len());
        for wanted in uses {
            match place(self.plan, *wanted) {
                Some(Place::Clusters { offset, allocated }) => places.push((offset, allocated)),
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

    fn piece(&self, _uses: &[Use], places: &Vec<(u64, u64)>, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        places.iter().try_for_each(|(start, _)| self.write(start + offset, bytes))
    }

    fn finish(
        &self,
        _buffer: &mut Vec<u8>,
        _uses: &[Use],
        places: &Vec<(u64, u64)>,
        size: u64,
    ) -> Result<(), Error> {
        for (start, allocated) in places {
            let mut at = size;
            while at < *allocated {
                let step = usize::try_from(allocated - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
                self.write(start + at, &ZEROS[..step])?;
                at += step as u64;
            }
        }
        Ok(())
    }

    fn node(&self, _buffer: &mut Vec<u8>, _node: NodeId) -> Result<(), Error> {
        Ok(())
    }
}
