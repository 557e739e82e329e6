//! `gravure bcd`: what Windows' boot manager starts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use gravure_hive::bcd::{
    Device, ElementType, ElementValue, Firmware, ListChange, Object, Recovery, Store, StoreEditor, StoreIds,
    StoreOptions, object_name, object_type_name,
};
use gravure_imaging::ErrorKind;
use gravure_nttypes::Guid;
use serde::Serialize;

use crate::Common;
use crate::exit::Failure;
use crate::hive_file::{HiveFile, failure, now, write};
use crate::output::{self, Format};

/// Show, create and edit boot stores (BCD)
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(ShowOptions),
    Create(CreateOptions),
    Edit(EditOptions),
}

/// List the objects of a store and their elements
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure bcd show /mnt/esp/EFI/Microsoft/Boot/BCD
  gravure bcd show BCD '{default}'
  gravure bcd show BCD --format json")]
struct ShowOptions {
    /// Store
    file: PathBuf,
    /// One object only: a GUID, {default}, or a name such as {bootmgr}
    object: Option<String>,
}

/// Create a store that starts one installed Windows
#[derive(Debug, clap::Args)]
#[command(after_help = "Devices are gpt:DISK-GUID:PARTITION-GUID, mbr:SIGNATURE:OFFSET-IN-BYTES or boot.

Examples:
  gravure bcd create BCD --system gpt:0b2394a9-095e-487d-8d48-719ecd4d78ca:36be3955-63bf-4068-a6ab-00195cca3a22 \\
                         --windows gpt:0b2394a9-095e-487d-8d48-719ecd4d78ca:8e0f2c38-e4ea-47ba-b7fc-9d8c74dccf0b
  gravure bcd create BCD --firmware bios --system mbr:0x12345678:1048576 --windows mbr:0x12345678:105906176")]
struct CreateOptions {
    /// File to write
    file: PathBuf,
    /// Partition with the boot manager
    #[arg(long, value_name = "DEVICE")]
    system: Device,
    /// Partition with Windows
    #[arg(long, value_name = "DEVICE")]
    windows: Device,
    /// Partition with the recovery environment, when it is installed already
    #[arg(long, value_name = "DEVICE")]
    recovery: Option<Device>,
    /// Directory with Winre.wim and boot.sdi on it
    #[arg(long, value_name = "DIR", default_value = "\\Recovery\\WindowsRE", requires = "recovery")]
    recovery_dir: String,
    /// What starts the boot manager
    #[arg(long, value_enum, default_value = "uefi")]
    firmware: FirmwareKind,
    /// Name in the boot menu
    #[arg(long, default_value = "Windows")]
    description: String,
    /// Language of the boot menu
    #[arg(long, default_value = "en-US")]
    locale: String,
    /// Seconds the boot menu waits
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// Replace a file that is there
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FirmwareKind {
    Uefi,
    Bios,
}

/// Set or delete an element, create or delete an object
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Elements have bcdedit's names, or are eight hexadecimal digits. Values: devices as `bcd create` takes them (and as `bcd show`
prints them), objects as GUID or name, lists with commas, numbers in decimal or with 0x, yes and no. The store is changed as a
whole or not at all, and is checked before it takes the place of the old one. What is deleted goes from the boot menus, too.
With --format json the object is printed as it is then.

Examples:
  gravure bcd edit BCD '{bootmgr}' timeout 5
  gravure bcd edit BCD '{bootmgr}' default 11111111-2222-3333-4444-555555555555
  gravure bcd edit BCD '{bootmgr}' displayorder '{default}' --add-last
  gravure bcd edit BCD '{default}' testsigning yes
  gravure bcd edit BCD '{default}' osdevice gpt:0b2394a9-095e-487d-8d48-719ecd4d78ca:8e0f2c38-e4ea-47ba-b7fc-9d8c74dccf0b
  gravure bcd edit BCD '{default}' device mbr:0x12345678:105906176
  gravure bcd edit BCD '{default}' recoverysequence --delete
  gravure bcd edit BCD 11111111-2222-3333-4444-555555555555 --create 10200003
  gravure bcd edit BCD 11111111-2222-3333-4444-555555555555 --delete"
)]
struct EditOptions {
    /// Store
    file: PathBuf,
    /// A GUID, {default}, or a name such as {bootmgr}
    object: String,
    /// Element
    element: Option<String>,
    /// Its value
    #[arg(conflicts_with = "delete")]
    value: Option<String>,
    /// Put these objects before those that the list has
    #[arg(long, requires = "value", conflicts_with_all = ["add_last", "remove"])]
    add_first: bool,
    /// Put these objects behind those that the list has
    #[arg(long, requires = "value", conflicts_with = "remove")]
    add_last: bool,
    /// Take these objects out of the list
    #[arg(long, requires = "value")]
    remove: bool,
    /// Delete the element, or without one the object
    #[arg(long)]
    delete: bool,
    /// Create the object, of this type (hexadecimal)
    #[arg(long, value_name = "TYPE", conflicts_with_all = ["delete", "element"])]
    create: Option<String>,
}

/// An object, for programs.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    name: Option<&'static str>,
    #[serde(rename = "type")]
    kind: String,
    type_name: Option<&'static str>,
    elements: Vec<ShownElement>,
}

#[derive(Debug, Serialize)]
struct ShownElement {
    #[serde(rename = "type")]
    kind: String,
    name: Option<&'static str>,
    value: String,
}

impl Shown {
    fn new(object: &Object) -> Self {
        let elements = object.elements.iter().map(|element| ShownElement {
            kind: element.kind.to_string(),
            name: element.kind.name(object.kind),
            value: element.value.to_string(),
        });
        Self {
            id: format!("{{{}}}", object.id),
            name: object_name(&object.id),
            kind: format!("{:08x}", object.kind),
            type_name: object_type_name(object.kind),
            elements: elements.collect(),
        }
    }

