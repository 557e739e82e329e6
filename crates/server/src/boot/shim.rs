//! Which shim a machine gets. Debian's carries signatures of both Microsoft authorities; Microsoft returns them separately, so a
//! site's own may carry one, and machines may trust one. Several lie side by side as `shimx64*.efi`; `shimx64.efi` is the usual
//! one (specs/netboot.md, 3.6).

use std::path::Path;

use gravure_efi::Program;
use gravure_efi::keys::Microsoft;
use gravure_model::inventory::LoaderAuthorities;

/// The usual one, and the name all are served under.
pub(crate) const NAME: &str = "shimx64.efi";
/// More are not looked at.
const MAX_SHIMS: usize = 8;
/// Longer is no shim.
const MAX_BYTES: u64 = 16 << 20;

/// The shims of a site, the usual one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shims(Vec<Shim>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Shim {
    name: String,
    signed_by: Microsoft,
}

impl Shims {
    /// Looks at the files in `dir`.
    pub(crate) fn load(dir: &Path) -> Self {
        let names = Self::names(dir);
        let read = |name: &String| {
            let path = dir.join(name);
            let fits = path.metadata().is_ok_and(|facts| facts.len() <= MAX_BYTES);
            fits.then(|| std::fs::read(&path).ok()).flatten()
        };
        let shims = names.into_iter().filter_map(|name| {
            let bytes = read(&name)?;
            let signed_by = Program::parse(&bytes).ok()?;
            Some(Shim { name, signed_by: Microsoft::named_in(signed_by.signatures()) })
        });
        Self(shims.collect())
    }

    /// Their files in `dir`, the usual one first.
    pub(crate) fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> =
            names.filter(|name| name.starts_with("shimx64") && name.ends_with(".efi")).collect();
        names.sort_by_key(|name| (name != NAME, name.clone()));
        names.truncate(MAX_SHIMS);
        names
    }

    /// What those of the site are signed by, for people.
    pub(crate) fn described(&self) -> Vec<(String, String)> {
        let described = self.0.iter().map(|shim| (shim.name.clone(), words(shim.signed_by)));
        described.collect()
    }

    /// The shim for a machine that trusts these authorities, and why it will be refused if none fits. Nothing is known of a machine
    /// that was never here.
    pub(crate) fn choose(&self, trusted: Option<LoaderAuthorities>) -> (&str, Option<String>) {
        let Some(trusted) = trusted else { return (NAME, None) };
        let fits = |shim: &&Shim| {
            (shim.signed_by.of_2011 && trusted.microsoft_2011)
                || (shim.signed_by.of_2023 && trusted.microsoft_2023)
        };
        match self.0.iter().find(fits) {
            Some(shim) => (&shim.name, None),
            // Unsigned ones are somebody's experiment without Secure Boot.
            None if self.0.iter().all(|shim| shim.signed_by == Microsoft::default()) => (NAME, None),
            None => {
                let trusts =
                    words(Microsoft { of_2011: trusted.microsoft_2011, of_2023: trusted.microsoft_2023 });
                let have: Vec<String> =
                    self.described().into_iter().map(|(name, by)| format!("{name}: {by}")).collect();
                (
                    NAME,
                    Some(format!("this machine's firmware trusts {trusts}; there are {}", have.join(", "))),
                )
            }
        }
    }
}

fn words(of: Microsoft) -> String {
    let years = [(of.of_2011, "2011"), (of.of_2023, "2023")];
    let years: Vec<&str> = years.into_iter().filter_map(|(has, year)| has.then_some(year)).collect();
    match years.as_slice() {
        [] => "no Microsoft authority for loaders".to_owned(),
        years => format!("Microsoft's UEFI CA {}", years.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shim(name: &str, of_2011: bool, of_2023: bool) -> Shim {
        Shim { name: name.into(), signed_by: Microsoft { of_2011, of_2023 } }
    }

    fn trusts(microsoft_2011: bool, microsoft_2023: bool) -> Option<LoaderAuthorities> {
        Some(LoaderAuthorities { microsoft_2011, microsoft_2023 })
    }

    #[test]
    fn a_machine_gets_a_shim_that_its_firmware_starts() {
        let both = Shims(vec![shim(NAME, true, true)]);
        let apart = Shims(vec![shim(NAME, true, false), shim("shimx64-2023.efi", false, true)]);
        let old = Shims(vec![shim(NAME, true, false)]);
        let cases = [
            (&both, None, NAME, false),
            (&both, trusts(true, false), NAME, false),
            (&both, trusts(false, true), NAME, false),
            (&both, trusts(false, false), NAME, true),
            (&apart, None, NAME, false),
            (&apart, trusts(true, true), NAME, false),
            (&apart, trusts(false, true), "shimx64-2023.efi", false),
            (&old, trusts(false, true), NAME, true),
        ];
        for (shims, trusted, name, refused) in cases {
            let (found, why) = shims.choose(trusted);
            assert_eq!((found, why.is_some()), (name, refused), "{shims:?} {trusted:?}");
        }
        let (_, why) = old.choose(trusts(false, true));
        let expected = "this machine's firmware trusts Microsoft's UEFI CA 2023; there are shimx64.efi: Microsoft's UEFI CA 2011";
        assert_eq!(why.as_deref(), Some(expected));
        assert_eq!(Shims(vec![shim(NAME, false, false)]).choose(trusts(true, false)), (NAME, None));
        assert_eq!(Shims::default().choose(trusts(true, false)), (NAME, None));
    }

    /// Debian's shim, where the payload was built.
    #[test]
    fn debians_shim_carries_both() {
        let Some(payload) = gravure_testkit::payload_dir() else { return };
        let shims = Shims::load(&payload.join("pxe"));
        assert_eq!(shims.0.first(), Some(&shim(NAME, true, true)), "{shims:?}");
    }
}
