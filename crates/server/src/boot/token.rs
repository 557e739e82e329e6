//! One-time boot tokens: issued while a job is armed for a machine, traded once by its payload.

use gravure_model::identity::MachineIdentity;
use gravure_model::{Secret, Timestamp};

use super::subject;
use crate::Error;
use crate::db::{self, BootToken, Db};
use crate::secret::{hash_of, new_secret};

/// Issues a token if a job is armed for this machine.
pub(super) async fn issue(
    db: &Db,
    identity: &MachineIdentity,
    lifetime_minutes: u32,
) -> Result<Option<Secret>, Error> {
    let now = Timestamp::now();
    let mut transaction = db.write().await?;
    let Some(armed) = crate::arming::armed(&mut transaction, identity, now).await? else { return Ok(None) };
    let secret = new_secret()?;
    let token = BootToken {
        hash: hash_of(&secret),
        job: armed.job.job.id.clone(),
        identity: identity.clone(),
        issued: now,
        expires: now.plus_seconds(i64::from(lifetime_minutes) * 60),
        used: None,
        superseded: None,
    };
    let key = subject::key(identity);
    db::tokens::issue(&mut transaction, &key, &token).await?;
    let detail = format!("for job {}, good for {lifetime_minutes} minutes", token.job);
    db::audit::add(&mut transaction, "server", "boot token issued", &key, &detail).await?;
    transaction.commit().await.map_err(db::DbError::from)?;
    Ok(Some(secret))
}