    fn text(&self) -> String {
        let mut out = format!("{} {}", self.id, self.type_name.unwrap_or(&self.kind));
        if let Some(name) = self.name {
            out.push_str(&format!(" {name}"));
        }
        for element in &self.elements {
            let name = element.name.unwrap_or(&element.kind);
            out.push_str(&format!("\n  {name:<24} {}", element.value));
        }
        out
    }
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Show(options) => show(options, common),
        Command::Create(options) => create(options),
        Command::Edit(options) => edit(options, common),
    }
}

fn show(options: &ShowOptions, common: &Common) -> Result<ExitCode, Failure> {
    let file = HiveFile::open_as_is(&options.file)?;
    let failed = |error: gravure_hive::Error| file.failure(&error);
    let store = Store::new(&file.hive).map_err(failed)?;
    let objects = match &options.object {
        None => store.objects().map_err(failed)?,
        Some(text) => {
            let id = store.resolve(text).map_err(failed)?;
            let object = store.object(&id).map_err(failed)?;
            let not_found = || failed(gravure_hive::Error::NotFound { what: "object", name: text.clone() });
            vec![object.ok_or_else(not_found)?]
        }
    };
    let shown: Vec<Shown> = objects.iter().map(Shown::new).collect();
    output::document(common.format, &shown, |shown| {
        shown.iter().map(Shown::text).collect::<Vec<_>>().join("\n\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn create(options: &CreateOptions) -> Result<ExitCode, Failure> {
    if options.file.exists() && !options.yes {
        let message = format!("{} is there already", options.file.display());
        return Err(Failure::new(ErrorKind::Refused, message).with_cure("--yes replaces it"));
    }
    let id = || Guid(*uuid::Uuid::new_v4().as_bytes());
    let recovery = options.recovery.clone();
    let store = StoreOptions {
        firmware: match options.firmware {
            FirmwareKind::Uefi => Firmware::Uefi,
            FirmwareKind::Bios => Firmware::Bios,
        },
        system: options.system.clone(),
        windows: options.windows.clone(),
        recovery: recovery.map(|device| Recovery { device, directory: options.recovery_dir.clone() }),
        description: options.description.clone(),
        locale: options.locale.clone(),
        timeout_seconds: options.timeout,
        ids: StoreIds { loader: id(), resume: id(), recovery: id(), ramdisk: id() },
        now: now()?,
    };
    let bytes = store.create().map_err(|error| failure(&options.file, &error))?;
    write(&options.file, &bytes)?;
    Ok(ExitCode::SUCCESS)
}

impl EditOptions {
    /// What happens to the list of objects; `None` for a value as a whole.
    fn list_change(&self) -> Option<ListChange> {
        let changes = [
            (self.add_first, ListChange::AddFirst),
            (self.add_last, ListChange::AddLast),
            (self.remove, ListChange::Remove),
        ];
        changes.into_iter().find(|(is_asked, _)| *is_asked).map(|(_, change)| change)
    }
}

fn edit(options: &EditOptions, common: &Common) -> Result<ExitCode, Failure> {
    let file = HiveFile::open(&options.file)?;
    let failed = |error: gravure_hive::Error| file.failure(&error);
    let usage = |message: String| Failure::new(ErrorKind::Usage, message);
    let mut editor = StoreEditor::new(file.hive.clone(), now()?).map_err(failed)?;
    let id = editor.store().resolve(&options.object).map_err(failed)?;
    if let Some(kind) = &options.create {
        let kind = u32::from_str_radix(kind.trim_start_matches("0x"), 16)
            .map_err(|_| usage(format!("--create: expected a type in hexadecimal, found {kind:?}")))?;
        editor.create_object(&id, kind).map_err(failed)?;
    } else if let Some(text) = &options.element {
        let object = editor.store().object(&id).map_err(failed)?;
        let object = object.ok_or_else(|| {
            failed(gravure_hive::Error::NotFound { what: "object", name: options.object.clone() })
        })?;
        let kind = ElementType::from_text(text, object.kind).ok_or_else(|| {
            usage(format!("element {text:?}: expected bcdedit's name or eight hexadecimal digits"))
        })?;
        let value = options.value.as_deref().map(|value| editor.store().value(kind, value));
        let value = value.transpose().map_err(failed)?;
        match (value, options.list_change()) {
            (Some(ElementValue::ObjectList(objects)), Some(change)) => {
                editor.change_list(&id, kind, change, &objects).map_err(failed)?;
            }
            (Some(_), Some(_)) => {
                return Err(usage(format!(
                    "element {text}: --add-first, --add-last and --remove are for lists"
                )));
            }
            (Some(value), None) => editor.set(&id, kind, &value).map_err(failed)?,
            (None, _) if options.delete => editor.delete(&id, kind).map_err(failed)?,
            (None, _) => return Err(usage(format!("element {text}: expected a value or --delete"))),
        }
    } else if options.delete {
        editor.delete_object(&id).map_err(failed)?;
        editor.unlink(&id).map_err(failed)?;
    } else {
        return Err(usage("expected an element and its value, --delete or --create".to_owned()));
    }
    let edited = editor.store().object(&id).map_err(failed)?;
    file.save(&editor.finish().map_err(failed)?)?;
    if common.format != Format::Text {
        let shown: Vec<Shown> = edited.iter().map(Shown::new).collect();
        output::document(common.format, &shown, |_| String::new())?;
    }
    Ok(ExitCode::SUCCESS)
}
