//! Captures through the API over real TLS: armed, planned, sent, cut off, refused; and what the store then gives to others.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gravure_blockimg::facts::{FACTS_VERSION, Facts, Scope, Source, Volume};
use gravure_blockimg::{ChunkId, Frame, FrameEncoder, FrameKind};
use gravure_imaging::{
    BlockCapture, BlockCaptureOptions, BlockCaptureReport, BlockImage, CaptureTarget, Error, no_hits,
    verify_block_image, whole_device,
};
use gravure_model::api::{MachineState, PlanAnswer, StoredAnswer, StoredRequest};
use gravure_model::descriptor::Digest;
use gravure_model::event::{Known, Silent};
use gravure_model::identity::MachineSelector;
use gravure_model::job::{CaptureRequest, JobRequest, RestoreRequest};
use gravure_model::plan::{Plan, Step};
use gravure_model::{Assurance, Ctl, Secret};
use gravure_store::{HttpObjects, S3Config, S3Objects, Store};
use gravure_testkit::BucketServer;

use crate::common::{Boot, Machine, Refusal, TestSite};
use crate::deployment::{job, judge, state};

/// Bytes of the disk that is captured.
const DISK_BYTES: usize = 12 << 20;

fn capture_job(machine: &Machine, image: &str) -> JobRequest {
    JobRequest {
        image: image.into(),
        name: String::new(),
        capture: Some(CaptureRequest::default()),
        ..job(MachineSelector::Mac(machine.mac()))
    }
}

/// Content that does not get smaller, different everywhere.
fn disk(seed: u8) -> Vec<u8> {
    disk_of(seed, DISK_BYTES)
}

/// The same, so many bytes of it.
pub(crate) fn disk_of(seed: u8, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    for block in 0..len / 64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[seed]).update(&block.to_le_bytes());
        let mut bytes = [0; 64];
        hasher.finalize_xof().fill(&mut bytes);
        out.extend_from_slice(&bytes);
    }
    out
}

/// A boot of `machine` with its plan.
fn begin(site: &TestSite, machine: &Machine) -> (Boot, Plan) {
    let boot = Boot::new(&site.ca_pem());
    let welcome = boot.hello_with(site, machine, site.boot_token(machine), |inventory| {
        inventory.disks[0].size_bytes = DISK_BYTES as u64;
        inventory.disks[0].content = vec!["ext4".into()];
    });
    assert_eq!(welcome.unwrap().assurance, Assurance::Token);
    let answer = boot.plan(site).unwrap();
    let plan = judge(site, machine, &boot.nonce, &answer).unwrap().plan;
    (boot, plan)
}

/// The server's store, as a payload uses it.
struct Upload<'a> {
    boot: &'a Boot,
    site: &'a TestSite,
    sent: AtomicU64,
    /// Batches after which the line is cut.
    works_for: u64,
    batches: AtomicU64,
}

impl<'a> Upload<'a> {
    fn new(boot: &'a Boot, site: &'a TestSite, works_for: u64) -> Self {
        Self { boot, site, sent: AtomicU64::new(0), works_for, batches: AtomicU64::new(0) }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn failed(refusal: Refusal) -> Error {
    Error::Network { url: "the server".into(), why: format!("{} {}", refusal.status, refusal.text) }
}

fn ask(boot: &Boot, site: &TestSite, ids: &[ChunkId]) -> Result<Vec<bool>, Refusal> {
    let ids = ids.iter().map(|id| Digest(id.0)).collect();
    let answer: StoredAnswer = boot.post(site, "/v1/payload/capture/stored", &StoredRequest { ids })?;
    Ok(answer.stored)
}

fn put_frames(boot: &Boot, site: &TestSite, frames: &[Frame]) -> Result<(), Refusal> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.write(&mut bytes));
    boot.put(site, "/v1/payload/capture/frames", &bytes)
}

