//! The boot journal: what machines asked, got and did not do.

use gravure_model::Timestamp;
use gravure_model::api::JournalLine;
use gravure_model::identity::Mac;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, word};

/// Adds lines. An id in the order of writing keeps lines of one moment apart and in order.
pub(crate) async fn add(conn: &mut Conn, lines: &[JournalLine]) -> Result<(), DbError> {
    let sql = "INSERT INTO boot_journal (id, at, mac, kind, body, advice) VALUES ($1, $2, $3, $4, $5, $6)";
    for line in lines {
        let query = sqlx::query(sql).bind(uuid::Uuid::now_v7().to_string()).bind(line.at.0);
        let query = query.bind(line.mac.to_string()).bind(&line.kind).bind(&line.text).bind(&line.advice);
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// The last `count` lines, oldest first; of one machine or of all.
pub(crate) async fn last(conn: &mut Conn, macs: &[Mac], count: i64) -> Result<Vec<JournalLine>, DbError> {
    const COLUMNS: &str = "SELECT at, mac, kind, body, advice FROM boot_journal";
    let rows = if macs.is_empty() {
        let sql = format!("{COLUMNS} ORDER BY at DESC, id DESC LIMIT $1");
        sqlx::query(&sql).bind(count).fetch_all(conn).await?
    } else {
        let places: Vec<String> = (2..).take(macs.len()).map(|number| format!("${number}")).collect();
        let sql =
            format!("{COLUMNS} WHERE mac IN ({}) ORDER BY at DESC, id DESC LIMIT $1", places.join(", "));
        let query = macs.iter().fold(sqlx::query(&sql).bind(count), |query, mac| query.bind(mac.to_string()));
        query.fetch_all(conn).await?
    };
    let line = |row: &AnyRow| {
        Ok(JournalLine {
            at: Timestamp(row.try_get("at")?),
            mac: word(row, "mac")?,
            kind: row.try_get("kind")?,
            text: row.try_get("body")?,
            advice: row.try_get("advice")?,
        })
    };
    rows.iter().rev().map(line).collect()
}

/// Removes what is older than `before` and, beyond `keep` lines, the oldest.
pub(crate) async fn prune(conn: &mut Conn, before: Timestamp, keep: i64) -> Result<(), DbError> {
    sqlx::query("DELETE FROM boot_journal WHERE at < $1").bind(before.0).execute(&mut *conn).await?;
    let sql = "DELETE FROM boot_journal WHERE at < \
               COALESCE((SELECT at FROM boot_journal ORDER BY at DESC LIMIT 1 OFFSET $1), 0)";
    sqlx::query(sql).bind(keep).execute(conn).await?;
    Ok(())
}
