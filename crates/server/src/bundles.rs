//! Driver packages and layers as payloads fetch them: each a WIM of its own with a descriptor, made once from the site's driver
//! repository and layer directory. What is in them is checked like an image, byte range by byte range, and only what goes onto a disk
//! is fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use gravure_disk::boot_code::BootCode;
use gravure_imaging::{CaptureOptions, Compression, Method, capture_directory, describe};
use gravure_inf::{Arch, OsVersion, ProductType, Target};
use gravure_model::Ctl;
use gravure_model::descriptor::{DescribedImage, ImageDescriptor, SystemKind};
use gravure_model::event::Silent;
use gravure_model::inventory::{Inventory, MACHINE_FACTS};
use gravure_model::job::{DriverRule, WindowsRequest};
use gravure_model::plan::PlannedBundle;
use gravure_windows::drivers::{
    Manifest, PackModel, Packages as _, Repository, Unsigned, chosen_packages, fitting_packages,
};
use gravure_windows::layers::{LAYER_FILE, Layer, Platform};
use tokio::sync::Mutex;

use crate::Error;
use crate::error::chain;

/// Below it bundles are served.
pub(crate) const SERVED_AS: &str = "bundles";
/// Chunks that the volume of a Windows system can keep as they are, and that compress at the speed of disks.
const CHUNK_BYTES: u32 = 16 << 10;
/// Deepest directory of a layer.
const MAX_DEPTH: usize = 32;
/// Where an image does not say which Windows it holds: what every package of today is for.
const USUAL: OsVersion = OsVersion { major: 10, minor: 0, build: 26100 };

/// The site's drivers and layers.
pub(crate) struct Bundles {
    drivers: PathBuf,
    layers: PathBuf,
    dir: PathBuf,
    /// One at a time: making one uses the whole disk anyway.
    making: Arc<Mutex<()>>,
}

/// Driver packages for a machine.
#[derive(Debug, Default)]
pub(crate) struct Drivers {
    pub(crate) bundles: Vec<PlannedBundle>,
    /// Ids of those that go in whether a device needs them or not.
    pub(crate) anyway: Vec<String>,
}

impl fmt::Debug for Bundles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bundles({})", self.dir.display())
    }
}

