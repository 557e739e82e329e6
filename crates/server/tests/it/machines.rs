//! What the server knows of all machines together: names that are counted, Windows installations that are copies of one another,
//! secrets that the database alone does not give away.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]

use gravure_model::api::PlanAnswer;
use gravure_model::event::Known;
use gravure_model::identity::MachineSelector;
use gravure_model::inventory::{FirmwareMode, InstalledWindows};
use gravure_model::job::{Afterwards, DiskRule, JobRequest, WindowsRequest};
use gravure_model::plan::Plan;
use gravure_model::{Assurance, Secret, Timestamp};
use gravure_trust::{PlanExpectation, PublicKey, TrustedPlanKey};

use crate::common::{Boot, Machine, TestSite};

const SID: &str = "S-1-5-21-1760460187-1592185332-161725925";

fn job(machine: MachineSelector, image: &str, name: &str) -> JobRequest {
    JobRequest {
        machine,
        image: image.into(),
        image_index: 0,
        name: name.into(),
        disk: DiskRule::Only,
        assurance: Assurance::Token,
        expires: Some(Timestamp::now().plus_seconds(3600)),
        max_machines: Some(9),
        then: Afterwards::Reboot,
        wipe: false,
        windows: None,
        capture: None,
        restore: None,
    }
}

/// The machine starts, trades its token and asks for its plan.
fn deploy(site: &TestSite, machine: &Machine) -> Result<(Boot, Plan), String> {
    let boot = Boot::new(&site.ca_pem());
    boot.hello(site, machine, site.boot_token(machine)).unwrap();
    let (plan_key, plan, descriptor) = match boot.plan(site).unwrap() {
        PlanAnswer::Ready { plan_key, plan, descriptor } => (plan_key, plan, descriptor),
        PlanAnswer::Wait { reason, .. } => return Err(reason),
    };
    let root = PublicKey::from_text(&site.site_settings().root_key).unwrap();
    let key = TrustedPlanKey::new(&root, &plan_key).unwrap();
    let identity = machine.inventory().identity();
    let (now, firmware) = (Timestamp::now(), FirmwareMode::Uefi);
    let expected = PlanExpectation { identity: &identity, nonce: &boot.nonce, firmware, now };
    let plan = key.plan(&plan, &descriptor, &expected).unwrap().plan;
    Ok((boot, plan))
}

fn finish(site: &TestSite, (boot, plan): &(Boot, Plan)) {
    let verified =
        Known::Verified { plan: plan.id.clone(), image: plan.image.descriptor, files: 1, bytes: 1 };
    boot.events(site, &plan.id, &[(1, verified)]).unwrap();
}

#[test]
fn numbers_are_counted_for_each_room_and_given_once_for_ever() {
    let mut site = TestSite::new();
    let rooms = "serial,room\nSN1,B7\nSN2,B8\nSN3,b7\nSN4,B7\nSN5,B7\n";
    std::fs::write(site.dir.join("names.csv"), rooms).unwrap();
    let template = "{room}-{n:03}";
    site.operator().create_job(&job(MachineSelector::Any, "test.wim", template)).unwrap();
    let name = |site: &TestSite, number: u8| {
        let done = deploy(site, &Machine { number }).unwrap();
        finish(site, &done);
        done.1.personality.host_name
    };
    assert_eq!([1, 2, 3].map(|number| name(&site, number)), ["b7-001", "b8-001", "b7-002"]);

    // A machine keeps its number in the next job and over a restart of the server; others go on where the count was.
    site.stop();
    site.start();
    for (number, expected) in [(3, "b7-002"), (4, "b7-003"), (1, "b7-001")] {
        let machine = Machine { number };
        let mac = MachineSelector::Mac(machine.mac());
        site.operator().create_job(&job(mac, "test.wim", template)).unwrap();
        assert_eq!(name(&site, number), expected);
    }
    // Another width makes the same names, and none of them twice.
    let machine = Machine { number: 5 };
    site.operator().create_job(&job(MachineSelector::Mac(machine.mac()), "test.wim", "B7-{n}")).unwrap();
    assert_eq!(name(&site, 5), "b7-4");
}

#[test]
fn a_number_whose_name_somebody_has_is_passed_over() {
    let site = TestSite::new();
    for (number, template, expected) in
        [(1, "lab-1", "lab-1"), (2, "lab-{n}", "lab-2"), (3, "lab-{n}", "lab-3")]
    {
        let machine = Machine { number };
        site.operator().create_job(&job(MachineSelector::Mac(machine.mac()), "test.wim", template)).unwrap();
        assert_eq!(deploy(&site, &machine).unwrap().1.personality.host_name, expected);
    }
}

fn installed(sid: Option<&str>, name: &str) -> InstalledWindows {
    InstalledWindows {
        partition: "vda3".into(),
        computer_name: Some(name.into()),
        machine_sid: sid.map(str::to_owned),
    }
}

