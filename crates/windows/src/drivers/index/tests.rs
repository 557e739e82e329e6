//! The index by itself: what is found, what changes, and files that are not as they were written.

use std::cell::RefCell;

use super::*;

/// A repository's directory with an index, and the IDs of its packages by their names.
struct Sample {
    temp: tempfile::TempDir,
    packages: BTreeMap<String, Vec<String>>,
    /// Packages that were asked for their IDs.
    asked: RefCell<Vec<String>>,
}

impl Sample {
    fn new(packages: &[(&str, &[&str])]) -> Self {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        let packages = packages.iter().map(|(name, of)| ((*name).to_owned(), ids(of))).collect();
        Self { temp: tempfile::tempdir().unwrap(), packages, asked: RefCell::default() }
    }

    /// 40 packages of 12 IDs, some of which the next one has, too.
    fn large() -> Self {
        let ids =
            |number: usize| (0..12).map(|id| format!("PCI\\VEN_8086&DEV_{:04X}", number * 9 + id)).collect();
        let packages = (0..40).map(|number| (format!("{number:064x}"), ids(number))).collect();
        Self { packages, ..Self::new(&[]) }
    }

    fn root(&self) -> &Path {
        self.temp.path()
    }

    fn names(&self) -> Vec<String> {
        self.packages.keys().cloned().collect()
    }

    fn update(&self) -> Index {
        self.asked.borrow_mut().clear();
        let ids_of = |name: &str| {
            self.asked.borrow_mut().push(name.to_owned());
            Ok(self.packages[name].clone())
        };
        Index::update(self.root(), &self.names(), &ids_of).unwrap()
    }

    fn open(&self) -> Option<Index> {
        Index::open(self.root(), &self.names())
    }

    fn put(&self, bytes: &[u8]) {
        fs::write(path(self.root()), bytes).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(path(self.root())).unwrap()
    }

    /// Packages of all IDs, as they are and not as any index says.
    fn truth(&self) -> BTreeMap<String, Vec<String>> {
        let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, ids) in &self.packages {
            ids.iter().for_each(|id| out.entry(id.to_uppercase()).or_default().push(name.clone()));
        }
        out
    }

    /// Whether what is found by `index` is all right; it may say of single IDs that it does not know.
    fn is_honest(&self, index: &Index, truth: &BTreeMap<String, Vec<String>>) -> bool {
        truth.iter().all(|(id, packages)| index.of(id).is_none_or(|found| found == *packages))
    }
}

trait Of {
    fn of(&self, id: &str) -> Option<Vec<String>>;
}

impl Of for Index {
    /// Packages of one ID.
    fn of(&self, id: &str) -> Option<Vec<String>> {
        Some(self.find(&[id])?.into_iter().collect())
    }
}