impl Bundles {
    /// Of the repository `drivers` and the directory `layers`, either of which may not be there; bundles go into `dir`.
    pub(crate) fn new(drivers: PathBuf, layers: PathBuf, dir: PathBuf) -> Result<Self, Error> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::io("create", &dir, source))?;
        Ok(Self { drivers, layers, dir, making: Arc::default() })
    }

    /// Where bundles are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a name can be that of a bundle.
    pub(crate) fn is_bundle_name(name: &str) -> bool {
        let stem = name.strip_suffix(".wim").unwrap_or_default();
        (stem.starts_with("driver-") || stem.starts_with("layer-")) && stem.bytes().all(is_plain)
    }

    /// Bundles of the packages that fit a machine's devices on the Windows of an image, and of those that came out of the driver pack of its
    /// model where the rule says so. Whether the image has better ones for its devices shows when its driver database is read.
    pub(crate) async fn drivers(
        &self,
        inventory: &Inventory,
        image: &DescribedImage,
        rule: DriverRule,
        unsigned: Unsigned,
    ) -> Result<Drivers, Error> {
        if rule == DriverRule::None {
            return Ok(Drivers::default());
        }
        let (root, dir, devices) = (self.drivers.clone(), self.dir.clone(), inventory.devices.clone());
        let (target, smbios) = (target_of(image), inventory.smbios.clone());
        self.blocking("driver repository", move || {
            let failed = |error: gravure_windows::Error| chain(&error);
            let repository = match Repository::open(&root) {
                Err(gravure_windows::Error::NotFound { .. }) if rule == DriverRule::Match => {
                    return Ok(Drivers::default());
                }
                other => other.map_err(failed)?,
            };
            let mut ids = chosen_packages(&repository, &devices, &target, unsigned).map_err(failed)?;
            let mut anyway = Vec::new();
            if rule == DriverRule::MatchAndModel {
                let model = PackModel::of(&smbios).ok_or("the machine does not say which model it is")?;
                let all = repository.of_model(&model).map_err(failed)?;
                anyway = fitting_packages(&repository, &all, &target, unsigned).map_err(failed)?;
                if anyway.is_empty() {
                    return Err(format!(
                        "of the {} packages of model {model} that are there none is for this Windows; take its pack in with gravure driver \
                         add --model {model}, or make the job without --model-drivers",
                        all.len()
                    ));
                }
                ids.extend(anyway.iter().cloned());
            }
            let bundles = ids.iter().map(|id| {
                let manifest = repository.package(id).map_err(failed)?;
                of_package(&repository, &manifest, &dir)
            });
            Ok(Drivers { bundles: bundles.collect::<Result<_, String>>()?, anyway })
        })
        .await
    }

    /// Bundles of layers, in the order of their names given.
    pub(crate) async fn layers(&self, names: &[String]) -> Result<Vec<PlannedBundle>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (names, layers, dir) = (names.to_vec(), self.layers.clone(), self.dir.clone());
        self.blocking("layers", move || names.iter().map(|name| of_layer(&layers, name, &dir)).collect())
            .await
    }

    /// Checks layers before any machine gets them. `facts` must have all that they may name. Where it is not known yet what the image
    /// holds, all of them must be for one of the systems.
    pub(crate) fn check_layers(
        &self,
        system: Option<Platform>,
        names: &[String],
        facts: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let check = |platform: Platform| {
            names.iter().try_for_each(|name| {
                let base = layer_directory(&self.layers, name)?;
                let path = base.join(LAYER_FILE);
                let text =
                    std::fs::read_to_string(&path).map_err(|error| format!("layer {name}: {error}"))?;
                let layer = Layer::parse_for(platform, &text, &base, facts);
                layer.map(drop).map_err(|error| format!("layer {name}: {}", chain(&error)))
            })
        };
        match system {
            Some(platform) => check(platform),
            None => check(Platform::Windows).or_else(|why| check(Platform::Linux).map_err(|_| why)),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, Error> {
        let alone = Arc::clone(&self.making).lock_owned().await;
        let made = tokio::task::spawn_blocking(move || {
            let _alone = alone;
            work()
        });
        let made = made.await.unwrap_or_else(|error| Err(error.to_string()));
        made.map_err(|message| Error::Bundle { what: what.to_owned(), message })
    }
}

/// What the requests of a job must be like.
pub(crate) fn check_request(request: &WindowsRequest) -> Result<bool, String> {
    let text = request.settings.as_ref().map_or("", |settings| settings.reveal());
    let settings = gravure_windows::answer::AnswerSettings::from_toml(text).map_err(|error| chain(&error))?;
    if settings.computer_name.is_some() {
        return Err("settings: computer-name is what the job's name template gives".to_owned());
    }
    if let Some(code) = &request.boot_code {
        BootCode::from_text(code).map_err(|error| chain(&error))?;
    }
    Ok(settings.has_secrets())
}

/// What layers of a request may name on any machine; values stand for those that each has.
pub(crate) fn facts_of_any<'a>(
    request: &WindowsRequest,
    columns: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, String> {
    let mut facts = request.facts.clone();
    facts.extend(columns.map(|name| (name.to_uppercase(), "x".to_owned())));
    facts.extend(MACHINE_FACTS.iter().map(|name| ((*name).to_owned(), "x".to_owned())));
    facts
}

/// What layers must be for that go into an image; `None` when it holds no system that takes any.
pub(crate) fn platform_of(image: &DescribedImage) -> Option<Platform> {
    match image.system {
        SystemKind::Windows => Some(Platform::Windows),
        SystemKind::Linux => Some(Platform::Linux),
        SystemKind::Unknown => None,
    }
}

fn target_of(image: &DescribedImage) -> Target {
    let said = image.windows.as_ref();
    let version = said.and_then(|windows| windows.version.parse().ok()).unwrap_or(USUAL);
    let arch = said.and_then(|windows| windows.arch.parse().ok()).unwrap_or(Arch::Amd64);
    let product = match said {
        Some(windows) if windows.server => ProductType::Server,
        _ => ProductType::Workstation,
    };
    Target { product, ..Target::client(arch, version) }
}

fn of_package(repository: &Repository, manifest: &Manifest, dir: &Path) -> Result<PlannedBundle, String> {
    let file = format!("driver-{}.wim", manifest.id);
    let descriptor = made(dir, &file, |temporary| {
        repository.write_bundle(manifest, temporary).map_err(|error| chain(&error))?;
        Ok(temporary.to_owned())
    })?;
    Ok(PlannedBundle { name: manifest.inf.clone(), path: format!("/{SERVED_AS}/{file}"), descriptor })
}

/// A layer is named by what its files were like, so that a change makes another bundle and a running plan keeps its own.
fn of_layer(layers: &Path, name: &str, dir: &Path) -> Result<PlannedBundle, String> {
    let base = layer_directory(layers, name)?;
    let mut state = blake3::Hasher::new();
    stamp(&base, 0, &mut state).map_err(|error| format!("layer {name}: {error}"))?;
    let state = state.finalize().to_hex();
    let file = format!("layer-{name}-{}.wim", state.get(..16).unwrap_or_default());
    let descriptor = made(dir, &file, |_| Ok(base.clone()))?;
    Ok(PlannedBundle { name: name.to_owned(), path: format!("/{SERVED_AS}/{file}"), descriptor })
}

fn layer_directory(layers: &Path, name: &str) -> Result<PathBuf, String> {
    let is_fine = !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_plain);
    let base = layers.join(name);
    if !is_fine || !base.join(LAYER_FILE).is_file() {
        return Err(format!("layer {name:?}: no {LAYER_FILE} of it in {}", layers.display()));
    }
    Ok(base)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Names, lengths and times of all files.
fn stamp(dir: &Path, depth: usize, state: &mut blake3::Hasher) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let facts = std::fs::metadata(entry.path())?;
        state.update(entry.file_name().as_encoded_bytes()).update(&[0]);
        if facts.is_dir() && depth < MAX_DEPTH {
            stamp(&entry.path(), depth.saturating_add(1), state)?;
            state.update(&[1]);
            continue;
        }
        let since = facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        state.update(&facts.len().to_le_bytes()).update(&since.as_nanos().to_le_bytes());
    }
    Ok(())
}

