//! Names that bcdedit has for objects and elements.

use gravure_nttypes::Guid;

/// Well-known objects.
const OBJECTS: &[(&str, &str)] = &[
    ("{bootmgr}", "9dea862c-5cdd-4e70-acc1-f32b344d4795"),
    ("{fwbootmgr}", "a5a30fa2-3d06-4e9f-b5f4-a01df9d1fcba"),
    ("{memdiag}", "b2721d73-1db4-4c62-bf78-c548a880142d"),
    ("{ntldr}", "466f5a88-0af2-4f76-9038-095b170dc21c"),
    ("{globalsettings}", "7ea2e1ac-2e61-4728-aaa3-896d9d0a9f0e"),
    ("{bootloadersettings}", "6efb52bf-1766-41db-a6b3-0ee5eff72bd7"),
    ("{resumeloadersettings}", "1afa9c49-16ab-4a5c-901b-212802da9460"),
    ("{dbgsettings}", "4636856e-540f-4170-a130-a84776f4c654"),
    ("{emssettings}", "0ce4991b-e6b3-4b16-b23c-5e0d9250e5d9"),
    ("{badmemory}", "5189b25c-5558-4bf2-bca4-289b11bd29e2"),
    ("{hypervisorsettings}", "7ff607e0-4395-11db-b0de-0800200c9a66"),
    ("{ramdiskoptions}", "ae5534e0-a924-466c-b836-758539a3ee3a"),
];

/// Types of objects.
const OBJECT_TYPES: &[(u32, &str)] = &[
    (0x1010_0001, "firmware boot manager"),
    (0x1010_0002, "Windows boot manager"),
    (0x1020_0003, "Windows boot loader"),
    (0x1020_0004, "resume from hibernation"),
    (0x1020_0005, "memory tester"),
    (0x1010_000a, "boot sector"),
    (0x101f_ffff, "firmware application"),
    (0x2010_0000, "settings for all"),
    (0x2020_0003, "settings for loaders"),
    (0x2020_0004, "settings for resume"),
    (0x3000_0000, "device options"),
];

/// Elements of all applications.
const LIBRARY: &[(u32, &str)] = &[
    (0x1100_0001, "device"),
    (0x1200_0002, "path"),
    (0x1200_0004, "description"),
    (0x1200_0005, "locale"),
    (0x1400_0006, "inherit"),
    (0x1500_0007, "truncatememory"),
    (0x1400_0008, "recoverysequence"),
    (0x1600_0009, "recoveryenabled"),
    (0x1700_000a, "badmemorylist"),
    (0x1600_000b, "badmemoryaccess"),
    (0x1500_000c, "firstmegabytepolicy"),
    (0x1600_0010, "bootdebug"),
    (0x1500_0011, "debugtype"),
    (0x1500_0012, "debugaddress"),
    (0x1500_0013, "debugport"),
    (0x1500_0014, "baudrate"),
    (0x1600_0020, "bootems"),
    (0x1500_0022, "emsport"),
    (0x1500_0023, "emsbaudrate"),
    (0x1200_0030, "loadoptions"),
    (0x1600_0040, "advancedoptions"),
    (0x1600_0041, "optionsedit"),
    (0x1600_0046, "graphicsmodedisabled"),
    (0x1600_0048, "nointegritychecks"),
    (0x1600_0049, "testsigning"),
    (0x1600_0060, "isolatedcontext"),
    (0x1500_0065, "displaymessage"),
    (0x1500_0066, "displaymessageoverride"),
    (0x1700_0077, "allowedinmemorysettings"),
];

/// Elements of the boot managers.
const BOOT_MANAGER: &[(u32, &str)] = &[
    (0x2400_0001, "displayorder"),
    (0x2400_0002, "bootsequence"),
    (0x2300_0003, "default"),
    (0x2500_0004, "timeout"),
    (0x2600_0005, "resume"),
    (0x2300_0006, "resumeobject"),
    (0x2400_0010, "toolsdisplayorder"),
    (0x2600_0020, "displaybootmenu"),
    (0x2600_0021, "noerrordisplay"),
    (0x2100_0022, "bcddevice"),
    (0x2200_0023, "bcdfilepath"),
];

