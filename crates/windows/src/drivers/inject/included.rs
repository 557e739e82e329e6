//! INF files of Windows' own in the image, for packages that `Include` them.

use std::collections::BTreeMap;

use gravure_inf::{Included, Inf, Install, MAX_FILE_BYTES, Model, Target};

use crate::Error;
use crate::image::WindowsImage;

/// Most files that one package includes, directly or not. Real ones have four.
const MAX_FILES: usize = 64;

/// Files that were looked for; `None` for those that are not there, or are no INF files.
#[derive(Debug, Default)]
pub(super) struct WindowsFiles {
    files: BTreeMap<String, Option<Inf>>,
}

impl WindowsFiles {
    /// What installing `model` does, with what sections of Windows' own files add. Sections that are in none of them are in
    /// [`Install::needs_elsewhere`].
    pub(super) fn install(
        &mut self,
        image: &mut WindowsImage<'_>,
        inf: &Inf,
        model: &Model,
        target: &Target,
    ) -> Result<Option<Install>, Error> {
        loop {
            let found = self.files.iter().filter_map(|(name, inf)| Some((name.as_str(), inf.as_ref()?)));
            let included: Vec<Included<'_>> = found.collect();
            let Some(install) = inf.install_with(model, target, &included) else { return Ok(None) };
            // Those that were read may name others.
            let new = install.includes.iter().find(|name| !self.files.contains_key(*name));
            match new {
                Some(name) if self.files.len() < MAX_FILES => {
                    let file = read(image, name)?;
                    self.files.insert(name.clone(), file);
                }
                _ => return Ok(Some(install)),
            }
        }
    }
}

fn read(image: &mut WindowsImage<'_>, name: &str) -> Result<Option<Inf>, Error> {
    // A name, not a path.
    if name.is_empty() || name.contains(['\\', '/', ':']) {
        return Ok(None);
    }
    let path = format!("Windows\\INF\\{name}");
    let bytes = image.read_file(&path, u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX))?;
    Ok(bytes.and_then(|bytes| Inf::parse(&bytes).ok()))
}
