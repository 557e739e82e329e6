//! `gravure hive`: registry hives read, edited and checked without Windows.

mod values;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use gravure_hive::reg::{Encoding, ExportOptions, Mount, RegFile, RegVersion};
use gravure_hive::{Editor, Report, Severity, check};
use gravure_imaging::ErrorKind;
use gravure_nttypes::{NtName, SecurityDescriptor};
use serde::Serialize;

use crate::Common;
use crate::exit::Failure;
use crate::hive_file::{HiveFile, failure, now};
use crate::output::{self, Row};

/// Read, edit and check registry hives
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Get(GetOptions),
    Set(SetOptions),
    Delete(DeleteOptions),
    Import(ImportOptions),
    Export(ExportCommand),
    Check(CheckOptions),
}

/// List keys and values, or print one value
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Paths start at the root of the hive. A hive that was not written completely is completed in memory from its
logs (FILE.LOG1, FILE.LOG2) when these are beside it.

Examples:
  gravure hive get SYSTEM 'ControlSet001\\Control\\ComputerName\\ComputerName'
  gravure hive get SYSTEM 'Select' Current
  gravure hive get SOFTWARE 'Microsoft\\Windows NT\\CurrentVersion' --recursive --format jsonl"
)]
struct GetOptions {
    /// Hive
    file: PathBuf,
    /// Key
    #[arg(default_value = "")]
    key: String,
    /// Print the data of this value only; '' is the default value
    value: Option<String>,
    /// List everything below the key too
    #[arg(short, long, conflicts_with = "value")]
    recursive: bool,
}

/// Create a key, set a value or a security descriptor
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Numbers are decimal or start with 0x; binary data and unknown types are hexadecimal digits; several DATA
make a REG_MULTI_SZ. Put -- before DATA that starts with a hyphen. Keys that are missing are created, with the security descriptor of the key above.

Examples:
  gravure hive set SYSTEM 'ControlSet001\\Services\\stornvme' Start 0 --type dword
  gravure hive set SOFTWARE 'Vendor\\Objects' Version 1.2
  gravure hive set SYSTEM 'ControlSet001\\Services\\x' --sddl 'O:BAG:SYD:(A;CI;KA;;;BA)(A;CI;KA;;;SY)'"
)]
struct SetOptions {
    /// Hive
    file: PathBuf,
    /// Key
    key: String,
    /// Value; '' is the default value. Without it the key is created
    value: Option<String>,
    /// Data
    #[arg(requires = "value")]
    data: Vec<String>,
    /// Type: sz, expand_sz, multi_sz, dword, qword, binary, none or a number
    #[arg(short, long = "type", default_value = "sz", value_name = "TYPE")]
    kind: values::Kind,
    /// Security descriptor of the key, as SDDL
    #[arg(long)]
    sddl: Option<String>,
}

/// Delete a key with everything below it, or a value
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure hive delete SYSTEM 'ControlSet001\\Services\\iaStorV\\StartOverride'
  gravure hive delete SYSTEM MountedDevices '\\DosDevices\\D:'")]
struct DeleteOptions {
    /// Hive
    file: PathBuf,
    /// Key
    key: String,
    /// Value; '' is the default value
    value: Option<String>,
}

/// Do what .reg files say
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Both versions of the text are read, in UTF-16, UTF-8 and Windows-1252. CurrentControlSet becomes the control set
that Select names. Nothing is written unless every file was applied whole.

Examples:
  gravure hive import SYSTEM drivers.reg
  gravure hive import NTUSER.DAT user.reg --root HKEY_CURRENT_USER
  gravure hive import SOFTWARE a.reg b.reg --dry-run"
)]
struct ImportOptions {
    /// Hive
    file: PathBuf,
    /// .reg files, applied in this order
    #[arg(required = true)]
    texts: Vec<PathBuf>,
    /// What the files call the root of the hive; by default HKEY_LOCAL_MACHINE\\X, HKEY_USERS\\X or HKEY_CURRENT_USER, whichever
    /// their first key starts with
    #[arg(long, value_name = "PATH")]
    root: Option<String>,
    /// Say what would be done and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Write a key and everything below it as a .reg file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gravure hive export SYSTEM 'ControlSet001\\Services\\stornvme' -o stornvme.reg --root 'HKEY_LOCAL_MACHINE\\SYSTEM'
  gravure hive export BCD --encoding utf8 | less")]
struct ExportCommand {
    /// Hive
    file: PathBuf,
    /// Key
    #[arg(default_value = "")]
    key: String,
    /// File to write; standard output by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the text calls the root of the hive
    #[arg(long, value_name = "PATH", default_value = "HKEY_LOCAL_MACHINE\\HIVE")]
    root: String,
    /// Text: utf16 is what regedit writes; ansi is version 4 in Windows-1252
    #[arg(long, value_enum, default_value = "utf16")]
    encoding: TextEncoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TextEncoding {
    Utf16,
    Utf8,
    Ansi,
}

/// Check a hive: every cell, key, list, value, descriptor and count
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 5 when keys or values are lost or the hive was not written completely. With --recover a hive that its logs
complete is written back, and the logs are emptied.

Examples:
  gravure hive check SYSTEM
  gravure hive check SYSTEM --recover
  gravure hive check NTUSER.DAT --format json"
)]
struct CheckOptions {
    /// Hive
    file: PathBuf,
    /// Complete the hive from its logs and write it
    #[arg(long)]
    recover: bool,
}

