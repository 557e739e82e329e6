//! The audit trail.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Problem;
use super::operator::{Operator, Scope};
use super::state::App;
use crate::db::{self, AuditEntry};

/// Entries in one answer.
const MAX_ENTRIES: i64 = 1000;

/// `GET /v1/audit`: the last entries, newest first.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
) -> Result<Json<Vec<AuditEntry>>, Problem> {
    operator.may(Scope::Audit)?;
    let mut conn = app.db.read().await?;
    Ok(Json(db::audit::last(&mut conn, MAX_ENTRIES).await?))
}
