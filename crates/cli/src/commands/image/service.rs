//! `gravure image service`: an image with the drivers, settings and layers it is to have, written as a file of its own. Linux images take
//! layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use gravure_imaging::{
    ErrorKind, Overlay, Rewriting, Round, ScanOptions, ServicedDirectory, ServicedImage, TreeChange,
};
use gravure_linux::Dir;
use gravure_model::Ctl;
use gravure_model::inventory::{Inventory, machine_facts};
use gravure_nttypes::{FileTime, NtName};
use gravure_tree::Tree;
use gravure_windows::answer::AnswerSettings;
use gravure_windows::drivers::{
    InjectOptions, InjectReport, PackModel, Publish, Repository, Served, Unsigned, inject_with,
};
use gravure_windows::layers::{Layer, LayerReport, Platform};
use gravure_windows::{
    Change, ContentResult, Finished, HiveFile, LinuxImage, OutsideFile, SERVICED_DIRECTORIES, System,
    WindowsImage,
};
use serde::Serialize;

use super::on_disk::{self, Access, Volume};
use crate::commands::driver::{read_any_inventory, read_inventory};
use crate::commands::layout::is_esd;
use crate::commands::rewrite::Remaking;
use crate::exit::{Failure, chain, done_or_partial};
use crate::output::{self, bytes};
use crate::progress::Reporter;
use crate::target::ImageName;
use crate::{Common, interrupt};

/// Put drivers, settings and layers into a Windows image, or layers into a Linux image, offline; or into a system on a disk
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The image is written as the only one of a new file; the source stays as it is. Drivers: what Windows has for a device
stays; packages that fit better are laid into \\Windows\\Gravure\\Drivers and installed by Windows before its first screen; a
disk controller that Windows does not know gets what it needs to be started from. Everything that is changed is recorded in
the image, and --undo takes the last run back. Something that could not be done is told, and the exit code is 10.
Images without Windows take layers of directories, files, text, INI files and first-boot commands (where systemd is); a layer
with any other rule is refused by the rule's name. A directory is taken for the system that is mounted there, with the kernel's ntfs3 or ntfs-3g for
Windows, and is changed in place: of its directories those are read that are changed or asked about, new contents are written and
flushed first, then files take their places. A partition, or a raw file of a volume or disk (with :NUMBER for a partition), is
mounted for that by ntfs3, or by ntfs-3g where the kernel has none, and by the kernel for Linux; NTFS is checked before and after. What is hibernated,
mounted or not sound is refused, --dry-run reads NTFS without mounting it.

Examples:
  gravure image service install.wim:1 --drivers /srv/drivers --inventory pc.json -o pc.wim
  gravure image service install.wim:1 --settings school.toml -o school.wim
  gravure image service install.wim:1 --drivers /srv/drivers --inventory pc.json --dry-run --format json
  gravure image service install.wim:1 --layer school.toml --set ROOM=B7 --inventory pc.json -o school.wim
  gravure image service pc.wim:1 --undo -o install.wim
  gravure image service debian.wim:1 --layer room.toml --set ROOM=B7 -o room.wim
  gravure image service /dev/sda3 --drivers /srv/drivers --inventory pc.json
  gravure image service disk.img:2 --layer room.toml --set ROOM=B7 --dry-run
  mount -t ntfs3 /dev/sda3 /mnt && gravure image service /mnt --drivers /srv/drivers --inventory pc.json