impl CaptureTarget for Upload<'_> {
    fn name(&self) -> &str {
        "the server"
    }

    fn are_stored(&self, ids: &[ChunkId]) -> Result<Vec<bool>, Error> {
        ask(self.boot, self.site, ids).map_err(failed)
    }

    fn put(&self, frames: &[Frame]) -> Result<(), Error> {
        if self.batches.fetch_add(1, Ordering::Relaxed) >= self.works_for {
            return Err(Error::Network { url: "the server".into(), why: "cut off".into() });
        }
        put_frames(self.boot, self.site, frames).map_err(failed)?;
        // Sent again, as after a lost answer.
        put_frames(self.boot, self.site, frames).map_err(failed)?;
        self.sent.fetch_add(frames.iter().map(|frame| frame.header.frame_len()).sum(), Ordering::Relaxed);
        Ok(())
    }

    fn commit(&self, manifest: &[u8]) -> Result<(), Error> {
        let path = "/v1/payload/capture/manifest";
        self.boot.put(self.site, path, manifest).map_err(failed)?;
        self.boot.put(self.site, path, manifest).map_err(failed)
    }
}

pub(crate) fn facts(size: usize) -> Facts {
    Facts {
        version: FACTS_VERSION,
        name: "golden".into(),
        scope: Scope::Disk,
        source: Source {
            name: "vda".into(),
            size_bytes: size as u64,
            sector_bytes: 512,
            ..Source::default()
        },
        volumes: vec![Volume { content: "ext4".into(), size_bytes: size as u64, ..Volume::default() }],
        ..Facts::default()
    }
}

fn send(target: &dyn CaptureTarget, content: &[u8]) -> Result<BlockCaptureReport, Error> {
    let (facts, layout) = (facts(content.len()), whole_device(content.len() as u64));
    let capture =
        BlockCapture { source: &content, name: "vda", layout: &layout, facts: &facts, hits: &no_hits };
    capture.to_target(target, &BlockCaptureOptions::default(), &Ctl::default(), &Silent)
}

fn captured(plan: &Plan, report: &BlockCaptureReport) -> Known {
    Known::Captured { plan: plan.id.clone(), image: Digest(report.id.unwrap().0), bytes: report.data_bytes }
}

/// The image as a payload that restores it finds it.
fn restored(site: &TestSite, name: &str) -> BlockImage {
    let url = format!("{}/store", site.content);
    let objects = HttpObjects::open(gravure_imaging::agent(), &url, Default::default()).unwrap();
    BlockImage::open_stored(Arc::new(Store::open(Arc::new(objects)).unwrap()), name).unwrap()
}

#[test]
fn a_machine_is_captured_and_its_image_deployed_to_another() {
    let site = TestSite::new();
    let (machine, other) = (Machine { number: 1 }, Machine { number: 2 });
    let operator = site.operator();
    operator.create_job(&capture_job(&machine, "golden.gim")).unwrap();
    let menu = String::from_utf8(site.fetch(&format!("boot/grub.cfg?{}", machine.query()))).unwrap();
    assert!(menu.contains("Capture this machine as golden.gim"), "{menu}");
    let (boot, plan) = begin(&site, &machine);
    assert_eq!(plan.steps, [Step::CaptureDisk {}]);
    assert_eq!(plan.capture.as_ref().unwrap().name, "golden");
    assert!(plan.personality.confirm.is_none());
    let again = judge(&site, &machine, &boot.nonce, &boot.plan(&site).unwrap()).unwrap().plan;
    assert_eq!(again.id, plan.id, "asked again, the same plan");

    let content = disk(1);
    let target = Upload::new(&boot, &site, u64::MAX);
    let report = send(&target, &content).unwrap();
    let moved = Known::Transferred {
        stage: "capture_disk".into(),
        network_bytes: report.stored_bytes,
        written_bytes: 0,
        kept_bytes: 0,
    };
    boot.events(&site, &plan.id, &[(1, moved), (2, captured(&plan, &report))]).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Captured);
    let shown = operator.machine(&machine.mac().to_string()).unwrap().plan.unwrap();
    assert_eq!(shown.transfers[0].network_bytes, report.stored_bytes);
    assert!(shown.failure.is_none());
    let menu = String::from_utf8(site.fetch(&format!("boot/grub.cfg?{}", machine.query()))).unwrap();
    assert!(menu.contains("set default=local"), "{menu}");
    assert_eq!(restored(&site, "golden").root().tree_hash(), report.tree.unwrap());

    // A file of the name would be another image; an image of the name is replaced on the operator's word only.
    let error = operator.create_job(&capture_job(&machine, "golden.gim")).unwrap_err();
    assert!(error.cure().unwrap().contains("--replace"), "{error}");

    // Deployed by its name.
    // At the address of the machine that was captured nobody else gets a token.
    let request = JobRequest {
        image: "golden.gim".into(),
        assurance: Assurance::Claimed,
        ..job(MachineSelector::Mac(other.mac()))
    };
    assert_eq!(site.boot_token(&other), None);
    operator.create_job(&request).unwrap();
    let boot = Boot::new(&site.ca_pem());
    boot.hello(&site, &other, None).unwrap();
    let verdict = judge(&site, &other, &boot.nonce, &boot.plan(&site).unwrap()).unwrap();
    assert_eq!(verdict.plan.image.path, "/store/images/golden.gim");
    assert_eq!(verdict.plan.steps[1], Step::RestoreDisk { restore: RestoreRequest::default() });
    let image = restored(&site, "golden");
    assert!(gravure_imaging::is_described_block_image(&image, &verdict.descriptor));
    let verified = verify_block_image(&image, None, &Ctl::default(), &Silent).unwrap();
    assert_eq!((verified.damage.len(), verified.tree), (0, report.tree));
    let listed = operator.images().unwrap();
    let listed = listed.iter().find(|image| image.name == "golden.gim").unwrap();
    assert!(listed.stored && listed.problem.is_none(), "{listed:?}");
    assert_eq!(listed.content_bytes, Some(DISK_BYTES as u64));
    // What writers leave there for each other is nobody's business.
    for path in ["store/sessions/x", "store/tmp/x", "store/../client.toml"] {
        let status = ureq::get(format!("{}/{path}", site.content))
            .config()
            .http_status_as_error(false)
            .build()
            .call()
            .unwrap()
            .status();
        assert!(status.as_u16() >= 400, "{path}: {status}");
    }
    let audit = operator.audit().unwrap();
    for action in ["image captured", "plan captured"] {
        assert!(audit.iter().any(|entry| entry.action == action), "{action}");
    }
}

