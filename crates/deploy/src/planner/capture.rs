//! Plans that make an image of a machine's disk instead of writing it.

use gravure_model::descriptor::Digest;
use gravure_model::inventory::Inventory;
use gravure_model::job::Job;
use gravure_model::plan::{PLAN_VERSION, Personality, Plan, PlannedCapture, PlannedImage, Step};

use super::{PlanRequest, Refusal, seed, target};

/// Where the image `name` of the site's store is found on the server's HTTP side.
pub fn stored_path(name: &str) -> String {
    format!("/store/images/{name}.gim")
}

/// Decides everything about one capture: the image `name` is made in the site's store. `digest` is that of the descriptor of nothing
/// that goes with the plan.
pub fn plan_capture(
    job: &Job,
    name: &str,
    inventory: &Inventory,
    digest: Digest,
    request: PlanRequest,
) -> Result<Plan, Refusal> {
    let Some(wanted) = &job.request.capture else {
        return Err(Refusal::OtherKind { job: job.id.clone(), what: "deploys an image, it makes none" });
    };
    if request.identity.is_empty() {
        return Err(Refusal::Nameless);
    }
    let disk = target::choose_source(job, inventory)?;
    let seed = seed(job, &request.identity)?;
    Ok(Plan {
        version: PLAN_VERSION,
        id: request.plan,
        job: job.id.clone(),
        machine: request.identity,
        nonce: request.nonce,
        created: request.now,
        expires: request.now.plus_seconds(request.lifetime_seconds),
        assurance: job.request.assurance,
        firmware: inventory.firmware.mode,
        seed: blake3::Hash::from_bytes(seed).to_hex().to_string(),
        image: PlannedImage { path: stored_path(name), descriptor: digest, index: 0 },
        disk,
        // The system on the disk keeps who it is.
        personality: Personality { host_name: String::new(), machine_id: String::new(), confirm: None },
        windows: None,
        linux: None,
        capture: Some(PlannedCapture {
            name: name.to_owned(),
            description: wanted.description.clone(),
            raw: wanted.raw,
            replace: wanted.replace,
            keys: wanted.keys.clone(),
        }),
        steps: vec![Step::CaptureDisk {}],
        then: job.request.then,
    })
}
