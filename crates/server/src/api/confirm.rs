//! The deployed system's report of its first boot.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use gravure_model::Timestamp;
use gravure_model::api::{ConfirmRequest, FirstBoot, MachineState};

use super::Problem;
use super::state::{App, announce};
use crate::db;
use crate::secret::hash_of;

/// `POST /v1/confirm`
pub(super) async fn confirm(
    State(app): State<Arc<App>>,
    Json(report): Json<ConfirmRequest>,
) -> Result<StatusCode, Problem> {
    let now = Timestamp::now();
    let mut transaction = app.db.write().await?;
    let plan = db::plans::by_confirm_hash(&mut transaction, &hash_of(&report.token)).await?;
    let Some(plan) = plan else {
        return Err(Problem::unauthorised("the token belongs to no deployment of this server"));
    };
    let Some(machine) = db::machines::by_id(&mut transaction, &plan.machine).await? else {
        return Err(Problem::not_found("machine", &plan.machine));
    };
    let actor = format!("machine {}", machine.id);
    if !machine.identity.matches(&report.identity) {
        let detail = "the report comes from another machine than the one deployed";
        db::audit::add(&mut transaction, &actor, "first boot refused", &plan.id, detail).await?;
        transaction.commit().await?;
        return Err(Problem::forbidden(detail));
    }
    if plan.confirmed.is_some() {
        // The system repeats its report when it lost the answer; anybody else's repetition is refused.
        let known = db::plans::reported_machine_id(&mut transaction, &plan.id).await?;
        return if known.as_deref() == Some(report.machine_id.as_str()) {
            Ok(StatusCode::NO_CONTENT)
        } else {
            Err(Problem::conflict(
                "this deployment was confirmed before, by a system with another machine id",
            ))
        };
    }
    let expected = &plan.body.personality;
    if report.machine_id != expected.machine_id {
        let detail = format!("machine id is {}, expected {}", report.machine_id, expected.machine_id);
        db::audit::add(&mut transaction, &actor, "first boot refused", &plan.id, &detail).await?;
        transaction.commit().await?;
        return Err(Problem::forbidden(detail));
    }
    let first_boot = FirstBoot { kernel: report.kernel, secure_boot: report.secure_boot };
    db::plans::confirm(&mut transaction, &plan.id, &report.machine_id, &first_boot, now).await?;
    if machine.plan.as_deref() == Some(plan.id.as_str()) {
        db::machines::set_state(&mut transaction, &machine.id, MachineState::Confirmed).await?;
    }
    db::machines::touch(&mut transaction, &machine.id, now).await?;
    let verified = if plan.ended.is_some() { "" } else { "; the payload's last report never came" };
    let detail = format!("{} runs kernel {}{verified}", report.host_name, first_boot.kernel);
    db::audit::add(&mut transaction, &actor, "first boot confirmed", &plan.id, &detail).await?;
    transaction.commit().await?;
    announce(&machine.id, MachineState::Confirmed);
    app.note(&machine.identity, &format!("the deployed system {} reported its first boot", report.host_name));
    Ok(StatusCode::NO_CONTENT)
}
