//! Restores by the server's store while its places go away: what one does not give a copy does, and a cache gives what it has.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gravure_fetch::Patience;
use gravure_imaging::{
    BlockApplyOptions, BlockApplyReport, BlockCapture, BlockCaptureOptions, BlockImage, ExistingData,
    VolumeFile, apply_block_image, no_hits, whole_device,
};
use gravure_io::ReadAt;
use gravure_model::identity::MachineSelector;
use gravure_model::job::{CaptureRequest, JobRequest};
use gravure_model::{Ctl, Secret, event::Silent};
use gravure_store::{
    Error, HttpObjects, Listed, LocalObjects, Objects, OnExisting, PACK_BYTES, Put, S3Config, S3Objects,
    Session, Store,
};
use gravure_testkit::BucketServer;

use crate::capture::{disk_of, facts};
use crate::common::{Machine, TestSite};
use crate::deployment::job;

/// Bytes of the disk: several packs of it.
const DISK_BYTES: usize = 2 * PACK_BYTES + (8 << 20);

/// Makes the image `golden` of `content` in a store.
fn store_golden(objects: Arc<dyn Objects>, content: &[u8]) {
    let store = Store::open(objects).unwrap();
    let (facts, layout) = (facts(content.len()), whole_device(content.len() as u64));
    let capture =
        BlockCapture { source: &content, name: "vda", layout: &layout, facts: &facts, hits: &no_hits };
    let how = BlockCaptureOptions::default();
    capture.to_store(&store, "golden", OnExisting::Refuse, &how, &Ctl::default(), &Silent).unwrap();
}

/// What happens amid a restore, once.
type Then = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A server's store as a payload reads it; after some packs were opened or read something happens.
struct Payload {
    far: HttpObjects,
    reads: Arc<AtomicUsize>,
    after: usize,
    then: Then,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").field("far", &self.far).finish_non_exhaustive()
    }
}

/// A pack whose reads are counted.
struct Counted {
    source: Arc<dyn ReadAt>,
    reads: Arc<AtomicUsize>,
    after: usize,
    then: Then,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        // Content, not the index at the end of a pack.
        if buf.len() > 50_000
            && self.reads.fetch_add(1, Ordering::SeqCst) == self.after
            && let Some(then) = self.then.lock().unwrap().take()
        {
            then();
        }
        self.source.read_exact_at(offset, buf)
    }
}

