//! GRUB for BIOS machines: the core image into its own partition; the boot code waits for the last write.

use gravure_disk::bios;
use gravure_io::{ReadAt, WriteAt};
use gravure_linux::{BlockDevice, Dir};
use gravure_model::plan::PartitionRole;

use super::disk::sync;
use super::root::RootEditor;
use super::{Run, partition_index};
use crate::failure::{StepError, code};

const BOOT_IMG: &str = "boot/grub/i386-pc/boot.img";
const CORE_IMG: &str = "boot/grub/i386-pc/core.img";

impl Run<'_> {
    pub(super) fn install_bios_boot(&mut self) -> Result<u64, StepError> {
        let root = RootEditor::new(Dir::open_root(&self.machine.mount_point)?);
        let need = |path: &str| {
            root.read(path)?.ok_or_else(|| {
                StepError::new(code::NOT_FOUND, format!("the image has no /{path}"))
                    .with_cure("build the image with GRUB for BIOS, as images/debian-minimal.toml does")
            })
        };
        let (boot_img, core_img) = (need(BOOT_IMG)?, need(CORE_IMG)?);
        let index = partition_index(self.partitions, PartitionRole::BiosBoot)?;
        let layout = &self.target()?.layout;
        let missing = || StepError::new(code::REFUSED, "the layout has no BIOS boot partition");
        let part = layout.partitions.get(index).ok_or_else(missing)?;
        let placement = bios::place_grub(&boot_img, &core_img, part, layout.shape.sector_bytes)?;
        let device = BlockDevice::open_rw(&self.partition_device(PartitionRole::BiosBoot)?)?;
        let write = device.write_all_at(0, &placement.core);
        write.map_err(|error| StepError::new(code::IO, format!("write GRUB's core image: {error}")))?;
        sync(&device)?;
        let bytes = placement.core.size();
        self.bios = Some(placement);
        Ok(bytes)
    }

    /// Reads the core image back past the cache.
    pub(super) fn verify_bios(&self) -> Result<u64, StepError> {
        let Some(placement) = &self.bios else { return Ok(0) };
        let path = self.partition_device(PartitionRole::BiosBoot)?;
        BlockDevice::open_rw(&path)?.drop_cache()?;
        let found = BlockDevice::open_direct(&path)?.read_vec_at(0, placement.core.len());
        let found =
            found.map_err(|error| StepError::new(code::IO, format!("read GRUB's core image: {error}")))?;
        if let Some(at) = found.iter().zip(&placement.core).position(|(found, wanted)| found != wanted) {
            let message = format!("GRUB's core image differs from what was written at {at:#x}");
            return Err(StepError::new(code::INTEGRITY, message));
        }
        Ok(1)
    }
}
