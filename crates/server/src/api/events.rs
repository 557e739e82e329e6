//! What a payload reports while it works. Batches may come twice and after a restart of the server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gravure_model::Timestamp;
use gravure_model::api::{EventBatch, FailureReport, MachineState, StageReport};
use gravure_model::event::{Event, EventKind, Known};
use gravure_model::identity::MachineSelector;
use gravure_model::inventory::InstalledWindows;

use super::Problem;
use super::state::{App, Peer, announce, failure, session};
use crate::db::{self, Conn, DbError, Outcome, PlanRow, SessionRow};

/// Events in one batch.
const MAX_EVENTS: usize = 4096;
/// Longest text of a failure or warning that is kept.
const MAX_TEXT_BYTES: usize = 4096;

/// `POST /v1/payload/events`
pub(super) async fn events(
    State(app): State<Arc<App>>,
    peer: Peer,
    Json(batch): Json<EventBatch>,
) -> Result<StatusCode, Problem> {
    if batch.events.len() > MAX_EVENTS {
        return Err(Problem::invalid(format!(
            "{} events in one batch, at most {MAX_EVENTS}",
            batch.events.len()
        )));
    }
    let before = session(&app, &peer).await?;
    if batch.plan.is_some() && batch.plan != before.plan {
        return Err(Problem::forbidden("these events belong to a plan this session did not get"));
    }
    let is_captured = is_captured(&app, &batch).await?;
    let mut transaction = app.db.write().await?;
    // Read again inside: two batches of one payload may be under way after a lost answer.
    let Some(session) = db::sessions::by_peer(&mut transaction, &peer.0).await? else {
        return Err(Problem::unauthorised("the session is gone"));
    };
    let fresh: Vec<&Event> =
        batch.events.iter().filter(|event| number(event) > session.last_sequence).collect();
    let Some(last) = fresh.iter().map(|event| number(event)).max() else { return Ok(StatusCode::NO_CONTENT) };
    if !db::sessions::advance(&mut transaction, &session.peer, session.last_sequence, last).await? {
        return Err(Problem::conflict("another batch of this session was taken at the same time")
            .cure("send it again"));
    }
    let now = Timestamp::now();
    let plan = match batch.plan.as_deref() {
        Some(id) => db::plans::by_id(&mut transaction, id).await?,
        None => None,
    };
    let mut reached = None;
    for event in fresh {
        let state = take(&mut transaction, &session, plan.as_ref(), event, is_captured, now).await?;
        reached = state.or(reached);
    }
    db::machines::touch(&mut transaction, &session.machine, now).await?;
    transaction.commit().await?;
    if let Some(state) = reached {
        announce(&session.machine, state);
        if let Some(plan) = plan.filter(|plan| plan.body.capture.is_some()) {
            app.captures.end(&plan.job);
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the store has the image that a payload says it has captured.
async fn is_captured(app: &App, batch: &EventBatch) -> Result<bool, Problem> {
    let said = batch.events.iter().rev().find_map(|event| match &event.kind {
        EventKind::Known(Known::Captured { image, .. }) => Some(*image),
        _ => None,
    });
    let (Some(image), Some(id)) = (said, &batch.plan) else { return Ok(false) };
    let plan = db::plans::by_id(&mut *app.db.read().await?, id).await?;
    let capture = plan.and_then(|plan| plan.body.capture);
    match capture {
        Some(capture) => Ok(app.captures.has(&capture.name, image).await),
        None => Ok(false),
    }
}

fn number(event: &Event) -> i64 {
    i64::try_from(event.sequence).unwrap_or(i64::MAX)
}

/// Takes one event; gives the state it brought the machine to, if it did.
async fn take(
    conn: &mut Conn,
    session: &SessionRow,
    plan: Option<&PlanRow>,
    event: &Event,
    is_captured: bool,
    now: Timestamp,
) -> Result<Option<MachineState>, DbError> {
    let progress = matches!(event.kind, EventKind::Known(Known::Progress { .. }));
    if !progress {
        let body = db::to_json("event", event)?;
        let plan = plan.map(|plan| plan.id.as_str());
        db::sessions::keep_event(conn, &session.peer, number(event), plan, event.at, &body).await?;
    }
    let (EventKind::Known(known), Some(plan)) = (&event.kind, plan) else { return Ok(None) };
    match known {
        Known::StageFinished { stage, bytes, milliseconds } => {
            let stage = StageReport { stage: cut(stage), bytes: *bytes, milliseconds: *milliseconds };
            db::plans::add_stage(conn, &plan.id, number(event), &stage).await?;
            Ok(None)
        }
        Known::Warning { message, .. } => {
            db::plans::add_warning(conn, &plan.id, number(event), &cut(message)).await?;
            Ok(None)
        }
        Known::Failed { stage, code, message, cure } => {
            let report = FailureReport {
                stage: cut(stage),
                code: *code,
                message: cut(message),
                cure: cure.as_deref().map(cut),
            };
            end(conn, plan, Outcome::Failed, Some(&report), now).await
        }
        Known::Windows { machine_sid, computer_name } => {
            let found = InstalledWindows {
                partition: plan.body.disk.name.clone(),
                computer_name: computer_name.clone(),
                machine_sid: machine_sid.clone(),
            };
            db::sids::set(conn, &plan.machine, &[found]).await.map(|()| None)
        }
        Known::Captured { plan: id, .. } if *id == plan.id && is_captured => {
            end(conn, plan, Outcome::Captured, None, now).await
        }
        Known::Captured { plan: id, image, .. } => {
            let message =
                format!("captured {image} by plan {id}, which is not what the store has of plan {}", plan.id);
            end(conn, plan, Outcome::Failed, Some(&failure("capture_disk", &message, None)), now).await
        }
        // Nothing is verified by a plan that captures.
        Known::Verified { plan: id, image, .. }
            if *id == plan.id && *image == plan.image_digest && plan.body.capture.is_none() =>
        {
            end(conn, plan, Outcome::Verified, None, now).await
        }
        Known::Verified { plan: id, image, .. } => {
            let message = format!(
                "verified plan {id} with image {image}, expected plan {} with image {}",
                plan.id, plan.image_digest
            );
            end(conn, plan, Outcome::Failed, Some(&failure("verify", &message, None)), now).await
        }
        _ => Ok(None),
    }
}

async fn end(
    conn: &mut Conn,
    plan: &PlanRow,
    outcome: Outcome,
    report: Option<&FailureReport>,
    now: Timestamp,
) -> Result<Option<MachineState>, DbError> {
    if !db::plans::end(conn, &plan.id, outcome, report, now).await? {
        return Ok(None);
    }
    let state = match outcome {
        Outcome::Verified => MachineState::Verified,
        Outcome::Captured => MachineState::Captured,
        Outcome::Failed => MachineState::Failed,
    };
    db::machines::set_state(conn, &plan.machine, state).await?;
    let job = db::jobs::by_id(conn, &plan.job).await?;
    // One machine, one shot: done or not, the next boot is from the local disk until an operator says otherwise.
    if job.is_some_and(|job| job.job.request.machine != MachineSelector::Any) {
        db::jobs::close(conn, &plan.job, now).await?;
    }
    let done = if outcome == Outcome::Captured { "in the store" } else { "read back and equal" };
    let detail = report.map_or_else(|| done.to_owned(), |report| report.message.clone());
    let action = format!("plan {}", state.as_str());
    db::audit::add(conn, &format!("machine {}", plan.machine), &action, &plan.id, &detail).await?;
    Ok(Some(state))
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
