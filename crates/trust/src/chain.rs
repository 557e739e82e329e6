//! The chain root -> plan key -> plan, descriptor, time: made by the server, judged by the payload.

use gravure_model::Timestamp;
use gravure_model::api::{Envelope, PlanKeyStatement, ServerTime};
use gravure_model::descriptor::{Digest, ImageDescriptor};
use gravure_model::identity::MachineIdentity;
use gravure_model::inventory::FirmwareMode;
use gravure_model::plan::{PLAN_VERSION, Plan};
use gravure_model::site::{OFFLINE_VERSION, OfflineJob};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::envelope::{open, seal};
use crate::{Error, PublicKey, Purpose, SigningKey};

/// How much the payload's idea of the server's time may lag behind a plan that was just made.
const CLOCK_LAG_SECONDS: i64 = 60;

/// The server's side: the online plan key with the root's statement on it.
#[derive(Debug)]
pub struct PlanSigner {
    key: SigningKey,
    statement: Envelope,
}

impl PlanSigner {
    /// The root's statement on `plan_key`, to be kept beside the key. The root key is needed only here.
    pub fn certify(
        root: &SigningKey,
        plan_key: &PublicKey,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Envelope, Error> {
        let statement = PlanKeyStatement { public_key: plan_key.to_text(), not_before, not_after };
        Ok(seal(root, Purpose::PlanKey, &to_json(Purpose::PlanKey, &statement)?))
    }

    /// Puts a key and the root's statement on it together.
    pub fn new(key: SigningKey, statement: Envelope) -> Self {
        Self { key, statement }
    }

    /// The root's statement, which goes with everything signed.
    pub fn statement(&self) -> &Envelope {
        &self.statement
    }

    /// Signs a plan.
    pub fn plan(&self, plan: &Plan) -> Result<Envelope, Error> {
        Ok(seal(&self.key, Purpose::Plan, &to_json(Purpose::Plan, plan)?))
    }

    /// Signs a descriptor given as the exact bytes of its file, so that its digest stays what it is.
    pub fn image(&self, descriptor_bytes: &[u8]) -> Envelope {
        seal(&self.key, Purpose::Image, descriptor_bytes)
    }

    /// Signs an order for a medium that deploys without a server.
    pub fn offline_job(&self, job: &OfflineJob) -> Result<Envelope, Error> {
        Ok(seal(&self.key, Purpose::OfflineJob, &to_json(Purpose::OfflineJob, job)?))
    }

    /// Signs the time for one asker.
    pub fn time(&self, time: &ServerTime) -> Result<Envelope, Error> {
        Ok(seal(&self.key, Purpose::Time, &to_json(Purpose::Time, time)?))
    }
}

/// The payload's side: a plan key that the site root vouches for.
#[derive(Debug)]
pub struct TrustedPlanKey {
    key: PublicKey,
    statement: PlanKeyStatement,
}

/// What a plan must fit to.
#[derive(Debug, Clone)]
pub struct PlanExpectation<'a> {
    /// This machine.
    pub identity: &'a MachineIdentity,
    /// This boot.
    pub nonce: &'a str,
    /// How this machine was started.
    pub firmware: FirmwareMode,
    /// The server's time as [`TrustedPlanKey::server_time`] gave it, plus what has passed since.
    pub now: Timestamp,
}

/// A plan and its image, both genuine and meant for this machine and this boot.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The plan.
    pub plan: Plan,
    /// What its image consists of.
    pub descriptor: ImageDescriptor,
}

/// An order on a medium and its image, both genuine and in their time. There was no server to bind it to a machine and a boot.
#[derive(Debug, Clone)]
pub struct OfflineVerdict {
    /// What is to be done.
    pub job: OfflineJob,
    /// What its image consists of.
    pub descriptor: ImageDescriptor,
}

impl OfflineVerdict {
    /// Takes the plan that this machine has made of the order. It must be of the order's image.
    pub fn with_plan(self, plan: Plan) -> Result<Verdict, Error> {
        bound("plan", "image", &self.job.image.to_string(), &plan.image.descriptor.to_string())?;
        Ok(Verdict { plan, descriptor: self.descriptor })
    }
}

