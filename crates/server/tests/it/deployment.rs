//! The life of a deployment through the API over real TLS: register, arm, trade a token, get a plan, report, confirm.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]

use crate::common::{Boot, Machine, TestSite, agent, send};
use gravure_model::api::{ConfirmRequest, MachineState, PlanAnswer};
use gravure_model::event::Known;
use gravure_model::identity::{MachineIdentity, MachineSelector};
use gravure_model::inventory::FirmwareMode;
use gravure_model::job::{Afterwards, DiskRule, JobRequest};
use gravure_model::plan::Plan;
use gravure_model::{Assurance, Timestamp};
use gravure_trust::{PlanExpectation, PublicKey, TrustedPlanKey, Verdict};

pub(crate) fn job(machine: MachineSelector) -> JobRequest {
    JobRequest {
        machine,
        image: "test.wim".into(),
        image_index: 0,
        name: "pc-{serial}".into(),
        disk: DiskRule::Only,
        assurance: Assurance::Token,
        expires: None,
        max_machines: None,
        then: Afterwards::Reboot,
        wipe: false,
        windows: None,
        capture: None,
        restore: None,
    }
}

/// Judges an answer as the payload does.
pub(crate) fn judge(
    site: &TestSite,
    machine: &Machine,
    nonce: &str,
    answer: &PlanAnswer,
) -> Result<Verdict, gravure_trust::Error> {
    let PlanAnswer::Ready { plan_key, plan, descriptor } = answer else { panic!("{answer:?}") };
    let root = PublicKey::from_text(&site.site_settings().root_key).unwrap();
    let key = TrustedPlanKey::new(&root, plan_key).unwrap();
    let identity = machine.inventory().identity();
    let now = Timestamp::now();
    key.plan(
        plan,
        descriptor,
        &PlanExpectation { identity: &identity, nonce, firmware: FirmwareMode::Uefi, now },
    )
}

fn verified(plan: &Plan) -> Known {
    Known::Verified { plan: plan.id.clone(), image: plan.image.descriptor, files: 10, bytes: 1 << 20 }
}

pub(crate) fn state(site: &TestSite, machine: &Machine) -> MachineState {
    site.operator().machine(&machine.mac().to_string()).unwrap().state
}

