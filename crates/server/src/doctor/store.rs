//! Where images of disks are: whether the site's store answers, and what stands in for it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gravure_linux::health;

use super::{Check, Verdict};
use crate::config::Config;
use crate::site_store::{cached_bytes, damaged, places};

/// Below this nothing is kept any more: a pack and what is written beside it.
const NO_SPACE: u64 = 64 << 20;
/// A cache with less room than this has begun to make room.
const FULL: u64 = 32 << 20;
/// How long damage in the cache is told.
const DAMAGED_FOR: u64 = 30 * 24 * 60 * 60;

/// A store that is a directory of this server, without copies and cache, needs no words.
pub(super) fn store(config: &Config) -> Vec<Check> {
    let Some(settings) = &config.store else { return Vec::new() };
    let mut checks = match places(config) {
        Ok(places) => {
            let asked: Vec<_> = places.iter().map(|place| (place.name(), place.probe())).collect();
            judge_places(&asked)
        }
        Err(error) => vec![Check::problem("store", error.to_string(), "correct [store] in gravure.toml")],
    };
    if let Some(path) = &settings.cache {
        let is_down = checks.first().is_some_and(|check| check.verdict != Verdict::Ok);
        checks.push(cache(path, settings.cache_bytes(), is_down));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        checks.extend(judge_damaged(path, &damaged(path, now.saturating_sub(DAMAGED_FOR)), now));
    }
    checks
}

/// The first place is the store itself, the others are its copies.
fn judge_places(asked: &[(&str, Result<(), String>)]) -> Vec<Check> {
    const CURE: &str = "start that server, mount that directory, or correct [store] in gravure.toml";
    let Some(((name, answer), copies)) = asked.split_first() else { return Vec::new() };
    let instead = copies.iter().find(|(_, answer)| answer.is_ok()).map(|(name, _)| *name);
    let mut checks = vec![match (answer, instead) {
        (Ok(()), _) => Check::ok("store", format!("{name} answers")),
        (Err(why), Some(copy)) => Check::warning(
            "store",
            format!(
                "{name} does not answer ({why}): machines read from its copy {copy}, and none can be captured"
            ),
            CURE,
        ),
        (Err(why), None) => {
            let found = format!("{name} does not answer ({why}): no image in it can be deployed or captured");
            Check::problem("store", found, CURE)
        }
    }];
    checks.extend(copies.iter().map(|(name, answer)| match answer {
        Ok(()) => Check::ok("copy of the store", format!("{name} answers")),
        Err(why) => Check::warning(
            "copy of the store",
            format!("{name} does not answer ({why}): it cannot stand in for the store"),
            CURE,
        ),
    }));
    checks
}

fn cache(path: &Path, limit_bytes: u64, is_down: bool) -> Check {
    const NAME: &str = "cache of the store";
    if !path.is_dir() {
        return Check::note(NAME, format!("{} is made when the server starts", path.display()));
    }
    match health::free_bytes(path) {
        Ok(free) => judge_cache(path, cached_bytes(path), limit_bytes, free, is_down),
        Err(error) => Check::problem(NAME, error.to_string(), "correct [store] in gravure.toml"),
    }
}

/// What went bad in the cache was fetched anew: nothing is wrong any more, but the medium may be.
fn judge_damaged(path: &Path, damaged: &[(u64, String)], now: u64) -> Option<Check> {
    let (at, object) = damaged.last()?;
    let hours = now.saturating_sub(*at) / 3600;
    let count = damaged.len();
    let found = format!(
        "{count} times in 30 days something in {} had gone bad and was fetched anew, last {hours} hours ago {object}",
        path.display()
    );
    let cure = "look at that disk (smartctl -a) and the memory of this machine, and replace what is failing";
    Some(Check::warning("content of the cache", found, cure))
}

