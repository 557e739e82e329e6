//! The audit trail: who changed what, when. Entries are only ever added.

use gravure_model::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::{Conn, DbError};

/// One change or refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// `operator NAME`, `machine ID`, or `server`.
    pub actor: String,
    /// Verb and object in short, e.g. `job created`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// In words.
    pub detail: String,
}

/// Adds an entry.
pub(crate) async fn add(
    conn: &mut Conn,
    actor: &str,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<(), DbError> {
    tracing::info!(actor, subject, detail, "{action}");
    let sql = "INSERT INTO audit (id, at, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)";
    let id = uuid::Uuid::new_v4().to_string();
    let query = sqlx::query(sql).bind(id).bind(Timestamp::now().0).bind(actor).bind(action);
    query.bind(subject).bind(detail).execute(conn).await?;
    Ok(())
}

/// The last entries, newest first.
pub(crate) async fn last(conn: &mut Conn, count: i64) -> Result<Vec<AuditEntry>, DbError> {
    let sql = "SELECT at, actor, action, subject, detail FROM audit ORDER BY at DESC, id DESC LIMIT $1";
    let rows = sqlx::query(sql).bind(count).fetch_all(conn).await?;
    let entry = |row: &sqlx::any::AnyRow| {
        Ok(AuditEntry {
            at: Timestamp(row.try_get("at")?),
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            detail: row.try_get("detail")?,
        })
    };
    rows.iter().map(entry).collect()
}

/// The detail of the last entry for this action and subject.
pub(crate) async fn last_of(conn: &mut Conn, action: &str, subject: &str) -> Result<Option<String>, DbError> {
    let sql = "SELECT detail FROM audit WHERE action = $1 AND subject = $2 ORDER BY at DESC LIMIT 1";
    let row = sqlx::query(sql).bind(action).bind(subject).fetch_optional(conn).await?;
    Ok(row.map(|row| row.try_get("detail")).transpose()?)
}