Settings (TOML): computer-name, product-key, time-zone, owner, organization, input-locale, system-locale, ui-language,
user-locale, administrator-password, oobe.skip, join.offline-blob, [[account]] name password groups, [[command]] run pass.
Places in layers: ${WINDIR} ${SYSTEM32} ${PROGRAM_FILES} ${PROGRAM_FILES_X86} ${PROGRAM_DATA} ${PUBLIC} ${DESKTOP} ${START_MENU} ${STARTUP}
${FONTS} ${DEFAULT_USER}; of Linux ${ETC} ${BIN} ${LIB} ${SHARE} ${OPT} ${STATE} ${SKELETON} ${UNITS} ${APPLICATIONS} ${ROOT_HOME}."
)]
pub(super) struct Options {
    /// Image file, with :NUMBER or :NAME; a directory, where a volume is mounted; a partition, or a raw file of one or of a disk
    image: ImageName,
    /// Image file to write; what is no image is changed where it is
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Directory of the driver repository
    #[arg(long, value_name = "DIR", requires = "inventory")]
    drivers: Option<PathBuf>,
    /// Inventory of the machine, as `gravure inventory show --format json` prints it; several for an image for all of them. Layers know a
    /// single machine by it: ${SERIAL} ${UUID} ${MAC} ${MANUFACTURER} ${MODEL} ${SKU} ${ASSET}, and ${COMPUTER_NAME} by the settings
    #[arg(long, value_name = "FILE")]
    inventory: Vec<PathBuf>,
    /// Publish simple packages in driver store and driver database, as DISM does
    #[arg(long, requires = "drivers")]
    publish: bool,
    /// Put in all packages out of the driver pack of the machine's model, too, whether a device needs them now or not
    #[arg(long, requires = "drivers")]
    model_drivers: bool,
    /// Let unsigned drivers start the machine, for machines with test signing
    #[arg(long, requires = "drivers")]
    allow_unsigned: bool,
    /// Settings for the answer file (TOML)
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Layer of rules (TOML): registry, files, INI, text, commands; several in their order
    #[arg(long, value_name = "FILE")]
    layer: Vec<PathBuf>,
    /// What ${NAME} stands for in layers
    #[arg(long, value_name = "NAME=VALUE", requires = "layer")]
    set: Vec<String>,
    /// Take the last recorded run back
    #[arg(long, conflicts_with_all = ["drivers", "settings", "layer"])]
    undo: bool,
    /// Tell what would change, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Further files that content may lie in
    #[arg(long = "ref", value_name = "FILE")]
    references: Vec<PathBuf>,
    #[command(flatten)]
    remaking: Remaking,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    file: Option<String>,
    file_bytes: Option<u64>,
    /// Of a Windows image.
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<System>,
    /// Name of a system without Windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    linux: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drivers: Option<InjectReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerReport>,
    changes: Vec<String>,
    not_done: Vec<String>,
}

