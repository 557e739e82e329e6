//! The last write: boot sector and partition table. From here on the disk looks bootable.

use gravure_disk::TableImage;
use gravure_disk::boot_code::BootCode;
use gravure_disk::mbr::MbrOptions;
use gravure_linux::BlockDevice;
use gravure_model::plan::PartitionRole;

use super::disk::sync;
use super::{Run, partition_index};
use crate::failure::{StepError, code};

impl Run<'_> {
    pub(super) fn write_table(&mut self) -> Result<(), StepError> {
        if self.compared.is_none() {
            return Err(StepError::new(
                code::REFUSED,
                "nothing was verified; the partition table is not written",
            ));
        }
        let target = self.target()?;
        let table = match self.serviced.as_ref().and_then(|windows| windows.start.boot_code.as_ref()) {
            Some(boot_code) => self.classic_table(boot_code)?,
            None => {
                let boot_code = self.bios.as_ref().map(|placement| &placement.boot_code);
                TableImage::new(&target.layout, boot_code)
            }
        };
        let device_path = target.disk.device.clone();
        self.table_written = true;
        let target = self.target()?;
        table.write(&target.device)?;
        sync(&target.device)?;
        target.device.drop_cache()?;
        // Past the page cache: what comes back is what the disk has.
        table.verify(&BlockDevice::open_direct(&device_path)?)?;
        Ok(())
    }

    /// The MBR from which a BIOS starts Windows: captured code, and a table with the partition of the boot manager active.
    fn classic_table(&self, boot_code: &BootCode) -> Result<TableImage, StepError> {
        let index = partition_index(self.partitions, PartitionRole::System)?;
        let active = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        let signature = self.identity.mbr_signature();
        let options = MbrOptions { signature, boot_code: &boot_code.of_disk(), active };
        Ok(TableImage::classic(&self.target()?.layout, options)?)
    }
}
