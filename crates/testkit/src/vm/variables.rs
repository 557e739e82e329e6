//! Variables of OVMF, written into its store before it starts: keys that an administrator has enrolled.
//!
//! A firmware volume with one store of authenticated variables (edk2, `MdeModulePkg/Include/Guid/VariableFormat.h`): a header for
//! the volume, one for the store, then variables one behind the other, each at a multiple of four.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// A variable to be set, or added to.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its vendor, as it stands on disk.
    pub vendor: [u8; 16],
    /// Non-volatile, boot services, ...
    pub attributes: u32,
    /// What is added to its value.
    pub value: Vec<u8>,
}

impl Variable {
    /// shim's list of keys, with a signature list in it.
    pub fn mok_list(list: Vec<u8>) -> Self {
        const SHIM_LOCK: u128 = 0x605d_ab50_e046_4300_abb6_3dd8_10dd_8b23;
        Self { name: "MokList".into(), vendor: from_printed(SHIM_LOCK), attributes: 3, value: list }
    }

    /// The firmware's list of keys that programs may be signed by, with a signature list more.
    pub fn db(list: Vec<u8>) -> Self {
        const SECURITY_DATABASE: u128 = 0xd719_b2cb_3d3a_4596_a3bc_dad0_0e67_656f;
        Self { name: "db".into(), vendor: from_printed(SECURITY_DATABASE), attributes: 0x27, value: list }
    }
}

fn from_printed(number: u128) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = number.to_be_bytes();
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// `gEfiAuthenticatedVariableGuid`.
const STORE: u128 = 0xaaf3_2c78_947b_439a_a180_2e14_4ec3_7792;
const STORE_HEADER_BYTES: usize = 28;
const VARIABLE_HEADER_BYTES: usize = 60;
const ADDED: u8 = 0x3f;
/// What is cleared in the state of a variable that has gone.
const DELETED: u8 = 0xfd;

/// Where a variable stands.
struct Place {
    at: usize,
    value: std::ops::Range<usize>,
}

/// Writes `variables` into the store in the file `path`.
pub(super) fn enrol(path: &Path, variables: &[Variable]) -> Result<()> {
    let mut store = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    for variable in variables {
        set(&mut store, variable)
            .with_context(|| format!("variable {} in {}", variable.name, path.display()))?;
    }
    std::fs::write(path, store).with_context(|| format!("cannot write {}", path.display()))
}

fn set(store: &mut [u8], variable: &Variable) -> Result<()> {
    let name: Vec<u8> = variable.name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let (old, free, end) = find(store, &name, &variable.vendor)?;
    let mut value = Vec::new();
    let mut header = [0; VARIABLE_HEADER_BYTES];
    header[..4].copy_from_slice(&[0xaa, 0x55, ADDED, 0]);
    header[4..8].copy_from_slice(&variable.attributes.to_le_bytes());
    if let Some(old) = old {
        value.extend_from_slice(&store[old.value]);
        // Time and count of the last change.
        header[8..32].copy_from_slice(&store[old.at + 8..old.at + 32]);
        store[old.at + 2] &= DELETED;
    }
    value.extend_from_slice(&variable.value);
    header[36..40].copy_from_slice(&u32::try_from(name.len())?.to_le_bytes());
    header[40..44].copy_from_slice(&u32::try_from(value.len())?.to_le_bytes());
    header[44..].copy_from_slice(&variable.vendor);
    let bytes = [&header[..], &name, &value].concat();
    ensure!(free + bytes.len() <= end, "no room for {} bytes", bytes.len());
    store[free..free + bytes.len()].copy_from_slice(&bytes);
    Ok(())
}

/// The variable, where the next one can stand, and the end of the store.
fn find(store: &[u8], name: &[u8], vendor: &[u8; 16]) -> Result<(Option<Place>, usize, usize)> {
    let number = |at: usize| -> Result<usize> {
        let raw = store.get(at..at + 4).context("the store ends early")?;
        Ok(usize::try_from(u32::from_le_bytes(raw.try_into()?))?)
    };
    ensure!(store.get(40..44) == Some(b"_FVH"), "no firmware volume");
    let start = number(48)? & 0xffff;
    ensure!(
        store.get(start..start + 16) == Some(&from_printed(STORE)[..]),
        "no store of authenticated variables"
    );
    let end = (start + number(start + 16)?).min(store.len());
    let mut at = (start + STORE_HEADER_BYTES).next_multiple_of(4);
    let mut found = None;
    while store.get(at..at + 2) == Some(&[0xaa, 0x55]) {
        let (name_len, value_len) = (number(at + 36)?, number(at + 40)?);
        let name_at = at + VARIABLE_HEADER_BYTES;
        let value = name_at + name_len..name_at + name_len + value_len;
        if value.end > end {
            bail!("a variable at {at:#x} is longer than the store");
        }
        let same = store[name_at..value.start] == *name && store[at + 44..at + 60] == vendor[..];
        if same && store[at + 2] == ADDED {
            found = Some(Place { at, value: value.clone() });
        }
        at = value.end.next_multiple_of(4);
    }
    Ok((found, at, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_added_to() {
        let Ok(mut store) = std::fs::read("/usr/share/OVMF/OVMF_VARS_4M.ms.fd") else {
            crate::skipped("no OVMF");
            return;
        };
        let name: Vec<u8> = "db\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let more = Variable::db(vec![7; 100]);
        let (old, ..) = find(&store, &name, &more.vendor).unwrap();
        let old = store[old.expect("Microsoft's keys").value].to_vec();
        set(&mut store, &more).unwrap();
        set(&mut store, &Variable::mok_list(vec![8; 5])).unwrap();
        let (new, ..) = find(&store, &name, &more.vendor).unwrap();
        assert!(store[new.unwrap().value] == [old, vec![7; 100]].concat());
        assert!(set(&mut store, &Variable::mok_list(vec![8; 1 << 20])).is_err(), "no room");
    }
}
