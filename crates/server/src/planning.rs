//! From an asking payload to a signed plan: who may have which job, and what goes into the database for it.

use std::collections::BTreeMap;
use std::path::Path;

use gravure_deploy::{PlanRequest, name_pattern, plan as decide, plan_capture};
use gravure_model::api::{MachineState, PlanAnswer};
use gravure_model::job::{Job, JobRequest};
use gravure_model::plan::{Confirm, Plan, PlannedBundle};
use gravure_model::{Assurance, Timestamp};
use gravure_trust::PlanSigner;
use gravure_windows::drivers::Unsigned;
use gravure_windows::layers::Platform;

use crate::Error;
use crate::api::state::{announce, failure};
use crate::arming::{self, Armed};
use crate::bundles::{Bundles, Drivers, facts_of_any, platform_of};
use crate::db::{self, Conn, Db, DbError, MachineRow, Outcome, PlanRow, SessionRow};
use crate::images::{Images, ReadyImage};
use crate::names::NameTable;
use crate::secret::{hash_of, new_secret};
use crate::vault::Vault;

/// A payload that waits asks again after so many seconds.
const RETRY_SECONDS: u32 = 5;
/// One whose job cannot be planned waits for an operator; there is no hurry.
const REFUSED_RETRY_SECONDS: u32 = 20;

/// What planning needs.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    pub(crate) db: &'a Db,
    pub(crate) images: &'a Images,
    pub(crate) bundles: &'a Bundles,
    pub(crate) names: &'a Path,
    pub(crate) signer: &'a PlanSigner,
    pub(crate) vault: &'a Vault,
    /// `https://address:port` the machine reaches us at, for the deployed system's report.
    pub(crate) api_url: String,
    pub(crate) plan_minutes: u32,
}