#[test]
fn a_capture_that_was_cut_off_sends_only_the_rest() {
    let mut site = TestSite::new();
    let machine = Machine { number: 1 };
    site.operator().create_job(&capture_job(&machine, "golden.gim")).unwrap();
    let content = disk(2);
    let (boot, first) = begin(&site, &machine);
    let target = Upload::new(&boot, &site, 1);
    send(&target, &content).unwrap_err();
    let before = target.sent.load(Ordering::Relaxed);
    assert!(before > 3 << 20, "{before}");
    // The server goes away in between, and keeps what came.
    site.stop();
    site.start();
    let (boot, second) = begin(&site, &machine);
    assert_ne!(first.id, second.id);
    let target = Upload::new(&boot, &site, u64::MAX);
    let report = send(&target, &content).unwrap();
    let after = target.sent.load(Ordering::Relaxed);
    let all = DISK_BYTES as u64;
    assert!(before + after < all + all / 20, "{before} and {after} of {all}");
    assert!(after < all - (3 << 20), "{after} of {all}");
    boot.events(&site, &second.id, &[(1, captured(&second, &report))]).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Captured);
    let verified = verify_block_image(&restored(&site, "golden"), None, &Ctl::default(), &Silent).unwrap();
    assert_eq!((verified.damage.len(), verified.tree), (0, report.tree));
}