#[test]
fn from_unknown_to_confirmed() {
    let site = TestSite::new();
    let machine = Machine { number: 1 };
    let operator = site.operator();

    // Unknown: the menu offers to register, there is no token, and the payload only waits.
    let menu = String::from_utf8(site.fetch(&format!("boot/grub.cfg?{}", machine.query()))).unwrap();
    assert!(menu.contains("set default=register") && !menu.contains("token.cpio"), "{menu}");
    assert_eq!(site.boot_token(&machine), None);
    let boot = Boot::new(&site.ca_pem());
    let welcome = boot.hello(&site, &machine, None).unwrap();
    assert_eq!((welcome.assurance, welcome.token_refused), (Assurance::Claimed, None));
    let PlanAnswer::Wait { boot_local, .. } = boot.plan(&site).unwrap() else { panic!() };
    assert!(boot_local);
    assert_eq!(state(&site, &machine), MachineState::Registered);

    // Armed: the menu deploys, the token is traded once.
    let created = operator.create_job(&job(MachineSelector::Mac(machine.mac()))).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Armed);
    let menu = String::from_utf8(site.fetch(&format!("boot/grub.cfg?{}", machine.query()))).unwrap();
    assert!(menu.contains("set default=deploy") && menu.contains("token.cpio"), "{menu}");
    let token = site.boot_token(&machine).unwrap();
    let boot = Boot::new(&site.ca_pem());
    let welcome = boot.hello(&site, &machine, Some(token.clone())).unwrap();
    assert_eq!((welcome.assurance, welcome.token_refused), (Assurance::Token, None));
    let again = boot.hello(&site, &machine, Some(token.clone())).unwrap();
    assert_eq!(
        (again.machine, again.assurance),
        (welcome.machine.clone(), Assurance::Token),
        "a lost answer costs nothing"
    );

    // A replay by another boot proves nothing.
    let thief = Boot::new(&site.ca_pem());
    let refused = thief.hello(&site, &machine, Some(token)).unwrap();
    assert_eq!(refused.assurance, Assurance::Claimed);
    assert!(refused.token_refused.as_ref().unwrap().contains("good once"), "{refused:?}");
    let PlanAnswer::Wait { reason, .. } = thief.plan(&site).unwrap() else {
        panic!("a replayed token got a plan")
    };
    assert!(reason.contains("needs assurance \"token\""), "{reason}");

    // The plan is genuine, for this machine and this boot only.
    let answer = boot.plan(&site).unwrap();
    let plan = judge(&site, &machine, &boot.nonce, &answer).unwrap().plan;
    assert_eq!(plan.personality.host_name, "pc-sn1");
    assert_eq!(plan.image.path, "/images/test.wim");
    assert_eq!(state(&site, &machine), MachineState::Deploying);
    let second = judge(&site, &machine, &boot.nonce, &boot.plan(&site).unwrap()).unwrap().plan;
    assert_eq!((&second.id, &second.seed), (&plan.id, &plan.seed), "asked again, the same plan");
    assert!(judge(&site, &machine, &"0".repeat(64), &answer).is_err(), "another boot's nonce");
    let PlanAnswer::Ready { plan_key, plan: mut envelope, descriptor } = answer else { unreachable!() };
    envelope.payload.replace_range(20..21, if envelope.payload.as_bytes()[20] == b'A' { "B" } else { "A" });
    let changed = PlanAnswer::Ready { plan_key, plan: envelope, descriptor };
    let error = judge(&site, &machine, &boot.nonce, &changed).unwrap_err();
    assert!(matches!(error, gravure_trust::Error::BadSignature { .. }), "{error}");

    // Events count once, whoever repeats them.
    let finished =
        |stage: &str| Known::StageFinished { stage: stage.into(), bytes: 2_000_000, milliseconds: 1000 };
    boot.events(&site, &plan.id, &[(1, finished("prepare")), (2, finished("apply"))]).unwrap();
    boot.events(&site, &plan.id, &[(2, finished("apply")), (3, finished("verify")), (4, verified(&plan))])
        .unwrap();
    let report = operator.machine(&welcome.machine).unwrap();
    assert_eq!(report.state, MachineState::Verified);
    let stages = report.plan.as_ref().unwrap().stages.iter().map(|stage| stage.stage.as_str());
    assert_eq!(stages.collect::<Vec<_>>(), ["prepare", "apply", "verify"]);
    assert_eq!(report.plan.as_ref().unwrap().stages[1].megabytes_per_second(), Some(2));
    assert_eq!(report.plan.unwrap().image_digest, plan.image.descriptor);

    // Done: the next boot is from the local disk, the job is closed.
    let menu = String::from_utf8(site.fetch(&format!("boot/grub.cfg?{}", machine.query()))).unwrap();
    assert!(menu.contains("set default=local"), "{menu}");
    assert_eq!(site.boot_token(&machine), None);
    assert!(operator.job(&created.job.id).unwrap().closed);

    // The deployed system reports itself; a foreign one does not get through.
    let confirm = second.personality.confirm.unwrap();
    assert_eq!(confirm.server, site.api);
    let report = |machine_id: &str, number| ConfirmRequest {
        token: confirm.token.clone(),
        host_name: "pc-sn1".into(),
        machine_id: machine_id.to_owned(),
        kernel: "6.12".into(),
        identity: Machine { number }.inventory().identity(),
        secure_boot: Some(true),
    };
    let plain = agent(&site.ca_pem(), None);
    let id = &plan.personality.machine_id;
    assert_eq!(send(&plain, &site, "/v1/confirm", &report(id, 2)).unwrap_err().status, 403);
    assert_eq!(send(&plain, &site, "/v1/confirm", &report("0", 1)).unwrap_err().status, 403);
    send(&plain, &site, "/v1/confirm", &report(id, 1)).unwrap();
    send(&plain, &site, "/v1/confirm", &report(id, 1)).unwrap();
    let wrong = ConfirmRequest { token: gravure_model::Secret::new("0".repeat(64)), ..report(id, 1) };
    assert_eq!(send(&plain, &site, "/v1/confirm", &wrong).unwrap_err().status, 401);
    assert_eq!(state(&site, &machine), MachineState::Confirmed);
    let first_boot = operator.machine(&welcome.machine).unwrap().plan.unwrap().first_boot.unwrap();
    assert_eq!((first_boot.kernel.as_str(), first_boot.secure_boot), ("6.12", Some(true)));

    // All of it is on record.
    let audit = operator.audit().unwrap();
    for action in [
        "machine registered",
        "job created",
        "boot token issued",
        "boot token traded",
        "boot token refused",
        "plan handed out",
        "plan verified",
        "first boot refused",
        "first boot confirmed",
    ] {
        assert!(audit.iter().any(|entry| entry.action == action), "{action} is not in the audit trail");
    }
}

