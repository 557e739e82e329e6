//! What the payload must refuse, one case each (issue: trust).

use gravure_model::Assurance;
use gravure_model::descriptor::{DESCRIPTOR_VERSION, RANGE_BYTES};
use gravure_model::identity::Mac;
use gravure_model::job::Afterwards;
use gravure_model::plan::{Personality, PlannedDisk, PlannedImage};

use super::*;

struct Site {
    root: SigningKey,
    signer: PlanSigner,
}

fn site() -> Site {
    let root = SigningKey::generate().unwrap();
    let key = SigningKey::generate().unwrap();
    let statement =
        PlanSigner::certify(&root, &key.public(), Timestamp(0), Timestamp(1_000_000_000)).unwrap();
    Site { root, signer: PlanSigner::new(key, statement) }
}

fn identity() -> MachineIdentity {
    MachineIdentity::new(Some("12345678-0000-0000-0000-000000000001"), None, [Mac([2, 0, 0, 0, 0, 1])])
}

fn descriptor_bytes() -> Vec<u8> {
    serde_json::to_vec(&ImageDescriptor {
        version: DESCRIPTOR_VERSION,
        format: "wim".into(),
        size_bytes: 1,
        range_bytes: RANGE_BYTES,
        ranges: vec![Digest([1; 32])],
        tables: Digest([2; 32]),
        contents_checked: true,
        images: Vec::new(),
    })
    .unwrap()
}

fn plan() -> Plan {
    Plan {
        version: PLAN_VERSION,
        id: "p1".into(),
        job: "j1".into(),
        machine: identity(),
        nonce: "n1".into(),
        created: Timestamp(100),
        expires: Timestamp(200_000_000),
        assurance: Assurance::Token,
        firmware: FirmwareMode::Uefi,
        seed: "00".repeat(32),
        image: PlannedImage {
            path: "/images/x.wim".into(),
            descriptor: Digest(*blake3::hash(&descriptor_bytes()).as_bytes()),
            index: 0,
        },
        disk: PlannedDisk {
            name: "vda".into(),
            model: None,
            serial: None,
            size_bytes: 1 << 30,
            logical_sector_bytes: 512,
            wipe: false,
        },
        personality: Personality { host_name: "pc-1".into(), machine_id: "0".repeat(32), confirm: None },
        windows: None,
        linux: None,
        capture: None,
        steps: Vec::new(),
        then: Afterwards::Reboot,
    }
}

fn judge(site: &Site, plan: &Envelope, descriptor: &Envelope, now: Timestamp) -> Result<Verdict, Error> {
    let trusted = TrustedPlanKey::new(&site.root.public(), site.signer.statement())?;
    let identity = identity();
    let expect = PlanExpectation { identity: &identity, nonce: "n1", firmware: FirmwareMode::Uefi, now };
    trusted.plan(plan, descriptor, &expect)
}

#[test]
fn a_genuine_plan_is_accepted_unchanged() {
    let site = site();
    let sealed = site.signer.plan(&plan()).unwrap();
    let verdict = judge(&site, &sealed, &site.signer.image(&descriptor_bytes()), Timestamp(1000)).unwrap();
    assert_eq!(verdict.plan, plan());
    assert_eq!(verdict.descriptor.ranges, [Digest([1; 32])]);
}

