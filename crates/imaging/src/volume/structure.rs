//! The structure of a volume checked before it becomes one: by the checker of the format, which knows nothing of how the volume
//! was laid out.

use std::io;

use gravure_io::ReadAt;
use gravure_ntfs::{CheckObserver, Finding, Strictness, Write, check};

use super::device::VolumeDevice;
use crate::Error;
use crate::meter::{Context, Meter};
use crate::ntfs_source::ntfs_error;

/// The device as it will be: with the boot sectors that are written last.
struct Completed<'a> {
    device: &'a dyn VolumeDevice,
    boot: &'a [Write],
}

impl ReadAt for Completed<'_> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_exact_at(offset, buf)?;
        for write in self.boot {
            let (start, end) = (write.offset, write.offset + write.bytes.len() as u64);
            let (first, last) = (start.max(offset), end.min(offset + buf.len() as u64));
            if first < last {
                let at = |position: u64, base: u64| usize::try_from(position - base).unwrap_or(usize::MAX);
                let from = &write.bytes[at(first, start)..at(last, start)];
                buf[at(first, offset)..at(last, offset)].copy_from_slice(from);
            }
        }
        Ok(())
    }
}

/// Keeps the first finding, tells of all.
struct First<'a> {
    meter: &'a Meter<'a>,
    context: &'a Context<'a>,
    first: Option<Finding>,
}

impl CheckObserver for First<'_> {
    fn finding(&mut self, finding: &Finding) {
        self.meter.warn(|| finding.to_string());
        self.first.get_or_insert_with(|| finding.clone());
    }

    fn goes_on(&mut self, _: u32, _: u32) -> bool {
        self.context.ctl.check().is_ok()
    }
}

/// Checks every structure. The first broken rule is the error.
pub(super) fn check_structure(
    device: &dyn VolumeDevice,
    boot: &[Write],
    context: &Context<'_>,
    meter: &Meter<'_>,
) -> Result<(), Error> {
    let source = Completed { device, boot };
    let mut observer = First { meter, context, first: None };
    let report = match check(&source, Strictness::Fresh, &mut observer) {
        Err(gravure_ntfs::Error::Stopped) => {
            context.ctl.check()?;
            return Err(ntfs_error(device.name(), gravure_ntfs::Error::Stopped));
        }
        other => other.map_err(|error| ntfs_error(device.name(), error))?,
    };
    match observer.first {
        None => Ok(()),
        Some(finding) => Err(Error::Differs {
            path: match finding.record {
                Some(record) => format!("{}, record {record}", device.name()),
                None => device.name().to_owned(),
            },
            what: finding.rule.text(),
            expected: finding.expected,
            found: finding.found,
            more: report.errors.saturating_sub(1),
        }),
    }
}
