//! A restored Windows gets what the plan has for it: drivers for this machine, settings, layers, its name. Files are changed where they lie on
//! the mounted volume, by what services images of files, too; new ones are added, and all of it is recorded there.
//!
//! New contents come first, then what is there is written over in place, so that it keeps who may read it. A crash between leaves a disk that
//! is restored anew: the plan has not come to its end.

use std::path::Path;

use gravure_imaging::{Rewriting, ServicedDirectory};
use gravure_linux::mount::MountOptions;
use gravure_linux::{BlockDevice, Dir};
use gravure_model::Ctl;
use gravure_model::event::Known;
use gravure_tree::ContentRef;
use gravure_windows::{OutsideFile, SERVICED_DIRECTORIES};

use super::super::root::RootEditor;
use super::super::{Change, Expected, Run};
use super::Candidate;
use super::servicing::{Serviced, Servicing, Start};
use crate::failure::{StepError, chain, code};

impl Run<'_> {
    /// Whether there was a Windows, which is this machine's now.
    pub(super) fn personalise_windows(
        &mut self,
        one: &Candidate<'_>,
        stage: &str,
    ) -> Result<bool, StepError> {
        let Some(servicing) = self.servicing.clone() else { return Ok(false) };
        let device = BlockDevice::open_read(one.device)?;
        match gravure_windows::installed_on(&device, one.name) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            Err(error) => {
                self.warn(
                    stage,
                    format!("{} was not searched for a Windows to name: {}", one.name, chain(&error)),
                );
                return Ok(false);
            }
        }
        drop(device);
        if !self.mount_candidate(one, MountOptions::default(), stage)? {
            return match servicing.is_needed {
                true => Err(servicing.undone(one.name, "it cannot be mounted")),
                false => Ok(false),
            };
        }
        let (directory, serviced) = match look(&servicing, &self.machine.mount_point, self.ctl) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(false),
            // Nothing was written yet.
            Err(error) if servicing.is_needed || error.code == code::INTERRUPTED => {
                return Err(StepError { message: format!("{}: {}", one.name, error.message), ..error });
            }
            Err(error) => {
                let message = format!("the Windows on {} stays as it is: {}", one.name, error.message);
                self.warn(stage, message);
                return Ok(false);
            }
        };
        let Serviced { told, known_by, start, outside } = serviced;
        match start {
            Start::Checked => {}
            Start::Unchecked(why) => self.warn(stage, format!("{}: {why}", one.name)),
            Start::Cannot(error) if servicing.accepts_missing => {
                self.warn(stage, format!("{}: {}", one.name, error.message));
            }
            Start::Cannot(error) => {
                return Err(StepError { message: format!("{}: {}", one.name, error.message), ..error });
            }
        }
        let not_written;
        (self.changes, not_written) = write(directory, &servicing, outside)?;
        self.verify_mounted(one, "", |mounted| Ok(Some(RootEditor::new(Dir::open_root(mounted)?))))?;
        for note in told.notes {
            self.tell(Known::Note {
                stage: Some(stage.to_owned()),
                message: format!("{}: {note}", one.name),
            });
        }
        for text in told.not_done.into_iter().chain(not_written) {
            self.warn(stage, format!("{}: {text}", one.name));
        }
        self.restored_windows.push(known_by);
        Ok(true)
    }
}

/// Services the Windows on the volume that is mounted at `root`, in memory; nothing is written. `None` when there is none.
fn look(
    servicing: &Servicing,
    root: &Path,
    ctl: &Ctl,
) -> Result<Option<(ServicedDirectory, Serviced)>, StepError> {
    let mut directory = ServicedDirectory::open(root)?;
    directory.read_ahead(&SERVICED_DIRECTORIES, ctl)?;
    let serviced = directory.service(ctl, |round| servicing.service(round))?;
    Ok(serviced.map(|serviced| (directory, serviced)))
}

/// Writes what was done in memory. Gives what is to be found when it is read back, and what could not be written.
fn write(
    directory: ServicedDirectory,
    servicing: &Servicing,
    outside: Vec<OutsideFile>,
) -> Result<(Vec<Change>, Vec<String>), StepError> {
    let additions: Vec<_> =
        outside.into_iter().map(|file| (file.source, file.to.replace('\\', "/"))).collect();
    let contents = |content: &ContentRef| servicing.contents.read(content);
    let written = directory.write(&additions, &contents, Rewriting::InPlace)?;
    let files = written.files.into_iter().map(|file| Change {
        path: file.path,
        content: Expected::Hash { bytes: file.bytes, blake3: file.blake3, mode: file.mode },
    });
    let gone = written.gone.into_iter().map(|path| Change { path, content: Expected::Gone });
    Ok((files.chain(gone).collect(), written.not_done))
}

#[cfg(test)]
mod tests;
