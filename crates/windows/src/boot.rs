//! What makes an image start: on a UEFI machine the files of the EFI system partition, on a BIOS machine those of the active partition;
//! the boot store, the recovery environment, and the partitions all of it lies on (windows-servicing 3). What bcdboot does, without
//! running Windows.

mod bios;
mod secure_boot;

pub use bios::{BiosBootFiles, is_hidden};
pub use secure_boot::{Authorities, SecureBoot};

use gravure_disk::{PartitionRequest, PartitionSize, Role};
use gravure_hive::Hive;
use gravure_hive::bcd::{Device, Firmware, Recovery, StoreIds, StoreOptions};
use gravure_inf::Arch;
use gravure_nttypes::FileTime;
use gravure_tree::ContentRef;
use serde::Serialize;

use crate::Error;
use crate::image::WindowsImage;

/// Directories of boot files, and what is called otherwise in those signed in 2023.
const EFI_DIR: &str = "Windows\\Boot\\EFI";
const EFI_DIR_2023: &str = "Windows\\Boot\\EFI_EX";
const FONTS_DIR: &str = "Windows\\Boot\\Fonts";
const FONTS_DIR_2023: &str = "Windows\\Boot\\Fonts_EX";
const RESOURCES_DIR: &str = "Windows\\Boot\\Resources";
const SUFFIX_2023: &str = "_EX";
/// Where they go.
const TARGET_DIR: &str = "EFI/Microsoft/Boot";
const BOOT_MANAGER: &str = "bootmgfw.efi";
/// Template of the boot store.
const TEMPLATE: &str = "Windows\\System32\\config\\BCD-Template";
/// Real ones have 28 KB.
const MAX_TEMPLATE_BYTES: u64 = 16 << 20;
/// Recovery environment, and the RAM disk's description that it is started with.
const RECOVERY_IMAGE: &str = "Windows\\System32\\Recovery\\Winre.wim";
const RAMDISK_FILES: [&str; 2] = ["Windows\\Boot\\DVD\\EFI\\boot.sdi", "Windows\\Boot\\DVD\\PCAT\\boot.sdi"];
/// Where both go on the recovery partition.
pub const RECOVERY_DIR: &str = "Recovery/WindowsRE";
/// Deepest directory of boot files: `EFI\Microsoft\Boot\de-DE\x.mui` has one.
const MAX_DEPTH: usize = 4;

/// Which authority signed the boot manager that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum BootManager {
    /// Microsoft Windows Production PCA 2011: on every machine, until it is revoked.
    #[serde(rename = "2011")]
    Signed2011,
    /// Windows UEFI CA 2023: images of 2024 and later, machines that have it in `db`.
    #[serde(rename = "2023")]
    Signed2023,
}

/// A file of a partition, with strokes in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    /// Path from the root of the partition.
    pub path: String,
    /// Its content, of the image or made here.
    pub content: ContentRef,
}

/// What a machine is to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOptions {
    /// EFI system partition; of a BIOS machine the active one.
    pub system: Device,
    /// Partition with Windows.
    pub windows: Device,
    /// Recovery partition, when the recovery environment is to be on one.
    pub recovery: Option<Device>,
    /// Name in the boot menu.
    pub description: String,
    /// Language of the boot menu.
    pub locale: String,
    /// GUIDs of new objects.
    pub ids: StoreIds,
    /// Keys of the machine's firmware.
    pub secure_boot: SecureBoot,
    /// Processor.
    pub arch: Arch,
    /// Time of the store.
    pub now: FileTime,
}

/// What goes onto the partitions beside Windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// Which boot manager was taken, and why.
    pub manager: BootManager,
    /// The reason, for people.
    pub reason: String,
    /// Files of the EFI system partition.
    pub system: Vec<BootFile>,
    /// Files of the recovery partition.
    pub recovery: Vec<BootFile>,
    /// The store came from the image's own template.
    pub is_from_template: bool,
    /// Path of the boot manager for the firmware's boot list.
    pub loader: String,
    /// Data of the entry in the firmware's boot list.
    pub load_option_data: Vec<u8>,
    /// What is missing and can be done without.
    pub notes: Vec<String>,
}

