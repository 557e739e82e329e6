//! Deploying from a medium that brings order and image: no network, no server. The order is signed by the site's plan key and
//! judged like a plan; the plan is made here, of this machine's inventory, and shown before anything is written.
//!
//! The medium is found by the GUID of its partition table, on sticks and discs alike, and never a place to write to: the
//! planner takes no removable disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gravure_deploy::{CatalogImage, ImageSource, PlanRequest};
use gravure_imaging::CheckedAt;
use gravure_io::{FileAt, ReadAt, Window};
use gravure_linux::sysfs;
use gravure_model::Timestamp;
use gravure_model::descriptor::ImageDescriptor;
use gravure_model::event::{Known, Observer as _};
use gravure_model::inventory::Inventory;
use gravure_model::messages::Message;
use gravure_model::site::{OFFLINE_PATH, OFFLINE_VERSION, OfflinePart};
use gravure_trust::{TrustedPlanKey, Verdict};

use super::Leave;
use super::engine::Engine;
use super::screen::Screen;
use super::settings::Settings;
use super::talk::{Failed, describe_disk};
use crate::files::chain;

/// Longest order read: the descriptor of a terabyte has 18 MB of hashes.
const MAX_PART_BYTES: u64 = 64 << 20;
/// How long a plan may be begun after it was made here; it is begun at once.
const LIFETIME_SECONDS: i64 = 600;
/// Where a partition table of 512-byte sectors has its signature and its GUID (UEFI 2.10, 5.3.2).
const TABLE_AT: u64 = 512;
const TABLE_SIGNATURE: &[u8] = b"EFI PART";
const TABLE_GUID_AT: u64 = 512 + 56;
/// Sticks appear some seconds after their controller.
const MEDIUM_PATIENCE: u32 = 20;

/// What the medium brings; `None` when this payload was not started by one that deploys.
pub(super) fn part(root: &Path) -> Result<Option<OfflinePart>, String> {
    let path = root.join(OFFLINE_PATH);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = sysfs::read_bounded(&path, MAX_PART_BYTES).map_err(|error| chain(&error))?;
    let bad = |why: String| format!("{}: {why}", path.display());
    let part: OfflinePart = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if part.version != OFFLINE_VERSION {
        return Err(bad(format!("version {}, expected {OFFLINE_VERSION}", part.version)));
    }
    Ok(Some(part))
}

