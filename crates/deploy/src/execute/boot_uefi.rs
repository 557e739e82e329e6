//! The EFI system partition: unmodified, signed shim and GRUB out of the deployed system, under the name firmware falls
//! back to and under the distribution's own.

use gravure_disk::fat::{FatBuilder, FatOptions, FatTime};
use gravure_io::{ReadAt, Window};
use gravure_linux::{BlockDevice, Dir};
use gravure_model::plan::PartitionRole;

use super::root::RootEditor;
use super::{Run, grub, partition_index};
use crate::failure::{StepError, code};
use crate::planner::ESP_LABEL;

/// Where the signed programs are in a Debian system, first match wins, and what they are called on the partition.
const PROGRAMS: [(&str, &[&str], bool); 3] = [
    ("shimx64.efi", &["usr/lib/shim/shimx64.efi.signed"], true),
    ("grubx64.efi", &["usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"], true),
    // MokManager: only for sites that enrol keys of their own.
    ("mmx64.efi", &["usr/lib/shim/mmx64.efi.signed", "usr/lib/shim/mmx64.efi"], false),
];

/// A file of the EFI system partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EspFile {
    pub(super) path: String,
    pub(super) content: Vec<u8>,
}

impl Run<'_> {
    pub(super) fn install_uefi_boot(&mut self) -> Result<u64, StepError> {
        let root = RootEditor::new(Dir::open_root(&self.machine.mount_point)?);
        let mut files = Vec::new();
        for (name, sources, required) in PROGRAMS {
            let mut content = None;
            for source in sources {
                content = content.or(root.read(source)?);
            }
            match content {
                Some(content) => {
                    let fallback = if name == "shimx64.efi" { "BOOTX64.EFI" } else { name };
                    files.push(EspFile { path: format!("EFI/BOOT/{fallback}"), content: content.clone() });
                    files.push(EspFile { path: format!("EFI/debian/{name}"), content });
                }
                None if required => {
                    let message = format!("the image has no {name}: expected /{}", sources.join(" or /"));
                    return Err(StepError::new(code::NOT_FOUND, message)
                        .with_cure("put the packages shim-signed and grub-efi-amd64-signed into the image"));
                }
                None => {}
            }
        }
        // The signed GRUB's built-in prefix is /EFI/debian, wherever it was started from.
        let stub = grub::esp_stub(&self.root_uuid()?).into_bytes();
        files.push(EspFile { path: "EFI/debian/grub.cfg".into(), content: stub });
        self.write_esp(files)
    }

    /// Writes the partition whole, and keeps the files for reading back.
    pub(super) fn write_esp(&mut self, files: Vec<EspFile>) -> Result<u64, StepError> {
        let bytes = files.iter().map(|file| file.content.size()).sum();
        let device = BlockDevice::open_rw(&self.partition_device(PartitionRole::Esp)?)?;
        self.with_esp(&files, |image| Ok(image.write(&device)?))?;
        self.esp_files = files;
        Ok(bytes)
    }

    /// Reads the partition back past the cache and compares every file.
    pub(super) fn verify_esp(&self) -> Result<u64, StepError> {
        if self.esp_files.is_empty() {
            return Ok(0);
        }
        let path = self.partition_device(PartitionRole::Esp)?;
        BlockDevice::open_rw(&path)?.drop_cache()?;
        let device = BlockDevice::open_direct(&path)?;
        self.with_esp(&self.esp_files, |image| Ok(image.verify(&Window::new(&device, 0, device.size()))?))?;
        Ok(u64::try_from(self.esp_files.len()).unwrap_or(u64::MAX))
    }

    /// Lays the volume out; the same files give the same bytes.
    fn with_esp<T>(
        &self,
        files: &[EspFile],
        use_image: impl FnOnce(gravure_disk::fat::FatImage<'_>) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let index = partition_index(self.partitions, PartitionRole::Esp)?;
        let layout = &self.target()?.layout;
        let missing = || StepError::new(code::REFUSED, "the layout has no EFI system partition");
        let part = layout.partitions.get(index).ok_or_else(missing)?;
        let mut builder = FatBuilder::new(FatOptions {
            size_bytes: part.size_bytes(),
            sector_bytes: layout.shape.sector_bytes,
            hidden_sectors: part.first_lba,
            serial: self.identity.fat_serial(part.index()),
            label: ESP_LABEL.into(),
            time: FatTime::from_unix(self.plan.created.seconds()),
        })?;
        for file in files {
            builder.add_file(&file.path, &file.content)?;
        }
        use_image(builder.finish()?)
    }
}
