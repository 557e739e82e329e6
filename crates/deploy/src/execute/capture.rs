//! Making an image of this machine's disk, which goes to the server. The disk is opened for reading only; unclean file systems are judged as
//! `gravure capture` does.

use gravure_imaging::{
    BlockCapture, BlockCaptureOptions, BlockPlan, BlockPlanOptions, BlockSource, ErrorKind, Keep, hardware_of,
};
use gravure_linux::machine;
use gravure_model::descriptor::Digest;
use gravure_model::event::Known;
use gravure_model::plan::{Plan, PlannedCapture};
use gravure_unlock::Key;

use super::Run;
use crate::failure::{StepError, chain, code};

/// The image that was made.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) image: Digest,
    pub(super) bytes: u64,
}

impl Run<'_> {
    pub(super) fn capture_disk(&mut self, stage: &str) -> Result<u64, StepError> {
        let missing = |what: &str| StepError::new(code::REFUSED, what);
        let wanted = self.plan.capture.as_ref().ok_or_else(|| missing("the plan names no image to make"))?;
        let target = self.machine.captures.as_ref();
        let target = target.ok_or_else(|| missing("there is no server that takes an image"))?;
        let disk = self.find_disk()?;
        self.compare_disk(&disk)?;
        self.refuse_uses(&disk)?;
        let source = BlockSource::open(&disk.device).map_err(failed)?;
        let inventory = machine::collect(&self.machine.roots).inventory;
        let hardware = Some(hardware_of(&inventory, Some(&disk.name)));
        let options = BlockPlanOptions { hardware, ..options(self.plan, wanted)? };
        let plan = BlockPlan::new(source, &options, self.ctl).map_err(unclean)?;
        let notes = plan.facts().volumes.iter().flat_map(|volume| {
            let name =
                volume.number.map_or_else(|| "the volume".to_owned(), |number| format!("partition {number}"));
            volume.notes.iter().map(move |note| format!("{name}: {note}"))
        });
        for message in notes {
            self.tell(Known::Note { stage: Some(stage.to_owned()), message });
        }
        let hits = |range: &std::ops::Range<u64>| plan.hits(range);
        let capture = BlockCapture {
            source: &plan,
            name: plan.name(),
            layout: plan.layout(),
            facts: plan.facts(),
            hits: &hits,
        };
        let how = BlockCaptureOptions { stage: stage.to_owned(), ..BlockCaptureOptions::default() };
        let report = capture.to_target(&**target, &how, self.ctl, self.observer).map_err(failed)?;
        let image = report.id.ok_or_else(|| missing("the image has no id"))?;
        self.tell(Known::Transferred {
            stage: stage.to_owned(),
            network_bytes: report.stored_bytes,
            written_bytes: 0,
            kept_bytes: report.data_bytes.saturating_sub(report.new_bytes),
        });
        // Each was told when it was met.
        self.warnings.extend(report.warnings);
        self.captured = Some(Captured { image: Digest(image.0), bytes: report.data_bytes });
        Ok(report.data_bytes)
    }
}

/// How the disk is looked at, and what opens what is encrypted on it.
fn options(plan: &Plan, wanted: &PlannedCapture) -> Result<BlockPlanOptions, StepError> {
    let keys: Option<Vec<Vec<Key>>> =
        wanted.keys.iter().map(|key| Some(Key::of_file(&key.bytes()?))).collect();
    let keys = keys.ok_or_else(|| StepError::new(code::REFUSED, "a key of the plan is not base64"))?;
    Ok(BlockPlanOptions {
        name: wanted.name.clone(),
        description: wanted.description.clone(),
        // The server's clock: this machine's own may be wrong by years.
        created_unix_seconds: Some(plan.created.seconds()),
        keep: if wanted.raw { Keep::Everything } else { Keep::Used },
        keys: keys.into_iter().flatten().collect(),
        ..BlockPlanOptions::default()
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: gravure_imaging::Error) -> StepError {
    StepError::new(error.kind().exit_code(), chain(&error))
}

/// A file system that is not captured as it stands, and a volume that stays closed, have cures of their own.
fn unclean(error: gravure_imaging::Error) -> StepError {
    let is_refused = error.kind() == ErrorKind::Refused;
    let is_judged = matches!(error, gravure_imaging::Error::Refused { .. });
    match (is_refused, is_judged) {
        (true, true) => failed(error).with_cure(
            "start its system and shut it down cleanly, give the key of an encrypted volume with --key-file, or capture every byte with --raw",
        ),
        (true, false) => failed(error).with_cure("give a key that opens the encrypted volume with --key-file"),
        _ => failed(error),
    }
}

#[cfg(test)]
mod tests;
