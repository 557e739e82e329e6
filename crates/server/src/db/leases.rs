//! DHCP leases, kept so that a restarted server gives nobody's address away.

use gravure_netboot::Millis;
use gravure_netboot::dhcp::{ClientKey, HardwareAddress, LeaseEntry, LeaseState};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, word};

const STATES: [(LeaseState, &str); 4] = [
    (LeaseState::Offered, "offered"),
    (LeaseState::Bound, "bound"),
    (LeaseState::Released, "released"),
    (LeaseState::Declined, "declined"),
];

/// Enters or renews leases.
pub(crate) async fn keep(conn: &mut Conn, leases: &[LeaseEntry]) -> Result<(), DbError> {
    for lease in leases {
        let state = STATES.iter().find(|(state, _)| *state == lease.state).map_or("bound", |(_, word)| word);
        // Written as the key of a client is, so that it can be read back.
        let hardware = ClientKey::Hardware(lease.hardware).to_string();
        let until = i64::try_from(lease.until.0).unwrap_or(i64::MAX);
        let sql = "INSERT INTO leases (address, client, hardware, host_name, state, until_ms) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (address) DO UPDATE SET \
                   client = excluded.client, hardware = excluded.hardware, host_name = excluded.host_name, \
                   state = excluded.state, until_ms = excluded.until_ms";
        let query = sqlx::query(sql).bind(lease.address.to_string()).bind(lease.client.to_string());
        let query = query.bind(hardware).bind(lease.host_name.clone()).bind(state).bind(until);
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

/// All leases.
pub(crate) async fn list(conn: &mut Conn) -> Result<Vec<LeaseEntry>, DbError> {
    let sql = "SELECT address, client, hardware, host_name, state, until_ms FROM leases ORDER BY address";
    let rows = sqlx::query(sql).fetch_all(conn).await?;
    rows.iter().map(lease).collect()
}

fn lease(row: &AnyRow) -> Result<LeaseEntry, DbError> {
    let hardware: ClientKey = word(row, "hardware")?;
    let hardware: HardwareAddress = match hardware {
        ClientKey::Hardware(hardware) => hardware,
        ClientKey::Identifier(_) => {
            return Err(DbError::Value { what: "hardware", value: hardware.to_string() });
        }
    };
    let state: String = row.try_get("state")?;
    let known = STATES.iter().find(|(_, word)| *word == state).map(|(state, _)| *state);
    Ok(LeaseEntry {
        address: word(row, "address")?,
        client: word(row, "client")?,
        hardware,
        host_name: row.try_get("host_name")?,
        state: known.ok_or(DbError::Value { what: "state", value: state })?,
        until: Millis(u64::try_from(row.try_get::<i64, _>("until_ms")?).unwrap_or(0)),
    })
}
