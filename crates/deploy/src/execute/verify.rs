//! Reading everything back from the disk and comparing it with the image, before the disk may look bootable.

use std::collections::HashMap;
use std::process::Command;

use gravure_imaging::VerifyOptions;
use gravure_linux::mount::MountOptions;
use gravure_linux::{Dir, block};
use gravure_model::plan::PartitionRole;

use super::disk::{run_tool, sync};
use super::image::from_imaging;
use super::root::RootEditor;
use super::{Change, Expected, Run};
use crate::failure::{StepError, code};

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Run<'_> {
    pub(super) fn verify(&mut self, stage: &str) -> Result<u64, StepError> {
        let root = PartitionRole::Root;
        self.unmount()?;
        let device = self.target()?.device.path().to_owned();
        sync(&self.target()?.device)?;
        // Nothing that is compared below may come out of memory.
        block::sync_all();
        self.target()?.device.drop_cache()?;
        block::drop_caches()?;
        let partition = self.partition_device(root)?;
        let mut check = Command::new(&self.machine.e2fsck);
        check.args(["-f", "-n"]).arg(&partition);
        run_tool(check)?;
        block::drop_caches()?;

        self.mount(root, MountOptions { read_only: true, data: "noload", ..MountOptions::default() })?;
        let image = self.image.take().ok_or_else(|| StepError::new(code::REFUSED, "no image was applied"))?;
        let changed: HashMap<&str, &Change> =
            self.changes.iter().map(|change| (change.path.as_str(), change)).collect();
        let is_changed = |path: &str| changed.contains_key(path.trim_start_matches('/'));
        let options = VerifyOptions { stage: stage.to_owned(), except: &is_changed };
        let report = gravure_imaging::verify_directory(
            &image,
            &self.machine.mount_point,
            &options,
            self.ctl,
            self.observer,
        )
        .map_err(from_imaging)?;
        let ours = self.verify_changes()?;
        let boot = self.verify_esp()?.saturating_add(self.verify_bios()?);
        self.unmount()?;
        tracing::debug!(disk = %device.display(), files = report.files, "compared");
        let files = report.files.saturating_add(ours).saturating_add(boot);
        self.compared = Some(Compared { files, bytes: report.bytes });
        Ok(report.bytes)
    }

    /// What the personality changed is compared with what it was meant to be.
    pub(super) fn verify_changes(&self) -> Result<u64, StepError> {
        self.verify_changes_in(&RootEditor::new(Dir::open_root(&self.machine.mount_point)?))
    }

    /// The same in a system that is not all of a file system.
    pub(super) fn verify_changes_in(&self, root: &RootEditor) -> Result<u64, StepError> {
        compare(&self.changes, root)
    }
}

/// Holds what stands in a system against what was written; how many files were compared.
pub(super) fn compare(changes: &[Change], root: &RootEditor) -> Result<u64, StepError> {
    let mut count = 0u64;
    for Change { path, content } in changes {
        let (wanted, found) = match content {
            Expected::Gone if root.has(path)? => {
                let message = format!("/{path}: expected nothing, as it was removed; it is there");
                return Err(StepError::new(code::INTEGRITY, message));
            }
            Expected::Any | Expected::Gone => continue,
            Expected::Bytes(wanted) => {
                let found = root.read(path)?;
                if found.as_ref() == Some(wanted) {
                    count = count.saturating_add(1);
                    continue;
                }
                (len_of(wanted), found.map(|bytes| len_of(&bytes)))
            }
            Expected::Hash { bytes, blake3, mode } => {
                let found = root.hash(path)?;
                if found == Some((*bytes, *blake3)) {
                    compare_mode(path, *mode, root)?;
                    count = count.saturating_add(1);
                    continue;
                }
                (*bytes, found.map(|(bytes, _)| bytes))
            }
            Expected::Link(wanted) => {
                let found = root.link_text(path)?;
                if found.as_ref() == Some(wanted) {
                    count = count.saturating_add(1);
                    continue;
                }
                let found = found.map_or_else(|| "no link".to_owned(), |text| format!("one to {text}"));
                let message = format!("/{path}: expected a link to {wanted}, found {found}");
                return Err(StepError::new(code::INTEGRITY, message));
            }
        };
        let found = found.map_or_else(|| "nothing".to_owned(), |bytes| format!("{bytes} other bytes"));
        let message = format!("/{path}: expected {wanted} bytes as written, found {found}");
        return Err(StepError::new(code::INTEGRITY, message));
    }
    Ok(count)
}

fn compare_mode(path: &str, wanted: Option<u32>, root: &RootEditor) -> Result<(), StepError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let found = root.mode(path)?;
    if found == Some(wanted) {
        return Ok(());
    }
    let found = found.map_or_else(|| "nothing".to_owned(), |mode| format!("{mode:04o}"));
    let message = format!("/{path}: expected mode {wanted:04o}, found {found}");
    Err(StepError::new(code::INTEGRITY, message))
}

fn len_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