/// The descriptor of the bundle `file`, which is made when it is not there, of the directory that `fill` gives; it may fill the one
/// it gets.
fn made(
    dir: &Path,
    file: &str,
    fill: impl FnOnce(&Path) -> Result<PathBuf, String>,
) -> Result<ImageDescriptor, String> {
    let (place, kept) = (dir.join(file), dir.join(format!("{file}.descriptor")));
    if let Some(known) = known(&place, &kept) {
        return Ok(known);
    }
    let io = |error: std::io::Error| format!("{}: {error}", dir.display());
    let work = tempfile::Builder::new().prefix(".making-").tempdir_in(dir).map_err(io)?;
    let content = work.path().join("content");
    std::fs::create_dir(&content).map_err(io)?;
    let source = fill(&content)?;
    let options = CaptureOptions {
        compression: Compression::new(Method::Xpress, CHUNK_BYTES).ok(),
        name: file.to_owned(),
        source_date_epoch: None,
        ..CaptureOptions::default()
    };
    let new = work.path().join("bundle.wim");
    let failed = |error: gravure_imaging::Error| chain(&error);
    capture_directory(&source, &new, &options, &Ctl::default(), &Silent).map_err(failed)?;
    let descriptor = describe(&new, &Ctl::default(), &Silent).map_err(failed)?;
    let text = serde_json::to_vec(&descriptor).map_err(|error| error.to_string())?;
    // The descriptor comes last: one without its file, or of another size, is not taken.
    std::fs::rename(&new, &place).map_err(io)?;
    let beside = work.path().join("descriptor");
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &kept)).map_err(io)?;
    tracing::info!(bundle = file, bytes = descriptor.size_bytes, "bundle is ready");
    Ok(descriptor)
}

fn known(place: &Path, kept: &Path) -> Option<ImageDescriptor> {
    let descriptor: ImageDescriptor = serde_json::from_slice(&std::fs::read(kept).ok()?).ok()?;
    let size = std::fs::metadata(place).ok()?.len();
    (size == descriptor.size_bytes).then_some(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_bundles_lead_nowhere_else() {
        assert!(Bundles::is_bundle_name("driver-0a1b.wim") && Bundles::is_bundle_name("layer-a_b.c-12.wim"));
        for name in
            ["driver-0a.wim.descriptor", "driver-../x.wim", "x.wim", "layer-a b.wim", ".making-1/bundle.wim"]
        {
            assert!(!Bundles::is_bundle_name(name), "{name}");
        }
    }

    #[test]
    fn a_layer_that_changes_is_another_bundle_and_the_old_one_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let (layers, dir) = (temporary.path().join("layers"), temporary.path().join("bundles"));
        std::fs::create_dir_all(layers.join("school")).unwrap();
        std::fs::create_dir(&dir).unwrap();
        let text = |version: u32| {
            format!(
                "[layer]\nid = \"school\"\nversion = {version}\n[[file]]\nto = 'C:\\x'\ntext = \"${{ROOM}}\"\n"
            )
        };
        std::fs::write(layers.join("school/layer.toml"), text(1)).unwrap();
        let first = of_layer(&layers, "school", &dir).unwrap();
        assert_eq!(of_layer(&layers, "school", &dir).unwrap(), first, "made once");
        std::fs::write(layers.join("school/layer.toml"), text(22)).unwrap();
        let second = of_layer(&layers, "school", &dir).unwrap();
        assert_ne!(first.path, second.path);
        for bundle in [&first, &second] {
            let file = bundle.path.strip_prefix("/bundles/").unwrap();
            assert!(Bundles::is_bundle_name(file), "{file}");
            assert_eq!(std::fs::metadata(dir.join(file)).unwrap().len(), bundle.descriptor.size_bytes);
        }
        for name in ["", "..", "a/b", "none"] {
            assert!(of_layer(&layers, name, &dir).is_err(), "{name}");
        }
        let bundles = Bundles::new(temporary.path().join("none"), layers, dir).unwrap();
        let names = ["school".to_owned()];
        let room = BTreeMap::from([("ROOM".to_owned(), "B7".to_owned())]);
        for system in [None, Some(Platform::Windows)] {
            let unknown = bundles.check_layers(system, &names, &BTreeMap::new()).unwrap_err();
            assert!(unknown.contains("ROOM"), "{unknown}");
            bundles.check_layers(system, &names, &room).unwrap();
        }
        let refused = bundles.check_layers(Some(Platform::Linux), &names, &room).unwrap_err();
        assert!(refused.contains("layer school: layer, path: expected one from the root"), "{refused}");
    }
}
