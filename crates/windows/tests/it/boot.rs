//! What makes an image start: files of the system partition after both generations of boot managers, the store, recovery.

use crate::support;

use gravure_hive::Hive;
use gravure_hive::bcd::{
    Device, ElementType, ElementValue, Firmware, Store, StoreEditor, StoreIds, StoreOptions,
};
use gravure_inf::Arch;
use gravure_nttypes::{Guid, NtName};
use gravure_tree::{ContentRef, Origin, Tree};
use gravure_windows::WindowsImage;
use gravure_windows::boot::{Authorities, BootManager, BootOptions, SecureBoot};
use support::{NOW, nothing_outside, system_values};

fn guid(byte: u8) -> Guid {
    Guid([byte; 16])
}

fn options(trusts_2023: bool) -> BootOptions {
    let authorities = Authorities { has_windows_2011: true, has_windows_2023: trusts_2023 };
    let partition = |byte| Device::Gpt { disk: guid(1), partition: guid(byte) };
    BootOptions {
        system: partition(2),
        windows: partition(3),
        recovery: Some(partition(4)),
        description: "Windows 11".into(),
        locale: "de-DE".into(),
        ids: StoreIds { loader: guid(11), resume: guid(12), recovery: guid(13), ramdisk: guid(14) },
        secure_boot: SecureBoot { db: Some(authorities), dbx: None, is_enforced: true },
        arch: Arch::Amd64,
        now: NOW,
    }
}

fn tree(more: &[(&str, Vec<u8>)]) -> Tree {
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        ("Windows\\System32\\config\\SYSTEM", support::hive(&system_values())),
        ("Windows\\Boot\\EFI\\bootmgfw.efi", b"2011".to_vec()),
        ("Windows\\Boot\\EFI\\memtest.efi", b"memtest".to_vec()),
        ("Windows\\Boot\\EFI\\de-DE\\bootmgfw.efi.mui", b"mui".to_vec()),
        ("Windows\\Boot\\EFI_EX\\bootmgfw_EX.efi", b"2023".to_vec()),
        ("Windows\\Boot\\Fonts\\segoe_slboot.ttf", b"font".to_vec()),
        ("Windows\\Boot\\Fonts_EX\\segoe_slboot_EX.ttf", b"font 2023".to_vec()),
        ("Windows\\Boot\\Resources\\bootres.dll", b"resource".to_vec()),
    ];
    files.extend_from_slice(more);
    support::tree(&files)
}

