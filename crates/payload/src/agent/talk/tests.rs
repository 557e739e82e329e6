//! The conversation against a server with real keys and real TLS.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use gravure_model::api::EventBatch;
use gravure_model::descriptor::{DESCRIPTOR_VERSION, DescribedImage, Digest, ImageDescriptor, SystemKind};
use gravure_model::event::Event;
use gravure_model::identity::Mac;
use gravure_model::inventory::{FirmwareMode, Nic};
use gravure_model::plan::{PLAN_VERSION, Personality, PlannedDisk, PlannedImage};
use gravure_model::site::SiteSettings;
use gravure_model::{Assurance, Secret, Timestamp};

use super::*;
use crate::made_site::{Answer, Site};

/// Long enough for a loaded machine; only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

const WAITS: Waits = Waits {
    first: Duration::from_millis(20),
    longest: Duration::from_millis(100),
    after_distrust: Duration::from_millis(50),
};

fn inventory() -> Inventory {
    let nic = Nic {
        name: "eth0".into(),
        mac: Mac([2, 0, 0, 0, 0, 9]),
        driver: None,
        carrier: None,
        speed_mbits: None,
        pci_address: None,
    };
    Inventory { nics: vec![nic], ..Inventory::default() }
}

fn descriptor() -> Vec<u8> {
    let image = DescribedImage {
        name: "system".into(),
        system: SystemKind::Linux,
        file_count: 1,
        directory_count: 1,
        content_bytes: 10,
        windows: None,
        least_disk_bytes: None,
    };
    let descriptor = ImageDescriptor {
        version: DESCRIPTOR_VERSION,
        format: "wim".into(),
        size_bytes: 10,
        range_bytes: 4 << 20,
        ranges: vec![Digest([1; 32])],
        tables: Digest([2; 32]),
        contents_checked: true,
        images: vec![image],
    };
    serde_json::to_vec(&descriptor).unwrap()
}

fn plan(id: &str, nonce: &str) -> Plan {
    let now = Timestamp::now();
    Plan {
        version: PLAN_VERSION,
        id: id.into(),
        job: "j1".into(),
        machine: inventory().identity(),
        nonce: nonce.into(),
        created: now.plus_seconds(-5),
        expires: now.plus_seconds(600),
        assurance: Assurance::Token,
        firmware: FirmwareMode::Bios,
        seed: "00".repeat(32),
        image: PlannedImage {
            path: "/images/x.wim".into(),
            descriptor: Digest(*blake3::hash(&descriptor()).as_bytes()),
            index: 0,
        },
        disk: PlannedDisk {
            name: "vda".into(),
            model: None,
            serial: Some("D1".into()),
            size_bytes: 8 << 30,
            logical_sector_bytes: 512,
            wipe: true,
        },
        personality: Personality { host_name: "pc-1".into(), machine_id: "0".repeat(32), confirm: None },
        windows: None,
        linux: None,
        capture: None,
        steps: Vec::new(),
        then: Afterwards::Reboot,
    }
}

fn ready(site: &Site, plan: &Plan) -> PlanAnswer {
    PlanAnswer::Ready {
        plan_key: site.signer.statement().clone(),
        plan: site.signer.plan(plan).unwrap(),
        descriptor: site.signer.image(&descriptor()),
    }
}

/// Lines of the screen, as they come.
struct Lines(Sender<String>, Vec<u8>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.extend_from_slice(bytes);
        while let Some(end) = self.1.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.1.drain(..=end).collect();
            let _ = self.0.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A payload at work in a thread of its own.
struct Payload {
    lines: Receiver<String>,
    left: Receiver<Leave>,
    _dir: tempfile::TempDir,
}

impl Payload {
    fn start(site: SiteSettings, deploy: impl Deploy + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let session = Session::resume_or_begin(dir.path()).unwrap();
        let outbox = Arc::new(Outbox::open(dir.path()).unwrap());
        let root_key = gravure_trust::PublicKey::from_text(&site.root_key).unwrap();
        let settings = Settings { site, root_key, token: Some(Secret::new("one-time")) };
        let ((say, lines), (leave, left)) = (channel(), channel());
        let path = dir.path().to_owned();
        std::thread::spawn(move || {
            let screen = Arc::new(Screen::new(Lines(say, Vec::new())));
            let talk = Talk {
                settings,
                session,
                outbox,
                screen,
                network: None,
                deploy: &deploy,
                ended_plans: Vec::new(),
                dir: path,
                waits: WAITS,
            };
            let _ = leave.send(talk.run(&inventory()));
        });
        Self { lines, left, _dir: dir }
    }

    /// Waits for a line that contains `text`.
    fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with {text:?} ({error}); seen: {seen:#?}"),
            }
        }
    }
}