#[test]
fn everything_else_is_refused_with_the_reason() {
    let site = site();
    let image = site.signer.image(&descriptor_bytes());
    let cases: [(&str, Plan, i64, &str); 6] = [
        ("other boot", Plan { nonce: "n0".into(), ..plan() }, 1000, "nonce is n0, expected n1"),
        (
            "other machine",
            Plan { machine: MachineIdentity::new(None, None, [Mac([2, 0, 0, 0, 0, 9])]), ..plan() },
            1000,
            "machine is uuid none, serial none, adapters 02:00:00:00:00:09",
        ),
        ("nobody", Plan { machine: MachineIdentity::default(), ..plan() }, 1000, "machine is uuid none"),
        ("expired", plan(), 200_000_000, "plan is not valid at 200"),
        ("key expired", plan(), 1_000_000_000, "statement on the plan key is not valid at 1000"),
        (
            "firmware",
            Plan { firmware: FirmwareMode::Bios, ..plan() },
            1000,
            "firmware mode is bios, expected uefi",
        ),
    ];
    for (case, plan, now, wanted) in cases {
        let sealed = site.signer.plan(&plan).unwrap();
        let error = judge(&site, &sealed, &image, Timestamp(now)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{case}: {error}");
    }
}

#[test]
fn a_clock_that_lags_a_little_is_accepted_and_one_that_lags_much_is_not() {
    let site = site();
    let image = site.signer.image(&descriptor_bytes());
    let made_at = |created: i64| site.signer.plan(&Plan { created: Timestamp(created), ..plan() }).unwrap();
    assert!(judge(&site, &made_at(1_500_000), &image, Timestamp(1_000_000)).is_ok());
    let error = judge(&site, &made_at(62_000_000), &image, Timestamp(1_000_000)).unwrap_err().to_string();
    assert!(error.starts_with("plan is not valid at 1:"), "{error}");
}

#[test]
fn another_sites_key_is_refused() {
    let (ours, theirs) = (site(), site());
    let error = TrustedPlanKey::new(&ours.root.public(), theirs.signer.statement()).unwrap_err();
    assert!(matches!(error, Error::OtherKey { .. }), "{error}");
    let sealed = theirs.signer.plan(&plan()).unwrap();
    let error = judge(&ours, &sealed, &ours.signer.image(&descriptor_bytes()), Timestamp(1000)).unwrap_err();
    assert!(matches!(error, Error::OtherKey { .. }), "{error}");
}

#[test]
fn another_image_under_a_genuine_signature_is_refused() {
    let site = site();
    let sealed = site.signer.plan(&plan()).unwrap();
    let mut bytes = descriptor_bytes();
    bytes.push(b' ');
    let error = judge(&site, &sealed, &site.signer.image(&bytes), Timestamp(1000)).unwrap_err().to_string();
    assert!(error.starts_with("image descriptor: digest is"), "{error}");
}

#[test]
fn time_is_bound_to_the_asker() {
    let site = site();
    let trusted = TrustedPlanKey::new(&site.root.public(), site.signer.statement()).unwrap();
    let time = site.signer.time(&ServerTime { nonce: "n1".into(), now: Timestamp(5) }).unwrap();
    assert_eq!(trusted.server_time(&time, "n1").unwrap(), Timestamp(5));
    let error = trusted.server_time(&time, "n2").unwrap_err().to_string();
    assert_eq!(error, "server time: nonce is n1, expected n2");
}

fn order(machine: gravure_model::identity::MachineSelector) -> OfflineJob {
    let request = gravure_model::job::JobRequest {
        machine,
        image: "x.wim".into(),
        image_index: 0,
        name: "pc-{serial}".into(),
        disk: gravure_model::job::DiskRule::Only,
        assurance: Assurance::Claimed,
        expires: None,
        max_machines: None,
        then: Afterwards::PowerOff,
        wipe: false,
        windows: None,
        capture: None,
        restore: None,
    };
    OfflineJob {
        version: OFFLINE_VERSION,
        job: gravure_model::job::Job {
            id: "o1".into(),
            seed: "00".repeat(32),
            request,
            created: Timestamp(100),
        },
        image: Digest(*blake3::hash(&descriptor_bytes()).as_bytes()),
        created: Timestamp(100),
        expires: Timestamp(200_000_000),
    }
}

#[test]
fn an_order_on_a_medium_is_genuine_in_time_and_for_this_machine() {
    use gravure_model::identity::MachineSelector;
    let site = site();
    let trusted = TrustedPlanKey::new(&site.root.public(), site.signer.statement()).unwrap();
    let image = site.signer.image(&descriptor_bytes());
    let judge = |order: &OfflineJob, image: &Envelope, now: i64| {
        let order = site.signer.offline_job(order).unwrap();
        trusted.offline(&order, image, &identity(), Timestamp(now))
    };
    let good = order(MachineSelector::Any);
    let verdict = judge(&good, &image, 1000).unwrap();
    assert_eq!((verdict.job.clone(), verdict.descriptor.size_bytes), (good.clone(), 1));
    // The plan made of it is of its image, and no other.
    assert!(verdict.clone().with_plan(plan()).is_ok());
    let mut other = plan();
    other.image.descriptor = Digest([9; 32]);
    assert!(matches!(verdict.with_plan(other), Err(Error::NotForUs { .. })));
    let own = order(MachineSelector::Mac(Mac([2, 0, 0, 0, 0, 1])));
    assert!(judge(&own, &image, 1000).is_ok());
    let foreign = order(MachineSelector::Mac(Mac([2, 0, 0, 0, 0, 2])));
    assert!(matches!(judge(&foreign, &image, 1000), Err(Error::NotForUs { .. })));
    for late in [200_000_000, 999_999_999] {
        assert!(matches!(judge(&good, &image, late), Err(Error::OutOfTime { .. })));
    }
    let image_of_another = site.signer.image(b"{}");
    assert!(matches!(judge(&good, &image_of_another, 1000), Err(Error::NotForUs { .. })));
    let newer = OfflineJob { version: 2, ..good.clone() };
    assert!(matches!(judge(&newer, &image, 1000), Err(Error::NotForUs { .. })));
    // A plan's signature is none of an order's, and a stranger's key is nobody's.
    let as_plan = site.signer.plan(&plan()).unwrap();
    assert!(trusted.offline(&as_plan, &image, &identity(), Timestamp(1000)).is_err());
    let stranger = super::tests::site();
    let theirs = stranger.signer.offline_job(&good).unwrap();
    assert!(trusted.offline(&theirs, &image, &identity(), Timestamp(1000)).is_err());
}
