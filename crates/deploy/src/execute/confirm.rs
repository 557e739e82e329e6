//! The one-shot report of the deployed system's first boot: our own program, its configuration, and a systemd unit. The
//! program removes all three when the server has taken the report.

use gravure_model::api::ConfirmSettings;
use gravure_model::plan::Confirm;

use super::Machine;
use super::root::RootEditor;
use crate::failure::{StepError, chain, code};

/// Where the program is put, from the root of the new system.
pub(super) const PROGRAM: &str = "usr/lib/gravure/gravure-confirm";
const SETTINGS: &str = "etc/gravure/confirm.json";
const UNIT: &str = "etc/systemd/system/gravure-confirm.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/gravure-confirm.service";

const UNIT_TEXT: &str = "\
[Unit]
Description=Report the first boot to the Gravure server
Wants=network-online.target
After=network-online.target
ConditionPathExists=/etc/gravure/confirm.json

[Service]
Type=oneshot
ExecStart=/usr/lib/gravure/gravure-confirm confirm
StandardOutput=journal+console

[Install]
WantedBy=multi-user.target
";

pub(super) fn install(
    root: &mut RootEditor,
    confirm: &Confirm,
    machine: &Machine,
    plan: &str,
) -> Result<(), StepError> {
    let program = std::fs::read(&machine.confirm_program).map_err(|error| {
        let path = machine.confirm_program.display();
        StepError::new(code::IO, format!("read {path}: {}", chain(&error)))
    })?;
    let settings = ConfirmSettings {
        server: confirm.server.clone(),
        token: confirm.token.clone(),
        ca_pem: machine.site_ca_pem.clone(),
        plan: plan.to_owned(),
    };
    let settings = serde_json::to_vec_pretty(&settings)
        .map_err(|error| StepError::new(code::FAILED, format!("write {SETTINGS}: {error}")))?;
    root.write(PROGRAM, &program, 0o755)?;
    root.write(SETTINGS, &settings, 0o600)?;
    root.write(UNIT, UNIT_TEXT.as_bytes(), 0o644)?;
    root.link(WANTED, "/etc/systemd/system/gravure-confirm.service")
}