impl WindowsImage<'_> {
    /// What must be on the other partitions so that a UEFI machine starts this image. The image itself is not changed.
    pub fn boot_files(&mut self, options: &BootOptions) -> Result<BootFiles, Error> {
        let fallback = fallback_name(options.arch)?;
        let has_2023 = self.find(&format!("{EFI_DIR_2023}\\bootmgfw{SUFFIX_2023}.efi")).is_some();
        let has_2011 = self.find(&format!("{EFI_DIR}\\{BOOT_MANAGER}")).is_some();
        let (manager, reason) = choose(&options.secure_boot, has_2011, has_2023)?;
        let mut system: Vec<BootFile> = Vec::new();
        self.collect(EFI_DIR, TARGET_DIR, None, &mut system);
        self.collect(FONTS_DIR, &format!("{TARGET_DIR}/Fonts"), None, &mut system);
        self.collect(RESOURCES_DIR, &format!("{TARGET_DIR}/Resources"), None, &mut system);
        if manager == BootManager::Signed2023 {
            self.collect(EFI_DIR_2023, TARGET_DIR, Some(SUFFIX_2023), &mut system);
            self.collect(FONTS_DIR_2023, &format!("{TARGET_DIR}/Fonts"), Some(SUFFIX_2023), &mut system);
        }
        let loader = format!("{TARGET_DIR}/{BOOT_MANAGER}");
        let manager_file = system.iter().find(|file| file.path.eq_ignore_ascii_case(&loader));
        let manager_file = manager_file.ok_or_else(|| Error::NotFound {
            what: "boot manager in the image",
            name: format!("{EFI_DIR}\\{BOOT_MANAGER}"),
        })?;
        let content = manager_file.content.clone();
        system.push(BootFile { path: format!("EFI/Boot/{fallback}"), content });
        let mut notes = Vec::new();
        let recovery = self.recovery_files(options, &mut notes);
        let (store, is_from_template) = self.store(Firmware::Uefi, options, !recovery.is_empty())?;
        system.push(BootFile { path: format!("{TARGET_DIR}/BCD"), content: ContentRef::inline(store) });
        system.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(BootFiles {
            manager,
            reason,
            system,
            recovery,
            is_from_template,
            loader: format!("/{loader}"),
            load_option_data: load_option_data(),
            notes,
        })
    }

    /// Files below a directory; with a suffix only those whose stem has it, and they take the place of others.
    fn collect(&self, from: &str, to: &str, suffix: Option<&str>, out: &mut Vec<BootFile>) {
        let mut open = vec![(from.to_owned(), to.to_owned(), 0usize)];
        while let Some((from, to, depth)) = open.pop() {
            for name in self.names(&from) {
                let path = format!("{from}\\{name}");
                if self.is_directory(&path) {
                    if depth < MAX_DEPTH {
                        open.push((path, format!("{to}/{name}"), depth.saturating_add(1)));
                    }
                    continue;
                }
                let Some(content) = self.content_of(&path).cloned() else { continue };
                let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
                let stem = match suffix {
                    None => stem,
                    Some(suffix) => {
                        let cut = stem
                            .len()
                            .checked_sub(suffix.len())
                            .filter(|at| stem.get(*at..).is_some_and(|end| end.eq_ignore_ascii_case(suffix)));
                        let Some(bare) = cut.and_then(|at| stem.get(..at)) else { continue };
                        bare
                    }
                };
                let dot = if extension.is_empty() { "" } else { "." };
                let path = format!("{to}/{stem}{dot}{extension}");
                out.retain(|known| !known.path.eq_ignore_ascii_case(&path));
                out.push(BootFile { path, content });
            }
        }
    }

    /// Whether the image brings a recovery environment.
    pub(crate) fn has_recovery(&self) -> bool {
        self.find(RECOVERY_IMAGE).is_some()
    }

    fn recovery_files(&self, options: &BootOptions, notes: &mut Vec<String>) -> Vec<BootFile> {
        if options.recovery.is_none() {
            return Vec::new();
        }
        let image = self.content_of(RECOVERY_IMAGE);
        let ramdisk = RAMDISK_FILES.iter().find_map(|path| self.content_of(path));
        match (image, ramdisk) {
            (Some(image), Some(ramdisk)) => vec![
                BootFile { path: format!("{RECOVERY_DIR}/Winre.wim"), content: image.clone() },
                BootFile { path: format!("{RECOVERY_DIR}/boot.sdi"), content: ramdisk.clone() },
            ],
            (image, _) => {
                let missing = if image.is_none() { RECOVERY_IMAGE } else { RAMDISK_FILES[0] };
                notes.push(format!("no recovery environment: the image has no {missing}"));
                Vec::new()
            }
        }
    }

    /// The boot store: after the image's own template, which is right for its version; ours without one.
    fn store(
        &mut self,
        firmware: Firmware,
        options: &BootOptions,
        has_recovery: bool,
    ) -> Result<(Vec<u8>, bool), Error> {
        let recovery = options.recovery.clone().filter(|_| has_recovery);
        let directory = format!("\\{}", RECOVERY_DIR.replace('/', "\\"));
        let store = StoreOptions {
            firmware,
            system: options.system.clone(),
            windows: options.windows.clone(),
            recovery: recovery.map(|device| Recovery { device, directory }),
            description: options.description.clone(),
            locale: options.locale.clone(),
            timeout_seconds: 30,
            ids: options.ids,
            now: options.now,
        };
        let Some(bytes) = self.read_file(TEMPLATE, MAX_TEMPLATE_BYTES)? else {
            return Ok((store.create().map_err(Error::hive("boot store"))?, false));
        };
        let template = Hive::parse(bytes).map_err(Error::hive(TEMPLATE))?;
        Ok((store.create_from(template).map_err(Error::hive(TEMPLATE))?, true))
    }
}

