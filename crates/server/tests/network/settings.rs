//! Settings of `gravure.toml` as clients on the wire see them.

use std::path::Path;

use gravure_server::CONFIG_NAME;
use gravure_testkit::{Lab, Neighbour, Running, can_make_labs, oracle};

use super::{PATIENCE, SERVER, boot_directory, curl, lease, output, start_server};

/// A site whose settings are changed by `change` before its server starts.
fn start_changed(lab: &Lab, dir: &Path, change: impl Fn(String) -> String) -> Running {
    let boot = if dir.join("payload").exists() { dir.join("payload") } else { boot_directory(dir) };
    let site = dir.join("site");
    if !site.exists() {
        let mut server = start_server(lab, &site, &boot);
        assert!(server.terminate(PATIENCE).unwrap().success());
    }
    let config = site.join(CONFIG_NAME);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, change(text)).unwrap();
    start_server(lab, &site, &boot)
}

/// What [`super::asking::ask`] prints.
fn ask(client: &Neighbour, words: &[&str]) -> String {
    let mut command = client.command(std::env::current_exe().unwrap());
    let said = output({
        command.arg("ask").args(words);
        command
    });
    assert!(said.status.success(), "{words:?}: {said:?}");
    String::from_utf8(said.stdout).unwrap()
}

/// A real relay (dnsmasq) between two networks; then relays that name the link in other ways.
pub(crate) fn relayed_networks() {
    if !can_make_labs() || ["udhcpc", "dnsmasq", "curl"].iter().any(|tool| oracle(tool).is_none()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let far_network = "
[[network]]
network = \"10.88.0.0/24\"
pool = \"10.88.0.100-10.88.0.150\"
routers = [\"10.88.0.1\"]

[[reservation]]
mac = \"02:00:00:00:00:99\"
address = \"10.88.0.9\"
";
    let server = start_changed(&lab, dir.path(), |text| format!("{text}{far_network}"));
    let relay = lab.neighbour().unwrap();
    relay.set_address("10.77.0.2/24").unwrap();
    let far = relay.behind("10.88.0.1/24").unwrap();
    lab.ip(&["route", "add", "10.88.0.0/24", "via", "10.77.0.2"]).unwrap();
    let mut dnsmasq = relay.command("dnsmasq");
    dnsmasq.args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--log-dhcp",
        "--user=root",
        "--group=root",
    ]);
    dnsmasq.arg(format!("--dhcp-relay=10.88.0.1,{SERVER}"));
    dnsmasq.arg(format!("--pid-file={}", dir.path().join("relay.pid").display()));
    let agent = Running::start(&mut dnsmasq, None).unwrap();
    agent.console().wait_for("DHCP relay from 10.88.0.1", PATIENCE).unwrap();

    let address = lease(&far, dir.path());
    assert!(
        address.octets()[..3] == [10, 88, 0] && (100..=150).contains(&address.octets()[3]),
        "{address}\n{}\n{}",
        agent.console().text(),
        server.console().text()
    );
    far.ip(&["route", "add", "default", "via", "10.88.0.1"]).unwrap();
    let shim = std::fs::read(dir.path().join("payload/pxe/shimx64.efi")).unwrap();
    assert!(curl(&far, &[&format!("tftp://{SERVER}//shimx64.efi")]).stdout == shim, "through the router");
    let log = server.console().text();
    assert!(log.contains("through relay 10.88.0.1"), "{log}");
    drop(agent);

    // Relays by hand, which the server reaches by the address they give.
    let by_hand = |words: &[&str]| {
        let to = format!("to={SERVER}:67");
        ask(&relay, &[&[to.as_str(), "port=67", "giaddr=10.77.0.2"], words].concat())
    };
    let cases: [(&[&str], &str, &str); 4] = [
        (&["mac=02:00:00:00:01:01"], "address=10.77.0.1", "router= "),
        (&["mac=02:00:00:00:01:02", "link=10.88.0.0"], "address=10.88.0.1", "router=10.88.0.1"),
        (&["mac=02:00:00:00:01:03", "subnet=10.88.0.0"], "address=10.88.0.1", "router=10.88.0.1"),
        (&["mac=02:00:00:00:00:99", "link=10.88.0.0"], "address=10.88.0.9 ", "router=10.88.0.1"),
    ];
    for (words, given, router) in cases {
        let said = format!("{} ", by_hand(words).trim_end());
        assert!(said.starts_with("kind=Offer ") && said.contains(given), "{words:?}: {said}");
        assert!(said.contains(router), "{words:?}: {said}");
        assert!(said.contains("file=shimx64.efi ") && said.contains("next=10.77.0.1 "), "{words:?}: {said}");
    }
    // The fixed address is of the machine's network alone: in the server's own it gets one of the pool.
    let near = by_hand(&["mac=02:00:00:00:00:99"]);
    assert!(near.contains("address=10.77.0.1"), "{near}");
}

