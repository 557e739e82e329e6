//! Finding the disk, emptying it, and making its partitions known to the kernel without a table.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gravure_disk::identity::print_uuid;
use gravure_disk::{Layout, TableImage, wipe};
use gravure_io::WriteAt;
use gravure_linux::BlockDevice;
use gravure_linux::disks::{self, Disk};
use gravure_linux::partition;
use gravure_model::plan::PartitionRole;

use super::{Run, Target, partition_index};
use crate::failure::{StepError, chain, code};
use crate::planner::disk_layout;

impl Run<'_> {
    /// Finds the disk the plan means and refuses it when anything about it is not as planned.
    pub(super) fn check_disk(&mut self) -> Result<(), StepError> {
        let disk = self.find_disk()?;
        self.compare_disk(&disk)?;
        self.refuse_uses(&disk)?;
        // The kernel's own word, which sees other mount namespaces too. The claim ends with the block: partitions
        // of a claimed disk could not be mounted.
        drop(BlockDevice::open_exclusive(&disk.device)?);
        let device = BlockDevice::open_rw(&disk.device)?;
        let layout = self.layout()?;
        self.target = Some(Target { disk, device, layout });
        Ok(())
    }

    /// Refuses a disk of which something is mounted or in use otherwise.
    pub(super) fn refuse_uses(&self, disk: &Disk) -> Result<(), StepError> {
        let uses = disks::uses(&self.machine.roots, disk)?;
        if uses.is_empty() {
            return Ok(());
        }
        let uses: Vec<String> = uses.iter().map(|used| format!("{used:?}")).collect();
        let message = format!("{} is in use: {}", disk.name, uses.join(", "));
        Err(StepError::new(code::REFUSED, message)
            .with_cure("start the payload afresh; it mounts nothing of its own accord"))
    }

    fn layout(&self) -> Result<Layout, StepError> {
        let seed = crate::planner::parse_seed(&self.plan.seed).unwrap_or_default();
        Ok(disk_layout(&self.plan.disk, self.partitions, &seed, 1)?)
    }

    /// By serial number when the plan has one: kernel names change between boots.
    pub(super) fn find_disk(&self) -> Result<Disk, StepError> {
        let planned = &self.plan.disk;
        let all = disks::disks(&self.machine.roots)?;
        let known: Vec<String> = all.iter().map(|disk| disk.name.clone()).collect();
        let mut fitting: Vec<Disk> = all
            .into_iter()
            .filter(|disk| match &planned.serial {
                Some(serial) => disk.serial.as_ref() == Some(serial),
                None => disk.name == planned.name,
            })
            .collect();
        let name =
            planned.serial.as_ref().map_or_else(|| planned.name.clone(), |serial| format!("serial {serial}"));
        match (fitting.pop(), fitting.len()) {
            (Some(disk), 0) => Ok(disk),
            (Some(_), more) => {
                let message = format!("{} disks have the {name}, expected one", more.saturating_add(1));
                Err(StepError::new(code::REFUSED, message))
            }
            (None, _) => {
                let message = format!("disk {name} not found; there are: {}", known.join(", "));
                Err(StepError::new(code::NOT_FOUND, message)
                    .with_cure("make the plan anew: the machine's disks changed since it was planned"))
            }
        }
    }

    pub(super) fn compare_disk(&self, disk: &Disk) -> Result<(), StepError> {
        let planned = &self.plan.disk;
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let checks = [
            ("model", text(&planned.model), text(&disk.model)),
            ("serial number", text(&planned.serial), text(&disk.serial)),
            ("size in bytes", planned.size_bytes.to_string(), disk.size_bytes.to_string()),
            ("sector size", planned.logical_sector_bytes.to_string(), disk.logical_sector_bytes.to_string()),
        ];
        for (what, expected, found) in checks {
            if expected != found {
                let message = format!("{what} of {}: expected {expected}, found {found}", disk.name);
                return Err(StepError::new(code::REFUSED, message)
                    .with_cure("make the plan anew: the machine's disks changed since it was planned"));
            }
        }
        if disk.read_only && self.plan.capture.is_none() {
            return Err(StepError::new(code::REFUSED, format!("{} is write-protected", disk.name)));
        }
        Ok(())
    }

    /// Destroys what stands on the disk, then tells the kernel the new partitions. From here on there is no table.
    pub(super) fn prepare(&mut self) -> Result<(), StepError> {
        let target = self.target()?;
        let held = !self.plan.disk.wipe && !is_blank(&target.device)?;
        if held && !self.was_ours(target)? {
            let message =
                format!("{} holds data now, and the plan does not allow destroying it", target.disk.name);
            return Err(StepError::new(code::REFUSED, message).with_cure("make the plan with --wipe"));
        }
        partition::delete_all(&target.device)?;
        TableImage::new(&target.layout, None).erase(&target.device)?;
        for range in wipe::wipe_ranges(target.disk.size_bytes, &target.layout) {
            self.ctl.check()?;
            target
                .device
                .zero_range(range.clone())
                .map_err(|error| StepError::new(code::IO, format!("wipe at {:#x}: {error}", range.start)))?;
        }
        sync(&target.device)?;
        // Some kernels still hold partitions of the old table.
        target.device.reread_table()?;
        for part in &target.layout.partitions {
            partition::add(&target.device, part.number, part.range.clone())?;
        }
        Ok(())
    }

    /// True when what stands on the disk is an earlier attempt at this same plan: its volume has the identity that
    /// derives from the seed. A retry needs no second permission.
    fn was_ours(&self, target: &Target) -> Result<bool, StepError> {
        let role = if self.plan.windows.is_some() { PartitionRole::Esp } else { PartitionRole::Root };
        if self.is_bios_windows() {
            // Nothing on such a disk has an identity of the plan's that is recognised; a job that goes on allows it anyway.
            return Ok(false);
        }
        let index = partition_index(self.partitions, role)?;
        let Some(part) = target.layout.partitions.get(index) else { return Ok(false) };
        let wanted = match role {
            PartitionRole::Esp => {
                let serial = self.identity.fat_serial(part.index());
                format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)
            }
            _ => print_uuid(self.identity.volume_uuid(part.index())),
        };
        let window = gravure_io::Window::new(&target.device, part.range.start, part.size_bytes());
        let found = gravure_disk::recognise(&window)?;
        Ok(found.iter().any(|found| found.uuid.as_deref() == Some(wanted.as_str())))
    }

    /// Makes the file system.
    pub(super) fn format(&mut self, role: PartitionRole, label: &str) -> Result<(), StepError> {
        let index = partition_index(self.partitions, role)?;
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let uuid = print_uuid(self.identity.volume_uuid(number));
        let hash_seed = print_uuid(self.identity.directory_hash_seed(number));
        let device = self.partition_device(role)?;
        let mut command = Command::new(&self.machine.mke2fs);
        command
            .args(["-t", "ext4", "-F", "-q", "-b", "4096", "-L", label, "-U", &uuid, "-E"])
            .arg(format!("hash_seed={hash_seed},lazy_itable_init=1,lazy_journal_init=1,nodiscard"))
            .arg(&device);
        run_tool(command)
    }

    /// The device node of a partition of the new layout.
    pub(super) fn partition_device(&self, role: PartitionRole) -> Result<PathBuf, StepError> {
        let target = self.target()?;
        let number = partition_index(self.partitions, role)?.saturating_add(1);
        let known = partition::known(&target.device)?;
        let found = known.iter().find(|part| usize::try_from(part.number) == Ok(number));
        found.map(partition::KnownPartition::device).ok_or_else(|| {
            let message = format!("the kernel does not know partition {number} of {}", target.disk.name);
            StepError::new(code::IO, message)
        })
    }
}

/// Nothing recognisable: no table, no volume over the whole disk.
pub(super) fn is_blank(device: &BlockDevice) -> Result<bool, StepError> {
    let table = gravure_disk::Table::read(device, device.facts().logical_sector_bytes)?;
    Ok(matches!(table, gravure_disk::Table::Empty) && gravure_disk::recognise(device)?.is_empty())
}

pub(super) fn sync(device: &BlockDevice) -> Result<(), StepError> {
    device
        .sync()
        .map_err(|error| StepError::new(code::IO, format!("flush {}: {error}", device.path().display())))
}

/// Runs a program of the payload; what it prints goes into the message when it fails.
pub(super) fn run_tool(mut command: Command) -> Result<(), StepError> {
    let program = Path::new(command.get_program()).display().to_string();
    // PID 1 blocks signals; a program that inherits that cannot be stopped.
    gravure_linux::process::with_default_signals(&mut command);
    let output = command.stdin(Stdio::null()).output();
    let output = output
        .map_err(|error| StepError::new(code::FAILED, format!("start {program}: {}", chain(&error))))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { said };
    Err(StepError::new(code::FAILED, format!("{program} ended with {}: {}", output.status, said.trim())))
}