impl Objects for Payload {
    fn name(&self) -> &str {
        self.far.name()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error> {
        let source = self.far.open(name)?;
        if !name.starts_with("packs/") {
            return Ok(source);
        }
        let (reads, then) = (Arc::clone(&self.reads), Arc::clone(&self.then));
        Ok(Arc::new(Counted { source, reads, after: self.after, then }))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, Error> {
        self.far.put_new(name, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.far.replace(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        self.far.list(folder)
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.far.remove(name)
    }

    fn begin_session(&self) -> Result<Box<dyn Session>, Error> {
        self.far.begin_session()
    }

    fn sessions(&self) -> Result<Vec<String>, Error> {
        self.far.sessions()
    }

    fn clean(&self) -> Result<(), Error> {
        self.far.clean()
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn doubt(&self, name: &str) -> bool {
        self.far.doubt(name)
    }
}

/// Restores `golden` from the site's store onto a file; `then` happens amid it. Gives the report, how many reads there were, and the file.
fn restore(
    site: &TestSite,
    target: &Path,
    then: impl FnOnce() + Send + 'static,
) -> (BlockApplyReport, usize, Vec<u8>) {
    std::fs::write(target, vec![0xaa; DISK_BYTES]).unwrap();
    let url = format!("{}/store", site.content);
    let patience = Patience { limit: std::time::Duration::from_secs(60), ctl: Ctl::default() };
    let far = HttpObjects::open(gravure_imaging::agent(), &url, patience).unwrap();
    let reads = Arc::new(AtomicUsize::new(0));
    let then: Then = Arc::new(Mutex::new(Some(Box::new(then))));
    let payload = Payload { far, reads: Arc::clone(&reads), after: 100, then: Arc::clone(&then) };
    let image = BlockImage::open_stored(Arc::new(Store::open(Arc::new(payload)).unwrap()), "golden").unwrap();
    let device = VolumeFile::open(target, None).unwrap();
    let options = BlockApplyOptions {
        threads: Some(1),
        existing: ExistingData::Destroy,
        ..BlockApplyOptions::default()
    };
    let report = apply_block_image(&image, &device, &options, &Ctl::default(), &Silent).unwrap();
    assert!(then.lock().unwrap().is_none(), "it happened amid the restore");
    (report, reads.load(Ordering::SeqCst), std::fs::read(target).unwrap())
}

fn with_store(text: &str, store: &str) -> String {
    text.replace("[limits]\n", &format!("{store}\n[limits]\n"))
}

#[test]
fn a_restore_goes_on_from_a_copy_when_the_bucket_stops_amid_it() {
    let Some(bucket) = BucketServer::start() else { return };
    let bucket = bucket.unwrap();
    let endpoint = bucket.endpoint().to_owned();
    let config = S3Config {
        endpoint: endpoint.clone(),
        bucket: "lab".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        access_key: "key".into(),
        secret_key: Secret::new("hidden"),
    };
    let objects = S3Objects::new(gravure_imaging::agent(), config, Patience::default());
    objects.create_bucket().unwrap();
    let content = disk_of(7, DISK_BYTES);
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    store_golden(Arc::new(objects), &content);
    store_golden(Arc::new(LocalObjects::new(&copy)), &content);
    let mut site = TestSite::with(|text, dir| {
        std::fs::write(dir.join("keys/store.toml"), "access_key = \"key\"\nsecret_key = \"hidden\"\n")
            .unwrap();
        let store = format!(
            "[store]\nbucket = \"lab\"\nendpoint = \"{endpoint}\"\ncredentials = \"keys/store.toml\"\n\
             [[store.copy]]\ndirectory = {copy:?}\n"
        );
        with_store(&text, &store)
    });
    let ask = |site: &TestSite| {
        let agent = ureq::Agent::config_builder().max_redirects(0).http_status_as_error(false).build();
        let url = format!("{}/store/images/golden.gim", site.content);
        ureq::Agent::from(agent).get(url).call().unwrap().status().as_u16()
    };
    assert_eq!(ask(&site), 307, "the bucket comes first");
    let (report, reads, found) = restore(&site, &dir.path().join("target"), move || drop(bucket));
    assert!(reads > 500, "{reads} reads, of which the first came from the bucket");
    assert!(report.is_verified && found == content, "{report:?}");
    assert_eq!(ask(&site), 200, "the copy, by this server");

    // A server that starts without its first store deploys all the same; a capture is kept for later.
    site.stop();
    site.start();
    let operator = site.operator();
    let listed = operator.images().unwrap();
    assert!(listed.iter().any(|image| image.name == "golden.gim" && image.stored), "{listed:?}");
    let machine = Machine { number: 1 };
    let request = JobRequest { image: "golden.gim".into(), ..job(MachineSelector::Mac(machine.mac())) };
    operator.create_job(&request).unwrap();
    let (report, _, found) = restore(&site, &dir.path().join("again"), || ());
    assert!(report.is_verified && found == content, "{report:?}");
}

#[test]
fn a_cache_serves_a_room_when_the_site_it_reads_from_is_gone() {
    let content = disk_of(8, DISK_BYTES);
    let mut far = TestSite::new();
    store_golden(Arc::new(LocalObjects::new(&far.dir.join("store"))), &content);
    let url = format!("{}/store", far.content);
    let site = TestSite::with(|text, _| {
        with_store(&text, &format!("[store]\nurl = \"{url}\"\ncache = \"near\"\ncache_gib = 1\n"))
    });
    let dir = tempfile::tempdir().unwrap();
    let (report, _, found) = restore(&site, &dir.path().join("first"), || ());
    assert!(report.is_verified && found == content, "{report:?}");
    let packs = LocalObjects::new(&site.dir.join("near")).list("packs").unwrap();
    let kept: u64 = packs.iter().map(|pack| pack.len).sum();
    assert!(kept >= DISK_BYTES as u64, "{kept}");
    // Nothing is captured into a store of somebody else.
    let machine = Machine { number: 1 };
    let request = JobRequest {
        image: "x.gim".into(),
        name: String::new(),
        capture: Some(CaptureRequest::default()),
        ..job(MachineSelector::Mac(machine.mac()))
    };
    let error = site.operator().create_job(&request).unwrap_err().to_string();
    assert!(error.contains("is only read"), "{error}");
    far.stop();
    let (report, _, found) = restore(&site, &dir.path().join("second"), || ());
    assert!(report.is_verified && found == content, "{report:?}");
}

/// Bits flip in the packs of a cache while a machine reads them; one is cut off. What a machine gets wrong it asks for afresh, and the cache looks.
#[test]
fn packs_that_rot_in_the_cache_amid_a_restore_are_fetched_anew() {
    let content = disk_of(9, DISK_BYTES);
    let far = TestSite::new();
    let store = LocalObjects::new(&far.dir.join("store"));
    store_golden(Arc::new(LocalObjects::new(&far.dir.join("store"))), &content);
    let url = format!("{}/store", far.content);
    let site = TestSite::with(|text, _| {
        with_store(&text, &format!("[store]\nurl = \"{url}\"\ncache = \"near\"\ncache_gib = 1\n"))
    });
    let dir = tempfile::tempdir().unwrap();
    let (report, _, found) = restore(&site, &dir.path().join("first"), || ());
    assert!(report.is_verified && found == content, "{report:?}");
    let near = site.dir.join("near");
    let packs: Vec<String> = store.list("packs").unwrap().into_iter().map(|pack| pack.name).collect();
    assert!(packs.len() >= 3, "{packs:?}");
    let (damage, objects) = (near.clone(), packs.clone());
    let (report, _, found) = restore(&site, &dir.path().join("second"), move || {
        for (number, object) in objects.iter().enumerate() {
            let path = damage.join(object);
            let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let half = bytes.len() / 2;
            if number == 0 {
                bytes.truncate(half);
            }
            bytes.iter_mut().skip(half).step_by(1 << 14).for_each(|byte| *byte ^= 0x41);
            std::fs::write(&path, bytes).unwrap();
            // As a medium changes it: no time tells.
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        }
    });
    assert!(report.is_verified && found == content, "{report:?}");
    for object in &packs {
        let read = |dir: &Path| std::fs::read(dir.join(object)).unwrap();
        assert!(read(&near) == read(&far.dir.join("store")), "{object} is whole in the cache");
    }
    let told = std::fs::read_to_string(near.join("damaged.log")).unwrap();
    assert_eq!(told.lines().count(), packs.len(), "{told}");
}