/// A deployment that does what `work` says.
struct Work<F>(F);

impl<F: Fn(&Verdict, &dyn Observer) -> Result<(), Failed> + Send + Sync> Deploy for Work<F> {
    fn deploy(
        &self,
        verdict: &Verdict,
        _: &SiteServer,
        _: &Api,
        observer: &dyn Observer,
    ) -> Result<(), Failed> {
        (self.0)(verdict, observer)
    }
}

fn never() -> impl Deploy {
    Work(|_: &Verdict, _: &dyn Observer| panic!("nothing may be deployed"))
}

/// What the server has: each number once, as its database would.
type Taken = Arc<Mutex<BTreeMap<u64, Event>>>;

fn take(taken: &Taken, body: &[u8]) -> EventBatch {
    let batch: EventBatch = serde_json::from_slice(body).unwrap();
    let mut taken = taken.lock().unwrap();
    for event in &batch.events {
        taken.entry(event.sequence).or_insert_with(|| event.clone());
    }
    batch
}

/// Waits until the server has an event that `wanted` accepts.
fn wait_for_event(news: &Receiver<Vec<Event>>, wanted: impl Fn(&Known) -> bool) -> Known {
    loop {
        for event in news.recv_timeout(PATIENCE).expect("the event comes") {
            if let EventKind::Known(known) = event.kind
                && wanted(&known)
            {
                return known;
            }
        }
    }
}

/// A server that welcomes, gives what `answer` makes of the nonce, and hands events on.
fn ordinary(
    site: &Arc<Site>,
    answer: impl Fn(&Site, &str) -> PlanAnswer + Send + Sync + 'static,
) -> (String, Receiver<Vec<Event>>) {
    let (tell, news) = channel();
    let nonce: Mutex<String> = Mutex::default();
    let of_server = Arc::clone(site);
    let url = site.serve(move |path, body| match path {
        "/v1/payload/hello" => {
            let hello: Hello = serde_json::from_slice(body).unwrap();
            hello.nonce.clone_into(&mut nonce.lock().unwrap());
            Answer::ok(&of_server.welcome(&hello))
        }
        "/v1/payload/plan" => Answer::ok(&answer(&of_server, &nonce.lock().unwrap())),
        "/v1/payload/events" => {
            let batch: EventBatch = serde_json::from_slice(body).unwrap();
            let _ = tell.send(batch.events);
            Answer::Json(204, Vec::new())
        }
        other => panic!("{other}"),
    });
    (url, news)
}

#[test]
fn a_server_of_another_site_is_refused_with_the_reason() {
    let (ours, other) = (Arc::new(Site::new()), Site::new());
    // The same CA, but the plan key was vouched for by another root.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let url = ours.serve(move |path, body| {
        assert_eq!(path, "/v1/payload/hello", "nothing but greetings");
        count.fetch_add(1, Ordering::Relaxed);
        Answer::ok(&other.welcome(&serde_json::from_slice(body).unwrap()))
    });
    let payload = Payload::start(ours.settings(&url), never());
    let line = payload.wait_for("REFUSED");
    assert!(line.contains("statement on the plan key is signed by key"), "{line}");
    payload.wait_for("What to do:");
    payload.wait_for("REFUSED");
    assert!(asked.load(Ordering::Relaxed) >= 2);
}

#[test]
fn a_certificate_of_another_ca_gets_no_greeting() {
    let (ours, other) = (Site::new(), Site::new());
    let url = other.serve(|path, _| panic!("{path}: the token would have been told"));
    let payload = Payload::start(ours.settings(&url), never());
    let line = payload.wait_for("No answer from the server");
    assert!(line.contains("certificate"), "{line}");
}

