//! What a Windows gets that stands on a disk and not in an image of files: drivers for this machine, settings, layers, its name. In memory, on
//! the directories that it asks for, so that it can be tried on the image before anything of the disk is destroyed.

use gravure_imaging::{ContentReader, PartialTree, Round};
use gravure_model::event::Known;
use gravure_model::inventory::Device;
use gravure_model::plan::PlannedWindows;
use gravure_nttypes::FileTime;
use gravure_tree::{ContentRef, Tree};
use gravure_windows::{ContentResult, OutsideFile, SetupState, System, WindowsImage};

use super::super::sources::BundleSources;
use super::super::windows::changes::{
    Told, check_start, describe, put_drivers, put_layers, put_settings, settings_of, tell,
};
use crate::failure::{StepError, chain, code};

/// First version of Windows with a driver database: 8.
pub(super) const HAS_DATABASE: (u32, u32) = (6, 2);

/// What becomes of each Windows of the disk.
pub(in crate::execute) struct Servicing {
    /// `None` in plans that give a name and nothing else.
    pub(super) planned: Option<PlannedWindows>,
    pub(super) drivers: Vec<(String, Tree)>,
    pub(super) layers: Vec<(String, Tree)>,
    /// Of drivers and layers.
    pub(super) contents: ContentReader,
    /// Of this machine.
    pub(super) devices: Vec<Device>,
    /// The kernel's name of the disk.
    pub(super) disk: String,
    /// The machine's.
    pub(super) name: String,
    /// Stands in the record of changes.
    pub(super) what: String,
    pub(super) now: FileTime,
    /// The deployment has failed when no Windows got it.
    pub(in crate::execute) is_needed: bool,
    /// What Windows cannot start from is told, and is no failure.
    pub(in crate::execute) accepts_missing: bool,
}

/// Whether Windows has a driver for what the disk hangs on.
#[derive(Debug)]
pub(super) enum Start {
    /// It has, or the plan takes it as it is.
    Checked,
    /// Why that is not known.
    Unchecked(String),
    /// It has none.
    Cannot(StepError),
}

/// A Windows that was serviced in memory.
#[derive(Debug)]
pub(super) struct Serviced {
    pub(super) told: Told,
    pub(super) known_by: Known,
    pub(super) start: Start,
    /// Files of this machine that go in.
    pub(super) outside: Vec<OutsideFile>,
}

impl Servicing {
    /// Of a plan that says what goes in.
    pub(super) fn of_plan(planned: Option<PlannedWindows>, sources: BundleSources, machine: Machine) -> Self {
        let Machine { devices, disk, name, what, now } = machine;
        let BundleSources { bundles, drivers, layers } = sources;
        let contents = bundles.contents();
        let is_needed = planned.as_ref().is_some_and(|planned| wishes(planned).is_some());
        let accepts_missing = false;
        Self {
            planned,
            drivers,
            layers,
            contents,
            devices,
            disk,
            name,
            what,
            now,
            is_needed,
            accepts_missing,
        }
    }

    /// Services the Windows of a volume in memory; `None` when there is none.
    pub(super) fn service(&self, round: Round<'_>) -> Result<Option<Serviced>, StepError> {
        let Round { tree, read: own, looks_into } = round;
        let read = |content: &ContentRef| -> ContentResult {
            match PartialTree::is_own(content) {
                true => Ok(own(content)?),
                false => Ok(self.contents.read(content)?),
            }
        };
        let mut windows = match WindowsImage::open_partial(tree, &read, looks_into, self.now) {
            Err(gravure_windows::Error::NotFound { what: "Windows", .. }) => return Ok(None),
            opened => opened?,
        };
        let system = windows.system()?;
        let mut told = Told { notes: vec![describe(&system)], not_done: Vec::new() };
        self.tell_of_use(&system, &mut told);
        // Setup makes a new one; a copy of a system in use keeps what it had.
        let keeps_sid = system.setup != SetupState::Generalized;
        let machine_sid = match windows.machine_sid() {
            Ok(sid) => sid.filter(|_| keeps_sid).map(|sid| sid.to_string()),
            // Nothing that is done here needs it.
            Err(error) => {
                told.notes.push(format!("its SID could not be read: {}", chain(&error)));
                None
            }
        };
        windows.name_machine(&self.name, &system)?;
        let start = match &self.planned {
            Some(planned) => {
                let report = put_drivers(&mut windows, &read, &self.drivers, &self.devices, planned)?;
                told.notes.extend(report.devices.iter().map(tell));
                let start = match check_start(&report, &self.disk, planned) {
                    // What drives a disk there is in no list that is read here.
                    Err(_) if (system.version.major, system.version.minor) < HAS_DATABASE => {
                        let version = system.version;
                        Start::Unchecked(format!(
                            "Windows {version} has no driver database: whether it has a driver for what {} hangs on was not checked",
                            self.disk
                        ))
                    }
                    Ok(None) => Start::Checked,
                    Ok(Some(why)) => Start::Unchecked(why),
                    Err(error) => Start::Cannot(error),
                };
                told.not_done.extend(report.not_done);
                let settings = settings_of(planned, &self.name)?;
                told.not_done.extend(put_settings(&mut windows, &settings, &system, planned)?);
                let layers = put_layers(&mut windows, &read, &self.layers, &system, planned)?;
                told.notes.extend(layers.notes);
                told.not_done.extend(layers.not_done);
                start
            }
            None => Start::Checked,
        };
        let finished = windows.finish(&self.what)?;
        told.notes.push(format!("{} changes", finished.changes.len()));
        let known_by = Known::Windows { machine_sid, computer_name: Some(self.name.clone()) };
        Ok(Some(Serviced { told, known_by, start, outside: finished.outside }))
    }

    /// What people should know of a copy of a system that is in use: a warning, unless the job says that they do.
    fn tell_of_use(&self, system: &System, told: &mut Told) {
        if system.setup != SetupState::InUse {
            return;
        }
        let mut texts = vec![
            "the Windows was in use when the image was made: its accounts and its SID are those of the machine that it was made of"
                .to_owned(),
        ];
        if let Some(domain) = &system.domain {
            texts.push(format!("it has to be joined to {domain} again, which knows it by its old name"));
        }
        match self.planned.as_ref().is_some_and(|planned| planned.accept_in_use) {
            true => told.notes.extend(texts),
            false => told.not_done.extend(texts),
        }
    }

    /// Of a volume that did not get what the plan has for it.
    pub(super) fn undone(&self, volume: &str, why: &str) -> StepError {
        let what = self.planned.as_ref().and_then(wishes).unwrap_or("the drivers that it starts with");
        let message = format!("{volume}: {what} could not be put into a Windows: {why}");
        StepError::new(code::FAILED, message).with_cure(
            "start the machine that the image is of, shut it down wholly (shutdown /s /t 0, without fast startup), and capture it again",
        )
    }
}

/// What the job asks for in words, which no plan is carried out without.
pub(super) fn wishes(planned: &PlannedWindows) -> Option<&'static str> {
    match (planned.settings.is_some(), !planned.layers.is_empty()) {
        (true, true) => Some("settings and layers"),
        (true, false) => Some("settings"),
        (false, true) => Some("layers"),
        (false, false) => None,
    }
}

/// The machine that it is for.
pub(super) struct Machine {
    pub(super) devices: Vec<Device>,
    pub(super) disk: String,
    pub(super) name: String,
    pub(super) what: String,
    pub(super) now: FileTime,
}
