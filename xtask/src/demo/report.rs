//! The table at the end of the demo: what took how long, how many bytes at which rate, and the state.

use std::time::{Duration, Instant};

use anyhow::Result;
use gravure_model::api::MachineReport;

use crate::console::{self, seconds, size};

/// Times of the demo's own steps, in order.
#[derive(Debug, Default)]
pub(super) struct Summary {
    steps: Vec<(&'static str, Duration)>,
}

impl Summary {
    /// Does `work` and notes how long it took.
    pub(super) fn timed<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work();
        self.add(name, start.elapsed());
        result
    }

    /// Notes a time.
    pub(super) fn add(&mut self, name: &'static str, took: Duration) {
        self.steps.push((name, took));
    }

    /// Prints the table; its last line is the machine's state.
    pub(super) fn print(&self, machine: &MachineReport) {
        println!();
        console::table(&self.rows(machine));
        if let Some(plan) = &machine.plan {
            console::note(format!("image {} ({})", plan.image, plan.image_digest));
        }
        for line in secure_boot(machine) {
            console::note(line);
        }
        println!("state: {}", machine.state.as_str());
    }

    fn rows(&self, machine: &MachineReport) -> Vec<Vec<String>> {
        let mut rows = vec![["step", "time", "bytes", "MB/s"].map(str::to_owned).to_vec()];
        for (name, took) in &self.steps {
            rows.push(vec![(*name).to_owned(), seconds(*took), String::new(), String::new()]);
        }
        for stage in machine.plan.iter().flat_map(|plan| &plan.stages) {
            let bytes = if stage.bytes > 0 { size(stage.bytes) } else { String::new() };
            let rate = stage.megabytes_per_second().map(|rate| rate.to_string()).unwrap_or_default();
            let took = seconds(Duration::from_millis(stage.milliseconds));
            rows.push(vec![format!("  on the machine: {}", stage.stage), took, bytes, rate]);
        }
        let total = self.steps.iter().map(|(_, took)| *took).sum();
        rows.push(vec!["total".to_owned(), seconds(total), String::new(), String::new()]);
        rows
    }
}

/// What the firmware said of Secure Boot, in the payload and in the deployed system.
fn secure_boot(machine: &MachineReport) -> Vec<String> {
    let word = |on| if on { "on" } else { "off" };
    let payload = machine.inventory.as_ref().and_then(|inventory| inventory.firmware.secure_boot);
    let deployed = machine.plan.as_ref().and_then(|plan| plan.first_boot.as_ref()?.secure_boot);
    let line = |whose: &str, on: Option<bool>| on.map(|on| format!("Secure Boot in {whose}: {}", word(on)));
    [line("the payload", payload), line("the deployed system", deployed)].into_iter().flatten().collect()
}
