//! Machines, as operators see them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use gravure_model::api::{MachineReport, PlanReport};
use gravure_model::identity::MachineSelector;
use gravure_model::{Assurance, Timestamp};
use serde::Deserialize;

use super::Problem;
use super::hello::shown_state;
use super::operator::{Operator, Scope};
use super::state::App;
use crate::arming;
use crate::boot::Choice;
use crate::db::{self, Conn, MachineRow};

/// Wrong codes after which a boot can no longer be approved: a guesser gets 5 of a million.
const MAX_WRONG_CODES: i64 = 5;

/// `GET /v1/machines`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
) -> Result<Json<Vec<MachineReport>>, Problem> {
    operator.may(Scope::Read)?;
    let mut conn = app.db.read().await?;
    let mut reports = Vec::new();
    for machine in db::machines::list(&mut conn).await? {
        reports.push(report(&mut conn, machine).await?);
    }
    Ok(Json(reports))
}

/// `GET /v1/machines/{id}`: by id, the start of one, MAC address or UUID.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
) -> Result<Json<MachineReport>, Problem> {
    operator.may(Scope::Read)?;
    let mut conn = app.db.read().await?;
    let machine = find(&mut conn, &name).await?;
    let inventory = db::machines::inventory(&mut conn, &machine.id).await?;
    let report = report(&mut conn, machine).await?;
    Ok(Json(MachineReport { inventory, ..report }))
}

pub(super) async fn find(conn: &mut Conn, name: &str) -> Result<MachineRow, Problem> {
    if let Some(machine) = db::machines::by_id(conn, name).await? {
        return Ok(machine);
    }
    let named = match name.parse::<MachineSelector>() {
        Ok(MachineSelector::Mac(mac)) => db::machines::named(conn, "mac", &mac.to_string()).await?,
        Ok(MachineSelector::Uuid(uuid)) => db::machines::named(conn, "uuid", &uuid).await?,
        _ => Vec::new(),
    };
    match named.as_slice() {
        [] => {}
        [one] => return Ok(one.clone()),
        several => {
            let ids: Vec<&str> = several.iter().map(|machine| machine.id.as_str()).collect();
            let problem = Problem::conflict(format!("several machines have {name}: {}", ids.join(", ")));
            return Err(problem.cure("name the one that is meant by its id"));
        }
    }
    let mut starting = db::machines::list(conn).await?;
    starting.retain(|machine| name.len() >= 4 && machine.id.starts_with(name));
    match (starting.pop(), starting.pop()) {
        (Some(machine), None) => Ok(machine),
        (Some(_), Some(_)) => {
            Err(Problem::conflict(format!("several machines have an id that starts with {name}")))
        }
        _ => Err(Problem::not_found("machine", name).cure("`gravure machine list` shows all")),
    }
}

async fn report(conn: &mut Conn, machine: MachineRow) -> Result<MachineReport, Problem> {
    let armed = arming::armed_machine(conn, &machine, Timestamp::now()).await?.is_some();
    let quarantine = db::machines::quarantine(conn, &machine.id).await?;
    let session = match &machine.session {
        Some(peer) => db::sessions::by_peer(conn, peer).await?,
        None => None,
    };
    let plan = match &machine.plan {
        Some(id) => plan_report(conn, id).await?,
        None => None,
    };
    let windows_sids = db::sids::of_machine(conn, &machine.id).await?;
    let same_sid = db::sids::sharers(conn, &machine.id).await?;
    let assurance = session.as_ref().map_or(Assurance::Claimed, |session| session.assurance);
    let waiting = session.filter(|session| {
        session.assurance < Assurance::Approved
            && session.plan.is_none()
            && session.wrong_codes < MAX_WRONG_CODES
    });
    Ok(MachineReport {
        state: shown_state(machine.state, armed),
        id: machine.id,
        identity: machine.identity,
        assurance,
        // The code itself is on the machine's screen only: comparing is the operator's part.
        approval_code: waiting.map(|_| "on its screen".to_owned()),
        first_seen: machine.first_seen,
        last_seen: machine.last_seen,
        host_name: machine.host_name,
        plan,
        quarantine,
        windows_sids,
        same_sid,
        inventory: None,
    })
}

async fn plan_report(conn: &mut Conn, id: &str) -> Result<Option<PlanReport>, Problem> {
    let Some(plan) = db::plans::by_id(conn, id).await? else { return Ok(None) };
    Ok(Some(PlanReport {
        stages: db::plans::stages(conn, id).await?,
        transfers: db::plans::transfers(conn, id).await?,
        warnings: db::plans::warnings(conn, id).await?,
        id: plan.id,
        job: plan.job,
        image: plan.image,
        image_digest: plan.image_digest,
        started: plan.started,
        ended: plan.ended,
        confirmed: plan.confirmed,
        first_boot: plan.first_boot,
        failure: plan.failure,
    }))
}

/// Body of `POST /v1/machines/{id}/approve`.
#[derive(Debug, Deserialize)]
pub(super) struct Approval {
    code: String,
}