fn judge_cache(path: &Path, held: u64, limit_bytes: u64, free: u64, is_down: bool) -> Check {
    const NAME: &str = "cache of the store";
    let found = format!("{} MiB of {} MiB in {}", held >> 20, limit_bytes >> 20, path.display());
    let is_at_limit = held.saturating_add(FULL) > limit_bytes;
    if !is_at_limit && free < NO_SPACE {
        return Check::warning(
            NAME,
            format!("{found}, and the file system is full ({} MiB free): little more is kept", free >> 20),
            "free some space there, or set cache_gib to what there is room for",
        );
    }
    if is_at_limit {
        let more = if is_down { ", while the store itself does not answer" } else { "" };
        return Check::warning(
            NAME,
            format!("it is full: {found}; what was used longest ago makes room{more}"),
            "raise cache_gib in [store] if machines often wait for what the cache had before",
        );
    }
    Check::ok(NAME, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CopyConfig, StoreConfig};

    fn verdicts(checks: &[Check]) -> Vec<Verdict> {
        checks.iter().map(|check| check.verdict).collect()
    }

    #[test]
    fn a_store_that_does_not_answer_is_told_with_what_stands_in_for_it() {
        let down = || Err("connection refused".to_owned());
        let fine = judge_places(&[("s3", Ok(())), ("usb", Ok(()))]);
        assert_eq!(verdicts(&fine), [Verdict::Ok, Verdict::Ok]);
        let copied = judge_places(&[("s3", down()), ("usb", down()), ("nas", Ok(()))]);
        assert_eq!(verdicts(&copied), [Verdict::Warning, Verdict::Warning, Verdict::Ok]);
        assert_eq!(
            copied[0].found,
            "s3 does not answer (connection refused): machines read from its copy nas, and none can be captured"
        );
        let alone = judge_places(&[("s3", down())]);
        assert_eq!(verdicts(&alone), [Verdict::Problem]);
        assert!(alone[0].found.ends_with("no image in it can be deployed or captured"), "{}", alone[0].found);
    }

    #[test]
    fn what_went_bad_in_the_cache_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(judge_damaged(dir.path(), &damaged(dir.path(), 0), 7200), None);
        let log = "60 packs/aa/old index: wrong\nnonsense\n3600 packs/bb/new frame at 0x10: wrong\n";
        std::fs::write(dir.path().join("damaged.log"), log).unwrap();
        assert_eq!(damaged(dir.path(), 100), [(3600, "packs/bb/new".to_owned())]);
        let check = judge_damaged(dir.path(), &damaged(dir.path(), 0), 3 * 3600).unwrap();
        assert_eq!(check.verdict, Verdict::Warning);
        assert!(check.found.starts_with("2 times in 30 days something in "), "{}", check.found);
        assert!(check.found.ends_with("last 2 hours ago packs/bb/new"), "{}", check.found);
    }

    #[test]
    fn a_full_cache_is_told() {
        let path = Path::new("/near");
        let judge = |held, free| judge_cache(path, held, 2 << 30, free, false);
        assert_eq!(judge(1 << 30, 1 << 30), Check::ok("cache of the store", "1024 MiB of 2048 MiB in /near"));
        let limit = judge((2 << 30) - (20 << 20), 1 << 30);
        assert_eq!(limit.verdict, Verdict::Warning);
        assert!(
            limit.found.starts_with("it is full: 2028 MiB of 2048 MiB in /near; what was"),
            "{}",
            limit.found
        );
        let disk = judge(1 << 30, 1 << 20);
        assert!(disk.found.contains("the file system is full (1 MiB free)"), "{}", disk.found);
    }

    /// Places that are really asked: a port where nobody listens, a directory that is there, and one that is not.
    #[test]
    fn places_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| CopyConfig { directory: Some(dir.path().join(path)), ..CopyConfig::default() };
        std::fs::create_dir(dir.path().join("there")).unwrap();
        std::fs::create_dir_all(dir.path().join("near/packs")).unwrap();
        let pack = std::fs::File::create(dir.path().join("near/packs/a")).unwrap();
        pack.set_len((1 << 30) - 1).unwrap();
        let mut config = Config::default();
        assert_eq!(store(&config), []);
        config.store = Some(StoreConfig {
            url: Some("http://127.0.0.1:1/store".into()),
            copies: vec![at("gone"), at("there")],
            cache: Some(dir.path().join("near")),
            cache_gib: Some(1),
            ..StoreConfig::default()
        });
        let found = store(&config);
        let expected = [Verdict::Warning, Verdict::Warning, Verdict::Ok, Verdict::Warning];
        assert_eq!(verdicts(&found), expected, "{found:?}");
        assert!(
            found[0].found.contains(&format!("its copy {}", dir.path().join("there").display())),
            "{found:?}"
        );
        assert!(
            found[3].found.contains("1023 MiB of 1024 MiB") && found[3].found.contains("while the store"),
            "{found:?}"
        );
    }
}
