//! The new system's entry in the firmware's boot list. The fallback path boots without it, so failing here is a warning.
//!
//! A machine that starts from the network first goes on to do so, or the server could no longer order anything for it: its
//! network entries stay at the head of `BootOrder`, and `BootNext` starts the new system without another way round.

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
const BOOT_NEXT: &str = "BootNext";
/// The entry this start came from.
const BOOT_CURRENT: &str = "BootCurrent";

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
            let (partition, loader) = self.restored_loader()?;
            LoadOption::for_file(&loader.title, &partition, &loader.path)?
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

        put_first(variables, number, ours.get(1..).unwrap_or_default())
    }
}

/// Puts entry `number` into the order, takes the entries `old` out of it and deletes them.
fn put_first(variables: &EfiVariables, number: u16, old: &[u16]) -> Result<(), StepError> {
    let read = |name: &str| -> Result<Vec<u16>, StepError> {
        Ok(variables.read(name, GLOBAL)?.map(|value| efi::parse_order(&value.data)).unwrap_or_default())
    };
    let order: Vec<u16> = read(BOOT_ORDER)?.into_iter().filter(|number| !old.contains(number)).collect();
    // What started this payload is kept at the head as well: not all firmware writes a network entry as such.
    let mut before = read(BOOT_CURRENT)?;
    before.truncate(1);
    for other in order.iter().filter(|other| **other != number) {
        let value = variables.read(&efi::boot_variable(*other), GLOBAL)?;
        if value.is_some_and(|value| LoadOption::parse(&value.data).is_ok_and(|entry| entry.is_network())) {
            before.push(*other);
        }
    }
    let order = efi::with_first_after(&order, number, |other| before.contains(&other));
    write(variables, BOOT_ORDER, efi::order_bytes(&order))?;
    if order.first() != Some(&number) {
        write(variables, BOOT_NEXT, efi::order_bytes(&[number]))?;
    }
    // Only now, so that the list never names an entry that is gone.
    for number in old {
        variables.delete(&efi::boot_variable(*number), GLOBAL)?;
    }
    Ok(())
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

    /// Entries as firmware makes them: `true` for the network.
    fn list(dir: &std::path::Path, entries: &[(u16, bool)], order: &[u16], current: u16) -> EfiVariables {
        std::fs::write(dir.join(format!("SecureBoot-{GLOBAL}")), [6, 0, 0, 0, 1]).unwrap();
        let variables = EfiVariables::at(dir).unwrap();
        for (number, is_network) in entries {
            let subkind = if *is_network { 11 } else { 18 };
            let node = efi::PathNode::Other { kind: 3, subkind, data: vec![0; 6] };
            let entry = LoadOption {
                attributes: 1,
                description: "x".into(),
                path: vec![node],
                optional_data: vec![],
            };
            write(&variables, &efi::boot_variable(*number), entry.to_bytes().unwrap()).unwrap();
        }
        write(&variables, BOOT_ORDER, efi::order_bytes(order)).unwrap();
        write(&variables, BOOT_CURRENT, efi::order_bytes(&[current])).unwrap();
        variables
    }

    fn numbers(variables: &EfiVariables, name: &str) -> Vec<u16> {
        let value = variables.read(name, GLOBAL).unwrap();
        value.map(|value| efi::parse_order(&value.data)).unwrap_or_default()
    }

    #[test]
    fn a_machine_that_starts_from_the_network_first_goes_on_to() {
        let dir = tempfile::tempdir().unwrap();
        let entries = [(0, false), (1, true), (2, true), (4, false), (7, false)];
        // As long as the new order: a file, unlike a variable, keeps the rest of a longer one.
        let variables = list(dir.path(), &entries, &[1, 2, 4, 0], 1);
        put_first(&variables, 7, &[4]).unwrap();
        assert_eq!(numbers(&variables, BOOT_ORDER), [1, 2, 7, 0]);
        assert_eq!(numbers(&variables, BOOT_NEXT), [7]);
        assert_eq!(variables.read("Boot0004", GLOBAL).unwrap(), None);
    }

    #[test]
    fn a_machine_that_starts_from_its_disk_first_starts_the_new_system() {
        let dir = tempfile::tempdir().unwrap();
        // Started from the network by hand: its place in the order is behind the disk's.
        let variables = list(dir.path(), &[(0, false), (1, true), (7, false)], &[0, 1], 1);
        put_first(&variables, 7, &[]).unwrap();
        assert_eq!(numbers(&variables, BOOT_ORDER), [7, 0, 1]);
        assert_eq!(variables.read(BOOT_NEXT, GLOBAL).unwrap(), None);
    }

    #[test]
    fn what_started_the_payload_stays_first_whatever_its_path_says() {
        let dir = tempfile::tempdir().unwrap();
        let variables = list(dir.path(), &[(3, false), (0, false), (7, false)], &[3, 9, 0], 3);
        put_first(&variables, 7, &[]).unwrap();
        assert_eq!(numbers(&variables, BOOT_ORDER), [3, 7, 9, 0]);
        assert_eq!(numbers(&variables, BOOT_NEXT), [7]);
    }

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