#[test]
fn an_old_time_stamp_is_no_time() {
    let site = Arc::new(Site::new());
    let of_server = Arc::clone(&site);
    let url = site.serve(move |_, body| {
        let hello: Hello = serde_json::from_slice(body).unwrap();
        Answer::ok(&of_server.welcome(&Hello { nonce: "an earlier boot".into(), ..hello }))
    });
    let line = Payload::start(site.settings(&url), never()).wait_for("REFUSED");
    assert!(line.contains("server time: nonce is an earlier boot"), "{line}");
}

#[test]
fn changed_and_replayed_plans_are_refused_and_reported() {
    type Change = fn(&Site, &str) -> PlanAnswer;
    let cases: [(Change, &str); 4] = [
        (
            |site, nonce| {
                let PlanAnswer::Ready { plan_key, mut plan, descriptor } = ready(site, &plan_of(nonce))
                else {
                    unreachable!()
                };
                let text = String::from_utf8(STANDARD.decode(&plan.payload).unwrap()).unwrap();
                plan.payload = STANDARD.encode(text.replace("\"vda\"", "\"sda\""));
                PlanAnswer::Ready { plan_key, plan, descriptor }
            },
            "signature of plan",
        ),
        (|site, _| ready(site, &plan_of("another boot")), "plan: nonce is another boot"),
        (
            |site, nonce| {
                let mut plan = plan_of(nonce);
                plan.machine.macs = vec![Mac([2, 0, 0, 0, 0, 1])];
                ready(site, &plan)
            },
            "plan: machine is",
        ),
        (
            |site, nonce| {
                let mut plan = plan_of(nonce);
                plan.expires = Timestamp::now().plus_seconds(-1);
                ready(site, &plan)
            },
            "plan is not valid at",
        ),
    ];
    for (change, expected) in cases {
        let site = Arc::new(Site::new());
        let (url, news) = ordinary(&site, change);
        let payload = Payload::start(site.settings(&url), never());
        let line = payload.wait_for("FAILED");
        assert!(line.contains(expected), "{line}");
        let Known::Failed { stage, code, message, cure } =
            wait_for_event(&news, |event| matches!(event, Known::Failed { .. }))
        else {
            unreachable!()
        };
        assert_eq!((stage.as_str(), code), ("check_plan", 4));
        assert!(message.contains(expected) && cure.is_some(), "{message}");
        assert!(payload.left.try_recv().is_err(), "the machine stays on");
    }
}

fn plan_of(nonce: &str) -> Plan {
    plan("p1", nonce)
}

#[test]
fn a_deployment_survives_a_server_that_comes_and_goes() {
    let site = Arc::new(Site::new());
    let taken: Taken = Arc::default();
    let tries = Arc::new(AtomicUsize::new(0));
    let nonce: Mutex<String> = Mutex::default();
    let (of_server, of_events) = (Arc::clone(&site), Arc::clone(&taken));
    let url = site.serve(move |path, body| match path {
        "/v1/payload/hello" => {
            let hello: Hello = serde_json::from_slice(body).unwrap();
            assert_eq!(hello.token.as_ref().map(Secret::reveal), Some("one-time"));
            hello.nonce.clone_into(&mut nonce.lock().unwrap());
            Answer::ok(&of_server.welcome(&hello))
        }
        "/v1/payload/plan" => Answer::ok(&ready(&of_server, &plan_of(&nonce.lock().unwrap()))),
        // Every second request breaks: half of those before anything was taken, half after.
        "/v1/payload/events" => match tries.fetch_add(1, Ordering::Relaxed) % 4 {
            0 => Answer::Break,
            2 => {
                take(&of_events, body);
                Answer::Break
            }
            _ => {
                assert_eq!(take(&of_events, body).plan.as_deref(), Some("p1"));
                Answer::Json(204, Vec::new())
            }
        },
        other => panic!("{other}"),
    });
    let deploy = Work(|verdict: &Verdict, observer: &dyn Observer| {
        assert_eq!(verdict.plan.personality.host_name, "pc-1");
        observer.event(Known::StageStarted { stage: "apply".into(), total_bytes: Some(10) }.into());
        for n in 0..5 {
            observer.event(Known::Warning { stage: Some("apply".into()), message: n.to_string() }.into());
            std::thread::sleep(Duration::from_millis(10));
        }
        observer.event(Known::StageFinished { stage: "apply".into(), bytes: 10, milliseconds: 50 }.into());
        let image = verdict.plan.image.descriptor;
        observer.event(Known::Verified { plan: "p1".into(), image, files: 1, bytes: 10 }.into());
        Ok(())
    });
    let payload = Payload::start(site.settings(&url), deploy);
    payload.wait_for("Deploying /images/x.wim as pc-1 to vda (model unknown, serial D1, 8 GB)");
    payload.wait_for("Verified: 1 files");
    assert_eq!(payload.left.recv_timeout(PATIENCE), Ok(Leave::Restart));
    let taken = taken.lock().unwrap();
    let numbers: Vec<u64> = taken.keys().copied().collect();
    assert_eq!(numbers, (1..=9).collect::<Vec<_>>(), "none lost, none twice");
    assert!(matches!(taken[&9].kind, EventKind::Known(Known::Leaving { .. })));
    assert!(matches!(taken[&8].kind, EventKind::Known(Known::Verified { .. })));
}

