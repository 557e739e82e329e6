//! The boot journal, as operators see it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use gravure_model::api::JournalLine;
use gravure_model::identity::Mac;
use serde::Deserialize;

use super::Problem;
use super::machines;
use super::operator::{Operator, Scope};
use super::state::App;
use crate::db;

/// Lines in one answer.
const MAX_LINES: i64 = 2000;
const USUAL_LINES: i64 = 200;

/// The query of `GET /v1/journal`.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// A machine that registered, by any of its names, or the address of one that never did; all machines when it is
    /// left out.
    machine: Option<String>,
    /// So many lines.
    lines: Option<i64>,
}

/// `GET /v1/journal?machine=..&lines=..`: the last lines, oldest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<JournalLine>>, Problem> {
    operator.may(Scope::Read)?;
    let mut conn = app.db.read().await?;
    let macs = match &wanted.machine {
        None => Vec::new(),
        Some(name) => match (machines::find(&mut conn, name).await, name.parse::<Mac>()) {
            (Ok(machine), _) if !machine.identity.macs.is_empty() => machine.identity.macs,
            (_, Ok(mac)) => vec![mac],
            (Ok(_), Err(_)) => return Err(Problem::not_found("network adapter of", name)),
            (Err(problem), Err(_)) => return Err(problem),
        },
    };
    let lines = wanted.lines.unwrap_or(USUAL_LINES).clamp(1, MAX_LINES);
    Ok(Json(db::journal::last(&mut conn, &macs, lines).await?))
}