fn bytes(content: &ContentRef) -> Vec<u8> {
    match &content.origin {
        Origin::Inline(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    }
}

#[test]
fn the_system_partition_has_what_the_firmware_and_the_boot_manager_look_for() {
    for (trusts_2023, manager, content) in
        [(false, BootManager::Signed2011, &b"2011"[..]), (true, BootManager::Signed2023, b"2023")]
    {
        let mut tree = tree(&[]);
        let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
        let found = image.boot_files(&options(trusts_2023)).unwrap();
        assert_eq!(found.manager, manager);
        let paths: Vec<&str> = found.system.iter().map(|file| file.path.as_str()).collect();
        let expected = [
            "EFI/Boot/bootx64.efi",
            "EFI/Microsoft/Boot/BCD",
            "EFI/Microsoft/Boot/Fonts/segoe_slboot.ttf",
            "EFI/Microsoft/Boot/Resources/bootres.dll",
            "EFI/Microsoft/Boot/bootmgfw.efi",
            "EFI/Microsoft/Boot/de-DE/bootmgfw.efi.mui",
            "EFI/Microsoft/Boot/memtest.efi",
        ];
        assert_eq!(paths, expected);
        let of = |path: &str| bytes(&found.system.iter().find(|file| file.path == path).unwrap().content);
        assert_eq!(of("EFI/Boot/bootx64.efi"), content);
        assert_eq!(of("EFI/Microsoft/Boot/bootmgfw.efi"), content);
        let font: &[u8] = if trusts_2023 { b"font 2023" } else { b"font" };
        assert_eq!(of("EFI/Microsoft/Boot/Fonts/segoe_slboot.ttf"), font);
        // Without the image's recovery environment there is no entry for it.
        assert_eq!((found.recovery.len(), found.notes.len(), found.is_from_template), (0, 1, false));
        let hive = Hive::parse(of("EFI/Microsoft/Boot/BCD")).unwrap();
        let store = Store::new(&hive).unwrap();
        let loader = store.object(&guid(11)).unwrap().unwrap();
        let device = loader.element(ElementType(0x2100_0001)).unwrap();
        assert_eq!(*device, ElementValue::Device(options(false).windows));
        assert_eq!(store.object(&guid(13)).unwrap(), None);
    }
}

#[test]
fn the_images_template_gives_the_store_its_settings_and_recovery_its_place() {
    // A template as bcdboot has it: settings with something of their own, a loader template, no devices.
    let none = StoreOptions {
        firmware: Firmware::Uefi,
        system: Device::Boot,
        windows: Device::Boot,
        recovery: None,
        description: String::new(),
        locale: "en-US".into(),
        timeout_seconds: 30,
        ids: StoreIds { loader: guid(21), resume: guid(22), recovery: guid(23), ramdisk: guid(24) },
        now: NOW,
    };
    let mut editor = StoreEditor::new(Hive::parse(none.create().unwrap()).unwrap(), NOW).unwrap();
    editor.delete_object(&guid(21)).unwrap();
    editor.delete_object(&guid(22)).unwrap();
    let template: Guid = "b012b84d-c47c-4ed5-b722-c0c42163e569".parse().unwrap();
    editor.create_object(&template, 0x1020_0003).unwrap();
    editor.set(&template, ElementType(0x2500_00c2), &ElementValue::Integer(0)).unwrap();
    editor.set(&template, ElementType(0x2600_0091), &ElementValue::Boolean(true)).unwrap();
    let global: Guid = "7ea2e1ac-2e61-4728-aaa3-896d9d0a9f0e".parse().unwrap();
    editor.set(&global, ElementType(0x1600_0049), &ElementValue::Boolean(true)).unwrap();
    let mut tree = tree(&[
        ("Windows\\System32\\config\\BCD-Template", editor.finish().unwrap()),
        ("Windows\\System32\\Recovery\\Winre.wim", b"recovery".to_vec()),
        ("Windows\\Boot\\DVD\\EFI\\boot.sdi", b"ramdisk".to_vec()),
    ]);
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let found = image.boot_files(&options(true)).unwrap();
    assert!(found.is_from_template);
    let paths: Vec<&str> = found.recovery.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        (paths, found.notes),
        (vec!["Recovery/WindowsRE/Winre.wim", "Recovery/WindowsRE/boot.sdi"], Vec::new())
    );
    let store = found.system.iter().find(|file| file.path.ends_with("/BCD")).unwrap();
    let hive = Hive::parse(bytes(&store.content)).unwrap();
    let store = Store::new(&hive).unwrap();
    assert_eq!(store.object(&template).unwrap(), None);
    let kept = store.object(&global).unwrap().unwrap();
    assert_eq!(kept.element(ElementType(0x1600_0049)), Some(&ElementValue::Boolean(true)));
    let loader = store.object(&guid(11)).unwrap().unwrap();
    let element = |number| loader.element(ElementType(number)).cloned();
    assert_eq!(element(0x2600_0091), Some(ElementValue::Boolean(true)));
    assert_eq!(element(0x1200_0004), Some(ElementValue::Text(NtName::from("Windows 11"))));
    assert_eq!(element(0x1400_0008), Some(ElementValue::ObjectList(vec![guid(13)])));
    let manager: Guid = "9dea862c-5cdd-4e70-acc1-f32b344d4795".parse().unwrap();
    let manager = store.object(&manager).unwrap().unwrap();
    assert_eq!(manager.element(ElementType(0x2300_0003)), Some(&ElementValue::Object(guid(11))));
    assert_eq!(
        manager.element(ElementType(0x1100_0001)),
        Some(&ElementValue::Device(Device::Gpt { disk: guid(1), partition: guid(2) }))
    );
}

#[test]
fn an_image_without_a_boot_manager_is_refused() {
    let mut tree = support::windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let error = image.boot_files(&options(true)).unwrap_err().to_string();
    assert_eq!(error, "boot manager in the image Windows\\Boot\\EFI\\bootmgfw.efi not found");
}
