//! Layers of a Linux. Into an image of files they are put in memory, before the disk is touched: what is applied, and what the disk is
//! compared with afterwards, is the image with them. On a disk that was restored `restored/linux.rs` puts them in where the system lies.

use std::collections::BTreeMap;

use gravure_imaging::ContentReader;
use gravure_model::event::Known;
use gravure_model::plan::PlannedLinux;
use gravure_tree::{ContentRef, Tree};
use gravure_windows::layers::{Layer, Platform};
use gravure_windows::{ContentResult, LinuxImage, ReadContent};

use super::Run;
use super::sources::{BundleSources, Sources};
use super::windows::changes::Told;
use crate::failure::{StepError, code};

/// Layers of a plan with their contents, for systems on a disk.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) layers: Vec<Layer>,
    pub(super) contents: ContentReader,
}

impl Run<'_> {
    pub(super) fn service_linux(&mut self, stage: &str) -> Result<(), StepError> {
        let planned = self.plan.linux.as_ref();
        let planned =
            planned.ok_or_else(|| StepError::new(code::REFUSED, "the plan has nothing for Linux"))?;
        let sources = Sources::open(self.plan, &[], &planned.layers, self.descriptor, self.machine)?;
        let contents = sources.file.contents();
        let read = |content: &ContentRef| -> ContentResult { Ok(contents.read(content)?) };
        let layers = parse(&sources.layers, &read, &planned.facts)?;
        let mut tree = sources.image.tree().clone();
        let mut image = LinuxImage::open(&mut tree, &read, self.now())?;
        let mut told = put_layers(&mut image, &layers)?;
        told.notes.push(format!("{} changes", image.finish(&self.what())?.len()));
        // Of an image with another tree nobody tells them any more.
        told.not_done.extend(sources.image.warnings().iter().cloned());
        self.image = Some(sources.image.with_tree(tree));
        self.tell_of_layers(told, "", stage);
        Ok(())
    }

    /// Opens the layers for systems that come with a disk. What is wrong with them shows before the disk is touched.
    pub(super) fn open_layers(&self) -> Result<Option<Layers>, StepError> {
        let Some(PlannedLinux { layers, facts }) = &self.plan.linux else { return Ok(None) };
        let sources = BundleSources::open(&[], layers, self.machine)?;
        let contents = sources.bundles.contents();
        let read = |content: &ContentRef| -> ContentResult { Ok(contents.read(content)?) };
        let layers = parse(&sources.layers, &read, facts)?;
        Ok(Some(Layers { layers, contents }))
    }

    /// What stands in the record of changes.
    pub(super) fn what(&self) -> String {
        format!("deployment {}", self.plan.id)
    }

    /// `place` stands before each text.
    pub(super) fn tell_of_layers(&mut self, told: Told, place: &str, stage: &str) {
        for note in told.notes {
            let message = format!("{place}{note}");
            self.tell(Known::Note { stage: Some(stage.to_owned()), message });
        }
        for text in told.not_done {
            self.warn(stage, format!("{place}{text}"));
        }
    }
}

fn parse(
    bundles: &[(String, Tree)],
    read: &ReadContent<'_>,
    facts: &BTreeMap<String, String>,
) -> Result<Vec<Layer>, StepError> {
    let layers = bundles.iter().map(|(name, tree)| {
        Layer::of_bundle(Platform::Linux, tree, read, facts).map_err(|error| of_layer(name, error))
    });
    layers.collect()
}

/// Applies the layers in their order.
pub(super) fn put_layers(image: &mut LinuxImage<'_>, layers: &[Layer]) -> Result<Told, StepError> {
    let mut told = Told::default();
    for layer in layers {
        let done = layer.apply_to_linux(image).map_err(|error| of_layer(layer.id(), error))?;
        let word = if done.applied { "applied" } else { "there already" };
        told.notes.push(format!("layer {} {}: {word}", done.id, done.version));
        told.not_done.extend(done.not_done);
    }
    Ok(told)
}

fn of_layer(name: &str, error: gravure_windows::Error) -> StepError {
    let failure = StepError::from(error);
    StepError { message: format!("layer {name}: {}", failure.message), ..failure }
}

#[cfg(test)]
pub(super) mod tests;
