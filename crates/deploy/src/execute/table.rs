//! The last write: boot sector and partition table. From here on the disk looks bootable.

use gravure_disk::TableImage;
use gravure_linux::BlockDevice;

use super::Run;
use super::disk::sync;
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
        let boot_code = self.bios.as_ref().map(|placement| &placement.boot_code);
        let table = TableImage::new(&target.layout, boot_code);
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
}