pub(super) fn run(options: &Options, common: &Common) -> Result<ExitCode, Failure> {
    if options.drivers.is_none() && options.settings.is_none() && options.layer.is_empty() && !options.undo {
        return Err(Failure::new(ErrorKind::Usage, "nothing to change was given")
            .with_cure("`gravure image service --help` lists what can be changed"));
    }
    if !options.inventory.is_empty() && options.drivers.is_none() && options.layer.is_empty() {
        return Err(Failure::new(
            ErrorKind::Usage,
            "--inventory is for --drivers or --layer, and neither was given",
        ));
    }
    let ctl = interrupt::ctl();
    let reporter = Reporter::new(common.progress);
    let settings = options.settings.as_deref().map(read_settings).transpose()?;
    let path = Path::new(&options.image.file);
    let volume = if path.is_dir() { None } else { on_disk::find(path, &options.image.which)? };
    if path.is_dir() || volume.is_some() {
        if let Some(output) = &options.output {
            let message =
                format!("-o {}: a directory, volume or disk is changed where it is", output.display());
            return Err(Failure::new(ErrorKind::Usage, message).with_cure("leave -o out"));
        }
        let report = match &volume {
            Some(volume) => on_volume(volume, options, settings.as_ref(), &ctl)?,
            None => in_place(path, options, settings.as_ref(), &ctl)?,
        };
        let code = done_or_partial(u64::try_from(report.not_done.len()).unwrap_or(u64::MAX));
        output::document(common.format, &report, |report| text(report, options))?;
        return Ok(code);
    }
    if options.output.is_none() && !options.dry_run {
        let failure = Failure::new(ErrorKind::Usage, "no file to write was given");
        return Err(failure.with_cure("-o FILE, or --dry-run"));
    }
    let source = options.image.open_file(&options.references, &ctl)?;
    let index = source.find(&options.image.which)?;
    let mut serviced = ServicedImage::open(&source, index)?;
    let reader = serviced.reader();
    let read = |content: &gravure_tree::ContentRef| -> ContentResult { Ok(reader.read(content)?) };
    let Done { mut report, outside } = if has_windows(&serviced.tree) {
        service_windows(WindowsImage::open(&mut serviced.tree, &read, now())?, options, settings.as_ref())?
    } else {
        service_linux(LinuxImage::open(&mut serviced.tree, &read, now())?, options, None)?
    };
    if let Some(output) = options.output.as_deref().filter(|_| !options.dry_run) {
        let rewrite = options.remaking.options("service", is_esd(output) && !output.exists())?;
        let additions: Vec<TreeChange> = outside
            .into_iter()
            .map(|file| TreeChange::Add {
                source: file.source,
                to: format!("/{}", file.to.replace('\\', "/")),
                scan: ScanOptions::default(),
                overlay: Overlay::Replace,
            })
            .collect();
        let written = serviced.write(output, &additions, &rewrite, &ctl, &reporter)?;
        report.file_bytes = Some(written.file_bytes);
    }
    let code = done_or_partial(u64::try_from(report.not_done.len()).unwrap_or(u64::MAX));
    output::document(common.format, &report, |report| text(report, options))?;
    Ok(code)
}

/// The same for a volume that nobody has mounted.
fn on_volume(
    volume: &Volume,
    options: &Options,
    settings: Option<&AnswerSettings>,
    ctl: &Ctl,
) -> Result<Report, Failure> {
    let access = if options.dry_run { Access::Read } else { Access::Change };
    // To tell what would change, NTFS needs no mount.
    if let (Access::Read, Some(mut tree)) = (access, volume.tree()?) {
        tree.read_ahead(&SERVICED_DIRECTORIES, ctl)?;
        let (done, _) = tree.service(ctl, |round| windows_in(round, &volume.name, options, settings))?;
        return Ok(done.ok_or_else(|| no_system(&volume.name))?.report);
    }
    let mounted = volume.mount(access, ctl)?;
    let mut report = in_place(mounted.path(), options, settings, ctl)?;
    mounted.finish(access, ctl)?;
    report.file = Some(volume.name.clone());
    Ok(report)
}

/// The same for a directory where a volume is mounted.
fn in_place(
    directory: &Path,
    options: &Options,
    settings: Option<&AnswerSettings>,
    ctl: &Ctl,
) -> Result<Report, Failure> {
    let name = directory.display().to_string();
    let mut serviced = ServicedDirectory::open(directory)?;
    serviced.read_ahead(&SERVICED_DIRECTORIES, ctl)?;
    let windows = serviced.service(ctl, |round| windows_in(round, &name, options, settings))?;
    let Done { mut report, outside } = match windows {
        Some(done) => done,
        None => {
            let root =
                Dir::open_root(directory).map_err(|error| Failure::new(ErrorKind::Io, chain(&error)))?;
            serviced = ServicedDirectory::open_unix(root)?;
            serviced.service(ctl, |Round { tree, read: own, looks_into }| {
                let read = |content: &gravure_tree::ContentRef| -> ContentResult { Ok(own(content)?) };
                let image = LinuxImage::open_partial(tree, &read, looks_into, now())?;
                // Any directory could be one of files: where a volume is not mounted nothing is put.
                image.name().ok_or_else(|| no_system(&name))?;
                service_linux(image, options, Some(directory))
            })?
        }
    };
    report.file = Some(name);
    if !options.dry_run {
        let additions: Vec<(PathBuf, String)> =
            outside.into_iter().map(|file| (file.source, file.to.replace('\\', "/"))).collect();
        let elsewhere = |_: &gravure_tree::ContentRef| {
            Err(gravure_imaging::Error::NotFound { what: "content", which: "of a package".to_owned() })
        };
        let written = serviced.write(&additions, &elsewhere, Rewriting::Replace)?;
        report.not_done.extend(written.not_done);
    }
    Ok(report)
}

