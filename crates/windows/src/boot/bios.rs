//! What a BIOS machine starts Windows with: `bootmgr` in the root of the active partition, the boot store and its files in `\\Boot`
//! (windows-servicing 3.2). The code that finds `bootmgr` is Microsoft's and no file of an image; see `gravure-disk::boot_code`.

use gravure_hive::bcd::Firmware;
use gravure_tree::ContentRef;

use super::{BootFile, BootOptions, FONTS_DIR, RESOURCES_DIR};
use crate::Error;
use crate::image::WindowsImage;

const PCAT_DIR: &str = "Windows\\Boot\\PCAT";
const TARGET_DIR: &str = "Boot";
/// Files of that directory that go into the root, and what they are called there.
const IN_ROOT: [(&str, &str); 2] = [("bootmgr", "bootmgr"), ("bootnxt", "BOOTNXT")];

/// What goes onto the partitions beside Windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BiosBootFiles {
    /// Files of the active partition.
    pub system: Vec<BootFile>,
    /// Files of the recovery partition.
    pub recovery: Vec<BootFile>,
    /// The store came from the image's own template.
    pub is_from_template: bool,
    /// What is missing and can be done without.
    pub notes: Vec<String>,
}

/// Whether a path of the active partition is hidden from people, as Windows' own setup leaves it.
pub fn is_hidden(path: &str) -> bool {
    IN_ROOT.iter().any(|(_, name)| *name == path) || path == TARGET_DIR
}

impl WindowsImage<'_> {
    /// What must be on the other partitions so that a BIOS machine starts this image, beside boot code. The image itself is not changed.
    pub fn bios_boot_files(&mut self, options: &BootOptions) -> Result<BiosBootFiles, Error> {
        let mut system: Vec<BootFile> = Vec::new();
        self.collect(PCAT_DIR, TARGET_DIR, None, &mut system);
        for (name, root_name) in IN_ROOT {
            let from = format!("{TARGET_DIR}/{name}");
            if let Some(file) = system.iter_mut().find(|file| file.path.eq_ignore_ascii_case(&from)) {
                root_name.clone_into(&mut file.path);
            }
        }
        if !system.iter().any(|file| file.path == IN_ROOT[0].1) {
            let (what, name) =
                ("boot manager for BIOS machines in the image", format!("{PCAT_DIR}\\bootmgr"));
            return Err(Error::NotFound { what, name });
        }
        self.collect(FONTS_DIR, &format!("{TARGET_DIR}/Fonts"), None, &mut system);
        self.collect(RESOURCES_DIR, &format!("{TARGET_DIR}/Resources"), None, &mut system);
        let mut notes = Vec::new();
        let recovery = self.recovery_files(options, &mut notes);
        let (store, is_from_template) = self.store(Firmware::Bios, options, !recovery.is_empty())?;
        system.push(BootFile { path: format!("{TARGET_DIR}/BCD"), content: ContentRef::inline(store) });
        system.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(BiosBootFiles { system, recovery, is_from_template, notes })
    }
}
