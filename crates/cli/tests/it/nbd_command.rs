//! Block images served by NBD, read by real clients.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{blank, files, foreign, ok};

const MIB: u64 = 1 << 20;

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server and waits until it says where it listens.
fn serve(dir: &Path, arguments: &[&str]) -> (Server, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gravure"))
        .current_dir(dir)
        .args(["nbd"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let server = Server(child);
    let address = line.split(": ").next().unwrap_or_default().trim().to_owned();
    assert!(address.starts_with("nbd"), "{line:?}");
    (server, address)
}

#[test]
fn real_clients_read_the_disk_and_its_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "tree");
    blank(dir, "fs.img", 24 * MIB);
    if foreign(dir, "mkfs.ext4", &["-q", "-F", "-d", "tree", "fs.img"]).is_none() {
        return;
    }
    blank(dir, "disk.img", 40 * MIB);
    std::fs::write(dir.join("script"), "label: gpt\nstart=2048, size=49152\n").unwrap();
    let made =
        "sfdisk -q disk.img < script && dd if=fs.img of=disk.img bs=1M seek=1 conv=notrunc status=none";
    assert!(Command::new("sh").args(["-ec", made]).current_dir(dir).status().unwrap().success());
    ok(dir, &["capture", "disk.img", "d.gim", "--progress", "none"]);
    ok(dir, &["capture", "disk.img", "s.gim/", "d", "--progress", "none"]);

    for (arguments, name) in
        [(&["d.gim", "--listen", "127.0.0.1:0"][..], "tcp"), (&["s.gim/#d", "--socket", "nbd.sock"], "unix")]
    {
        let (_server, address) = serve(dir, arguments);
        let export = |name: &str| match address.split_once("?socket=") {
            Some((_, socket)) => format!("nbd+unix:///{name}?socket={socket}"),
            None => format!("{address}/{name}"),
        };
        if foreign(dir, "qemu-img", &["convert", "-O", "raw", &export(""), "whole.raw"]).is_none() {
            return;
        }
        let compared = ["compare", "-f", "raw", "-F", "raw", "whole.raw", "disk.img"];
        foreign(dir, "qemu-img", &compared);
        foreign(dir, "qemu-img", &["compare", "-F", "raw", &export("1"), "fs.img"]);
        // Holes are told.
        let map = foreign(dir, "qemu-img", &["map", "--output=json", &export("disk")]).unwrap();
        let map: serde_json::Value = serde_json::from_slice(&map.stdout).unwrap();
        let zero: u64 = map
            .as_array()
            .unwrap()
            .iter()
            .filter(|part| part["zero"] == true)
            .map(|part| part["length"].as_u64().unwrap())
            .sum();
        assert!(zero > 12 * MIB, "{name}: {map}");
        if let Some(info) = foreign(dir, "nbdinfo", &["--json", "--list", &export("")]) {
            let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
            let names: Vec<&str> = info["exports"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|it| it["export-name"].as_str())
                .collect();
            assert_eq!(names, ["disk", "1"], "{info}");
            assert_eq!(info["exports"][0]["is_read_only"], true, "{info}");
            foreign(dir, "nbdcopy", &["--requests=8", &export("1"), "part.raw"]);
            assert!(
                std::fs::read(dir.join("part.raw")).unwrap() == std::fs::read(dir.join("fs.img")).unwrap()
            );
            std::fs::remove_file(dir.join("part.raw")).unwrap();
        }
    }
    assert!(dir.join("nbd.sock").exists(), "killed servers leave their sockets");

    // Damage is an error for the client, never wrong bytes.
    let mut bytes = std::fs::read(dir.join("d.gim")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(dir.join("bad.gim"), bytes).unwrap();
    let (_server, address) = serve(dir, &["bad.gim", "--listen", "127.0.0.1:0"]);
    if let Some(mut client) = gravure_testkit::oracle("qemu-img") {
        let read =
            client.args(["convert", "-O", "raw", &address, "bad.raw"]).current_dir(dir).output().unwrap();
        assert!(!read.status.success());
    }
    let (mut server, address) = serve(dir, &["d.gim", "--listen", "127.0.0.1:0", "--once"]);
    foreign(dir, "qemu-img", &["info", &address]);
    let _ = server.0.kill();
}
