//! Bodies for fuzzing: any bytes must give a file or an error, in bounded time and memory. Replayed as plain tests in
//! `tests/it/fuzz_bodies.rs`.

use crate::limits::{MAX_FIELD_CHARS, MAX_FILE_BYTES};
use crate::{Arch, DeviceIds, Inf, ProductType, Signer, Target};

/// A file: everything that can be asked about it is asked, for each processor.
pub fn file(data: &[u8]) {
    let Ok(inf) = Inf::parse(data) else { return };
    let report = inf.check();
    assert!(report.lines <= MAX_FILE_BYTES, "a line has a byte at least");
    for line in inf.sections().iter().flat_map(|section| &section.lines).take(2000) {
        assert!(!line.values.is_empty(), "a line has a value");
        for raw in line.key.iter().chain(&line.values) {
            assert!(inf.text(raw).chars().count() <= MAX_FIELD_CHARS, "texts are bounded");
            let _ = inf.text_in(raw, 0x407);
        }
    }
    for (arch, product) in
        Arch::ALL.into_iter().zip([ProductType::Workstation, ProductType::Server].into_iter().cycle())
    {
        let version = crate::OsVersion { major: 10, minor: 0, build: 22631 };
        let target = Target { arch, version, product, suite: 0x100 };
        let _ = report.version.catalog(&target);
        let models = inf.models(&target);
        assert!(models.len() <= report.models, "only what is listed");
        let mut device = DeviceIds::default();
        for model in models.iter().take(20) {
            device.hardware.extend(model.hardware_id.clone());
            device.compatible.extend(model.compatible_ids.iter().take(20).cloned());
            if let Some(install) = inf.install(model, &target) {
                let _ = (install.function_driver(), install.is_boot_critical());
            }
        }
        let matches = inf.matches(&device, &target, Signer::Trusted);
        assert!(matches.is_sorted_by_key(|found| found.rank), "best first");
    }
}
