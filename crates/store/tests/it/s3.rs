//! A store in a bucket of a real S3 server (moto), started by the test on a port of its own.

use std::process::Command;
use std::sync::Arc;

use crate::support::{contents, read_image, store_image};
use gravure_fetch::{Patience, agent};
use gravure_model::{Ctl, Secret};
use gravure_store::{
    CachedObjects, CollectOptions, ErrorKind, LocalObjects, Objects, OnExisting, Put, S3Config, S3Objects,
    Store,
};
use gravure_testkit::{BucketServer, oracle, skipped};

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
    // Whoever has a signed address needs no credentials.
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

/// Says of `METHOD URL SECRET` lines whether a server that knows the secret would accept the signature in the address: by botocore, which
/// shares no code with ours.
const JUDGE: &str = r#"
import sys
from urllib.parse import parse_qsl, urlsplit
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
for line in sys.argv[1:]:
    method, url, secret = line.split()
    query = dict(parse_qsl(urlsplit(url).query))
    key, _, region, service, _ = query["X-Amz-Credential"].split("/")
    auth = S3SigV4QueryAuth(Credentials(key, secret), service, region, int(query["X-Amz-Expires"]))
    request = AWSRequest(method=method, url=url.split("&X-Amz-Signature=")[0])
    request.context["timestamp"] = query["X-Amz-Date"]
    text = auth.string_to_sign(request, auth.canonical_request(request))
    print(auth.signature(text, request) == query["X-Amz-Signature"])
"#;

#[test]
fn a_signed_address_is_good_for_one_method_on_one_object_for_its_time() {
    let Some(mut python) = oracle("python3") else { return };
    let has = Command::new(python.get_program()).args(["-c", "import botocore"]).output().unwrap();
    if !has.status.success() {
        skipped("python3 has no botocore");
        return;
    }
    let objects = S3Objects::new(
        agent(),
        S3Config {
            endpoint: "http://127.0.0.1:9000".to_owned(),
            bucket: "images".to_owned(),
            prefix: "site/one".to_owned(),
            region: "eu-north-1".to_owned(),
            access_key: "key".to_owned(),
            secret_key: Secret::new("hidden"),
        },
        Patience::default(),
    );
    let url = objects.signed_url("GET", "images/a b.gim", 60);
    let changed = |from: &str, to: &str| {
        assert!(url.contains(from), "{url}");
        url.replace(from, to)
    };
    let cases = [
        ("GET", url.clone(), "hidden", true),
        ("PUT", objects.signed_url("PUT", "packs/ab/x", 7), "hidden", true),
        ("PUT", url.clone(), "hidden", false),
        ("DELETE", url.clone(), "hidden", false),
        ("HEAD", url.clone(), "hidden", false),
        ("GET", changed("a%20b.gim", "other.gim"), "hidden", false),
        ("GET", changed("/images/site/", "/other/site/"), "hidden", false),
        ("GET", changed("Expires=60", "Expires=6000"), "hidden", false),
        ("GET", changed("127.0.0.1:9000", "127.0.0.2:9000"), "hidden", false),
        ("GET", url.clone(), "another", false),
    ];
    let lines = cases.iter().map(|(method, url, secret, _)| format!("{method} {url} {secret}"));
    let output = python.arg("-c").arg(JUDGE).args(lines).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Vec<bool> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line == "True").collect();
    let expected: Vec<bool> = cases.iter().map(|(.., expected)| *expected).collect();
    assert_eq!(said, expected, "{cases:?}");
}