impl TrustedPlanKey {
    /// Judges an order on a medium and the descriptor beside it at `now`, this machine's own time.
    pub fn offline(
        &self,
        job: &Envelope,
        descriptor: &Envelope,
        identity: &MachineIdentity,
        now: Timestamp,
    ) -> Result<OfflineVerdict, Error> {
        self.check_time(Purpose::PlanKey, now, self.statement.not_before, self.statement.not_after)?;
        let job: OfflineJob = read(&self.key, Purpose::OfflineJob, job)?;
        bound("order", "version", &OFFLINE_VERSION.to_string(), &job.version.to_string())?;
        self.check_time(Purpose::OfflineJob, now, job.created.plus_seconds(-CLOCK_LAG_SECONDS), job.expires)?;
        let machine = &job.job.request.machine;
        if !machine.selects(identity) {
            return Err(Error::NotForUs {
                what: "order",
                field: "machine",
                expected: describe(identity),
                found: machine.to_string(),
            });
        }
        let bytes = open(&self.key, Purpose::Image, descriptor)?;
        let digest = Digest(*blake3::hash(&bytes).as_bytes());
        bound("image descriptor", "digest", &job.image.to_string(), &digest.to_string())?;
        Ok(OfflineVerdict { descriptor: from_json(Purpose::Image, &bytes)?, job })
    }

    /// Accepts the key named in `statement` if `root` signed it.
    pub fn new(root: &PublicKey, statement: &Envelope) -> Result<Self, Error> {
        let statement: PlanKeyStatement = read(root, Purpose::PlanKey, statement)?;
        Ok(Self { key: PublicKey::from_text(&statement.public_key)?, statement })
    }

    /// The server's time, if it was signed for `nonce` and lies in the key's own time.
    pub fn server_time(&self, envelope: &Envelope, nonce: &str) -> Result<Timestamp, Error> {
        let time: ServerTime = read(&self.key, Purpose::Time, envelope)?;
        bound("server time", "nonce", nonce, &time.nonce)?;
        self.check_time(Purpose::PlanKey, time.now, self.statement.not_before, self.statement.not_after)?;
        Ok(time.now)
    }

    /// Judges a plan and the descriptor that came with it.
    pub fn plan(
        &self,
        plan: &Envelope,
        descriptor: &Envelope,
        expect: &PlanExpectation<'_>,
    ) -> Result<Verdict, Error> {
        self.check_time(Purpose::PlanKey, expect.now, self.statement.not_before, self.statement.not_after)?;
        let plan: Plan = read(&self.key, Purpose::Plan, plan)?;
        bound("plan", "version", &PLAN_VERSION.to_string(), &plan.version.to_string())?;
        bound("plan", "nonce", expect.nonce, &plan.nonce)?;
        bound("plan", "firmware mode", expect.firmware.as_str(), plan.firmware.as_str())?;
        if plan.machine.is_empty() || !plan.machine.matches(expect.identity) {
            return Err(Error::NotForUs {
                what: "plan",
                field: "machine",
                expected: describe(expect.identity),
                found: describe(&plan.machine),
            });
        }
        // The payload's clock is the server's at its greeting plus what has passed since, so it lags by the answer's way.
        self.check_time(
            Purpose::Plan,
            expect.now,
            plan.created.plus_seconds(-CLOCK_LAG_SECONDS),
            plan.expires,
        )?;
        let bytes = open(&self.key, Purpose::Image, descriptor)?;
        let digest = Digest(*blake3::hash(&bytes).as_bytes());
        bound("image descriptor", "digest", &plan.image.descriptor.to_string(), &digest.to_string())?;
        let descriptor = from_json(Purpose::Image, &bytes)?;
        Ok(Verdict { plan, descriptor })
    }

    fn check_time(&self, what: Purpose, now: Timestamp, from: Timestamp, to: Timestamp) -> Result<(), Error> {
        if from <= now && now < to {
            return Ok(());
        }
        let what = what.title();
        Err(Error::OutOfTime {
            what,
            now: now.seconds(),
            not_before: from.seconds(),
            not_after: to.seconds(),
        })
    }
}

fn bound(what: &'static str, field: &'static str, expected: &str, found: &str) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::NotForUs { what, field, expected: expected.to_owned(), found: found.to_owned() })
}

fn describe(identity: &MachineIdentity) -> String {
    let macs: Vec<String> = identity.macs.iter().map(ToString::to_string).collect();
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    format!(
        "uuid {}, serial {}, adapters {}",
        or_none(&identity.uuid),
        or_none(&identity.serial),
        macs.join(" ")
    )
}

fn read<T: DeserializeOwned>(key: &PublicKey, purpose: Purpose, envelope: &Envelope) -> Result<T, Error> {
    from_json(purpose, &open(key, purpose, envelope)?)
}

fn from_json<T: DeserializeOwned>(purpose: Purpose, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Unreadable { what: purpose.title(), source })
}

fn to_json<T: Serialize>(purpose: Purpose, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| Error::Unreadable { what: purpose.title(), source })
}

#[cfg(test)]
mod tests;
