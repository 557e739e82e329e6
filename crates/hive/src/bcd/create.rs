//! New stores: what bcdboot makes for one installed Windows, with the objects and elements of a real Windows 10 store.

use gravure_nttypes::{FileTime, Guid, NtName, SecurityDescriptor};

use super::device::{Device, FilePath};
use super::element::{ElementType, ElementValue};
use super::names;
use super::store::{Element, StoreEditor};
use crate::create::CreateOptions;
use crate::edit::Editor;
use crate::error::{Error, invalid};
use crate::hive::Hive;
use crate::value::Data;

/// Descriptor of installed stores: administrators read, only the system writes.
const SECURITY: &str = "O:BAG:SYD:(A;;0x60019;;;BA)(A;;KA;;;SY)";

/// What starts the boot manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Firmware {
    /// `bootmgfw.efi` on the EFI system partition.
    Uefi,
    /// `bootmgr` on the active partition.
    Bios,
}

/// Where the recovery environment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Its partition.
    pub device: Device,
    /// Directory with `Winre.wim` and `boot.sdi`, e.g. `\Recovery\WindowsRE`.
    pub directory: String,
}

/// GUIDs of the objects that have no fixed one. Taken from outside, so that a plan's retry makes the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreIds {
    /// The loader.
    pub loader: Guid,
    /// Resume from hibernation.
    pub resume: Guid,
    /// Loader of the recovery environment.
    pub recovery: Guid,
    /// Options of its RAM disk.
    pub ramdisk: Guid,
}

/// What a new store is to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// What starts the boot manager.
    pub firmware: Firmware,
    /// Partition with the boot manager.
    pub system: Device,
    /// Partition with Windows.
    pub windows: Device,
    /// The recovery environment, when there is one already; Windows adds it by itself otherwise.
    pub recovery: Option<Recovery>,
    /// Name in the boot menu, e.g. `Windows 11`.
    pub description: String,
    /// Language of the boot menu, e.g. `en-US`.
    pub locale: String,
    /// Seconds the boot menu waits when it shows more than one entry.
    pub timeout_seconds: u64,
    /// GUIDs of new objects.
    pub ids: StoreIds,
    /// Time of all keys.
    pub now: FileTime,
}

/// Objects of `BCD-Template` that new loaders are made after, for UEFI and for BIOS (documented as
/// `BCD_WINDOWS_LOADER_TEMPLATE` and its like).
const LOADER_TEMPLATES: [(Firmware, &str); 2] = [
    (Firmware::Uefi, "b012b84d-c47c-4ed5-b722-c0c42163e569"),
    (Firmware::Bios, "a1943bbc-ea85-487c-97c7-c9ede908a38a"),
];
/// The same for resuming.
const RESUME_TEMPLATES: [(Firmware, &str); 2] = [
    (Firmware::Uefi, "98b02a23-0674-4ce7-bdad-e0a15a8ff97b"),
    (Firmware::Bios, "0c334284-9a41-4de1-99b3-a7e87e8ff07e"),
];

/// A new store under construction.
struct Builder<'o> {
    editor: StoreEditor,
    options: &'o StoreOptions,
    /// Elements for a loader and for resuming, of a template.
    templates: (Vec<Element>, Vec<Element>),
}

impl StoreOptions {
    /// Makes the store out of a template, as bcdboot does: settings of the template stay, its loader templates give their
    /// elements to the new loaders and go, and everything that names a device is made anew.
    pub fn create_from(&self, template: Hive) -> Result<Vec<u8>, Error> {
        self.check_ids()?;
        let mut editor = StoreEditor::new(template, self.now)?;
        let mut templates = (Vec::new(), Vec::new());
        for (list, taken) in [(LOADER_TEMPLATES, &mut templates.0), (RESUME_TEMPLATES, &mut templates.1)] {
            for (firmware, id) in list {
                let id = id.parse().map_err(|error| invalid("object", "a GUID", error))?;
                let Some(object) = editor.store().object(&id)? else { continue };
                if firmware == self.firmware {
                    *taken = object.elements;
                }
                editor.delete_object(&id)?;
            }
        }
        let description = editor.editor().create("Description")?;
        let set = [
            ("KeyName", Data::sz("BCD00000000")),
            ("System", Data::dword(1)),
            ("TreatAsSystem", Data::dword(1)),
        ];
        for (name, data) in set {
            editor.editor().set_value(description, &NtName::from(name), &data)?;
        }
        self.fill(editor, templates)
    }

    fn fill(&self, editor: StoreEditor, templates: (Vec<Element>, Vec<Element>)) -> Result<Vec<u8>, Error> {
        let mut builder = Builder { editor, options: self, templates };
        builder.settings()?;
        builder.managers()?;
        builder.windows()?;
        if let Some(recovery) = &self.recovery {
            builder.recovery(recovery)?;
        }
        builder.editor.finish()
    }