/// Which boot manager the firmware will load.
fn choose(keys: &SecureBoot, has_2011: bool, has_2023: bool) -> Result<(BootManager, String), Error> {
    let refused = |why: &str| Error::Refused { path: "boot manager".to_owned(), why: why.to_owned() };
    let (db, dbx) = (keys.db.as_ref(), keys.dbx.as_ref());
    let trusts_2023 = db.is_some_and(|db| db.has_windows_2023);
    let revokes_2011 = dbx.is_some_and(|dbx| dbx.has_windows_2011);
    match (has_2011, has_2023) {
        (false, false) => Err(Error::NotFound {
            what: "boot manager in the image",
            name: format!("{EFI_DIR}\\{BOOT_MANAGER}"),
        }),
        (_, true) if trusts_2023 => {
            Ok((BootManager::Signed2023, "the firmware's db has the Windows UEFI CA 2023".to_owned()))
        }
        _ if revokes_2011 && keys.is_enforced => Err(refused(
            "the firmware's dbx revokes the Windows Production PCA 2011, and the image has no boot manager signed in 2023 that its db \
             would load",
        )),
        (true, _) if keys.is_enforced && db.is_some_and(|db| !db.has_windows_2011) => {
            Err(refused("the firmware's db has no Windows authority that signed a boot manager of the image"))
        }
        (true, _) => Ok((
            BootManager::Signed2011,
            "the firmware has no Windows UEFI CA 2023, or does not say".to_owned(),
        )),
        (false, true) => Ok((BootManager::Signed2023, "the image has no other".to_owned())),
    }
}

/// Name of the file that firmware starts when nothing is named.
fn fallback_name(arch: Arch) -> Result<&'static str, Error> {
    match arch {
        Arch::Amd64 => Ok("bootx64.efi"),
        Arch::Arm64 => Ok("bootaa64.efi"),
        Arch::X86 => Ok("bootia32.efi"),
        Arch::Arm => Ok("bootarm.efi"),
        Arch::Ia64 => Err(Error::Unsupported { what: "UEFI start on", value: arch.to_string() }),
    }
}

/// Data of Windows' entry in the boot list: which object of the store it stands for (136 bytes, as real ones have them).
fn load_option_data() -> Vec<u8> {
    /// Size of the whole, and where the text starts.
    const BYTES: u32 = 0x88;
    const TEXT_BYTES: u32 = 0x78;
    let mut out = b"WINDOWS\0".to_vec();
    out.extend(1u32.to_le_bytes());
    out.extend(BYTES.to_le_bytes());
    out.extend(TEXT_BYTES.to_le_bytes());
    let text = "BCDOBJECT={9dea862c-5cdd-4e70-acc1-f32b344d4795}";
    out.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    // The end of a device path.
    let end = usize::try_from(BYTES).unwrap_or(usize::MAX).saturating_sub(4);
    out.resize(end, 0);
    out.extend([0x7f, 0xff, 4, 0]);
    out
}

/// Sizes of the partitions beside Windows, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutOptions {
    /// EFI system partition; 260 MiB is the least that is legal on disks of 4096-byte sectors too.
    pub system_bytes: u64,
    /// Recovery partition; `None` for none.
    pub recovery_bytes: Option<u64>,
    /// Least for Windows itself.
    pub windows_at_least: u64,
}