#[test]
fn a_restarted_server_knows_its_payloads() {
    let mut site = TestSite::new();
    let machine = Machine { number: 1 };
    site.operator().create_job(&job(MachineSelector::Uuid(machine.uuid()))).unwrap();
    let boot = Boot::new(&site.ca_pem());
    boot.hello(&site, &machine, site.boot_token(&machine)).unwrap();
    let plan = judge(&site, &machine, &boot.nonce, &boot.plan(&site).unwrap()).unwrap().plan;
    let started = Known::StageStarted { stage: "apply".into(), total_bytes: None };
    boot.events(&site, &plan.id, &[(1, started)]).unwrap();
    site.stop();
    site.start();
    let finished = Known::StageFinished { stage: "apply".into(), bytes: 5, milliseconds: 5 };
    boot.events(&site, &plan.id, &[(2, finished), (3, verified(&plan))]).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Verified);
}

#[test]
fn a_machine_that_was_cut_off_gets_the_same_layout_again_and_a_failed_one_nothing() {
    let site = TestSite::new();
    let machine = Machine { number: 1 };
    site.operator().create_job(&job(MachineSelector::Mac(machine.mac()))).unwrap();
    let begin = || {
        let boot = Boot::new(&site.ca_pem());
        let welcome = boot.hello(&site, &machine, site.boot_token(&machine)).unwrap();
        assert_eq!(welcome.assurance, Assurance::Token, "{welcome:?}");
        let plan = judge(&site, &machine, &boot.nonce, &boot.plan(&site).unwrap()).unwrap().plan;
        (boot, plan)
    };
    let (first_boot, first) = begin();
    let (boot, second) = begin();
    assert_ne!(first.id, second.id);
    assert_eq!((&first.seed, &first.personality.host_name), (&second.seed, &second.personality.host_name));
    assert!(second.disk.wipe, "what the first attempt left is ours to destroy");
    // The first boot is over: what it still says does not count.
    first_boot.events(&site, &first.id, &[(1, verified(&first))]).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Deploying);
    let failed =
        Known::Failed { stage: "apply".into(), code: 5, message: "blob 17 damaged".into(), cure: None };
    boot.events(&site, &second.id, &[(1, failed)]).unwrap();
    assert_eq!(state(&site, &machine), MachineState::Failed);
    let report = site.operator().machine(&machine.uuid()).unwrap().plan.unwrap();
    assert_eq!(report.failure.unwrap().message, "blob 17 damaged");
    assert_eq!(site.boot_token(&machine), None, "only an operator arms it again");
    site.operator().create_job(&job(MachineSelector::Mac(machine.mac()))).unwrap();
    assert!(site.boot_token(&machine).is_some());
}

#[test]
fn a_job_for_any_machine_is_limited() {
    let site = TestSite::new();
    let operator = site.operator();
    let any = job(MachineSelector::Any);
    let error = operator.create_job(&any).unwrap_err();
    assert!(error.cure().unwrap().contains("--expires"), "{error}");
    let expires = Some(Timestamp::now().plus_seconds(3600));
    let job = operator.create_job(&JobRequest { expires, max_machines: Some(2), ..any }).unwrap().job;
    let deploy = |number| {
        let machine = Machine { number };
        let boot = Boot::new(&site.ca_pem());
        boot.hello(&site, &machine, site.boot_token(&machine)).unwrap();
        match boot.plan(&site).unwrap() {
            answer @ PlanAnswer::Ready { .. } => {
                Some(judge(&site, &machine, &boot.nonce, &answer).unwrap().plan)
            }
            PlanAnswer::Wait { .. } => None,
        }
    };
    let (one, two) = (deploy(1).unwrap(), deploy(2).unwrap());
    assert_ne!(one.seed, two.seed);
    assert_eq!(two.job, job.id);
    assert!(deploy(3).is_none(), "the third of two");
}

#[test]
fn tokens_are_for_one_machine_and_the_newest_counts() {
    let site = TestSite::new();
    let (one, two) = (Machine { number: 1 }, Machine { number: 2 });
    for machine in [&one, &two] {
        site.operator().create_job(&job(MachineSelector::Mac(machine.mac()))).unwrap();
    }
    let old = site.boot_token(&one).unwrap();
    let new = site.boot_token(&one).unwrap();
    let foreign = site.boot_token(&two).unwrap();
    let cases = [(old, Some("replaced by a newer one")), (foreign, Some("another machine")), (new, None)];
    for (token, expected) in cases {
        let welcome = Boot::new(&site.ca_pem()).hello(&site, &one, Some(token)).unwrap();
        match expected {
            Some(expected) => assert!(welcome.token_refused.unwrap().contains(expected)),
            None => assert_eq!((welcome.token_refused, welcome.assurance), (None, Assurance::Token)),
        }
    }
}

