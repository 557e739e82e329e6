//! A store in a bucket of a real S3 server (moto), started by the test on a port of its own.

use std::sync::Arc;

use crate::support::{contents, read_image, store_image};
use gravure_fetch::{Patience, agent};
use gravure_model::{Ctl, Secret};
use gravure_store::{
    CachedObjects, CollectOptions, ErrorKind, LocalObjects, Objects, OnExisting, Put, S3Config, S3Objects,
    Store,
};
use gravure_testkit::BucketServer;

#[test]
fn a_bucket_is_a_store() {
    let Some(server) = BucketServer::start() else { return };
    let endpoint = server.as_ref().unwrap().endpoint().to_owned();
    let objects = S3Objects::new(
        agent(),
        S3Config {
            endpoint,
            bucket: "images".to_owned(),
            prefix: "site/one".to_owned(),
            region: "us-east-1".to_owned(),
            access_key: "key".to_owned(),
            secret_key: Secret::new("hidden"),
        },
        Patience::default(),
    );
    assert!(!format!("{objects:?}").contains("hidden"));
    objects.create_bucket().unwrap();
    assert_eq!(objects.put_new("images/a b.gim", b"1").unwrap(), Put::Created);
    assert_eq!(objects.put_new("images/a b.gim", b"2").unwrap(), Put::Exists);
    assert_eq!(objects.open("images/a b.gim").unwrap().read_vec_at(0, 1).unwrap(), b"1");
    // Whoever has a signed address needs no credentials; another object or method is not covered.
    let url = objects.signed_url("GET", "images/a b.gim", 60);
    let body = agent().get(&url).call().unwrap().body_mut().read_to_vec().unwrap();
    assert_eq!(body, b"1");
    let before = objects.list_tagged("images").unwrap();
    objects.replace("images/a b.gim", b"2").unwrap();
    let after = objects.list_tagged("images").unwrap();
    assert_eq!(before[0].0, after[0].0);
    assert!(!before[0].1.is_empty() && before[0].1 != after[0].1, "{before:?} {after:?}");
    objects.remove("images/a b.gim").unwrap();
    assert_eq!(objects.open("images/a b.gim").map(drop).unwrap_err().kind(), ErrorKind::NotFound);

    let open = || Store::open(Arc::new(objects.clone())).unwrap();
    let numbers: Vec<u32> = (0..20).collect();
    store_image(&open(), "one", &numbers, OnExisting::Refuse).unwrap();
    store_image(&open(), "two", &numbers[7..], OnExisting::Refuse).unwrap();
    let refused = store_image(&open(), "two", &[1], OnExisting::Refuse).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(read_image(&open(), "two").unwrap(), contents(&numbers[7..]));

    // A collection waits for a writer, then removes what nobody wants.
    let store = open();
    let writer = store.writer().unwrap();
    assert_eq!(objects.sessions().unwrap(), [writer.session()]);
    open().remove_image("one").unwrap();
    open().remove_image("two").unwrap();
    let report = open().collect(&CollectOptions::default(), &Ctl::default()).unwrap();
    assert!(report.removed_packs == 0 && report.waiting_packs > 0, "{report:?}");
    drop(writer);
    assert_eq!(objects.sessions().unwrap(), Vec::<String>::new());
    let report = open().collect(&CollectOptions::default(), &Ctl::default()).unwrap();
    assert!(report.removed_packs > 0, "{report:?}");
    assert_eq!(open().packs(), []);

    store_image(&open(), "three", &numbers, OnExisting::Refuse).unwrap();
    let scrubbed = open().scrub(&Ctl::default(), &mut |_| {}).unwrap();
    assert_eq!((scrubbed.damage, scrubbed.lost), (vec![], vec![]));
    let near = tempfile::tempdir().unwrap();
    let cached = CachedObjects::new(Arc::new(objects), Arc::new(LocalObjects::new(near.path())));
    assert_eq!(read_image(&Store::open(Arc::new(cached)).unwrap(), "three").unwrap(), contents(&numbers));
}