#[test]
fn packages_are_found_by_each_of_their_ids_in_any_case() {
    let sample = Sample::new(&[("a", &["X\\1", "Y"]), ("b", &["y", "Y", "stra\u{df}e"]), ("c", &[])]);
    let index = sample.update();
    let found = |id: &str| index.of(id).unwrap();
    assert_eq!((found("x\\1"), found("X\\1")), (vec!["a".to_owned()], vec!["a".to_owned()]));
    assert_eq!((found("Y"), found("y")), (vec!["a".to_owned(), "b".to_owned()], found("Y")));
    assert_eq!((found("STRASSE"), found("Z")), (vec!["b".to_owned()], Vec::new()));
    assert_eq!(sample.open().unwrap().of("Y"), Some(found("Y")));
    let any = index.find(&["x\\1", "strasse", "Z"]).unwrap();
    assert_eq!(any, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    let memory =
        Index::in_memory(sample.root(), &sample.names(), &|name| Ok(sample.packages[name].clone())).unwrap();
    assert_eq!(memory.of("Y"), Some(found("Y")));
    assert_eq!(Sample::new(&[]).update().of("Y"), Some(Vec::new()));
}

#[test]
fn only_what_is_new_is_read_and_what_is_gone_goes() {
    let mut sample = Sample::large();
    sample.update();
    assert_eq!(sample.asked.borrow().len(), 40);
    let before = sample.names();
    for gone in [&before[3], &before[17], &before[39]] {
        sample.packages.remove(gone);
    }
    sample
        .packages
        .insert("new".to_owned(), vec!["PCI\\VEN_8086&DEV_0001".to_owned(), "USB\\VID_1".to_owned()]);
    assert!(sample.open().is_none(), "it lists what is gone");
    let index = sample.update();
    assert_eq!(*sample.asked.borrow(), ["new"]);
    for (id, packages) in sample.truth() {
        assert_eq!(index.of(&id), Some(packages), "{id}");
    }
    // Of the last package alone.
    assert_eq!(index.of(&format!("PCI\\VEN_8086&DEV_{:04X}", 39 * 9 + 11)), Some(Vec::new()));
    assert_eq!(index.of("usb\\vid_1"), Some(vec!["new".to_owned()]));
    // Nothing to be done: not a byte changes.
    let bytes = sample.bytes();
    sample.update();
    assert_eq!((sample.asked.borrow().len(), sample.bytes() == bytes), (0, true));
    // All of it is as if it had been made at once.
    let changed = sample.open().unwrap();
    let rows = |index: &Index, table: &str| -> i64 {
        index.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let fresh =
        Index::in_memory(sample.root(), &sample.names(), &|name| Ok(sample.packages[name].clone())).unwrap();
    for table in ["packages", "hardware_ids"] {
        assert_eq!(rows(&changed, table), rows(&fresh, table), "{table}");
    }
}

#[test]
fn an_index_of_other_packages_is_not_taken() {
    let sample = Sample::large();
    sample.update();
    let names = sample.names();
    let other = |change: fn(&mut Vec<String>)| {
        let mut names = names.clone();
        change(&mut names);
        Index::open(sample.root(), &names).is_some()
    };
    assert!(other(|_| ()));
    assert!(!other(|names| drop(names.pop())));
    assert!(!other(|names| drop(names.remove(0))));
    assert!(!other(|names| names.push("f".repeat(64))));
    assert!(!other(|names| names[7].replace_range(63.., "x")));
}

/// What is damaged is either not opened, or says of the IDs that are concerned that it does not know.
#[test]
fn damage_anywhere_is_never_another_answer() {
    let sample = Sample::large();
    sample.update();
    let (good, truth) = (sample.bytes(), sample.truth());
    let mut noticed = 0;
    for (number, at) in (0..good.len()).step_by(512).chain((0..good.len()).step_by(1021)).enumerate() {
        let mut bad = good.clone();
        bad[at] ^= if number % 2 == 0 { 0x01 } else { 0xff };
        sample.put(&bad);
        match sample.open() {
            None => noticed += 1,
            Some(index) => {
                assert!(sample.is_honest(&index, &truth), "byte {at:#x}");
                noticed += usize::from(truth.keys().any(|id| index.of(id).is_none()));
            }
        }
    }
    assert!(noticed > 30, "{noticed}");
    // Single IDs, in all places where they are, and their packages' numbers behind them.
    for id in truth.keys().step_by(7) {
        let places: Vec<usize> = good
            .windows(id.len())
            .enumerate()
            .filter(|(_, part)| *part == id.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty(), "{id}");
        // Some are what pages that were divided left behind.
        let hidden = places.iter().filter(|at| {
            let mut bad = good.clone();
            bad[*at + id.len() - 1] ^= 0x01;
            sample.put(&bad);
            let index = sample.open().unwrap();
            assert!(sample.is_honest(&index, &truth), "{id} at {at:#x}");
            index.of(id).is_none()
        });
        assert_eq!(hidden.count(), truth[id].len(), "{id}");
    }
}

#[test]
fn a_file_with_any_cut_is_never_another_answer() {
    let sample = Sample::large();
    sample.update();
    let (good, truth) = (sample.bytes(), sample.truth());
    for len in (0..good.len()).step_by(777).chain((0..good.len()).step_by(4096)) {
        sample.put(&good[..len]);
        if let Some(index) = sample.open() {
            assert!(sample.is_honest(&index, &truth), "{len}");
            assert!(truth.keys().any(|id| index.of(id).is_none()), "{len}");
        }
    }
    // A page of zeros in place of each.
    for page in (0..good.len()).step_by(4096) {
        let mut bad = good.clone();
        bad[page..page + 4096].fill(0);
        sample.put(&bad);
        if let Some(index) = sample.open() {
            assert!(sample.is_honest(&index, &truth), "{page:#x}");
        }
    }
}

#[test]
fn whatever_is_in_its_place_an_update_makes_it_whole() {
    let sample = Sample::large();
    sample.update();
    let (good, truth) = (sample.bytes(), sample.truth());
    let sql = |text: &str| {
        Connection::open(path(sample.root())).unwrap().execute_batch(text).unwrap();
        sample.bytes()
    };
    let damaged = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        bad
    };
    let mut cases = vec![
        ("nothing", Vec::new(), true),
        ("text", b"no database at all, but longer than a header of a hundred bytes ".repeat(9), true),
        ("cut", good[..good.len() - 4096].to_vec(), true),
        ("first byte", damaged(0), true),
        ("first page of a table", damaged(4096 + 3), true),
    ];
    for (what, text) in [
        ("version", "PRAGMA user_version = 2"),
        ("application", "PRAGMA application_id = 1"),
        ("trigger", "CREATE TRIGGER t AFTER INSERT ON packages BEGIN DELETE FROM hardware_ids; END"),
        ("view", "DROP TABLE buckets; CREATE VIEW buckets AS SELECT 1 AS bucket, 2 AS sum"),
        ("another table", "DROP TABLE buckets; CREATE TABLE buckets(bucket, sum)"),
    ] {
        sample.put(&good);
        cases.push((what, sql(text), true));
    }
    sample.put(&good);
    cases.push(("packages gone", sql("DELETE FROM packages WHERE number = 7"), false));
    for (what, bytes, is_anew) in cases {
        sample.put(&bytes);
        let index = sample.open();
        assert!(index.is_none() || what == "first page of a table", "{what}");
        assert!(index.is_none_or(|index| sample.is_honest(&index, &truth)), "{what}");
        let index = sample.update();
        assert_eq!(sample.asked.borrow().len(), if is_anew { 40 } else { 1 }, "{what}");
        if is_anew {
            for (id, packages) in &truth {
                assert_eq!(index.of(id).as_ref(), Some(packages), "{what}: {id}");
            }
            assert!(sample.open().is_some(), "{what}");
        }
        assert!(fs::read_dir(sample.root()).unwrap().count() == 1, "{what}: something is left over");
    }
}

/// A process that ended in a transaction leaves half of it in the file, and a journal that takes it back.
#[test]
fn a_power_cut_while_it_is_written_leaves_what_was_there() {
    let sample = Sample::large();
    let place = path(sample.root());
    let journal = sample.root().join("index.sqlite-journal");
    sample.update();
    let mut writer = Connection::open(&place).unwrap();
    writer.pragma_update(None, "cache_size", 1).unwrap();
    let transaction = writer.transaction().unwrap();
    transaction.execute("UPDATE hardware_ids SET id = 'X' || id", []).unwrap();
    transaction.execute("DELETE FROM packages WHERE number % 2 = 0", []).unwrap();
    let (half, log) = (sample.bytes(), fs::read(&journal).unwrap());
    drop(transaction);
    writer.close().unwrap();
    assert_ne!(half, sample.bytes(), "nothing of it was in the file yet");

    sample.put(&half);
    fs::write(&journal, &log).unwrap();
    // Readers take nothing back.
    assert!(sample.open().is_none());
    let index = sample.update();
    assert_eq!(sample.asked.borrow().len(), 0);
    for (id, packages) in sample.truth() {
        assert_eq!(index.of(&id), Some(packages), "{id}");
    }
    assert!(!journal.exists());
    // Somebody tidied the journal away.
    sample.put(&half);
    assert!(sample.open().is_none_or(|index| sample.is_honest(&index, &sample.truth())));
    // The journal of a file that was there before is not played into its successor.
    fs::write(&journal, &log).unwrap();
    Index::rebuild(sample.root(), &sample.names(), &|name| Ok(sample.packages[name].clone())).unwrap();
    assert!(!journal.exists());
    assert!(sample.is_honest(&sample.open().unwrap(), &sample.truth()));
}

/// A reader goes on with what it opened, whoever makes the index anew or changes it meanwhile.
#[test]
fn readers_go_on_while_others_write() {
    let mut sample = Sample::large();
    let reader = sample.update();
    let truth = sample.truth();
    Index::rebuild(sample.root(), &sample.names(), &|name| Ok(sample.packages[name].clone())).unwrap();
    for (id, packages) in &truth {
        assert_eq!(reader.of(id).as_ref(), Some(packages));
    }
    let reader = sample.open().unwrap();
    sample.packages.insert("new".to_owned(), vec!["USB\\VID_1".to_owned()]);
    sample.update();
    assert_eq!(reader.of("USB\\VID_1"), Some(vec!["new".to_owned()]));
}

#[test]
fn a_package_that_cannot_be_read_is_named_and_the_index_stays() {
    let sample = Sample::new(&[("a", &["X"])]);
    sample.update();
    let names = ["a".to_owned(), "b".to_owned()];
    let unreadable = |name: &str| Err(Error::NotFound { what: "package", name: name.to_owned() });
    let found = Index::update(sample.root(), &names, &unreadable);
    assert!(matches!(found, Err(Error::NotFound { name, .. }) if name == "b"));
    let found = Index::in_memory(sample.root(), &names, &unreadable);
    assert!(matches!(found, Err(Error::NotFound { name, .. }) if name == "a"));
    assert_eq!(sample.open().unwrap().of("x"), Some(vec!["a".to_owned()]));
}
