//! SIDs of the Windows installations on machines, as their payloads found them or put them there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use gravure_model::inventory::InstalledWindows;
use gravure_nttypes::Sid;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, MachineRow, machines};

/// Installations of one machine that are kept: nobody has more, and a payload that lies fills nothing.
const MAX_INSTALLATIONS: usize = 16;
/// Characters of a computer's name that are kept; longer ones are none.
const MAX_NAME_CHARS: usize = 63;

/// A machine with an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    pub(crate) machine: String,
    pub(crate) sid: String,
    pub(crate) computer_name: Option<String>,
}

impl Installation {
    fn of(row: &AnyRow) -> Result<Self, DbError> {
        Ok(Self {
            machine: row.try_get("machine")?,
            sid: row.try_get("sid")?,
            computer_name: row.try_get("computer_name")?,
        })
    }
}

/// What is on a machine now; what was known before is forgotten. Texts that are no SID of a machine are passed over.
pub(crate) async fn set(conn: &mut Conn, machine: &str, found: &[InstalledWindows]) -> Result<(), DbError> {
    sqlx::query("DELETE FROM windows_sids WHERE machine = $1").bind(machine).execute(&mut *conn).await?;
    let mut kept: BTreeMap<String, Option<&str>> = BTreeMap::new();
    for windows in found {
        let sid = windows.machine_sid.as_deref().and_then(|text| text.parse::<Sid>().ok());
        let Some(sid) = sid.filter(Sid::is_of_domain) else { continue };
        let name = windows.computer_name.as_deref().filter(|name| name.chars().count() <= MAX_NAME_CHARS);
        kept.insert(sid.to_string(), name);
    }
    for (sid, name) in kept.into_iter().take(MAX_INSTALLATIONS) {
        let sql = "INSERT INTO windows_sids (machine, sid, computer_name) VALUES ($1, $2, $3)";
        sqlx::query(sql).bind(machine).bind(sid).bind(name).execute(&mut *conn).await?;
    }
    Ok(())
}

/// SIDs on a machine.
pub(crate) async fn of_machine(conn: &mut Conn, machine: &str) -> Result<Vec<String>, DbError> {
    let sql = "SELECT machine, sid, computer_name FROM windows_sids WHERE machine = $1 ORDER BY sid";
    let rows = sqlx::query(sql).bind(machine).fetch_all(conn).await?;
    rows.iter().map(|row| Installation::of(row).map(|found| found.sid)).collect()
}

/// Names of the other machines that share a SID with this one.
pub(crate) async fn sharers(conn: &mut Conn, machine: &str) -> Result<Vec<String>, DbError> {
    let sql = "SELECT machine, sid, computer_name FROM windows_sids WHERE machine <> $1 AND sid IN \
               (SELECT sid FROM windows_sids WHERE machine = $1) ORDER BY machine, sid";
    let rows = sqlx::query(sql).bind(machine).fetch_all(&mut *conn).await?;
    let mut names = BTreeMap::new();
    for row in &rows {
        let found = Installation::of(row)?;
        if let Entry::Vacant(place) = names.entry(found.machine.clone()) {
            place.insert(name(conn, &found).await?);
        }
    }
    Ok(names.into_values().collect())
}

/// SIDs that several machines have, with the names of these machines.
pub(crate) async fn shared(conn: &mut Conn) -> Result<BTreeMap<String, Vec<String>>, DbError> {
    let sql = "SELECT machine, sid, computer_name FROM windows_sids WHERE sid IN \
               (SELECT sid FROM windows_sids GROUP BY sid HAVING COUNT(*) > 1) ORDER BY sid, machine";
    let rows = sqlx::query(sql).fetch_all(&mut *conn).await?;
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let found = Installation::of(row)?;
        let name = name(conn, &found).await?;
        out.entry(found.sid).or_default().push(name);
    }
    Ok(out)
}

/// What people call the machine: by the name we gave it, the name it gave itself, its serial number, an address, its id.
async fn name(conn: &mut Conn, found: &Installation) -> Result<String, DbError> {
    let row = machines::by_id(conn, &found.machine).await?;
    let known = row.and_then(|MachineRow { host_name, identity, .. }| {
        let mac = identity.macs.first().map(ToString::to_string);
        host_name.or_else(|| found.computer_name.clone()).or(identity.serial).or(mac)
    });
    Ok(known.unwrap_or_else(|| found.machine.clone()))
}