/// `None` when there is no Windows.
fn windows_in(
    round: Round<'_>,
    name: &str,
    options: &Options,
    settings: Option<&AnswerSettings>,
) -> Result<Option<Done>, Failure> {
    let Round { tree, read: own, looks_into } = round;
    let read = |content: &gravure_tree::ContentRef| -> ContentResult { Ok(own(content)?) };
    let image = match WindowsImage::open_partial(tree, &read, looks_into, now()) {
        Err(gravure_windows::Error::NotFound { what: "Windows", .. }) => return Ok(None),
        opened => opened?,
    };
    let mut done = service_windows(image, options, settings)?;
    done.report.file = Some(name.to_owned());
    Ok(Some(done))
}

fn no_system(name: &str) -> Failure {
    let message = format!("{name}: there is neither a Windows nor a Linux that says its name in it");
    Failure::new(ErrorKind::NotFound, message)
        .with_cure("name a volume with a system, or the directory where one is mounted")
}

/// Whether a place of the system lies on the file system of its root.
fn is_on_root(root: &Path, point: &str) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::symlink_metadata(path).ok().map(|facts| facts.dev());
    match device(&root.join(point.trim_start_matches('/'))) {
        Some(found) => Some(found) == device(root),
        None => true,
    }
}

/// What was done in memory.
struct Done {
    report: Report,
    /// Files that are to be added when the image is written.
    outside: Vec<OutsideFile>,
}

/// Whether the tree is that of a Windows volume.
fn has_windows(tree: &Tree) -> bool {
    let mut names = HiveFile::System.path().split('\\');
    let found = names.try_fold(tree.root(), |at, name| {
        let name = NtName::from(name);
        let mut inside = tree.children(at).iter();
        inside.find(|entry| entry.name.folded().eq(name.folded())).map(|entry| entry.node)
    });
    found.is_some()
}

fn service_windows(
    mut image: WindowsImage<'_>,
    options: &Options,
    settings: Option<&AnswerSettings>,
) -> Result<Done, Failure> {
    let name = settings.and_then(|settings| settings.computer_name.as_deref());
    let layers = read_layers(options, Platform::Windows, name)?;
    let system = image.system()?;
    let drivers = options.drivers.as_deref().map(|dir| add_drivers(&mut image, dir, options)).transpose()?;
    let mut not_done = drivers.as_ref().map(|report| report.not_done.clone()).unwrap_or_default();
    if let Some(settings) = settings {
        not_done.extend(add_settings(&mut image, settings, &system)?);
    }
    let mut layer_reports = Vec::new();
    for layer in &layers {
        let report = layer.apply(&mut image, &system)?;
        not_done.extend(report.not_done.iter().cloned());
        layer_reports.push(report);
    }
    let undone = if options.undo { Some(image.undo_last()?) } else { None };
    let Finished { outside, changes } = image.finish(&words(options))?;
    let changes = undone.map_or(changes, |record| record.changes);
    let report = Report {
        system: Some(system),
        drivers,
        layers: layer_reports,
        not_done,
        ..Report::new(options, &changes)
    };
    Ok(Done { report, outside })
}