/// `POST /v1/machines/{id}/approve`: an operator read this code off the machine's screen.
pub(super) async fn approve(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    Json(approval): Json<Approval>,
) -> Result<Json<MachineReport>, Problem> {
    operator.may(Scope::Approve)?;
    let mut transaction = app.db.write().await?;
    let machine = find(&mut transaction, &name).await?;
    let session = match &machine.session {
        Some(peer) => db::sessions::by_peer(&mut transaction, peer).await?,
        None => None,
    };
    let Some(session) = session else {
        return Err(Problem::conflict(format!(
            "machine {} has not started from this server yet",
            machine.id
        )));
    };
    if session.wrong_codes >= MAX_WRONG_CODES {
        return Err(Problem::forbidden("too many wrong codes for this boot").cure("restart the machine"));
    }
    let actor = operator.actor();
    if approval.code.trim() != session.approval_code {
        // The code stays: it is on the screen. What is bounded is the number of guesses.
        db::sessions::wrong_code(&mut transaction, &session.peer).await?;
        let detail = format!("wrong code number {}", session.wrong_codes + 1);
        db::audit::add(&mut transaction, &actor, "approval refused", &machine.id, &detail).await?;
        transaction.commit().await?;
        return Err(Problem::forbidden("the code is not the one on the machine's screen")
            .cure("read it again; another code may mean that another machine answers in this one's name"));
    }
    if session.assurance < Assurance::Approved {
        db::sessions::set_assurance(&mut transaction, &session.peer, Assurance::Approved).await?;
        db::audit::add(&mut transaction, &actor, "machine approved", &machine.id, "code compared").await?;
    }
    let report = report(&mut transaction, machine).await?;
    transaction.commit().await?;
    Ok(Json(report))
}

/// Longest reason kept, characters.
const MAX_REASON_CHARS: usize = 200;

/// Body of `PUT /v1/machines/{id}/quarantine`.
#[derive(Debug, Deserialize)]
pub(super) struct Quarantine {
    /// Why it is held back; `None` lets it go.
    reason: Option<String>,
}

/// `PUT /v1/machines/{id}/quarantine`: holds a machine back or lets it go.
pub(super) async fn quarantine(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    Json(wanted): Json<Quarantine>,
) -> Result<Json<MachineReport>, Problem> {
    operator.may(Scope::Approve)?;
    let reason = wanted.reason.as_deref().map(|reason| reason.trim().to_owned());
    if reason.as_ref().is_some_and(|reason| reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS) {
        return Err(Problem::invalid(format!("reason: expected 1 to {MAX_REASON_CHARS} characters")));
    }
    let mut transaction = app.db.write().await?;
    let machine = find(&mut transaction, &name).await?;
    let now = Timestamp::now();
    db::machines::set_quarantine(&mut transaction, &machine.id, reason.as_deref(), now).await?;
    let (action, detail) = match reason {
        Some(reason) => ("machine quarantined", reason),
        None => ("machine let go", "from quarantine".to_owned()),
    };
    db::audit::add(&mut transaction, &operator.actor(), action, &machine.id, &detail).await?;
    let report = report(&mut transaction, machine).await?;
    transaction.commit().await.map_err(crate::db::DbError::from)?;
    Ok(Json(report))
}

/// Body of `PUT /v1/machines/{id}/boot`.
#[derive(Debug, Deserialize)]
pub(super) struct NextBoot {
    /// `local`, `register`, `menu` or an entry's name; `None` takes back what was chosen.
    choice: Option<String>,
}

/// `PUT /v1/machines/{id}/boot`: what the machine boots the next time, and only then.
pub(super) async fn boot(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    Json(next): Json<NextBoot>,
) -> Result<Json<MachineReport>, Problem> {
    operator.may(Scope::Deploy)?;
    let choice = next.choice.as_deref().map(Choice::of);
    let fits = choice.as_ref().is_none_or(|choice| {
        !matches!(choice, Choice::Ignore | Choice::Quarantine) && app.rules.allows(choice)
    });
    if !fits {
        let entries: Vec<&str> = app.rules.entries().iter().map(|entry| entry.name.as_str()).collect();
        let entries = if entries.is_empty() { "none".to_owned() } else { entries.join(", ") };
        let found = next.choice.unwrap_or_default();
        return Err(Problem::invalid(format!(
            "{found:?}: expected local, register, menu or an entry ({entries})"
        ))
        .cure("entries are [[entry]] blocks in gravure.toml"));
    }
    let mut transaction = app.db.write().await?;
    let machine = find(&mut transaction, &name).await?;
    let now = Timestamp::now();
    db::machines::set_boot_once(&mut transaction, &machine.id, next.choice.as_deref(), now).await?;
    let detail = next.choice.unwrap_or_else(|| "as usual".to_owned());
    db::audit::add(&mut transaction, &operator.actor(), "next boot chosen", &machine.id, &detail).await?;
    let report = report(&mut transaction, machine).await?;
    transaction.commit().await.map_err(crate::db::DbError::from)?;
    Ok(Json(report))
}