    fn check_ids(&self) -> Result<(), Error> {
        let ids = [self.ids.loader, self.ids.resume, self.ids.recovery, self.ids.ramdisk];
        let is_used = |id: &Guid| ids.iter().filter(|other| *other == id).count() > 1;
        match ids.iter().find(|id| is_used(id) || names::object_name(id).is_some()) {
            Some(id) => Err(invalid(
                "GUIDs of a new store",
                "four different ones, none well-known",
                format!("{{{id}}}"),
            )),
            None => Ok(()),
        }
    }

    /// Makes the store; the bytes of the file `BCD`.
    pub fn create(&self) -> Result<Vec<u8>, Error> {
        self.check_ids()?;
        let security = SecurityDescriptor::from_sddl(SECURITY)
            .map_err(|error| invalid("security descriptor", "SDDL", error))?;
        let root_name = NtName::from("NewStoreRoot");
        let hive = Hive::create(&CreateOptions { minor: 3, root_name, security, now: self.now })?;
        let mut editor = Editor::new(hive, self.now)?;
        let description = editor.create("Description")?;
        editor.create("Objects")?;
        // The name under which the system store is loaded; the flags tell it from other stores.
        editor.set_value(description, &NtName::from("KeyName"), &Data::sz("BCD00000000"))?;
        editor.set_value(description, &NtName::from("System"), &Data::dword(1))?;
        editor.set_value(description, &NtName::from("TreatAsSystem"), &Data::dword(1))?;
        let editor = StoreEditor::new(Hive::parse(editor.finish()?)?, self.now)?;
        self.fill(editor, (Vec::new(), Vec::new()))
    }
}

fn known(name: &str) -> Result<Guid, Error> {
    names::object_id(name).ok_or_else(|| Error::NotFound { what: "object", name: name.to_owned() })
}

fn text(text: &str) -> ElementValue {
    ElementValue::Text(NtName::from(text))
}

fn objects(names: &[&str]) -> Result<ElementValue, Error> {
    names.iter().map(|name| known(name)).collect::<Result<_, _>>().map(ElementValue::ObjectList)
}

