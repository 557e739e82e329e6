//! What will become of the Windows in an image of a disk, found out before anything of the disk is destroyed: it is serviced in memory where it
//! lies in the image, and nothing is written.
//!
//! **Cost:** of the image are fetched the hives SYSTEM, SOFTWARE, DRIVERS, SAM and SECURITY and the directories on the way, 100 to 300 MB of content
//! for a Windows in use.

use std::sync::Arc;

use gravure_imaging::{BlockImage, BlockImageAt, Misfit, PartialTree};
use gravure_io::{ReadAt, Window};
use gravure_linux::machine;
use gravure_model::Ctl;
use gravure_windows::SERVICED_DIRECTORIES;

use super::super::Run;
use super::super::sources::BundleSources;
use super::servicing::{Machine, Serviced, Servicing, Start, wishes};
use crate::failure::{StepError, chain, code};

/// File system of a volume, as facts of images have it.
pub(super) const NTFS: &str = "NTFS";
/// Volumes that may have a Windows and cannot be looked into.
const ENCRYPTED: &str = "BitLocker";

/// What was found.
#[derive(Debug, Default)]
pub(in crate::execute) struct Foreseen {
    /// Each Windows by its partition, as it will be.
    serviced: Vec<(String, Serviced)>,
    /// Why a Windows cannot be serviced.
    failures: Vec<StepError>,
    /// Volumes that cannot be looked into, and why.
    unreached: Vec<String>,
}

/// What is done with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::execute) struct Judgement {
    /// What is unlike on this machine, and is no reason not to go on.
    pub(in crate::execute) odd: Vec<Misfit>,
    /// What Windows gets a driver for.
    pub(in crate::execute) served: Vec<Misfit>,
    /// What people should see to.
    pub(in crate::execute) warnings: Vec<String>,
    /// Windows does not start without what it gets.
    pub(in crate::execute) is_needed: bool,
}

/// The hardware that an image is of, held against that of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::execute) enum Likeness {
    /// The image started from a controller of the same kind.
    SameController,
    /// It did not, or nobody knows.
    Unknown,
    /// The job takes any.
    AnyAccepted,
}

impl Run<'_> {
    /// What is put into each Windows that comes with the disk.
    pub(in crate::execute) fn open_servicing(&self) -> Result<Servicing, StepError> {
        let planned = self.plan.windows.clone();
        let sources = match &planned {
            Some(planned) => BundleSources::open(&planned.drivers, &planned.layers, self.machine)?,
            None => BundleSources::default(),
        };
        let devices = match planned {
            Some(_) => machine::collect(&self.machine.roots).inventory.devices,
            None => Vec::new(),
        };
        let machine = Machine {
            devices,
            disk: self.target()?.disk.name.clone(),
            name: self.plan.personality.host_name.clone(),
            what: self.what(),
            now: self.now(),
        };
        Ok(Servicing::of_plan(planned, sources, machine))
    }
}

impl Servicing {
    /// Looks at every volume of an image.
    pub(in crate::execute) fn foresee(&self, image: &BlockImage, ctl: &Ctl) -> Result<Foreseen, StepError> {
        let mut out = Foreseen::default();
        if self.planned.is_none() {
            return Ok(out);
        }
        let disk = Arc::new(BlockImageAt::new(image.clone()));
        for volume in &image.facts().volumes {
            let name = match volume.number {
                Some(number) => format!("partition {number}"),
                None => "the volume".to_owned(),
            };
            if volume.content.eq_ignore_ascii_case(ENCRYPTED) {
                out.unreached.push(format!("{name} is encrypted ({ENCRYPTED})"));
            } else if volume.content.eq_ignore_ascii_case(NTFS) {
                let source = Window::new(Arc::clone(&disk), volume.offset_bytes, volume.size_bytes);
                self.look(&name, Box::new(source), &mut out, ctl)?;
            }
        }
        Ok(out)
    }