/// `mounted` is where the system lies, when it does not come out of an image.
fn service_linux(
    mut image: LinuxImage<'_>,
    options: &Options,
    mounted: Option<&Path>,
) -> Result<Done, Failure> {
    let unwanted = [(options.drivers.is_some(), "--drivers"), (options.settings.is_some(), "--settings")];
    if let Some((_, what)) = unwanted.into_iter().find(|(is_given, _)| *is_given) {
        let message = format!("{}: there is no Windows in it, which {what} is for", options.image.file);
        return Err(Failure::new(ErrorKind::Usage, message).with_cure("Linux images take --layer"));
    }
    let layers = read_layers(options, Platform::Linux, None)?;
    let linux = image.name().unwrap_or_else(|| "no system that says its name".to_owned());
    let mut layer_reports = Vec::new();
    for layer in &layers {
        layer_reports.push(layer.apply_to_linux(&mut image)?);
    }
    let undone = if options.undo { Some(image.undo_last()?) } else { None };
    if let Some(root) = mounted {
        let points = image.mount_points()?;
        let hidden: Vec<String> = points.into_iter().filter(|point| is_on_root(root, point)).collect();
        if let Some(path) = image.changed_below(&hidden) {
            let message = format!(
                "{path} is not there when the system runs: its /etc/fstab mounts another file system on the way, and that is not mounted here"
            );
            return Err(Failure::new(ErrorKind::Refused, message).with_cure(format!(
                "mount all of the system below one directory, and name that: {}",
                hidden.join(", ")
            )));
        }
    }
    let changes = image.finish(&words(options))?;
    let changes = undone.map_or(changes, |record| record.changes);
    let not_done = layer_reports.iter().flat_map(|report| report.not_done.iter().cloned()).collect();
    let report =
        Report { linux: Some(linux), layers: layer_reports, not_done, ..Report::new(options, &changes) };
    Ok(Done { report, outside: Vec::new() })
}

impl Report {
    fn new(options: &Options, changes: &[Change]) -> Self {
        Self {
            file: options.output.as_ref().map(|path| path.display().to_string()),
            file_bytes: None,
            system: None,
            linux: None,
            drivers: None,
            layers: Vec::new(),
            changes: changes.iter().map(|change| change.describe(options.dry_run)).collect(),
            not_done: Vec::new(),
        }
    }
}

fn add_drivers(image: &mut WindowsImage<'_>, dir: &Path, options: &Options) -> Result<InjectReport, Failure> {
    let repository = Repository::open(dir)?;
    let how = InjectOptions {
        publish: if options.publish { Publish::WhereSimple } else { Publish::Never },
        unsigned: if options.allow_unsigned { Unsigned::Allow } else { Unsigned::Refuse },
    };
    // Machine by machine: places of devices mean something within one only.
    let mut all: Option<InjectReport> = None;
    for path in &options.inventory {
        let inventory = read_inventory(path)?;
        let anyway =
            if options.model_drivers { of_model(&repository, &inventory, path)? } else { Vec::new() };
        let report = inject_with(image, &repository, &inventory.devices, &anyway, how)?;
        all = Some(match all {
            Some(all) => all.join(report),
            None => report,
        });
    }
    all.ok_or_else(|| Failure::new(ErrorKind::Usage, "no inventory was given"))
}

/// Packages of the pack of the model that an inventory is of; none is an error.
fn of_model(repository: &Repository, inventory: &Inventory, path: &Path) -> Result<Vec<String>, Failure> {
    let shown = path.display();
    let model = PackModel::of(&inventory.smbios).ok_or_else(|| {
        Failure::new(ErrorKind::NotFound, format!("{shown}: the machine does not say which model it is"))
    })?;
    let ids = repository.of_model(&model)?;
    if ids.is_empty() {
        let message = format!("{shown}: no packages of model {model} are in the repository");
        return Err(Failure::new(ErrorKind::NotFound, message)
            .with_cure(format!("take its pack in: gravure driver add PACK --model {model}")));
    }
    Ok(ids)
}

fn read_settings(path: &Path) -> Result<AnswerSettings, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    AnswerSettings::from_toml(&text).map_err(|error| {
        let failure = Failure::from(error);
        Failure { message: format!("{}: {}", path.display(), failure.message), ..failure }
    })
}