pub(crate) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Get(options) => values::get(options, common),
        Command::Set(options) => set(options),
        Command::Delete(options) => delete(options),
        Command::Import(options) => import(options, common),
        Command::Export(options) => export(options),
        Command::Check(options) => check_hive(options, common),
    }
}

/// Opens for editing, lets `edit` do its work, and saves.
fn edited<T>(
    path: &std::path::Path,
    edit: impl FnOnce(&mut Editor) -> Result<T, gravure_hive::Error>,
) -> Result<T, Failure> {
    let file = HiveFile::open(path)?;
    let failed = |error: gravure_hive::Error| failure(path, &error);
    let mut editor = Editor::new(file.hive.clone(), now()?).map_err(failed)?;
    let result = edit(&mut editor).map_err(failed)?;
    file.save(&editor.finish().map_err(failed)?)?;
    Ok(result)
}

fn set(options: &SetOptions) -> Result<ExitCode, Failure> {
    let usage = |message: String| Failure::new(ErrorKind::Usage, message);
    let data = match &options.value {
        Some(name) => Some((NtName::from(name.as_str()), values::data(options.kind, &options.data)?)),
        None => None,
    };
    let security = match &options.sddl {
        Some(text) => {
            let parsed =
                SecurityDescriptor::from_sddl(text).map_err(|error| usage(format!("--sddl: {error}")))?;
            Some(parsed.to_bytes().map_err(|error| usage(format!("--sddl: {error}")))?)
        }
        None => None,
    };
    edited(&options.file, |editor| {
        let key = editor.create(&options.key)?;
        if let Some((name, data)) = &data {
            editor.set_value(key, name, data)?;
        }
        security.map_or(Ok(()), |security| editor.set_security(key, &security))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn delete(options: &DeleteOptions) -> Result<ExitCode, Failure> {
    edited(&options.file, |editor| {
        let not_found = |what, name: &str| gravure_hive::Error::NotFound { what, name: name.to_owned() };
        let key = editor.find(&options.key)?.ok_or_else(|| not_found("key", &options.key))?;
        match &options.value {
            None => editor.delete_key(key),
            Some(name) if editor.delete_value(key, &NtName::from(name.as_str()))? => Ok(()),
            Some(name) => Err(not_found("value", name)),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What an import did.
#[derive(Debug, Serialize)]
struct Imported {
    keys_created: usize,
    keys_deleted: usize,
    values_set: usize,
    values_deleted: usize,
    not_there: usize,
    written: bool,
}

fn import(options: &ImportOptions, common: &Common) -> Result<ExitCode, Failure> {
    let mut texts = Vec::new();
    for path in &options.texts {
        let bytes = fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
        texts.push((path, RegFile::parse(&bytes).map_err(|error| failure(path, &error))?));
    }
    let file = HiveFile::open(&options.file)?;
    let mut editor = Editor::new(file.hive.clone(), now()?).map_err(|error| file.failure(&error))?;
    let mut sum = gravure_hive::reg::Applied::default();
    for (path, text) in &texts {
        let mount = options
            .root
            .as_deref()
            .map_or_else(|| Mount::guess(text), |root| Mount::new(&NtName::from(root)));
        let applied = text.apply(&mut editor, &mount).map_err(|error| failure(path, &error))?;
        sum.keys_created += applied.keys_created;
        sum.keys_deleted += applied.keys_deleted;
        sum.values_set += applied.values_set;
        sum.values_deleted += applied.values_deleted;
        sum.not_there += applied.not_there;
    }
    // A dry run checks the result too.
    let bytes = editor.finish().map_err(|error| file.failure(&error))?;
    if !options.dry_run {
        file.save(&bytes)?;
    }
    let done = Imported {
        keys_created: sum.keys_created,
        keys_deleted: sum.keys_deleted,
        values_set: sum.values_set,
        values_deleted: sum.values_deleted,
        not_there: sum.not_there,
        written: !options.dry_run,
    };
    output::document(common.format, &done, |done| {
        let verb = if done.written { "" } else { "would be " };
        format!(
            "{} keys {verb}created, {} deleted; {} values {verb}set, {} deleted; {} to delete were not there",
            done.keys_created, done.keys_deleted, done.values_set, done.values_deleted, done.not_there
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn export(options: &ExportCommand) -> Result<ExitCode, Failure> {
    let file = HiveFile::open_as_is(&options.file)?;
    let key = file.hive.open(&options.key).map_err(|error| file.failure(&error))?.id();
    let (version, encoding) = match options.encoding {
        TextEncoding::Utf16 => (RegVersion::V5, Encoding::Utf16),
        TextEncoding::Utf8 => (RegVersion::V5, Encoding::Utf8),
        TextEncoding::Ansi => (RegVersion::V4, Encoding::Utf8),
    };
    let text = ExportOptions { version, encoding, mount: NtName::from(options.root.as_str()) };
    let bytes = file.hive.export(key, &text).map_err(|error| file.failure(&error))?;
    match &options.output {
        Some(path) => fs::write(path, bytes).map_err(|error| Failure::io("write", path, &error))?,
        None => {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(&bytes).and_then(|()| out.flush());
            written
                .map_err(|error| Failure::new(ErrorKind::Io, format!("write to standard output: {error}")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Checked {
    sound: bool,
    version: String,
    keys: usize,
    values: usize,
    descriptors: usize,
    free_bytes: u64,
    lost_cells: usize,
    log_entries_applied: usize,
    log_pages_applied: usize,
    log_notes: Vec<String>,
    damage: Vec<String>,
    warnings: Vec<String>,
    more: usize,
}

impl Checked {
    fn new(file: &HiveFile, report: &Report) -> Self {
        let of = |severity| {
            let faults = report.faults.iter().filter(move |fault| fault.severity == severity);
            faults.map(ToString::to_string).collect()
        };
        Self {
            sound: report.is_sound(),
            version: format!("1.{}", file.hive.base().minor),
            keys: report.keys,
            values: report.values,
            descriptors: report.descriptors,
            free_bytes: report.free_bytes,
            lost_cells: report.lost_cells,
            log_entries_applied: file.replay.entries,
            log_pages_applied: file.replay.pages,
            log_notes: file.replay.notes.clone(),
            damage: of(Severity::Damage),
            warnings: of(Severity::Warning),
            more: report.more_faults,
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "hive {}: {} keys, {} values, {} descriptors, {} bytes free, {} cells lost",
            self.version, self.keys, self.values, self.descriptors, self.free_bytes, self.lost_cells
        )];
        if self.log_entries_applied > 0 {
            lines.push(format!(
                "not written completely; its logs complete it ({} entries, {} pages)",
                self.log_entries_applied, self.log_pages_applied
            ));
        }
        lines.extend(self.log_notes.iter().map(|note| format!("note: {note}")));
        lines.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        lines.extend(self.damage.iter().map(|damage| format!("DAMAGE: {damage}")));
        if self.more > 0 {
            lines.push(format!("and {} more", self.more));
        }
        lines.push(if self.sound { "sound".to_owned() } else { "NOT sound".to_owned() });
        lines.join("\n")
    }
}

impl Row for Checked {
    fn columns() -> &'static [&'static str] {
        &["sound", "keys", "values", "damage", "warnings"]
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.sound.to_string(),
            self.keys.to_string(),
            self.values.to_string(),
            self.damage.len().to_string(),
            self.warnings.len().to_string(),
        ]
    }
}

fn check_hive(options: &CheckOptions, common: &Common) -> Result<ExitCode, Failure> {
    let file =
        if options.recover { HiveFile::open(&options.file)? } else { HiveFile::open_as_is(&options.file)? };
    let report = check(&file.hive);
    let checked = Checked::new(&file, &report);
    let is_sound = checked.sound;
    output::document(common.format, &checked, Checked::text)?;
    if !is_sound {
        let message = format!("{}: hive is damaged", options.file.display());
        return Err(Failure::new(ErrorKind::Integrity, message));
    }
    if options.recover && file.replay.entries > 0 {
        file.save(file.hive.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
