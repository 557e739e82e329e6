//! Deployments: planned as data, then executed step by step.
//!
//! [`plan`] is pure: a job, an inventory and an image give a plan or a refusal. [`execute`] carries a plan out on the
//! machine it was made for, in the order of writes of DESIGN section 7: whatever goes wrong, a disk that is not
//! verified does not look bootable.
#![forbid(unsafe_code)]

mod planner;

mod execute;
mod failure;

pub use execute::{ImageSource, Machine, Report, execute, foresee_start};
pub use failure::Failure;
pub use planner::{
    CatalogImage, NamePattern, PlanRequest, ROOT_LABEL, Refusal, name_pattern, plan, plan_capture,
    stored_path,
};