#[test]
fn machines_that_are_copies_of_one_another_are_told() {
    let site = TestSite::new();
    let report = |machine: &Machine| site.operator().machine(&machine.mac().to_string()).unwrap();
    let hello = |machine: &Machine, windows: Option<Vec<InstalledWindows>>| {
        let boot = Boot::new(&site.ca_pem());
        boot.hello_with(&site, machine, None, |inventory| inventory.windows = windows).unwrap();
    };
    let machines = [1, 2, 3].map(|number| Machine { number });
    hello(&machines[0], Some(vec![installed(Some(SID), "ROOM-1")]));
    hello(&machines[1], Some(vec![installed(None, "NEW"), installed(Some(SID), "ROOM-2")]));
    hello(
        &machines[2],
        Some(vec![installed(Some("S-1-5-21-1-2-3"), "ROOM-3"), installed(Some("S-1-5-18"), "X")]),
    );
    assert_eq!(report(&machines[0]).same_sid, ["ROOM-2"]);
    assert_eq!(report(&machines[1]).same_sid, ["ROOM-1"]);
    assert_eq!(report(&machines[1]).windows_sids, [SID]);
    assert_eq!(
        (report(&machines[2]).same_sid, report(&machines[2]).windows_sids),
        (vec![], vec!["S-1-5-21-1-2-3".into()])
    );
    // Whoever does not look changes nothing; whoever looked and found none is no copy any more.
    hello(&machines[1], None);
    assert_eq!(report(&machines[0]).same_sid, ["ROOM-2"]);
    hello(&machines[1], Some(Vec::new()));
    assert_eq!(report(&machines[0]).same_sid, [""; 0]);
}

/// A copy of a system in use is known as one when it was deployed, before anybody started it.
#[test]
fn what_a_deployment_put_there_counts_at_once() {
    let site = TestSite::new();
    std::fs::write(site.dir.join("images/windows.wim"), vec![7; 1000]).unwrap();
    let machines = [1, 2].map(|number| Machine { number });
    for machine in &machines {
        let mac = MachineSelector::Mac(machine.mac());
        let windows = WindowsRequest { accept_in_use: true, ..WindowsRequest::default() };
        let request = JobRequest { windows: Some(windows), ..job(mac, "windows.wim", "pc-{serial}") };
        site.operator().create_job(&request).unwrap();
        let done = deploy(&site, machine).unwrap();
        let known = Known::Windows { machine_sid: Some(SID.into()), computer_name: Some("ORIGINAL".into()) };
        done.0.events(&site, &done.1.id, &[(1, known)]).unwrap();
    }
    let report = site.operator().machine(&machines[0].mac().to_string()).unwrap();
    assert_eq!((report.same_sid, report.windows_sids), (vec!["pc-sn2".into()], vec![SID.into()]));
    let all = site.operator().machines().unwrap();
    assert!(all.iter().all(|machine| machine.windows_sids == [SID]), "{all:?}");
}

#[test]
fn the_database_alone_gives_no_secret_away() {
    let mut site = TestSite::new();
    std::fs::write(site.dir.join("images/windows.wim"), vec![7; 1000]).unwrap();
    let machine = Machine { number: 1 };
    let settings = "administrator-password = \"hunter2-of-the-test\"\n";
    let windows = WindowsRequest { settings: Some(Secret::new(settings)), ..WindowsRequest::default() };
    let mac = MachineSelector::Mac(machine.mac());
    let request = JobRequest { windows: Some(windows), ..job(mac, "windows.wim", "pc-{serial}") };
    site.operator().create_job(&request).unwrap();
    site.stop();
    let files = || {
        let all = std::fs::read_dir(site.dir.join("db")).unwrap().map(|entry| entry.unwrap().path());
        all.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let shows = |bytes: &[u8]| bytes.windows(7).any(|part| part == b"hunter2");
    let found = files();
    assert!(!found.is_empty() && found.iter().all(|(_, bytes)| !shows(bytes)));
    assert!(found.iter().any(|(_, bytes)| bytes.windows(9).any(|part| part == b"sealed:1:")));

    // The machine gets it all the same.
    site.start();
    let boot = Boot::new(&site.ca_pem());
    let welcome = boot.hello(&site, &machine, site.boot_token(&machine)).unwrap();
    site.operator().approve(&welcome.machine, &welcome.approval_code).unwrap();
    let PlanAnswer::Ready { plan, .. } = boot.plan(&site).unwrap() else { panic!("no plan") };
    assert!(!format!("{plan:?}").contains("hunter2"), "base64, at least");

    // Without its key the server says so, and does not make another one over it.
    site.stop();
    let key = site.dir.join("keys/secrets.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let error = site.try_start().unwrap_err();
    assert!(error.contains("their key is not there"), "{error}");
    assert!(!key.exists());
    std::fs::write(&key, kept).unwrap();
    site.start();
}

/// What an earlier version stored as it was is sealed at the next start, and nothing of it stays in the file.
#[test]
fn secrets_of_earlier_versions_are_sealed() {
    let mut site = TestSite::new();
    std::fs::write(site.dir.join("images/windows.wim"), vec![7; 1000]).unwrap();
    let machine = Machine { number: 1 };
    let windows =
        WindowsRequest { settings: Some(Secret::new("owner = \"x\"\n")), ..WindowsRequest::default() };
    let mac = MachineSelector::Mac(machine.mac());
    let request = JobRequest { windows: Some(windows), ..job(mac, "windows.wim", "pc-{serial}") };
    site.operator().create_job(&request).unwrap();
    site.stop();
    // As that version left it: no key, the text in the clear, and an old copy of it in a page that is free.
    std::fs::remove_file(site.dir.join("keys/secrets.key")).unwrap();
    let url = format!("sqlite://{}", site.dir.join("db/gravure.sqlite3").display());
    let old = "owner = \"hunter2\"\n";
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        for sql in
            ["CREATE TABLE waste (text TEXT)", "INSERT INTO waste VALUES ('hunter2')", "DROP TABLE waste"]
        {
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
        sqlx::query("UPDATE jobs SET settings = $1").bind(old).execute(&pool).await.unwrap();
        pool.close().await;
    });
    site.start();
    let planned = deploy(&site, &machine).unwrap().1;
    assert_eq!(planned.windows.unwrap().settings.unwrap().reveal(), old);
    site.stop();
    for entry in std::fs::read_dir(site.dir.join("db")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "{}", path.display());
    }
    site.start();
}
