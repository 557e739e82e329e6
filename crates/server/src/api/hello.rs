//! A payload introduces itself and asks for its plan.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use gravure_model::api::{Hello, MachineState, PlanAnswer, ServerTime, Welcome};
use gravure_model::identity::MachineIdentity;
use gravure_model::inventory::FirmwareMode;
use gravure_model::{Assurance, Secret, Timestamp};

use super::Problem;
use super::state::{App, Local, Peer, announce, session};
use crate::boot::{ArchKind, Choice, Facts, FirmwareKind, ipv4};
use crate::db::machines::Registered;
use crate::db::{self, Conn, DbError, SessionRow};
use crate::planning::{Planner, settle_abandoned};
use crate::secret::{hash_of, six_digits};

/// A nonce is 32 bytes as hexadecimal digits.
const NONCE_DIGITS: usize = 64;
/// What an operator can do about a machine that may be another.
const LIKE_ANOTHER: &str = "machines whose firmware has the same number are told apart by their adapters and stay apart; if a \
    mainboard was replaced, name the machine by its new id, and enter the serial number in its firmware";
/// Longest version text kept.
const MAX_VERSION_BYTES: usize = 100;

/// `POST /v1/payload/hello`
pub(super) async fn hello(
    State(app): State<Arc<App>>,
    peer: Peer,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Json(hello): Json<Hello>,
) -> Result<Json<Welcome>, Problem> {
    if hello.nonce.len() != NONCE_DIGITS || !hello.nonce.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(Problem::invalid("nonce: expected 64 hexadecimal digits"));
    }
    if hello.payload_version.len() > MAX_VERSION_BYTES {
        return Err(Problem::invalid("payload_version: longer than 100 bytes"));
    }
    let now = Timestamp::now();
    let (session, token_refused) = open_session(&app, &peer, client.ip(), &hello, now).await?;
    let said = match &token_refused {
        None => format!("the payload reported in, assurance {}", session.assurance),
        Some(why) => format!("the payload reported in, assurance {}; {why}", session.assurance),
    };
    let identity = hello.inventory.identity();
    for mac in &identity.macs {
        app.journal.done(mac.0);
    }
    app.note(&identity, &said);
    let time = ServerTime { nonce: hello.nonce, now: Timestamp::now() };
    Ok(Json(Welcome {
        machine: session.machine,
        assurance: session.assurance,
        token_refused,
        approval_code: session.approval_code,
        time: app.signer.time(&time).map_err(crate::Error::from)?,
        plan_key: app.signer.statement().clone(),
    }))
}

async fn open_session(
    app: &App,
    peer: &Peer,
    client: IpAddr,
    hello: &Hello,
    now: Timestamp,
) -> Result<(SessionRow, Option<String>), Problem> {
    let mut transaction = app.db.write().await?;
    // The same key again is the same boot: an answer was lost, or the server restarted. What it has proven stays.
    if let Some(known) = db::sessions::by_peer(&mut transaction, &peer.0).await? {
        if known.nonce != hello.nonce {
            return Err(Problem::conflict("this client certificate has another nonce already"));
        }
        let again = hello.token.is_some() && known.assurance == Assurance::Claimed;
        let refused = again.then(|| "the token was refused when this boot said hello first".to_owned());
        return Ok((known, refused));
    }
    if hello.inventory.identity().is_empty() {
        return Err(Problem::invalid("inventory names neither UUID, serial number nor network address")
            .cure("enter a serial number in the machine's firmware"));
    }
    let Registered { machine, fresh, remark } =
        db::machines::register(&mut transaction, &hello.inventory, now).await?;
    settle_abandoned(&mut transaction, &machine, now).await?;
    let actor = format!("machine {}", machine.id);
    if fresh {
        let names = describe(&machine.identity);
        db::audit::add(&mut transaction, &actor, "machine registered", &machine.id, &names).await?;
        if let Some(doubts) = &remark {
            db::audit::add(&mut transaction, "server", "machine like another", &machine.id, doubts).await?;
            app.trouble(
                &machine.identity,
                &format!("registered as a new machine, and is like {doubts}"),
                LIKE_ANOTHER,
            );
        }
        if let Some(rule) = held_back(app, client, hello) {
            let reason = format!("by rule \"{rule}\"");
            db::machines::set_quarantine(&mut transaction, &machine.id, Some(&reason), now).await?;
            db::audit::add(&mut transaction, "server", "machine quarantined", &machine.id, &reason).await?;
        }
    }
    if let Some(changed) = remark.filter(|_| !fresh) {
        db::audit::add(&mut transaction, &actor, "machine changed", &machine.id, &changed).await?;
    }
    let (assurance, refused) = match &hello.token {
        None => (Assurance::Claimed, None),
        Some(token) => match trade(&mut transaction, token, &machine.identity, now).await? {
            Ok(job) => {
                let detail = format!("issued for job {job}");
                db::audit::add(&mut transaction, &actor, "boot token traded", &machine.id, &detail).await?;
                (Assurance::Token, None)
            }
            Err(why) => {
                db::audit::add(&mut transaction, &actor, "boot token refused", &machine.id, &why).await?;
                (Assurance::Claimed, Some(why))
            }
        },
    };
    let session = SessionRow {
        peer: peer.0.clone(),
        machine: machine.id.clone(),
        nonce: hello.nonce.clone(),
        assurance,
        approval_code: six_digits()?,
        wrong_codes: 0,
        payload_version: hello.payload_version.clone(),
        created: now,
        last_sequence: 0,
        plan: None,
    };
    db::sessions::add(&mut transaction, &session).await?;
    db::machines::set_session(&mut transaction, &machine.id, &session.peer).await?;
    transaction.commit().await?;
    if fresh {
        announce(&machine.id, machine.state);
    }
    Ok((session, refused))
}