/// Elements of the loader.
const LOADER: &[(u32, &str)] = &[
    (0x2100_0001, "osdevice"),
    (0x2200_0002, "systemroot"),
    (0x2300_0003, "resumeobject"),
    (0x2600_0004, "stampdisks"),
    (0x2600_0010, "detecthal"),
    (0x2200_0011, "kernel"),
    (0x2200_0012, "hal"),
    (0x2500_0020, "nx"),
    (0x2500_0021, "pae"),
    (0x2600_0022, "winpe"),
    (0x2600_0024, "nocrashautoreboot"),
    (0x2600_0025, "lastknowngood"),
    (0x2600_0040, "vga"),
    (0x2600_0041, "quietboot"),
    (0x2500_0066, "bootmenuoptions"),
    (0x2500_0080, "safeboot"),
    (0x2600_0081, "safebootalternateshell"),
    (0x2600_0090, "bootlog"),
    (0x2600_00a0, "debug"),
    (0x2600_00b0, "ems"),
    (0x2500_00c2, "bootmenupolicy"),
    (0x2500_00e0, "bootstatuspolicy"),
    (0x2500_00f0, "hypervisorlaunchtype"),
    (0x2500_00f3, "hypervisordebugtype"),
    (0x2500_00f4, "hypervisordebugport"),
    (0x2500_00f5, "hypervisorbaudrate"),
    (0x4600_0010, "customsettings"),
];

/// Elements of resume from hibernation.
const RESUME: &[(u32, &str)] = &[
    (0x2100_0001, "filedevice"),
    (0x2200_0002, "filepath"),
    (0x2600_0003, "customsettings"),
    (0x2600_0004, "pae"),
    (0x2100_0005, "associatedosdevice"),
    (0x2600_0006, "debugoptionenabled"),
    (0x2500_0008, "bootmenupolicy"),
];

/// Elements of device options.
const DEVICE: &[(u32, &str)] = &[
    (0x3500_0001, "ramdiskimageoffset"),
    (0x3500_0002, "ramdisktftpclientport"),
    (0x3100_0003, "ramdisksdidevice"),
    (0x3200_0004, "ramdisksdipath"),
    (0x3500_0005, "ramdiskimagelength"),
    (0x3600_0006, "exportascd"),
];

/// Elements of the class that objects of type `object` have of their own.
fn own(object: u32) -> &'static [(u32, &'static str)] {
    match (object >> 28, object & 0xf_ffff) {
        (1, 1 | 2) => BOOT_MANAGER,
        (1 | 2, 3) => LOADER,
        (1 | 2, 4) => RESUME,
        (3, _) => DEVICE,
        _ => &[],
    }
}

pub(super) fn element_name(number: u32, object: u32) -> Option<&'static str> {
    own(object).iter().chain(LIBRARY).chain(DEVICE).find(|(known, _)| *known == number).map(|(_, name)| *name)
}

pub(super) fn element_number(name: &str, object: u32) -> Option<u32> {
    let mut all = own(object).iter().chain(LIBRARY).chain(DEVICE);
    all.find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| *number)
}

/// The name of a well-known object, e.g. `{bootmgr}`.
pub fn object_name(id: &Guid) -> Option<&'static str> {
    let text = id.to_string();
    OBJECTS.iter().find(|(_, known)| *known == text).map(|(name, _)| *name)
}

/// An object by its GUID, with or without braces, or by its well-known name. `{default}` and `{current}` depend on a
/// store and are not among them.
pub fn object_id(text: &str) -> Option<Guid> {
    let known = OBJECTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    known.map_or(text, |(_, guid)| *guid).parse().ok()
}

/// What objects of a type are.
pub fn object_type_name(kind: u32) -> Option<&'static str> {
    OBJECT_TYPES.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sound() {
        for (name, guid) in OBJECTS {
            let id: Guid = guid.parse().unwrap();
            assert_eq!(object_name(&id), Some(*name));
            assert_eq!(object_id(name), Some(id));
        }
        for table in [LIBRARY, BOOT_MANAGER, LOADER, RESUME, DEVICE] {
            let mut numbers: Vec<u32> = table.iter().map(|(number, _)| *number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), table.len());
        }
    }
}
