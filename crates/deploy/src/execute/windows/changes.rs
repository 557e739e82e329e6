//! What a machine gets into its Windows, wherever that is: in an image that is serviced in memory, or on a disk that was restored.

use gravure_model::inventory::Device;
use gravure_model::plan::PlannedWindows;
use gravure_tree::Tree;
use gravure_windows::answer::AnswerSettings;
use gravure_windows::drivers::{
    BundledPackages, DeviceReport, InjectOptions, InjectReport, Level, Publish, Served, Unsigned, inject_with,
};
use gravure_windows::layers::{Layer, Platform};
use gravure_windows::{ReadContent, SetupState, System, WindowsImage};

use crate::failure::{StepError, code};

/// What is told of what was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::execute) struct Told {
    /// What is worth knowing.
    pub(in crate::execute) notes: Vec<String>,
    /// What was asked for and not done, or should be seen to.
    pub(in crate::execute) not_done: Vec<String>,
}

/// What the image is, in a line.
pub(in crate::execute) fn describe(system: &System) -> String {
    let name = system.product_name.as_deref().unwrap_or("Windows");
    format!("{name} {} {}", system.version, system.arch)
}

/// Puts the packages in that these devices need.
pub(in crate::execute) fn put_drivers(
    windows: &mut WindowsImage<'_>,
    read: &ReadContent<'_>,
    bundles: &[(String, Tree)],
    devices: &[Device],
    planned: &PlannedWindows,
) -> Result<InjectReport, StepError> {
    let mut packages = BundledPackages::new(read);
    for (name, tree) in bundles {
        packages.add(name, tree)?;
    }
    Ok(inject_with(windows, &packages, devices, &planned.drivers_anyway, inject_options(planned))?)
}

/// The plan's settings with the name that the plan gives.
pub(in crate::execute) fn settings_of(
    planned: &PlannedWindows,
    name: &str,
) -> Result<AnswerSettings, StepError> {
    let text = planned.settings.as_ref().map_or("", |settings| settings.reveal());
    let mut settings = AnswerSettings::from_toml(text)?;
    settings.computer_name = Some(name.to_owned());
    Ok(settings)
}

/// Applies the layers in their order.
pub(in crate::execute) fn put_layers(
    windows: &mut WindowsImage<'_>,
    read: &ReadContent<'_>,
    bundles: &[(String, Tree)],
    system: &System,
    planned: &PlannedWindows,
) -> Result<Told, StepError> {
    let mut told = Told::default();
    for (name, tree) in bundles {
        let layer = Layer::of_bundle(Platform::Windows, tree, read, &planned.facts);
        let done = layer.and_then(|layer| layer.apply(windows, system)).map_err(|error| {
            let failure = StepError::from(error);
            StepError { message: format!("layer {name}: {}", failure.message), ..failure }
        })?;
        let word = if done.applied { "applied" } else { "there already" };
        told.notes.push(format!("layer {} {}: {word}", done.id, done.version));
        told.not_done.extend(done.not_done);
    }
    Ok(told)
}

/// Puts the settings in; says what was not done. A system in use runs no setup that would read them.
pub(in crate::execute) fn put_settings(
    windows: &mut WindowsImage<'_>,
    settings: &AnswerSettings,
    system: &System,
    planned: &PlannedWindows,
) -> Result<Option<String>, StepError> {
    if system.setup != SetupState::InUse || settings.has_secrets() {
        return match windows.apply_settings(settings, system) {
            Ok(_) => Ok(None),
            Err(error @ gravure_windows::Error::Refused { .. }) => Err(StepError::from(error).with_cure(
                "make the plan without --settings, or of an image that was generalised (sysprep /generalize)",
            )),
            Err(error) => Err(error.into()),
        };
    }
    let what =
        "the settings are not in it: the image is of a system in use and runs no setup that would read them";
    Ok(planned.settings.is_some().then(|| what.to_owned()))
}

pub(in crate::execute) fn inject_options(planned: &PlannedWindows) -> InjectOptions {
    InjectOptions {
        publish: if planned.publish_drivers { Publish::WhereSimple } else { Publish::Never },
        unsigned: if planned.allow_unsigned { Unsigned::Allow } else { Unsigned::Refuse },
    }
}

/// The controller of the disk, or what it hangs on, without a driver that starts with Windows is a machine that does not start, which is
/// better known before the disk is overwritten. `Some` is what could not be checked.
pub(in crate::execute) fn check_start(
    report: &InjectReport,
    disk: &str,
    planned: &PlannedWindows,
) -> Result<Option<String>, StepError> {
    let found = above(&report.devices, disk);
    if found.is_empty() {
        return Ok(Some(format!(
            "what {disk} hangs on is not known: whether Windows has a driver for it was not checked"
        )));
    }
    let stops = found.iter().find_map(|device| Some((&device.device, device.cannot_start.as_ref()?)));
    let Some((device, why)) = stops.filter(|_| !planned.accept_missing_drivers) else { return Ok(None) };
    let ids = device.hardware_ids.first().map_or("", String::as_str);
    let message = format!("{} {ids}: Windows cannot start from it: {why}", device.place);
    Err(StepError::new(code::REFUSED, message)
        .with_cure("add its driver to the server's repository: gravure driver add, or make the plan with --accept-missing-drivers"))
}

/// What a disk hangs on, from its controller up.
pub(in crate::execute) fn above<'d>(devices: &'d [DeviceReport], disk: &str) -> Vec<&'d DeviceReport> {
    let at = |place: &str| devices.iter().find(|known| known.device.place == place);
    let mut found: Vec<&DeviceReport> = Vec::new();
    let mut next = at(disk).and_then(|disk| disk.device.parent.as_deref());
    // A circle in what the kernel says ends.
    while let Some(device) = next.and_then(at).filter(|device| !found.contains(device)) {
        found.push(device);
        next = device.device.parent.as_deref();
    }
    found
}

/// A device and what serves it, in a line.
pub(in crate::execute) fn tell(report: &DeviceReport) -> String {
    let device = &report.device;
    let name = device.name.as_deref().or(device.hardware_ids.first().map(String::as_str)).unwrap_or("-");
    let served = match &report.served {
        Served::Image { driver } => format!("Windows' own {}", driver.inf),
        Served::Repository { candidate, level } => {
            let version = candidate.driver_version.as_deref().unwrap_or("-");
            let level = match level {
                Level::Staged => "staged",
                Level::BootCritical => "boot-critical",
                Level::Published => "published",
            };
            format!("{} {version} ({level})", candidate.inf)
        }
        Served::Nothing => "no driver".to_owned(),
    };
    format!("{} {name}: {served}", device.place)
}