impl Default for LayoutOptions {
    fn default() -> Self {
        Self { system_bytes: 300 << 20, recovery_bytes: Some(1 << 30), windows_at_least: 20 << 30 }
    }
}

/// Partitions of a UEFI disk with Windows: system, reserved, Windows, and recovery directly behind it, where Windows can grow
/// either.
pub fn layout(options: LayoutOptions) -> Vec<PartitionRequest> {
    const RESERVED_BYTES: u64 = 16 << 20;
    let request = |role, size, name: &str| PartitionRequest { role, size, name: name.to_owned() };
    let mut out = vec![
        request(Role::Esp, PartitionSize::Bytes(options.system_bytes), "EFI system partition"),
        request(
            Role::MicrosoftReserved,
            PartitionSize::Bytes(RESERVED_BYTES),
            "Microsoft reserved partition",
        ),
        request(
            Role::MicrosoftData,
            PartitionSize::Rest { at_least: options.windows_at_least },
            "Basic data partition",
        ),
    ];
    if let Some(bytes) = options.recovery_bytes {
        out.push(request(Role::WindowsRecovery, PartitionSize::Bytes(bytes), "Recovery"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(db: Option<(bool, bool)>, dbx_2011: bool, is_enforced: bool) -> SecureBoot {
        let authorities =
            |(has_windows_2011, has_windows_2023)| Authorities { has_windows_2011, has_windows_2023 };
        SecureBoot { db: db.map(authorities), dbx: Some(authorities((dbx_2011, false))), is_enforced }
    }

    #[test]
    fn the_boot_manager_is_one_that_the_firmware_loads() {
        use BootManager::{Signed2011, Signed2023};
        let (old, both, new, none) =
            (Some((true, false)), Some((true, true)), Some((false, true)), Some((false, false)));
        for (db, dbx_2011, is_enforced, images, expected) in [
            (old, false, true, (true, true), Some(Signed2011)),
            (both, false, true, (true, true), Some(Signed2023)),
            (both, false, true, (true, false), Some(Signed2011)),
            (both, true, true, (true, true), Some(Signed2023)),
            (both, true, true, (true, false), None),
            (old, true, true, (true, true), None),
            (new, false, true, (true, false), None),
            (none, false, true, (true, true), None),
            (none, true, false, (true, false), Some(Signed2011)),
            (None, false, true, (true, true), Some(Signed2011)),
            (None, false, false, (false, true), Some(Signed2023)),
            (both, false, true, (false, false), None),
        ] {
            let found =
                choose(&keys(db, dbx_2011, is_enforced), images.0, images.1).ok().map(|(manager, _)| manager);
            assert_eq!(found, expected, "{db:?} {dbx_2011} {is_enforced} {images:?}");
        }
    }

    #[test]
    fn the_layout_is_what_windows_setup_makes() {
        let shape = gravure_disk::DiskShape { size_bytes: 64 << 30, sector_bytes: 4096 };
        let layout = gravure_disk::Layout::compute(
            shape,
            &gravure_disk::Identity::new([1; 32]),
            &layout(LayoutOptions::default()),
        )
        .unwrap();
        let shown: Vec<(String, u64, u64)> = layout
            .partitions
            .iter()
            .map(|p| (p.role.type_guid().to_string(), p.attributes, p.size_bytes() >> 20))
            .collect();
        assert_eq!(shown[0], ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b".into(), 0, 300));
        assert_eq!(shown[1], ("e3c9e316-0b5c-4db8-817d-f92df00215ae".into(), 0, 16));
        assert_eq!((shown[2].0.as_str(), shown[2].1), ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", 0));
        let recovery = ("de94bba4-06d1-4d40-a16a-bfd50179d6ac".into(), 0x8000_0000_0000_0001, 1024);
        assert_eq!(shown[3], recovery);
        assert_eq!(layout.partitions[2].range.end, layout.partitions[3].range.start);
    }

    #[test]
    fn the_entry_of_the_boot_list_has_the_data_of_real_ones() {
        let data = load_option_data();
        assert_eq!(data.len(), 136);
        assert_eq!(&data[..20], b"WINDOWS\0\x01\0\0\0\x88\0\0\0\x78\0\0\0");
        assert_eq!(&data[132..], [0x7f, 0xff, 4, 0]);
    }
}
