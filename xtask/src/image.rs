//! Images for demo and tests, built by `gravure image build` once per recipe.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::console::{self, Step, size};
use crate::{process, workspace};

/// Where the image of `recipe` is built.
pub(crate) fn path(recipe: &str) -> PathBuf {
    let name = Path::new(recipe).file_stem().unwrap_or_default();
    workspace::target().join("images").join(name).with_extension("wim")
}

/// Builds the image of `recipe` unless it is there from the same recipe.
pub(crate) fn build(program: &Path, recipe: &str, fresh: bool) -> Result<PathBuf> {
    let image = path(recipe);
    let (dir, stamp) = (workspace::target().join("images"), image.with_extension("built-from"));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
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