#[test]
fn machines_read_from_a_bucket_by_signed_addresses() {
    let Some(bucket) = BucketServer::start() else { return };
    let endpoint = bucket.as_ref().unwrap().endpoint().to_owned();
    let config = S3Config {
        endpoint: endpoint.clone(),
        bucket: "lab".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        access_key: "key".into(),
        secret_key: Secret::new("hidden"),
    };
    S3Objects::new(gravure_imaging::agent(), config, Default::default()).create_bucket().unwrap();
    let site = TestSite::with(|text, dir| {
        std::fs::write(dir.join("keys/store.toml"), "access_key = \"key\"\nsecret_key = \"hidden\"\n")
            .unwrap();
        let store = format!(
            "[store]\nbucket = \"lab\"\nendpoint = \"{endpoint}\"\nprefix = \"site\"\ncredentials = \"keys/store.toml\"\n\n"
        );
        text.replace("[limits]\n", &format!("{store}[limits]\n"))
    });
    let (machine, other) = (Machine { number: 1 }, Machine { number: 2 });
    let operator = site.operator();
    operator.create_job(&capture_job(&machine, "golden.gim")).unwrap();
    let (boot, plan) = begin(&site, &machine);
    let content = disk(5);
    let report = send(&Upload::new(&boot, &site, u64::MAX), &content).unwrap();
    boot.events(&site, &plan.id, &[(1, captured(&plan, &report))]).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Captured);
    assert!(std::fs::read_dir(site.dir.join("store")).unwrap().next().is_none(), "nothing lies here");
    let error = operator.create_job(&capture_job(&machine, "golden.gim")).unwrap_err();
    assert!(error.cure().unwrap().contains("--replace"), "{error}");

    // The server gives no content, only where it is.
    let ask = |path: &str| {
        let agent = ureq::Agent::config_builder().max_redirects(0).http_status_as_error(false).build();
        ureq::Agent::from(agent).get(format!("{}/{path}", site.content)).call().unwrap()
    };
    let answer = ask("store/images/golden.gim");
    assert_eq!(answer.status().as_u16(), 307);
    let address = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(address.starts_with(&format!("{endpoint}/lab/site/images/golden.gim?X-Amz-")), "{address}");
    assert_eq!(ask("store/sessions/x").status().as_u16(), 404);

    // A payload follows, with its ranges.
    let image = restored(&site, "golden");
    let verified = verify_block_image(&image, None, &Ctl::default(), &Silent).unwrap();
    assert_eq!((verified.damage.len(), verified.tree), (0, report.tree));
    let request = JobRequest {
        image: "golden.gim".into(),
        assurance: Assurance::Claimed,
        ..job(MachineSelector::Mac(other.mac()))
    };
    operator.create_job(&request).unwrap();
    let boot = Boot::new(&site.ca_pem());
    boot.hello(&site, &other, None).unwrap();
    let verdict = judge(&site, &other, &boot.nonce, &boot.plan(&site).unwrap()).unwrap();
    assert_eq!(verdict.plan.image.path, "/store/images/golden.gim");
    assert!(gravure_imaging::is_described_block_image(&image, &verdict.descriptor));
}

#[test]
fn an_image_is_replaced_on_the_operators_word() {
    let site = TestSite::new();
    let machine = Machine { number: 1 };
    let mut trees = Vec::new();
    for (seed, replace) in [(3, false), (4, true)] {
        let request = JobRequest {
            capture: Some(CaptureRequest { replace, ..CaptureRequest::default() }),
            ..capture_job(&machine, "golden.gim")
        };
        site.operator().create_job(&request).unwrap();
        let (boot, plan) = begin(&site, &machine);
        let report = send(&Upload::new(&boot, &site, u64::MAX), &disk(seed)).unwrap();
        boot.events(&site, &plan.id, &[(1, captured(&plan, &report))]).unwrap();
        assert_eq!(restored(&site, "golden").root().tree_hash(), report.tree.unwrap());
        trees.push(report.tree);
    }
    assert_ne!(trees[0], trees[1]);
}