pub(crate) fn quirks_and_styles() {
    if !can_make_labs() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let quirks = "
[[quirk]]
name = \"old ROMs\"
vendor_class = [\"PXEClient:Arch:00000:*\"]
file_in = \"field\"
proxy_style = \"one-phase\"

[[quirk]]
name = \"behind a tunnel\"
subnet = [\"10.77.0.8/31\"]
block_bytes = 1200
";
    let server = start_changed(&lab, dir.path(), |text| {
        let pool = text.lines().find(|line| line.starts_with("pool")).unwrap().to_owned();
        let proxy = "dhcp = \"proxy\"\nproxy_style = \"two-phase\"";
        text.replace("\ndhcp = \"full\"", &format!("\n{proxy}")).replace(&format!("{pool}\n"), "") + quirks
    });
    let client = lab.neighbour().unwrap();
    client.set_address("10.77.0.9/24").unwrap();
    // Two phases: an offer that names no file, then the file on port 4011.
    let offer = ask(&client, &[]);
    assert!(offer.contains("kind=Offer address=0.0.0.0 ") && offer.contains("file= option67= "), "{offer}");
    let boot_server = format!("to={SERVER}:4011");
    let request = [boot_server.as_str(), "kind=3", "ciaddr=10.77.0.9"];
    let file = ask(&client, &request);
    assert!(file.contains("kind=Ack ") && file.contains("file=shimx64.efi option67=shimx64.efi "), "{file}");
    // The quirk has it otherwise, for its own vendor class: at once, and not in option 67.
    let old = ask(&client, &["arch=0", "class=PXEClient:Arch:00000:UNDI:002001"]);
    assert!(
        old.contains("file=undionly.kpxe option67= ") && old.contains("option43=[6, 1, 8, 255]"),
        "{old}"
    );
    // 32-bit firmware, for which this site has nothing, is not answered; the journal says why.
    let log = || server.console().text();
    let mut command = client.command(std::env::current_exe().unwrap());
    command.args(["ask", "arch=6", "class=PXEClient:Arch:00006:UNDI:003016"]);
    let unanswered = Running::start(&mut command, None).unwrap();
    let why = server.console().wait_for("no loaders for 32-bit UEFI are served", PATIENCE);
    assert!(why.is_ok(), "{}", log());
    drop(unanswered);
    // Shorter blocks, for those two addresses.
    let agreed = |from: &str| {
        let other = lab.neighbour().unwrap();
        other.set_address(&format!("{from}/24")).unwrap();
        let mut tftp = other.command("curl");
        tftp.args(["-sS", "--max-time", "60", "-v", "--tftp-blksize", "1468", "-o", "/dev/null"]);
        let said = output({
            tftp.arg(format!("tftp://{SERVER}//shimx64.efi"));
            tftp
        });
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        let line = text.lines().find(|line| line.contains("blksize parsed from OACK")).unwrap_or_default();
        line.to_owned()
    };
    if oracle("curl").is_some() {
        assert!(agreed("10.77.0.8").contains("(1200)"), "{}", agreed("10.77.0.8"));
        assert!(agreed("10.77.0.10").contains("(1468)"), "{}", agreed("10.77.0.10"));
    }
}

pub(crate) fn solicit_after_reboot() {
    if !can_make_labs() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let server = start_changed(&lab, dir.path(), |text| text.replace("ipv6 = false", "ipv6 = true"));
    let client = lab.neighbour().unwrap();
    let mut command = client.command(std::env::current_exe().unwrap());
    let said = output({
        command.arg("solicit");
        command
    });
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(
        text,
        "first: Err(WouldBlock)\nsecond: Err(ConnectionReset)\n",
        "{said:?}\n{}",
        server.console().text()
    );
}

/// The site's own DHCP server does IPv4; IPv6 is ours alone. The client's kernel asks for a router and believes the answer.
pub(crate) fn advertised_without_dhcp() {
    if !can_make_labs() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let _server = start_changed(&lab, dir.path(), |text| {
        let pool = text.lines().find(|line| line.starts_with("pool")).unwrap().to_owned();
        let text = text.replace("dhcp = \"full\"", "dhcp = \"off\"").replace(&format!("{pool}\n"), "");
        text.replace("ipv6 = false", "ipv6 = true")
    });
    let client = lab.neighbour().unwrap();
    let monitor = Running::start(client.command("ip").args(["-6", "monitor", "route"]), None).unwrap();
    for state in ["down", "up"] {
        client.ip(&["link", "set", client.interface(), state]).unwrap();
    }
    let route = monitor.console().wait_for("fd77::/64", PATIENCE);
    assert!(
        route.as_ref().is_ok_and(|line| line.contains("proto ra") || line.contains("expires")),
        "{route:?}"
    );
}