#[test]
fn approval_takes_the_code_of_the_screen() {
    let site = TestSite::new();
    let operator = site.operator();
    let machine = Machine { number: 1 };
    let request = JobRequest { assurance: Assurance::Approved, ..job(MachineSelector::Mac(machine.mac())) };
    operator.create_job(&request).unwrap();
    let boot = Boot::new(&site.ca_pem());
    let welcome = boot.hello(&site, &machine, site.boot_token(&machine)).unwrap();
    assert!(matches!(boot.plan(&site).unwrap(), PlanAnswer::Wait { .. }));
    let wrong = if welcome.approval_code == "000000" { "000001" } else { "000000" };
    let error = operator.approve(&welcome.machine, wrong).unwrap_err();
    assert!(error.to_string().contains("not the one on the machine's screen"), "{error}");
    let approved = operator.approve(&welcome.machine, &welcome.approval_code).unwrap();
    assert_eq!(approved.assurance, Assurance::Approved);
    judge(&site, &machine, &boot.nonce, &boot.plan(&site).unwrap()).unwrap();

    let other = Boot::new(&site.ca_pem());
    let welcome = other.hello(&site, &Machine { number: 2 }, None).unwrap();
    for _ in 0..5 {
        operator.approve(&welcome.machine, "wrong").unwrap_err();
    }
    let error = operator.approve(&welcome.machine, &welcome.approval_code).unwrap_err();
    assert!(error.to_string().contains("too many wrong codes"), "{error}");
}

#[test]
fn strangers_are_refused() {
    let site = TestSite::new();
    let other_site = TestSite::new();
    let machine = Machine { number: 1 };
    // A payload of another site does not talk to this server.
    let refusal = Boot::new(&other_site.ca_pem()).hello(&site, &machine, None).unwrap_err();
    assert_eq!(refusal.status, 0, "{refusal:?}");
    // Another site's plan key is not vouched for by this site's root.
    let root = PublicKey::from_text(&site.site_settings().root_key).unwrap();
    let welcome = Boot::new(&other_site.ca_pem()).hello(&other_site, &machine, None).unwrap();
    let error = TrustedPlanKey::new(&root, &welcome.plan_key).unwrap_err();
    assert!(matches!(error, gravure_trust::Error::OtherKey { .. }), "{error}");
    // No client certificate, no session; no token, no operator.
    let plain = agent(&site.ca_pem(), None);
    assert_eq!(send(&plain, &site, "/v1/payload/plan", &()).unwrap_err().status, 401);
    assert_eq!(Boot::new(&site.ca_pem()).plan(&site).unwrap_err().status, 401);
    assert_eq!(send(&plain, &site, "/v1/jobs", &()).unwrap_err().status, 401);
    let mut settings = site.settings.clone();
    settings.token = gravure_model::Secret::new("0".repeat(64));
    let error = gravure_server::Client::new(&settings).unwrap().machines().unwrap_err();
    assert_eq!(error.kind(), gravure_server::ErrorKind::Permission, "{error}");
    // A machine without any name cannot be told from others.
    let nobody = MachineIdentity::default();
    assert!(nobody.is_empty());
}

#[test]
fn an_image_that_cannot_be_described_is_said_on_the_screen() {
    let site = TestSite::new();
    std::fs::write(site.dir.join("images/bad.wim"), b"not a WIM").unwrap();
    let machine = Machine { number: 1 };
    let request = JobRequest { image: "bad.wim".into(), ..job(MachineSelector::Mac(machine.mac())) };
    site.operator().create_job(&request).unwrap();
    let boot = Boot::new(&site.ca_pem());
    boot.hello(&site, &machine, site.boot_token(&machine)).unwrap();
    let PlanAnswer::Wait { reason, boot_local, .. } = boot.plan(&site).unwrap() else { panic!() };
    assert!(reason.contains("bad.wim") && reason.contains("expected 7"), "{reason}");
    assert!(!boot_local);
    let error = site.operator().create_job(&JobRequest { image: "none.wim".into(), ..request }).unwrap_err();
    assert_eq!(error.kind(), gravure_server::ErrorKind::NotFound, "{error}");
}