/// Keys of encrypted volumes go to the machine that was approved, with its plan, and are nowhere else: not in what is shown, not in the
/// database, and gone when the job is.
#[test]
fn keys_go_to_the_machine_alone_and_are_forgotten_with_the_job() {
    let mut site = TestSite::new();
    let machine = Machine { number: 1 };
    let operator = site.operator();
    let keys = [&b"hunter2-hunter2"[..], &[0, 255, 7, 10]];
    let with = |raw, keys: &[&[u8]]| {
        let keys = keys.iter().map(|key| Secret::of_bytes(key)).collect();
        let capture = Some(CaptureRequest { raw, keys, ..CaptureRequest::default() });
        JobRequest { capture, ..capture_job(&machine, "golden.gim") }
    };
    for (request, expected) in [
        (with(true, &keys), "every byte is kept as it stands"),
        (with(false, &[&b"a"[..]; 17]), "expected at most 16, found 17"),
        (with(false, &[&b"a"[..], b""]), "key 2: expected 1 to 65536 bytes as base64, found 0 bytes"),
        (with(false, &[&[1; 65537][..]]), "key 1: expected 1 to 65536 bytes as base64, found 65537 bytes"),
    ] {
        let error = operator.create_job(&request).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let created = operator.create_job(&with(false, &keys)).unwrap();
    assert_eq!(created.job.request.assurance, Assurance::Approved);
    let secret = Secret::of_bytes(keys[0]).reveal().to_owned();
    let hidden = |text: &str| !text.contains(&secret) && !text.contains("hunter2");
    let shown = serde_json::to_string(&(&created, operator.jobs().unwrap())).unwrap();
    assert!(hidden(&shown) && !shown.contains("keys"), "{shown}");

    let boot = Boot::new(&site.ca_pem());
    let welcome = boot.hello_with(&site, &machine, site.boot_token(&machine), |inventory| {
        inventory.disks[0].size_bytes = DISK_BYTES as u64;
    });
    let welcome = welcome.unwrap();
    let PlanAnswer::Wait { reason, .. } = boot.plan(&site).unwrap() else { panic!("not approved yet") };
    assert!(reason.contains("needs assurance \"approved\""), "{reason}");
    operator.approve(&welcome.machine, &welcome.approval_code).unwrap();
    // A payload that lost the answer asks again.
    let mut plans =
        (0..2).map(|_| judge(&site, &machine, &boot.nonce, &boot.plan(&site).unwrap()).unwrap().plan);
    let (plan, again) = (plans.next().unwrap(), plans.next().unwrap());
    assert_eq!(plan.id, again.id);
    for plan in [&plan, &again] {
        let planned = &plan.capture.as_ref().unwrap().keys;
        let planned: Vec<_> = planned.iter().map(|key| key.bytes().unwrap().to_vec()).collect();
        assert_eq!(planned, keys);
        assert!(hidden(&format!("{plan:?}")));
    }
    let report = operator.machine(&machine.mac().to_string()).unwrap();
    let told = serde_json::to_string(&(report, operator.audit().unwrap())).unwrap();
    assert!(hidden(&told) && told.contains("with keys of encrypted volumes"), "{told}");

    // On disk there is nothing of them but what is sealed, and not even that once the image is there.
    let stored = |site: &TestSite| -> Vec<u8> {
        let files = std::fs::read_dir(site.dir.join("db")).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    };
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let is_sqlite = site.dir.join("db/gravure.sqlite3").exists();
    site.stop();
    let bytes = stored(&site);
    assert!(!has(&bytes, &secret) && !has(&bytes, "hunter2"));
    assert!(!is_sqlite || has(&bytes, "sealed:1:"));
    site.start();
    let content = disk(6);
    let report = send(&Upload::new(&boot, &site, u64::MAX), &content).unwrap();
    boot.events(&site, &plan.id, &[(1, captured(&plan, &report))]).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Captured);
    let PlanAnswer::Wait { reason, .. } = boot.plan(&site).unwrap() else { panic!("handed out again") };
    assert!(reason.contains("has ended"), "{reason}");
    site.stop();
    assert!(!has(&stored(&site), "sealed:1:"), "forgotten");
    site.start();
}