impl Planner<'_> {
    /// Answers a payload that asks for its plan.
    pub(crate) async fn answer(&self, session: &SessionRow) -> Result<PlanAnswer, Error> {
        let now = Timestamp::now();
        let mut transaction = self.db.write().await?;
        let Some(machine) = db::machines::by_id(&mut transaction, &session.machine).await? else {
            return Ok(wait("this machine was removed from the server", RETRY_SECONDS, true));
        };
        db::machines::touch(&mut transaction, &machine.id, now).await?;
        if let Some(answer) = self.same_again(&mut transaction, session).await? {
            transaction.commit().await.map_err(DbError::from)?;
            return Ok(answer);
        }
        let Some(armed) = arming::armed_machine(&mut transaction, &machine, now).await? else {
            let held = db::machines::quarantine(&mut transaction, &machine.id).await?;
            transaction.commit().await.map_err(DbError::from)?;
            let reason = match held {
                Some(reason) => format!("in quarantine ({reason}); an operator lets this machine go"),
                None => "registered; no job is planned for this machine".to_owned(),
            };
            return Ok(wait(reason, RETRY_SECONDS, true));
        };
        transaction.commit().await.map_err(DbError::from)?;
        let request = &armed.job.job.request;
        if session.assurance < request.assurance {
            let reason = format!(
                "job {} needs assurance \"{}\", this boot has \"{}\"; an operator approves it with the code {}",
                armed.job.job.id, request.assurance, session.assurance, session.approval_code
            );
            return Ok(wait(reason, RETRY_SECONDS, false));
        }
        // Describing an image can take minutes; no transaction is open meanwhile.
        let image = match self.image(&request.image, request.capture.is_some()).await {
            Ok(image) => image,
            Err(error) => return self.refuse(&machine, &armed, &error.to_string(), None).await,
        };
        if request.capture.is_some() {
            return self.hand_out(session, &machine, armed, &image, BundlesOfPlan::default(), now).await;
        }
        let names = match NameTable::read(self.names) {
            Ok(names) => names,
            Err(why) => return self.refuse(&machine, &armed, &why, None).await,
        };
        let table = names.of(&machine.identity);
        let bundles = match self.bundles_for(&machine, request, &image, &table).await {
            Ok(bundles) => BundlesOfPlan { table, ..bundles },
            Err(error) => return self.refuse(&machine, &armed, &error.to_string(), None).await,
        };
        self.hand_out(session, &machine, armed, &image, bundles, now).await
    }

    /// The image `name`, which may be one that is yet to be made.
    async fn image(&self, name: &str, captures: bool) -> Result<ReadyImage, Error> {
        if !captures {
            return self.images.get(name).await;
        }
        ReadyImage::to_be_made(stored_name(name)?)
            .map_err(|source| Error::Db(DbError::Document { what: "descriptor", source }))
    }

    /// Drivers for a Windows image, and layers, which are refused here when they are for another system. Making them can take minutes, once.
    async fn bundles_for(
        &self,
        machine: &MachineRow,
        request: &JobRequest,
        image: &ReadyImage,
        table: &BTreeMap<String, String>,
    ) -> Result<BundlesOfPlan, Error> {
        let described = image.described(request.image_index);
        let Some((described, platform)) = described.and_then(|image| Some((image, platform_of(image)?)))
        else {
            return Ok(BundlesOfPlan::default());
        };
        let asked = request.windows.clone().unwrap_or_default();
        // A column that the table has nothing of for this machine is told here, too.
        let facts = facts_of_any(&asked, table.keys().map(String::as_str));
        self.bundles
            .check_layers(Some(platform), &asked.layers, &facts)
            .map_err(|message| Error::Bundle { what: "layers".to_owned(), message })?;
        let layers = self.bundles.layers(&asked.layers).await?;
        if platform == Platform::Linux {
            return Ok(BundlesOfPlan { layers, ..BundlesOfPlan::default() });
        }
        let inventory = db::machines::inventory(&mut *self.db.read().await?, &machine.id).await?;
        let inventory = inventory.unwrap_or_default();
        let unsigned = if asked.allow_unsigned { Unsigned::Allow } else { Unsigned::Refuse };
        let drivers = self.bundles.drivers(&inventory, described, asked.drivers, unsigned).await?;
        Ok(BundlesOfPlan { drivers, layers, table: BTreeMap::new() })
    }

    /// The plan this session has got already, for a payload that lost the answer.
    async fn same_again(&self, conn: &mut Conn, session: &SessionRow) -> Result<Option<PlanAnswer>, Error> {
        let Some(id) = &session.plan else { return Ok(None) };
        let Some(row) = db::plans::by_id(conn, id).await? else { return Ok(None) };
        if row.ended.is_some() {
            let reason = "the plan of this boot has ended; a new one needs a new job and a restart";
            let is_done = matches!(row.outcome, Some(Outcome::Verified | Outcome::Captured));
            return Ok(Some(wait(reason, RETRY_SECONDS, is_done)));
        }
        let image = self.image(&row.image, row.body.capture.is_some()).await?;
        if image.catalog.digest != row.image_digest {
            return Ok(Some(wait("the image was replaced while the plan ran", REFUSED_RETRY_SECONDS, false)));
        }
        Ok(Some(self.sign(conn, row.body, session, &image).await?))
    }

    async fn hand_out(
        &self,
        session: &SessionRow,
        machine: &MachineRow,
        armed: Armed,
        image: &ReadyImage,
        bundles: BundlesOfPlan,
        now: Timestamp,
    ) -> Result<PlanAnswer, Error> {
        let mut transaction = self.db.write().await?;
        // Between look and lock another machine may have taken the last place, or an operator cancelled.
        db::jobs::lock(&mut transaction, &armed.job.job.id).await?;
        let Some(armed) = arming::armed_machine(&mut transaction, machine, now).await? else {
            return Ok(wait("the job was cancelled or is full", RETRY_SECONDS, true));
        };
        let Some(inventory) = db::machines::inventory(&mut transaction, &machine.id).await? else {
            return Ok(wait("no inventory yet", RETRY_SECONDS, false));
        };
        let mut job = job_for(&armed);
        let captures = job.request.capture.is_some();
        let secrets = match db::jobs::secrets(&mut transaction, &job.id, captures, self.vault).await {
            Err(Error::Vault(error)) => {
                drop(transaction);
                let cure = "put the key back from a backup, or cancel the job and make it again";
                return self.refuse(machine, &armed, &error.to_string(), Some(cure.to_owned())).await;
            }
            secrets => secrets?,
        };
        secrets.put(&mut job.request);
        // Who is only captured keeps its name.
        let pattern = match job.request.capture {
            Some(_) => Ok(None),
            None => name_pattern(&job, &inventory, &machine.identity, &bundles.table).map(Some),
        };
        let number = match pattern {
            Ok(Some(pattern)) if pattern.is_numbered() => {
                let name = |number| pattern.name(number);
                db::numbers::of_machine(&mut transaction, &pattern.to_string(), &machine.id, name).await?
            }
            Ok(_) => 1,
            Err(refusal) => {
                drop(transaction);
                return self.refuse(machine, &armed, &refusal.to_string(), Some(refusal.cure())).await;
            }
        };
        let request = PlanRequest {
            plan: uuid::Uuid::new_v4().to_string(),
            identity: machine.identity.clone(),
            nonce: session.nonce.clone(),
            now,
            lifetime_seconds: i64::from(self.plan_minutes) * 60,
            number,
            confirm: None,
            drivers: bundles.drivers.bundles,
            drivers_anyway: bundles.drivers.anyway,
            layers: bundles.layers,
            table: bundles.table,
        };
        let decided = match job.request.capture {
            Some(_) => plan_capture(
                &job,
                stored_name(&job.request.image)?,
                &inventory,
                image.catalog.digest,
                request,
            ),
            None => decide(&job, &inventory, &image.catalog, request),
        };
        let mut plan = match decided {
            Ok(plan) => plan,
            Err(refusal) => {
                drop(transaction);
                return self.refuse(machine, &armed, &refusal.to_string(), Some(refusal.cure())).await;
            }
        };
        if plan.windows.is_some()
            && let Some(other) =
                db::machines::other_of_name(&mut transaction, &plan.personality.host_name, &machine.id)
                    .await?
        {
            drop(transaction);
            let why = format!("name {} is that of machine {other} already", plan.personality.host_name);
            let cure = "use another --name, e.g. 'pc-{serial:-8}'".to_owned();
            return self.refuse(machine, &armed, &why, Some(cure)).await;
        }
        // They come back when the plan is signed, and are in no plan that is kept.
        if let Some(windows) = &mut plan.windows {
            windows.settings = None;
        }
        if let Some(capture) = &mut plan.capture {
            capture.keys.clear();
        }
        if let Some(old) = machine.plan.as_ref().filter(|_| armed.again) {
            let report = failure("", "the machine was cut off and started again", None);
            db::plans::end(&mut transaction, old, Outcome::Failed, Some(&report), now).await?;
        }
        let row = PlanRow {
            id: plan.id.clone(),
            job: job.id.clone(),
            machine: machine.id.clone(),
            ordinal: armed.ordinal,
            image: job.request.image.clone(),
            image_digest: image.catalog.digest,
            body: plan.clone(),
            started: now,
            ended: None,
            outcome: None,
            failure: None,
            confirmed: None,
            first_boot: None,
        };
        db::plans::add(&mut transaction, &row).await?;
        let name = Some(plan.personality.host_name.as_str()).filter(|_| plan.capture.is_none());
        db::machines::set_plan(&mut transaction, &machine.id, &plan.id, name).await?;
        db::sessions::set_plan(&mut transaction, &session.peer, &plan.id).await?;
        let actor = format!("machine {}", machine.id);
        let (disk, image_name) = (&plan.disk, &job.request.image);
        let what = match name {
            Some(name) => format!("{image_name} to {} ({} bytes) as {name}", disk.name, disk.size_bytes),
            None => format!("image {image_name} of {} ({} bytes)", disk.name, disk.size_bytes),
        };
        let detail = format!("job {}, {what}, assurance {}", job.id, session.assurance);
        db::audit::add(&mut transaction, &actor, "plan handed out", &plan.id, &detail).await?;
        let answer = self.sign(&mut transaction, plan, session, image).await?;
        transaction.commit().await.map_err(DbError::from)?;
        announce(&machine.id, MachineState::Deploying);
        Ok(answer)
    }

    /// Signs a plan. The token of the first-boot report is made here and stays in no database; a machine that only
    /// claims to be itself gets none.
    async fn sign(
        &self,
        conn: &mut Conn,
        mut plan: Plan,
        session: &SessionRow,
        image: &ReadyImage,
    ) -> Result<PlanAnswer, Error> {
        let captures = plan.capture.is_some();
        if plan.windows.is_some() || captures {
            let secrets = db::jobs::secrets(conn, &plan.job, captures, self.vault).await?;
            if let Some(windows) = &mut plan.windows {
                windows.settings = secrets.settings;
            } else if let Some(capture) = &mut plan.capture {
                capture.keys = secrets.keys;
            }
        }
        // A Windows reports nothing; beside one on a disk may be a system that does.
        let may_report = !captures && (plan.windows.is_none() || plan.restores_disk());
        if may_report && session.assurance >= Assurance::Token {
            let token = new_secret()?;
            db::plans::set_confirm_hash(conn, &plan.id, &hash_of(&token)).await?;
            plan.personality.confirm = Some(Confirm { server: self.api_url.clone(), token });
        }
        Ok(PlanAnswer::Ready {
            plan_key: self.signer.statement().clone(),
            plan: self.signer.plan(&plan)?,
            descriptor: self.signer.image(&image.descriptor_bytes),
        })
    }

    /// The job cannot be done on this machine: said on its screen, and to the operator once.
    async fn refuse(
        &self,
        machine: &MachineRow,
        armed: &Armed,
        why: &str,
        cure: Option<String>,
    ) -> Result<PlanAnswer, Error> {
        let mut transaction = self.db.write().await?;
        let job = &armed.job.job.id;
        let detail = format!("job {job}: {why}");
        let known = db::audit::last_of(&mut transaction, "plan refused", &machine.id).await?;
        if known.as_ref() != Some(&detail) {
            db::audit::add(&mut transaction, "server", "plan refused", &machine.id, &detail).await?;
        }
        transaction.commit().await.map_err(DbError::from)?;
        let advice = cure.map(|cure| format!("; {cure}")).unwrap_or_default();
        Ok(wait(format!("job {job} cannot be planned: {why}{advice}"), REFUSED_RETRY_SECONDS, false))
    }
}