#[test]
fn a_failed_plan_is_not_tried_again_but_a_new_one_is() {
    let site = Arc::new(Site::new());
    let asked = AtomicUsize::new(0);
    let (url, news) = ordinary(&site, move |site, nonce| {
        // The same plan twice, then nothing, then a new one.
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => ready(site, &plan("first", nonce)),
            2 => {
                PlanAnswer::Wait { reason: "waiting to be armed".into(), retry_seconds: 0, boot_local: true }
            }
            _ => ready(site, &plan("second", nonce)),
        }
    });
    let runs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    let deploy = Work(move |verdict: &Verdict, _: &dyn Observer| {
        seen.lock().unwrap().push(verdict.plan.id.clone());
        assert!(verdict.plan.id != "second", "a fault in the engine");
        Err(Failed {
            stage: "verify".into(),
            code: 5,
            message: "blob 17 differs".into(),
            cure: Some("import the image again".into()),
        })
    });
    let payload = Payload::start(site.settings(&url), deploy);
    assert_eq!(payload.wait_for("FAILED"), "FAILED in Verify: blob 17 differs");
    assert_eq!(payload.wait_for("What to do"), "What to do: import the image again");
    payload.wait_for("the last one failed. Arm the machine again");
    payload.wait_for("waiting to be armed; type restart to start from its own disk");
    assert_eq!(payload.wait_for("Approval code"), "Approval code: 123456");
    assert!(payload.wait_for("FAILED").contains("the payload has a fault: a fault in the engine"));
    assert_eq!(*runs.lock().unwrap(), ["first", "second"]);
    let failed = wait_for_event(&news, |event| matches!(event, Known::Failed { code: 1, .. }));
    assert!(matches!(failed, Known::Failed { stage, .. } if stage == "deployment"));
}

#[test]
fn a_forgotten_session_is_greeted_again_without_the_used_token() {
    let site = Arc::new(Site::new());
    let (tell, hellos) = channel();
    let of_server = Arc::clone(&site);
    let url = site.serve(move |path, body| match path {
        "/v1/payload/hello" => {
            let hello: Hello = serde_json::from_slice(body).unwrap();
            let welcome = of_server.welcome(&hello);
            let _ = tell.send((hello.nonce, hello.token.is_some()));
            Answer::ok(&welcome)
        }
        _ => {
            Answer::Json(401, br#"{"error":"unauthorised","message":"no such session","cure":null}"#.to_vec())
        }
    });
    let payload = Payload::start(site.settings(&url), never());
    let line = payload.wait_for("does not know this session");
    assert!(line.contains("no such session"), "{line}");
    let (first, again) = (hellos.recv_timeout(PATIENCE).unwrap(), hellos.recv_timeout(PATIENCE).unwrap());
    assert_eq!((first.1, again.1), (true, false));
    assert_eq!(first.0, again.0, "the same boot");
}
