//! The new system's entry in the firmware's boot list. The fallback path boots without it, so failing here is a warning.

use gravure_disk::efi::{self, LoadOption};
use gravure_linux::efivars::{EfiValue, EfiVariables, GLOBAL, NON_VOLATILE_BOOT_RUNTIME};
use gravure_model::plan::PartitionRole;

use super::{Run, partition_index};
use crate::failure::{StepError, chain, code};

const LOADER: &str = "/EFI/debian/shimx64.efi";
const TITLE: &str = "debian";
/// As Windows' own setup calls it: firmware and tools know it by that name.
const WINDOWS_TITLE: &str = "Windows Boot Manager";
const BOOT_ORDER: &str = "BootOrder";

impl Run<'_> {
    pub(super) fn firmware_entry(&mut self) -> Result<(), StepError> {
        if let Err(error) = self.enter_in_boot_list() {
            let message = format!(
                "no entry in the firmware's boot list: {}; the fallback path starts the system",
                error.message
            );
            self.warn("firmware_entry", message);
        }
        Ok(())
    }

    fn enter_in_boot_list(&self) -> Result<(), StepError> {
        let missing = |what: &str| StepError::new(code::NOT_FOUND, what);
        let variables = self.machine.firmware.as_ref();
        let variables = variables.ok_or_else(|| missing("firmware variables cannot be reached"))?;
        let option = if self.partitions.is_empty() {
            let (partition, loader, title) = self.restored_loader()?;
            LoadOption::for_file(title, &partition, loader)?
        } else {
            let index = partition_index(self.partitions, PartitionRole::Esp)?;
            let partition = self.target()?.layout.partitions.get(index);
            let partition = partition.ok_or_else(|| missing("the layout has no EFI system partition"))?;
            match &self.serviced {
                Some(windows) => LoadOption {
                    optional_data: windows.start.load_option_data.clone(),
                    ..LoadOption::for_file(WINDOWS_TITLE, partition, &windows.start.loader)?
                },
                None => LoadOption::for_file(TITLE, partition, LOADER)?,
            }
        };

        let names = variables.list()?.into_iter().filter(|(_, guid)| guid == GLOBAL);
        let taken: Vec<u16> = names.filter_map(|(name, _)| efi::boot_number(&name)).collect();
        let ours = own_entries(variables, &taken, &option)?;
        let number = ours.first().copied().or_else(|| efi::free_number(&taken));
        let number = number.ok_or_else(|| missing("the boot list is full"))?;
        write(variables, &efi::boot_variable(number), option.to_bytes()?)?;

        let order = variables
            .read(BOOT_ORDER, GLOBAL)?
            .map(|value| efi::parse_order(&value.data))
            .unwrap_or_default();
        let old = ours.get(1..).unwrap_or_default();
        let kept: Vec<u16> = order.into_iter().filter(|number| !old.contains(number)).collect();
        write(variables, BOOT_ORDER, efi::order_bytes(&efi::with_first(&kept, number)))?;
        // Only now, so that the list never names an entry that is gone.
        for number in old {
            variables.delete(&efi::boot_variable(*number), GLOBAL)?;
        }
        Ok(())
    }
}

/// Entries that earlier deployments left: same title, same file. One is used again, so that deploying a machine often
/// does not fill its boot list.
fn own_entries(variables: &EfiVariables, taken: &[u16], option: &LoadOption) -> Result<Vec<u16>, StepError> {
    let mut ours = Vec::new();
    for number in taken {
        let Some(value) = variables.read(&efi::boot_variable(*number), GLOBAL)? else { continue };
        // What cannot be parsed is not ours.
        if LoadOption::parse(&value.data).is_ok_and(|found| found.is_same_loader(option)) {
            ours.push(*number);
        }
    }
    Ok(ours)
}

fn write(variables: &EfiVariables, name: &str, data: Vec<u8>) -> Result<(), StepError> {
    let value = EfiValue { attributes: NON_VOLATILE_BOOT_RUNTIME, data };
    variables.write(name, GLOBAL, &value).map_err(|error| StepError::new(code::IO, chain(&error)))
}

#[cfg(test)]
mod tests {
    use gravure_disk::{DiskShape, Identity, Layout, PartitionRequest, PartitionSize, Role};

    use super::*;

    #[test]
    fn entries_of_earlier_deployments_are_found_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let request =
            PartitionRequest { role: Role::Esp, size: PartitionSize::Bytes(64 << 20), name: "ESP".into() };
        let shape = DiskShape { size_bytes: 1 << 30, sector_bytes: 512 };
        let layout = |seed| {
            Layout::compute(shape, &Identity::new([seed; 32]), std::slice::from_ref(&request)).unwrap()
        };
        let option =
            |seed, title, file| LoadOption::for_file(title, &layout(seed).partitions[0], file).unwrap();
        std::fs::write(dir.path().join(format!("Other-{GLOBAL}")), [7, 0, 0, 0, 1]).unwrap();
        let variables = EfiVariables::at(dir.path()).unwrap();
        write(&variables, "Boot0000", option(1, "Windows", "/EFI/x.efi").to_bytes().unwrap()).unwrap();
        write(&variables, "Boot0003", option(1, TITLE, LOADER).to_bytes().unwrap()).unwrap();
        write(&variables, "Boot0005", vec![1, 2, 3]).unwrap();
        let ours = own_entries(&variables, &[0, 3, 5], &option(2, TITLE, LOADER)).unwrap();
        assert_eq!(ours, [3]);
    }
}
