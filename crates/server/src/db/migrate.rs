//! The layout of the database, brought up to date step by step.

use sqlx::AnyPool;
use sqlx::{Executor, Row};

use super::DbError;

/// Every layout so far, oldest first. What was released is never changed, only added to.
const STEPS: [&str; 8] = [
    include_str!("migrations/0001_first.sql"),
    include_str!("migrations/0002_first_boot.sql"),
    include_str!("migrations/0003_boot_journal.sql"),
    include_str!("migrations/0004_boot_once.sql"),
    include_str!("migrations/0005_job_settings.sql"),
    include_str!("migrations/0006_quarantine.sql"),
    include_str!("migrations/0007_windows_sids.sql"),
    include_str!("migrations/0008_name_numbers.sql"),
];

pub(super) async fn run(pool: &AnyPool) -> Result<(), DbError> {
    let mut transaction = pool.begin().await?;
    transaction.execute("CREATE TABLE IF NOT EXISTS layout (version BIGINT NOT NULL)").await?;
    let found: i64 =
        transaction.fetch_one("SELECT COALESCE(MAX(version), 0) AS version FROM layout").await?.try_get(0)?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(DbError::Newer { found, known });
    }
    for (number, step) in (1i64..).zip(STEPS).filter(|(number, _)| *number > found) {
        for statement in statements(step) {
            transaction.execute(statement).await?;
        }
        sqlx::query("INSERT INTO layout (version) VALUES ($1)")
            .bind(number)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The statements of a file, each ended by a semicolon at the end of a line.
fn statements(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}
