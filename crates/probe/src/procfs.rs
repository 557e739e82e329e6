//! `/proc/cpuinfo` and `/proc/meminfo` (proc(5)), and the byte of the firmware's Secure Boot variables.

use std::collections::BTreeSet;

use gravure_model::inventory::Cpu;

use crate::Error;

/// Reads `/proc/cpuinfo`. Counts are 0 and texts `None` where the architecture does not tell them (ARM tells little).
pub fn cpu(cpuinfo: &str, architecture: &str) -> Cpu {
    let mut cpu = Cpu { architecture: architecture.to_owned(), ..Cpu::default() };
    let mut packages = BTreeSet::new();
    let mut cores = BTreeSet::new();
    let (mut package, mut core) = (None, None);
    for line in cpuinfo.lines().chain([""]) {
        let Some((key, value)) = line.split_once(':') else {
            // A blank line ends a processor.
            if let (Some(package), Some(core)) = (package.take(), core.take()) {
                cores.insert((package, core));
            }
            continue;
        };
        let value = value.trim();
        match key.trim() {
            "processor" => cpu.threads = cpu.threads.saturating_add(1),
            "physical id" => {
                package = value.parse::<u32>().ok();
                packages.extend(package);
            }
            "core id" => core = value.parse::<u32>().ok(),
            "model name" if cpu.model.is_none() => cpu.model = text(value),
            "vendor_id" if cpu.vendor.is_none() => cpu.vendor = text(value),
            _ => {}
        }
    }
    let count = |set: usize| u32::try_from(set).unwrap_or(u32::MAX);
    cpu.packages = count(packages.len());
    cpu.cores = count(cores.len());
    cpu
}

/// Vendor, family and model of an x86 processor, by which Windows' IDs are made; `None` on others.
pub fn processor(cpuinfo: &str) -> Option<(String, u32, u32)> {
    let value = |wanted: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.trim() == wanted).map(|(_, value)| value.trim())
    };
    Some((text(value("vendor_id")?)?, value("cpu family")?.parse().ok()?, value("model")?.parse().ok()?))
}

/// Memory the kernel has, bytes: `MemTotal` of `/proc/meminfo`.
pub fn usable_memory(meminfo: &str) -> Result<u64, Error> {
    let corrupt = |found: &str| Error::Corrupt {
        what: "meminfo",
        offset: 0,
        expected: "a line MemTotal in kB",
        found: found.chars().take(64).collect(),
    };
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let line = line.ok_or_else(|| corrupt("none"))?;
    let number = line.trim().strip_suffix("kB").ok_or_else(|| corrupt(line))?;
    let kib: u64 = number.trim().parse().map_err(|_| corrupt(line))?;
    kib.checked_mul(1024).ok_or_else(|| corrupt(line))
}

/// The firmware's flags `SecureBoot` and `SetupMode` (UEFI 2.10, 3.3): one byte, 0 or 1.
pub fn firmware_flag(value: &[u8]) -> Result<bool, Error> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        other => Err(Error::Corrupt {
            what: "firmware flag",
            offset: 0,
            expected: "one byte, 0 or 1",
            found: format!("{:02x?}", other.get(..other.len().min(8)).unwrap_or_default()),
        }),
    }
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.chars().take(256).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_have_a_family_and_a_model() {
        let text = "processor: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 1\nmodel name : AMD EPYC\n";
        assert_eq!(processor(text), Some(("AuthenticAMD".to_owned(), 23, 1)));
        assert_eq!(processor("processor: 0\nBogoMIPS: 50\n"), None);
    }

    #[test]
    fn counts_packages_cores_and_threads() {
        let one = |n: u32, package: u32, core: u32| {
            format!(
                "processor\t: {n}\nvendor_id\t: GenuineIntel\nmodel name\t: Test CPU @ 3.00GHz\n\
                 physical id\t: {package}\ncore id\t\t: {core}\nflags\t\t: fpu\n\n"
            )
        };
        let text: String = [one(0, 0, 0), one(1, 0, 0), one(2, 0, 1), one(3, 0, 1), one(4, 1, 0)].concat();
        let cpu = cpu(&text, "x86_64");
        assert_eq!((cpu.packages, cpu.cores, cpu.threads), (2, 3, 5));
        assert_eq!(cpu.model.as_deref(), Some("Test CPU @ 3.00GHz"));
        assert_eq!(cpu.vendor.as_deref(), Some("GenuineIntel"));
    }

    #[test]
    fn arm_tells_threads_only() {
        let cpu = cpu("processor\t: 0\nBogoMIPS\t: 50\n\nprocessor\t: 1\n", "aarch64");
        assert_eq!((cpu.packages, cpu.cores, cpu.threads, cpu.model), (0, 0, 2, None));
    }

    #[test]
    fn memory_and_flags() {
        assert_eq!(usable_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Ok(16 << 20));
        for text in [
            "",
            "MemFree: 1 kB\n",
            "MemTotal: x kB\n",
            "MemTotal: 1 MB\n",
            "MemTotal: 18446744073709551615 kB",
        ] {
            assert!(usable_memory(text).is_err(), "{text:?}");
        }
        assert_eq!((firmware_flag(&[1]), firmware_flag(&[0])), (Ok(true), Ok(false)));
        assert!(
            firmware_flag(&[]).is_err() && firmware_flag(&[2]).is_err() && firmware_flag(&[0, 0]).is_err()
        );
    }
}