/// What a plan takes from the site beside its image.
#[derive(Debug, Default)]
struct BundlesOfPlan {
    drivers: Drivers,
    layers: Vec<PlannedBundle>,
    /// What the table of machines says of this one.
    table: BTreeMap<String, String>,
}

/// The name in the store of the image that a job makes.
fn stored_name(image: &str) -> Result<&str, Error> {
    Images::stored_name(image).ok_or_else(|| Error::Image {
        image: image.to_owned(),
        message: "not the name of an image in the store".to_owned(),
    })
}

/// The job as it holds for this machine. What a cut-off attempt left on the disk is ours to destroy.
fn job_for(armed: &Armed) -> Job {
    let mut job = armed.job.job.clone();
    job.request.wipe |= armed.again;
    job
}

fn wait(reason: impl Into<String>, retry_seconds: u32, boot_local: bool) -> PlanAnswer {
    PlanAnswer::Wait { reason: reason.into(), retry_seconds, boot_local }
}

/// A machine that starts anew while a plan of it runs, and whose job is gone, has failed.
pub(crate) async fn settle_abandoned(
    conn: &mut Conn,
    machine: &MachineRow,
    now: Timestamp,
) -> Result<(), DbError> {
    if machine.state != MachineState::Deploying {
        return Ok(());
    }
    let armed = arming::armed_machine(conn, machine, now).await?;
    if armed.is_some_and(|armed| armed.again) {
        return Ok(());
    }
    if let Some(plan) = &machine.plan {
        let report = failure("", "the machine was cut off, and its job was cancelled", None);
        db::plans::end(conn, plan, Outcome::Failed, Some(&report), now).await?;
    }
    db::machines::set_state(conn, &machine.id, MachineState::Failed).await
}
