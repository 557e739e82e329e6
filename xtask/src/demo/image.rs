//! The image the demo deploys, built once per recipe.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::console::{self, Step, size};
use crate::{process, workspace};

/// Builds the image of `recipe` below `dir` unless it is there from the same recipe.
pub(super) fn build(program: &Path, recipe: &str, dir: &Path, fresh: bool) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let name = Path::new(recipe).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (image, stamp) = (dir.join(format!("{name}.wim")), dir.join(format!("{name}.built-from")));
    let path = workspace::root().join(recipe);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let step = Step::start(format!("image of {recipe}"));
    let same = std::fs::read_to_string(&stamp).is_ok_and(|old| old == text);
    if same && image.is_file() && !fresh {
        step.done("up to date");
        return Ok(image);
    }
    console::note("a Debian system is put together and captured; this takes some minutes");
    // An image of another recipe must not be taken for this one when the build is interrupted.
    for old in [&stamp, &image] {
        if old.exists() {
            std::fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    process::run(Command::new(program).args(["image", "build"]).arg(&path).arg("-o").arg(&image))?;
    std::fs::write(&stamp, text).with_context(|| format!("cannot write {}", stamp.display()))?;
    let len = std::fs::metadata(&image).with_context(|| format!("no image at {}", image.display()))?.len();
    step.done(size(len));
    Ok(image)
}