/// Deploys what the medium brings and says how the machine ends. After a failure it stays on and says so.
pub(super) fn run(
    part: &OfflinePart,
    settings: &Settings,
    inventory: &Inventory,
    engine: &Engine,
    screen: &Screen,
) -> Leave {
    screen.line(&format!("This medium of site {} deploys without a server", settings.site.name));
    let failed = match deploy(part, settings, inventory, engine, screen) {
        Ok(()) => {
            screen
                .line("Deployed and verified. The machine switches off: take the medium out, then start it.");
            return Leave::PowerOff;
        }
        Err(failed) => failed,
    };
    let Failed { stage, code, message, cure } = failed;
    screen.event(Known::Failed { stage, code, message, cure }.into());
    screen.line("The machine stays on. Type restart or off to leave.");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn deploy(
    part: &OfflinePart,
    settings: &Settings,
    inventory: &Inventory,
    engine: &Engine,
    screen: &Screen,
) -> Result<(), Failed> {
    let verdict = judge(part, settings, inventory)?;
    let plan = &verdict.plan;
    screen.say(&Message::PlanHeader {
        image: plan.image.path.clone(),
        disk: describe_disk(plan),
        host_name: plan.personality.host_name.clone(),
    });
    let medium = find(&part.medium, Path::new("/sys/block"), Path::new("/dev"))?;
    let images = Medium { source: Arc::new(medium), offset: part.offset };
    engine.deploy_from(&verdict, Arc::new(images), screen)
}

/// From the signed order to a plan for this machine.
fn judge(part: &OfflinePart, settings: &Settings, inventory: &Inventory) -> Result<Verdict, Failed> {
    let refused = |message: String| Failed {
        stage: "check_plan".to_owned(),
        code: 4,
        message,
        cure: Some("make a new medium: gravure media build --image ...".to_owned()),
    };
    let now = Timestamp::now();
    let identity = inventory.identity();
    let order = TrustedPlanKey::new(&settings.root_key, &part.plan_key)
        .and_then(|key| key.offline(&part.job, &part.descriptor, &identity, now))
        .map_err(|error| refused(chain(&error)))?;
    let job = order.job.job.clone();
    let image = CatalogImage {
        path: job.request.image.clone(),
        digest: order.job.image,
        descriptor: order.descriptor.clone(),
    };
    let request = PlanRequest {
        plan: format!("offline-{}", job.id),
        identity,
        nonce: String::new(),
        now,
        lifetime_seconds: LIFETIME_SECONDS,
        number: 1,
        confirm: None,
        // A medium has neither packages nor a table.
        drivers: Vec::new(),
        drivers_anyway: Vec::new(),
        layers: Vec::new(),
        table: std::collections::BTreeMap::new(),
    };
    let plan = gravure_deploy::plan(&job, inventory, &image, request).map_err(|refusal| Failed {
        stage: "check_plan".to_owned(),
        code: refusal.code(),
        message: refusal.to_string(),
        cure: Some(refusal.cure()),
    })?;
    order.with_plan(plan).map_err(|error| refused(chain(&error)))
}

/// The medium among the block devices that `sys` lists.
fn find(guid: &str, sys: &Path, dev: &Path) -> Result<FileAt, Failed> {
    for _ in 0..MEDIUM_PATIENCE {
        let names = std::fs::read_dir(sys).into_iter().flatten().filter_map(Result::ok);
        let devices =
            names.map(|entry| dev.join(entry.file_name())).filter_map(|path| FileAt::open(&path).ok());
        if let Some(found) = devices.into_iter().find(|device| table_guid(device).as_deref() == Some(guid)) {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Err(Failed {
        stage: "open medium".to_owned(),
        code: 3,
        message: format!("no medium with the partition table {guid} is there"),
        cure: Some("put it back in; another port may do better".to_owned()),
    })
}

/// GUID of the partition table on a device, in its printed form.
fn table_guid(device: &dyn ReadAt) -> Option<String> {
    let signature = device.read_vec_at(TABLE_AT, TABLE_SIGNATURE.len()).ok()?;
    let bytes = device.read_vec_at(TABLE_GUID_AT, 16).ok()?;
    let [a, b, c, d, e, f, g, h, rest @ ..] = <[u8; 16]>::try_from(bytes).ok()?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (fourth, last) = rest.split_at(2);
    let parts = [hex(&[d, c, b, a]), hex(&[f, e]), hex(&[h, g]), hex(fourth), hex(last)];
    (signature == TABLE_SIGNATURE).then(|| parts.join("-"))
}

/// The image on the medium.
struct Medium {
    source: Arc<FileAt>,
    offset: u64,
}

impl ImageSource for Medium {
    fn open(&self, path: &str, descriptor: &ImageDescriptor) -> Result<Arc<dyn ReadAt>, String> {
        let end = self.offset.checked_add(descriptor.size_bytes).filter(|end| *end <= self.source.size());
        if end.is_none() {
            return Err(format!(
                "the medium has {} bytes, the image {} from {} on",
                self.source.size(),
                descriptor.size_bytes,
                self.offset
            ));
        }
        let window = Window::new(Arc::clone(&self.source), self.offset, descriptor.size_bytes);
        // What is read of a block image is held against ids in it, and those against the descriptor.
        if descriptor.format == gravure_imaging::BLOCK_FORMAT {
            return Ok(Arc::new(window));
        }
        let checked = CheckedAt::new(window, path, descriptor).map_err(|error| chain(&error))?;
        Ok(Arc::new(checked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(byte: u8) -> Vec<u8> {
        let mut medium = vec![0; 4096];
        medium[512..520].copy_from_slice(TABLE_SIGNATURE);
        medium[568..584].copy_from_slice(&[byte; 16]);
        medium
    }

    #[test]
    fn the_medium_is_known_by_its_table() {
        let mut medium = table(0);
        medium[568..584].copy_from_slice(&[
            0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
        ]);
        assert_eq!(table_guid(&medium).as_deref(), Some("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"));
        medium[512] = b'X';
        assert_eq!(table_guid(&medium), None);
        assert_eq!(table_guid(&medium[..570].to_vec()), None);
        let dir = tempfile::tempdir().unwrap();
        let (sys, dev) = (dir.path().join("sys"), dir.path().join("dev"));
        for (name, byte) in [("sda", 1), ("sr0", 2)] {
            std::fs::create_dir_all(sys.join(name)).unwrap();
            std::fs::create_dir_all(&dev).unwrap();
            std::fs::write(dev.join(name), table(byte)).unwrap();
        }
        let found = find("02020202-0202-0202-0202-020202020202", &sys, &dev).unwrap();
        assert_eq!(found.read_vec_at(TABLE_GUID_AT, 1).unwrap(), [2]);
    }

    #[test]
    fn nothing_is_read_of_ordinary_boots() {
        let dir = tempfile::tempdir().unwrap();
        assert!(part(dir.path()).unwrap().is_none());
        std::fs::create_dir_all(dir.path().join("etc/gravure")).unwrap();
        std::fs::write(dir.path().join(OFFLINE_PATH), "{}").unwrap();
        assert!(part(dir.path()).unwrap_err().contains("offline.json"));
    }
}