    /// Looks at the volume that fills `source`.
    pub(super) fn look(
        &self,
        name: &str,
        source: Box<dyn ReadAt>,
        out: &mut Foreseen,
        ctl: &Ctl,
    ) -> Result<(), StepError> {
        let tree = PartialTree::of_volume(source, name);
        let read = tree.and_then(|mut tree| tree.read_ahead(&SERVICED_DIRECTORIES, ctl).map(|()| tree));
        ctl.check()?;
        let mut tree = match read {
            Ok(tree) => tree,
            Err(error) => {
                out.unreached.push(format!("{name} cannot be read: {}", chain(&error)));
                return Ok(());
            }
        };
        let done = tree.service(ctl, |round| self.service(round));
        ctl.check()?;
        match (done, tree.unclean()) {
            (Ok((None, _)), _) => {}
            (_, Some(why)) => out.unreached.push(format!("{name} is {why}")),
            (Ok((Some(serviced), _)), None) => out.serviced.push((name.to_owned(), serviced)),
            (Err(error), None) => {
                out.failures.push(StepError { message: format!("{name}: {}", error.message), ..error });
            }
        }
        Ok(())
    }
}

/// Decides whether the disk may be destroyed for this. What a driver cures is no misfit any more; what the job asks for and cannot be had is
/// refused, and so is a Windows that could not start.
pub(in crate::execute) fn judge(
    found: Vec<Misfit>,
    likeness: Likeness,
    foreseen: Foreseen,
    servicing: &Servicing,
) -> Result<Judgement, StepError> {
    let mut out = Judgement { odd: found, ..Judgement::default() };
    let Some(planned) = &servicing.planned else { return accept(out, likeness, &[]) };
    let Foreseen { serviced, failures, unreached } = foreseen;
    let wished = wishes(planned);
    // Others may be places for data.
    let mut is_served = !serviced.is_empty() && failures.is_empty();
    let mut reasons: Vec<String> = unreached;
    reasons.extend(failures.iter().map(|failure| failure.message.clone()));
    out.warnings = reasons.iter().map(|why| format!("{why}: a Windows on it gets no drivers")).collect();
    if let Some(wished) = wished {
        // Its own words and cure.
        if let Some(failure) = failures.into_iter().next() {
            return Err(failure);
        }
        if serviced.is_empty() {
            let why = match reasons.as_slice() {
                [] => "none was found on it".to_owned(),
                reasons => reasons.join("; "),
            };
            let message = format!("the image has no Windows that {wished} could be put into: {why}");
            return Err(StepError::new(code::REFUSED, message).with_cure(
                "make the plan without --settings and --layer, or capture a Windows that was shut down wholly and has its drive \
                 decrypted",
            ));
        }
        out.is_needed = true;
    }
    for (name, serviced) in serviced {
        match serviced.start {
            Start::Checked => {}
            Start::Unchecked(why) => {
                is_served = false;
                reasons.push(format!("{name}: {why}"));
            }
            Start::Cannot(error) => {
                is_served = false;
                if likeness == Likeness::Unknown {
                    let message = format!("{name}: {}", error.message);
                    return Err(StepError::new(error.code, message).with_cure(
                        "add its driver to the server's repository: gravure driver add, or make the plan with --accept-missing-drivers \
                         or --any-hardware",
                    ));
                }
            }
        }
    }
    let (controllers, odd): (Vec<_>, Vec<_>) =
        out.odd.into_iter().partition(|misfit| misfit.is_cured_by_driver() && is_served);
    out.is_needed |= !controllers.is_empty();
    (out.served, out.odd) = (controllers, odd);
    accept(out, likeness, &reasons)
}

/// Refuses what keeps most systems from starting.
fn accept(found: Judgement, likeness: Likeness, reasons: &[String]) -> Result<Judgement, StepError> {
    let fatal: Vec<String> =
        found.odd.iter().filter(|misfit| misfit.is_fatal).map(ToString::to_string).collect();
    if fatal.is_empty() || likeness == Likeness::AnyAccepted {
        return Ok(found);
    }
    let mut message = format!("the system in this image would not start here: {}", fatal.join("; "));
    if !reasons.is_empty() {
        message = format!("{message}; and it can be given no drivers: {}", reasons.join("; "));
    }
    Err(StepError::new(code::REFUSED, message).with_cure(
        "take a WIM, which gets the drivers of each machine (`gravure image advise`), or make the plan with --any-hardware",
    ))
}

#[cfg(test)]
mod tests;