fn read_layers(options: &Options, platform: Platform, name: Option<&str>) -> Result<Vec<Layer>, Failure> {
    let mut facts = BTreeMap::new();
    // An image for several machines knows none of them.
    if let ([path], false) = (options.inventory.as_slice(), options.layer.is_empty()) {
        let inventory = read_any_inventory(path)?;
        facts.extend(machine_facts(name.unwrap_or_default(), &inventory.identity(), &inventory.smbios));
        // A name that nobody gave is not one that is empty.
        facts.retain(|fact, _| fact != "COMPUTER_NAME" || name.is_some());
    }
    for pair in &options.set {
        let parts = pair.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = parts
            .ok_or_else(|| Failure::new(ErrorKind::Usage, format!("--set {pair:?}: expected NAME=VALUE")))?;
        facts.insert(name.to_owned(), value.to_owned());
    }
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        Layer::parse_for(platform, &text, base, &facts).map_err(|error| {
            let failure = Failure::from(error);
            Failure { message: format!("{}: {}", path.display(), failure.message), ..failure }
        })
    };
    options.layer.iter().map(read).collect()
}

/// What could not be done of the settings.
fn add_settings(
    image: &mut WindowsImage<'_>,
    settings: &AnswerSettings,
    system: &System,
) -> Result<Option<String>, Failure> {
    let path = image.apply_settings(settings, system)?;
    let runs_setup = system.setup != gravure_windows::SetupState::InUse;
    Ok((!runs_setup).then(|| {
        format!("{path} is there, but this image is of a system in use and runs no setup that would read it")
    }))
}

fn words(options: &Options) -> String {
    let parts = [
        (options.drivers.is_some(), "drivers"),
        (options.settings.is_some(), "settings"),
        (!options.layer.is_empty(), "layers"),
    ];
    let named: Vec<&str> = parts.iter().filter(|(is_there, _)| *is_there).map(|(_, word)| *word).collect();
    named.join(", ")
}

fn text(report: &Report, options: &Options) -> String {
    let mut lines = Vec::new();
    lines.extend(report.linux.clone());
    if let Some(system) = &report.system {
        let name = system.product_name.as_deref().unwrap_or("Windows");
        lines.push(format!("{name} {} {}", system.version, system.arch));
    }
    for report in report.drivers.iter().flat_map(|drivers| &drivers.devices) {
        let device = &report.device;
        let name = device.name.as_deref().or(device.hardware_ids.first().map(String::as_str)).unwrap_or("-");
        let served = match &report.served {
            Served::Image { driver } => format!("Windows' own {}", driver.inf),
            Served::Repository { candidate, level } => {
                let version = candidate.driver_version.as_deref().unwrap_or("-");
                let level = match level {
                    gravure_windows::drivers::Level::Staged => "staged",
                    gravure_windows::drivers::Level::BootCritical => "boot-critical",
                    gravure_windows::drivers::Level::Published => "published",
                };
                format!("{} {version} ({level})", candidate.inf)
            }
            Served::Nothing => "no driver".to_owned(),
        };
        lines.push(format!("  {} {name}: {served}", device.place));
        lines.extend(report.notes.iter().map(|note| format!("    {note}")));
    }
    for layer in &report.layers {
        let word = if layer.applied { "applied" } else { "there already" };
        lines.push(format!("  layer {} {}: {word}", layer.id, layer.version));
    }
    if options.dry_run {
        lines.extend(report.changes.iter().cloned());
    }
    lines.extend(report.not_done.iter().map(|what| format!("not done: {what}")));
    let size = report.file_bytes.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
    match &report.file {
        Some(file) if !options.dry_run => {
            lines.push(format!("{file}: {} changes{size}", report.changes.len()));
        }
        _ => lines.push(format!("{} changes, nothing written", report.changes.len())),
    }
    lines.join("\n")
}

pub(super) fn now() -> FileTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    FileTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}
