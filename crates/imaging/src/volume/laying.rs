//! The order of writes that makes a volume, whatever its contents come from: the old one is unmade, contents and metadata follow, boot sectors
//! come last. What a crash between leaves is said in the head of `volume`.

use gravure_model::Ctl;
use gravure_ntfs::{ResidentBytes, VolumePlan, Write};

use super::device::VolumeDevice;
use crate::Error;

/// A volume that is being made.
#[derive(Clone, Copy)]
pub(super) struct Laying<'a, 't> {
    plan: &'a VolumePlan<'t>,
    device: &'a dyn VolumeDevice,
}

impl<'a, 't> Laying<'a, 't> {
    pub(super) fn new(plan: &'a VolumePlan<'t>, device: &'a dyn VolumeDevice) -> Self {
        Self { plan, device }
    }

    /// No volume from here on; what it held is discarded.
    pub(super) fn unmake(self) -> Result<(), Error> {
        self.write(&self.plan.wipes())?;
        // A disk may discard before it writes: the old boot sector must not outlive what it leads to.
        self.sync()?;
        let whole = 0..self.device.size();
        self.device.discard(whole).map_err(Error::io("discard", self.device.name()))?;
        self.sync()
    }

    /// Everything but contents in clusters and boot sectors; contents, too, are durable afterwards.
    pub(super) fn metadata(self, resident: &dyn ResidentBytes, ctl: &Ctl) -> Result<(), Error> {
        for write in self.plan.metadata(resident) {
            ctl.check()?;
            self.write(&[write])?;
        }
        self.sync()
    }

    /// The volume is one from here on.
    pub(super) fn finish(self) -> Result<(), Error> {
        let [copy, boot] = self.plan.boot_sectors();
        for write in [copy, boot] {
            self.write(&[write])?;
            self.sync()?;
        }
        Ok(())
    }

    fn write(self, writes: &[Write]) -> Result<(), Error> {
        for write in writes {
            let written = self.device.write_all_at(write.offset, &write.bytes);
            written.map_err(Error::io("write", self.device.name()))?;
        }
        Ok(())
    }

    fn sync(self) -> Result<(), Error> {
        self.device.sync().map_err(Error::io("sync", self.device.name()))
    }
}
