//! The new system's entry in the firmware's boot list. The fallback path boots without it, so failing here is a warning.

use gravure_disk::efi::LoadOption;
use gravure_linux::efivars::{EfiValue, GLOBAL, NON_VOLATILE_BOOT_RUNTIME};
use gravure_model::plan::PartitionRole;

use super::{Run, partition_index};
use crate::failure::{StepError, chain, code};

const LOADER: &str = "\\EFI\\debian\\shimx64.efi";
const TITLE: &str = "debian";

impl Run<'_> {
    pub(super) fn firmware_entry(&mut self) -> Result<(), StepError> {
        if let Err(error) = self.enter_in_boot_list() {
            let message = format!("no entry in the firmware's boot list: {}; the fallback path starts the system", error.message);
            self.warn("firmware_entry", message);
        }
        Ok(())
    }

    fn enter_in_boot_list(&self) -> Result<(), StepError> {
        let missing = || StepError::new(code::NOT_FOUND, "firmware variables cannot be reached");
        let variables = self.machine.firmware.as_ref().ok_or_else(missing)?;
        let index = partition_index(self.partitions, PartitionRole::Esp)?;
        let part = self.target()?.layout.partitions.get(index).ok_or_else(missing)?;
        let option = LoadOption::file_on_partition(TITLE, part, LOADER);
        let wanted = option.to_bytes()?;
        let order = read_order(variables.read("BootOrder", GLOBAL)?.map(|value| value.data).as_deref());

        // Our own old entries (same title and file) go, so that re-deploying does not fill the list.
        let mut free = None;
        let mut ours = None;
        for number in 0..=u16::MAX {
            let name = entry_name(number);
            match variables.read(&name, GLOBAL)? {
                None => {
                    free = free.or(Some(number));
                    // Firmware numbers from 0 upwards; a gap of 64 is the end of its list.
                    if number > free.unwrap_or(0).saturating_add(64) {
                        break;
                    }
                }
                Some(value) => {
                    let Ok(found) = LoadOption::parse(&value.data) else { continue };
                    if found.is_same_loader(&option) {
                        match ours {
                            None => ours = Some(number),
                            Some(_) => variables.delete(&name, GLOBAL)?,
                        }
                    }
                }
            }
        }
        let number = ours.or(free).ok_or_else(|| StepError::new(code::FAILED, "the boot list is full"))?;
        let value = EfiValue { attributes: NON_VOLATILE_BOOT_RUNTIME, data: wanted };
        variables.write(&entry_name(number), GLOBAL, &value)?;
        let mut new_order = vec![number];
        new_order.extend(order.into_iter().filter(|other| *other != number));
        let data = new_order.iter().flat_map(|number| number.to_le_bytes()).collect();
        let value = EfiValue { attributes: NON_VOLATILE_BOOT_RUNTIME, data };
        variables.write("BootOrder", GLOBAL, &value).map_err(|error| StepError::new(code::IO, chain(&error)))
    }
}

fn entry_name(number: u16) -> String {
    format!("Boot{number:04X}")
}

fn read_order(data: Option<&[u8]>) -> Vec<u16> {
    let pairs = data.unwrap_or_default().chunks_exact(2);
    pairs.map(|pair| u16::from_le_bytes([pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_order_is_a_list_of_little_endian_numbers() {
        assert_eq!(read_order(Some(&[1, 0, 0x0a, 0x10, 7])), [1, 0x100a]);
        assert_eq!(read_order(None), Vec::<u16>::new());
        assert_eq!(entry_name(0x1f), "Boot001F");
    }
}
