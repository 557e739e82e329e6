//! The text that `sfdisk -d` writes: partitions in sectors. Clonezilla and FOG keep it beside the table itself.

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// As the system called it, `sda1`.
    pub(super) name: String,
    /// Number in the table.
    pub(super) number: u32,
    pub(super) start: u64,
    pub(super) sectors: u64,
    /// Type: a GUID, or hexadecimal digits.
    pub(super) kind: String,
}

/// The whole dump.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Dump {
    pub(super) is_gpt: bool,
    pub(super) last_lba: Option<u64>,
    pub(super) sector_bytes: Option<u32>,
    pub(super) entries: Vec<Entry>,
}

impl Dump {
    /// Reads what it understands; lines of other kinds are passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines() {
            let Some((head, rest)) = line.split_once(':') else { continue };
            let (head, rest) = (head.trim(), rest.trim());
            match head {
                "label" => out.is_gpt = rest == "gpt",
                "last-lba" => out.last_lba = rest.parse().ok(),
                "sector-size" => out.sector_bytes = rest.parse().ok(),
                _ if head.starts_with("/dev/") => out.entries.extend(entry(head, rest)),
                _ => {}
            }
        }
        out
    }

    /// The first sector behind all partitions.
    pub(super) fn end(&self) -> u64 {
        self.entries.iter().map(|entry| entry.start.saturating_add(entry.sectors)).max().unwrap_or(0)
    }
}

fn entry(device: &str, rest: &str) -> Option<Entry> {
    let name = device.strip_prefix("/dev/")?.to_owned();
    let digits = name.len() - name.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    let number = name[name.len() - digits..].parse().ok()?;
    let mut out = Entry { name, number, ..Entry::default() };
    for field in rest.split(',') {
        let Some((key, value)) = field.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match key.trim() {
            "start" => out.start = value.parse().ok()?,
            "size" => out.sectors = value.parse().ok()?,
            "type" | "Id" => out.kind = value.to_ascii_lowercase(),
            _ => {}
        }
    }
    // Old dumps list empty slots.
    (out.sectors > 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_of_both_kinds() {
        let text = "label: gpt\nlabel-id: 11111111-2222-3333-4444-555555555555\ndevice: /dev/nvme0n1\nunit: sectors\n\
                    first-lba: 34\nlast-lba: 131038\nsector-size: 512\n\n\
                    /dev/nvme0n1p1 : start=        2048, size=       20480, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, \
                    uuid=AAAAAAAA-0000-0000-0000-000000000000, name=\"EFI\"\n\
                    /dev/nvme0n1p12 : start= 22528, size= 100, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n";
        let dump = Dump::parse(text);
        assert!(dump.is_gpt);
        assert_eq!((dump.last_lba, dump.sector_bytes, dump.end()), (Some(131_038), Some(512), 22_628));
        let names: Vec<_> = dump.entries.iter().map(|entry| (entry.name.as_str(), entry.number)).collect();
        assert_eq!(names, [("nvme0n1p1", 1), ("nvme0n1p12", 12)]);
        assert_eq!((dump.entries[0].start, dump.entries[0].sectors), (2048, 20480));

        let old = "# partition table of /dev/sda\nunit: sectors\n\n/dev/sda1 : start=     2048, size=  1000, Id= 7, bootable\n\
                   /dev/sda2 : start=        0, size=        0, Id= 0\n";
        let dump = Dump::parse(old);
        assert!(!dump.is_gpt);
        assert_eq!(dump.entries.len(), 1);
        assert_eq!((dump.entries[0].kind.as_str(), dump.end()), ("7", 3048));
        assert_eq!(
            Dump::parse("/dev/sda : start=1\nnothing\n/dev/sda1 : start=x, size=1\n"),
            Dump::default()
        );
    }
}