impl Builder<'_> {
    fn object(&mut self, id: Guid, kind: u32, elements: &[(u32, ElementValue)]) -> Result<(), Error> {
        if self.editor.store().object(&id)?.is_none() {
            self.editor.create_object(&id, kind)?;
        }
        elements.iter().try_for_each(|(number, value)| self.editor.set(&id, ElementType(*number), value))
    }

    /// The same for an object that others inherit from: what a template says stays.
    fn setting(&mut self, id: Guid, kind: u32, elements: &[(u32, ElementValue)]) -> Result<(), Error> {
        match self.editor.store().object(&id)? {
            Some(_) => Ok(()),
            None => self.object(id, kind, elements),
        }
    }

    /// Elements of a template that a new object starts with.
    fn start_with(&mut self, id: Guid, kind: u32, elements: &[Element]) -> Result<(), Error> {
        self.object(id, kind, &[])?;
        elements.iter().try_for_each(|element| self.editor.set(&id, element.kind, &element.value))
    }

    /// Objects that others inherit from.
    fn settings(&mut self) -> Result<(), Error> {
        let global = || objects(&["{globalsettings}"]);
        self.setting(known("{emssettings}")?, 0x2010_0000, &[(0x1600_0020, ElementValue::Boolean(false))])?;
        self.setting(known("{dbgsettings}")?, 0x2010_0000, &[(0x1500_0011, ElementValue::Integer(4))])?;
        self.setting(known("{badmemory}")?, 0x2010_0000, &[])?;
        let all = objects(&["{dbgsettings}", "{emssettings}", "{badmemory}"])?;
        self.setting(known("{globalsettings}")?, 0x2010_0000, &[(0x1400_0006, all)])?;
        let loader = objects(&["{globalsettings}", "{hypervisorsettings}"])?;
        self.setting(known("{bootloadersettings}")?, 0x2020_0003, &[(0x1400_0006, loader)])?;
        self.setting(known("{resumeloadersettings}")?, 0x2020_0004, &[(0x1400_0006, global()?)])?;
        let hypervisor = [(0x2500_00f3, 0), (0x2500_00f4, 1), (0x2500_00f5, 115_200)];
        let hypervisor = hypervisor.map(|(number, value)| (number, ElementValue::Integer(value)));
        self.setting(known("{hypervisorsettings}")?, 0x2020_0003, &hypervisor)
    }

    fn managers(&mut self) -> Result<(), Error> {
        let options = self.options;
        let is_uefi = options.firmware == Firmware::Uefi;
        let device = ElementValue::Device(options.system.clone());
        let mut manager = vec![(0x1100_0001, device.clone())];
        if is_uefi {
            manager.push((0x1200_0002, text("\\EFI\\Microsoft\\Boot\\bootmgfw.efi")));
        }
        manager.extend([
            (0x1200_0004, text("Windows Boot Manager")),
            (0x1200_0005, text(&options.locale)),
            (0x1400_0006, objects(&["{globalsettings}"])?),
            (0x2300_0003, ElementValue::Object(options.ids.loader)),
            (0x2300_0006, ElementValue::Object(options.ids.resume)),
            (0x2400_0001, ElementValue::ObjectList(vec![options.ids.loader])),
            (0x2400_0010, objects(&["{memdiag}"])?),
            (0x2500_0004, ElementValue::Integer(options.timeout_seconds)),
        ]);
        self.object(known("{bootmgr}")?, 0x1010_0002, &manager)?;
        if is_uefi {
            let order = (0x2400_0001, objects(&["{bootmgr}"])?);
            self.object(
                known("{fwbootmgr}")?,
                0x1010_0001,
                &[order, (0x2500_0004, ElementValue::Integer(0))],
            )?;
        }
        let memtest = if is_uefi { "\\EFI\\Microsoft\\Boot\\memtest.efi" } else { "\\boot\\memtest.exe" };
        let memdiag = [
            (0x1100_0001, device),
            (0x1200_0002, text(memtest)),
            (0x1200_0004, text("Windows Memory Diagnostic")),
            (0x1200_0005, text(&options.locale)),
            (0x1400_0006, objects(&["{globalsettings}"])?),
            (0x1600_000b, ElementValue::Boolean(true)),
        ];
        self.object(known("{memdiag}")?, 0x1020_0005, &memdiag)
    }

    fn windows(&mut self) -> Result<(), Error> {
        let options = self.options;
        let is_uefi = options.firmware == Firmware::Uefi;
        let extension = if is_uefi { "efi" } else { "exe" };
        let program = |name: &str| text(&format!("\\Windows\\system32\\{name}.{extension}"));
        let device = ElementValue::Device(options.windows.clone());
        // What loader and resume have in common, apart from their names.
        let mut both = vec![
            (0x1100_0001, device.clone()),
            (0x1200_0005, text(&options.locale)),
            (0x1600_0009, ElementValue::Boolean(options.recovery.is_some())),
            (0x1700_0077, ElementValue::IntegerList(vec![0x1500_0075])),
            (0x2100_0001, device),
        ];
        if is_uefi {
            both.push((0x1600_0060, ElementValue::Boolean(true)));
        }
        if options.recovery.is_some() {
            both.push((0x1400_0008, ElementValue::ObjectList(vec![options.ids.recovery])));
        }
        let mut loader = both.clone();
        loader.extend([
            (0x1200_0002, program("winload")),
            (0x1200_0004, text(&options.description)),
            (0x1400_0006, objects(&["{bootloadersettings}"])?),
            (0x2200_0002, text("\\Windows")),
            (0x2300_0003, ElementValue::Object(options.ids.resume)),
            (0x2500_0020, ElementValue::Integer(0)),
            (0x2500_00c2, ElementValue::Integer(1)),
        ]);
        let (for_loader, for_resume) = std::mem::take(&mut self.templates);
        self.start_with(options.ids.loader, 0x1020_0003, &for_loader)?;
        self.object(options.ids.loader, 0x1020_0003, &loader)?;
        let mut resume = both;
        resume.extend([
            (0x1200_0002, program("winresume")),
            (0x1200_0004, text("Windows Resume Application")),
            (0x1400_0006, objects(&["{resumeloadersettings}"])?),
            (0x2200_0002, text("\\hiberfil.sys")),
            (0x2500_0008, ElementValue::Integer(1)),
            (0x2600_0006, ElementValue::Boolean(false)),
        ]);
        self.start_with(options.ids.resume, 0x1020_0004, &for_resume)?;
        self.object(options.ids.resume, 0x1020_0004, &resume)
    }

    fn recovery(&mut self, recovery: &Recovery) -> Result<(), Error> {
        let options = self.options;
        let extension = if options.firmware == Firmware::Uefi { "efi" } else { "exe" };
        let file = FilePath {
            device: recovery.device.clone(),
            path: NtName::from(format!("{}\\Winre.wim", recovery.directory).as_str()),
            has_path_offset: false,
        };
        let ramdisk =
            ElementValue::Device(Device::Ramdisk { options: options.ids.ramdisk, file: Box::new(file) });
        let loader = [
            (0x1100_0001, ramdisk.clone()),
            (0x1200_0002, text(&format!("\\windows\\system32\\winload.{extension}"))),
            (0x1200_0004, text("Windows Recovery Environment")),
            (0x1200_0005, text(&options.locale)),
            (0x1400_0006, objects(&["{bootloadersettings}"])?),
            (0x1500_0065, ElementValue::Integer(3)),
            (0x2100_0001, ramdisk),
            (0x2200_0002, text("\\windows")),
            (0x2500_0020, ElementValue::Integer(0)),
            (0x2500_00c2, ElementValue::Integer(1)),
            (0x2600_0022, ElementValue::Boolean(true)),
            (0x4600_0010, ElementValue::Boolean(true)),
        ];
        self.object(options.ids.recovery, 0x1020_0003, &loader)?;
        let ramdisk = [
            (0x1200_0004, text("Windows Recovery")),
            (0x3100_0003, ElementValue::Device(recovery.device.clone())),
            (0x3200_0004, text(&format!("{}\\boot.sdi", recovery.directory))),
        ];
        self.object(options.ids.ramdisk, 0x3000_0000, &ramdisk)
    }
}