/// The rule that holds a machine back that was not known before.
fn held_back(app: &App, client: IpAddr, hello: &Hello) -> Option<String> {
    let identity = hello.inventory.identity();
    let (firmware, arch) = match hello.inventory.firmware.mode {
        FirmwareMode::Uefi if hello.inventory.cpu.architecture == "aarch64" => {
            (FirmwareKind::Uefi, ArchKind::Arm64)
        }
        // Payloads do not tell 32-bit firmware.
        FirmwareMode::Uefi => (FirmwareKind::Uefi, ArchKind::X64),
        FirmwareMode::Bios => (FirmwareKind::Bios, ArchKind::Bios),
    };
    let facts = Facts {
        identity: Some(&identity),
        firmware: Some(firmware),
        arch: Some(arch),
        address: ipv4(client),
        known: Some(false),
    };
    let (rule, choice) = app.rules.choose(&facts)?;
    (*choice == Choice::Quarantine).then(|| rule.to_owned())
}

fn describe(identity: &MachineIdentity) -> String {
    let macs: Vec<String> = identity.macs.iter().map(ToString::to_string).collect();
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    format!(
        "uuid {}, serial {}, adapters {}",
        or_none(&identity.uuid),
        or_none(&identity.serial),
        macs.join(" ")
    )
}

/// Trades a one-time token: gives its job, or why it is worth nothing.
async fn trade(
    conn: &mut Conn,
    token: &Secret,
    identity: &MachineIdentity,
    now: Timestamp,
) -> Result<Result<String, String>, DbError> {
    let hash = hash_of(token);
    let Some(known) = db::tokens::boot_token(conn, &hash).await? else {
        return Ok(Err("the token is not one of this server".into()));
    };
    let seconds = |since: Timestamp| now.seconds().saturating_sub(since.seconds());
    if let Some(used) = known.used {
        return Ok(Err(format!("the token was used {} s ago; each is good once", seconds(used))));
    }
    if let Some(superseded) = known.superseded {
        let ago = seconds(superseded);
        return Ok(Err(format!("the token was replaced by a newer one of this machine {ago} s ago")));
    }
    if now >= known.expires {
        return Ok(Err(format!("the token expired {} s ago", seconds(known.expires))));
    }
    // A loader that told no UUID is known by its adapter, also by one that moves.
    let adapter =
        known.identity.uuid.is_none() && known.identity.macs.iter().any(|mac| identity.macs.contains(mac));
    if !adapter && !known.identity.matches(identity) {
        return Ok(Err(format!(
            "the token was issued to another machine ({}), this one is {}",
            describe(&known.identity),
            describe(identity)
        )));
    }
    if !db::tokens::spend(conn, &hash, now).await? {
        return Ok(Err("the token was used at the same moment by another boot".into()));
    }
    Ok(Ok(known.job))
}

/// `POST /v1/payload/plan`
pub(super) async fn plan(
    State(app): State<Arc<App>>,
    Local(local): Local,
    peer: Peer,
) -> Result<Json<PlanAnswer>, Problem> {
    let session = session(&app, &peer).await?;
    let planner = Planner {
        db: &app.db,
        images: &app.images,
        bundles: &app.bundles,
        names: &app.names,
        signer: &app.signer,
        vault: &app.vault,
        api_url: app.api_url(local),
        plan_minutes: app.limits.plan_minutes,
    };
    Ok(Json(planner.answer(&session).await?))
}

/// The state shown for a machine: `armed` is not stored, since it follows from the jobs.
pub(super) fn shown_state(stored: MachineState, armed: bool) -> MachineState {
    match stored {
        MachineState::Deploying => stored,
        _ if armed => MachineState::Armed,
        _ => stored,
    }
}
