//! What the machine starts with: devices of the boot store, keys of the firmware, the recovery volume.

use gravure_disk::guid;
use gravure_disk::identity::print_uuid;
use gravure_hive::bcd::{Device, StoreIds};
use gravure_linux::efivars::GLOBAL;
use gravure_model::plan::PartitionRole;
use gravure_nttypes::{FileAttributes, FileTime, Guid, NtName};
use gravure_tree::{Node, Times, Tree};
use gravure_windows::System;
use gravure_windows::boot::{Authorities, BootFile, BootOptions, SecureBoot, is_hidden};

use crate::execute::{Run, partition_index};
use crate::failure::{StepError, code};

/// `EFI_IMAGE_SECURITY_DATABASE_GUID`: where `db` and `dbx` are.
const SECURITY_DATABASE: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/// BLAKE3 context of the boot store's objects.
const STORE_OBJECT: &str = "gravure-deploy v1 boot store object";

impl Run<'_> {
    pub(super) fn boot_options(&self, system: &System, locale: String) -> Result<BootOptions, StepError> {
        let has_recovery = self.partitions.iter().any(|part| part.role == PartitionRole::Recovery);
        let recovery = has_recovery.then(|| self.boot_device(PartitionRole::Recovery)).transpose()?;
        Ok(BootOptions {
            system: self.boot_device(match self.is_bios_windows() {
                true => PartitionRole::System,
                false => PartitionRole::Esp,
            })?,
            windows: self.boot_device(PartitionRole::Windows)?,
            recovery,
            description: system.product_name.clone().unwrap_or_else(|| "Windows".to_owned()),
            locale,
            ids: StoreIds {
                loader: self.object(0),
                resume: self.object(1),
                recovery: self.object(2),
                ramdisk: self.object(3),
            },
            secure_boot: self.secure_boot()?,
            arch: system.arch,
            now: self.now(),
        })
    }

    /// A partition as boot store and registry name it.
    pub(super) fn boot_device(&self, role: PartitionRole) -> Result<Device, StepError> {
        let layout = &self.target()?.layout;
        let part = layout.partitions.get(partition_index(self.partitions, role)?);
        let missing = || StepError::new(code::REFUSED, format!("the layout has no {role:?} partition"));
        let part = part.ok_or_else(missing)?;
        Ok(if self.is_bios_windows() {
            Device::Mbr { signature: self.identity.mbr_signature(), offset: part.range.start }
        } else {
            Device::Gpt { disk: layout.disk_guid, partition: part.unique_guid }
        })
    }

    /// GUID of an object of the boot store: of the plan's seed, so that a retry is identical.
    fn object(&self, number: u8) -> Guid {
        let mut hasher = blake3::Hasher::new_derive_key(STORE_OBJECT);
        hasher.update(print_uuid(self.identity.volume_uuid(0)).as_bytes()).update(&[number]);
        let mut uuid = [0; 16];
        uuid.copy_from_slice(hasher.finalize().as_bytes().get(..16).unwrap_or(&[0; 16]));
        // RFC 9562 version 8, in printing order.
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        guid::from_printed(uuid)
    }

    /// Which of Windows' authorities the firmware trusts; it may not say.
    fn secure_boot(&self) -> Result<SecureBoot, StepError> {
        let Some(variables) = &self.machine.firmware else { return Ok(SecureBoot::default()) };
        let keys = |name: &str| -> Result<Option<Authorities>, StepError> {
            let value = variables.read(name, SECURITY_DATABASE)?;
            Ok(value.map(|value| Authorities::parse(&value.data)).transpose()?)
        };
        let state = variables.read("SecureBoot", GLOBAL)?;
        Ok(SecureBoot {
            db: keys("db")?,
            dbx: keys("dbx")?,
            is_enforced: state.is_some_and(|value| value.data == [1]),
        })
    }
}

/// A tree of the files alone.
pub(super) fn tree_of(files: &[BootFile], now: FileTime) -> Result<Tree, StepError> {
    let times = Times { created: now, accessed: now, written: now };
    let directory = || Node {
        attributes: FileAttributes::DIRECTORY,
        children: Some(Vec::new()),
        times,
        ..Node::default()
    };
    // As Windows' own setup leaves the boot manager of BIOS machines.
    let hidden = |path: &str| match is_hidden(path) {
        true => FileAttributes::HIDDEN | FileAttributes::SYSTEM,
        false => FileAttributes::default(),
    };
    let failed =
        |path: &str, error: gravure_tree::TreeError| StepError::new(code::FAILED, format!("{path}: {error}"));
    let mut tree = Tree::new(directory());
    for BootFile { path, content } in files {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = tree.root();
        for part in above.split('/').filter(|part| !part.is_empty()) {
            let name = NtName::from(part);
            at = match tree.child(at, &name).map(|entry| entry.node) {
                Some(node) => node,
                None => {
                    let mut node = directory();
                    if at == tree.root() {
                        node.attributes |= hidden(part);
                    }
                    tree.add(at, name, node).map_err(|error| failed(path, error))?
                }
            };
        }
        let node = Node {
            attributes: FileAttributes::ARCHIVE | hidden(path),
            data: Some(content.clone()),
            times,
            ..Node::default()
        };
        tree.add(at, NtName::from(name), node).map_err(|error| failed(path, error))?;
    }
    Ok(tree)
}
