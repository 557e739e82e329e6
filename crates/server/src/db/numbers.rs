//! Numbers in host names: counted for each pattern, given once, kept for ever.

use sqlx::Row;

use super::{Conn, DbError};

/// The number that a machine has among the names of `pattern`, in which `{n}` stands for it: the one it was given before, or the
/// next that nobody ever had. Numbers whose name, by `name_of`, is another machine's are passed over.
pub(crate) async fn of_machine(
    conn: &mut Conn,
    pattern: &str,
    machine: &str,
    name_of: impl Fn(u32) -> String,
) -> Result<u32, DbError> {
    loop {
        let sql = "SELECT number FROM name_numbers WHERE pattern = $1 AND machine = $2";
        let known = sqlx::query(sql).bind(pattern).bind(machine).fetch_optional(&mut *conn).await?;
        if let Some(row) = known {
            return number(row.try_get("number")?);
        }
        let sql = "SELECT COALESCE(MAX(number), 0) AS number FROM name_numbers WHERE pattern = $1";
        let last = sqlx::query(sql).bind(pattern).fetch_one(&mut *conn).await?.try_get("number")?;
        let mut next = number(last)?.saturating_add(1);
        // Names that were given before numbers were kept, or by another template.
        while super::machines::other_of_name(conn, &name_of(next), machine).await?.is_some() {
            next = next.saturating_add(1);
        }
        let sql =
            "INSERT INTO name_numbers (pattern, number, machine) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(pattern).bind(i64::from(next)).bind(machine);
        // Another transaction may have taken it meanwhile; then there is a higher one.
        if query.execute(&mut *conn).await?.rows_affected() > 0 {
            return Ok(next);
        }
    }
}

fn number(value: i64) -> Result<u32, DbError> {
    u32::try_from(value).map_err(|_| DbError::Value { what: "number", value: value.to_string() })
}