#[test]
fn what_is_not_right_is_refused() {
    let site = TestSite::new();
    let (machine, other) = (Machine { number: 1 }, Machine { number: 2 });
    let operator = site.operator();
    // Jobs that cannot be meant.
    for (change, expected) in [
        (JobRequest { image: "../x.gim".into(), ..capture_job(&machine, "x.gim") }, "expected a name like"),
        (JobRequest { image: "x.wim".into(), ..capture_job(&machine, "x.gim") }, "expected a name like"),
        (JobRequest { name: "pc".into(), ..capture_job(&machine, "x.gim") }, "takes neither name"),
        (
            JobRequest { restore: Some(RestoreRequest::default()), ..capture_job(&machine, "x.gim") },
            "takes neither name",
        ),
        (JobRequest { machine: MachineSelector::Any, ..capture_job(&machine, "x.gim") }, "one machine"),
    ] {
        let error = operator.create_job(&change).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    std::fs::write(site.dir.join("images/file.gim"), "x").unwrap();
    let error = operator.create_job(&capture_job(&machine, "file.gim")).unwrap_err();
    assert!(error.to_string().contains("would hide"), "{error}");

    // A machine without such a plan may send nothing.
    let mut encoder = FrameEncoder::new(1).unwrap();
    let frame = encoder.single(FrameKind::Data, b"content").unwrap();
    let id = frame.header.entries[0].id;
    operator.create_job(&job(MachineSelector::Mac(other.mac()))).unwrap();
    let deploys = Boot::new(&site.ca_pem());
    assert_eq!(ask(&deploys, &site, &[id]).unwrap_err().status, 401);
    deploys.hello(&site, &other, site.boot_token(&other)).unwrap();
    assert_eq!(put_frames(&deploys, &site, std::slice::from_ref(&frame)).unwrap_err().status, 403);
    assert!(matches!(deploys.plan(&site).unwrap(), PlanAnswer::Ready { .. }));
    assert_eq!(ask(&deploys, &site, &[id]).unwrap_err().status, 403);
    assert_eq!(put_frames(&deploys, &site, std::slice::from_ref(&frame)).unwrap_err().status, 403);
    assert_eq!(deploys.put(&site, "/v1/payload/capture/manifest", b"x").unwrap_err().status, 403);

    operator.create_job(&capture_job(&machine, "golden.gim")).unwrap();
    let (boot, plan) = begin(&site, &machine);
    assert_eq!(ask(&boot, &site, &[id]).unwrap(), [false]);
    assert_eq!(ask(&boot, &site, &vec![id; 9000]).unwrap_err().status, 422);
    // Content that is not what its id says, structures, fragments, nothing.
    let mut wrong = Vec::new();
    frame.write(&mut wrong);
    let put = |bytes: &[u8]| boot.put(&site, "/v1/payload/capture/frames", bytes).unwrap_err();
    for cut in [1, 20, wrong.len() - 1] {
        assert_eq!(put(&wrong[..cut]).status, 422, "{cut}");
    }
    assert_eq!(put(&[]).status, 422);
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    let refusal = put(&wrong);
    assert_eq!(refusal.status, 422);
    assert!(refusal.text.contains(&id.to_string()), "{}", refusal.text);
    let mut structure = Vec::new();
    encoder.single(FrameKind::Root, b"content").unwrap().write(&mut structure);
    assert_eq!(put(&structure).status, 422);
    assert_eq!(ask(&boot, &site, &[id]).unwrap(), [false], "nothing of it was stored");
    put_frames(&boot, &site, &[frame]).unwrap();
    assert_eq!(ask(&boot, &site, &[id]).unwrap(), [true]);

    // A manifest that promises what is not there, and one of another disk.
    struct Deaf<'a>(Upload<'a>);
    impl CaptureTarget for Deaf<'_> {
        fn name(&self) -> &str {
            "the server"
        }
        fn are_stored(&self, ids: &[ChunkId]) -> Result<Vec<bool>, Error> {
            Ok(vec![true; ids.len()])
        }
        fn put(&self, frames: &[Frame]) -> Result<(), Error> {
            self.0.put(frames)
        }
        fn commit(&self, manifest: &[u8]) -> Result<(), Error> {
            self.0.commit(manifest)
        }
    }
    let lies = send(&Deaf(Upload::new(&boot, &site, u64::MAX)), &disk(5)).unwrap_err().to_string();
    assert!(lies.contains("409") && lies.contains("not in the store"), "{lies}");
    let small = send(&Upload::new(&boot, &site, u64::MAX), &disk(5)[..1 << 20]).unwrap_err().to_string();
    assert!(small.contains("422") && small.contains("manifest: size"), "{small}");
    assert_eq!(boot.put(&site, "/v1/payload/capture/manifest", b"x").unwrap_err().status, 422);

    // More than an image of this disk can have.
    let mut sent = 0u64;
    let refusal = loop {
        let mut content = vec![7; 1 << 20];
        content[..8].copy_from_slice(&sent.to_le_bytes());
        let frame = encoder.single(FrameKind::Data, &content).unwrap();
        match put_frames(&boot, &site, &[frame]) {
            Ok(()) => sent += content.len() as u64,
            Err(refusal) => break refusal,
        }
        assert!(sent < 100 << 20, "no limit");
    };
    assert_eq!(refusal.status, 422);
    assert!(refusal.text.contains("that an image of this disk can have"), "{}", refusal.text);

    // Said to be done without being it.
    let never = Known::Captured { plan: plan.id.clone(), image: Digest([1; 32]), bytes: 1 };
    boot.events(&site, &plan.id, &[(1, never)]).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Failed);
    assert_eq!(ask(&boot, &site, &[id]).unwrap_err().status, 403, "the plan has ended");
    assert!(operator.images().unwrap().iter().all(|image| image.name != "golden.gim"));
}
