//! Real clients on a real network: DHCP, TFTP and HTTP by udhcpc, tftp-hpa and curl. Firmware's turn is in
//! `tests/tests/vm_boot.rs`.
//!
//! The program starts itself again inside a network namespace with `serve DIR`, as the server under test. Without that
//! word it runs the cases one after the other and prints them as the standard harness does.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test, in helper functions too")]
#![expect(clippy::print_stdout, reason = "this is its own test harness")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gravure_server::doctor::{DoctorOptions, examine};
use gravure_server::{CONFIG_NAME, Config, Dhcp, InitOptions, Server, init};
use gravure_testkit::{ForeignDhcp, Lab, Neighbour, Running, can_make_labs, oracle};

#[path = "network/asking.rs"]
mod asking;
#[path = "network/hostile.rs"]
mod hostile;
#[path = "network/settings.rs"]
mod settings;

const SERVER: &str = "10.77.0.1";
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("doctor") => return doctor(Path::new(&args[2])),
        Some("find") => return find(args[2].parse().unwrap()),
        Some("ask") => return asking::ask(&args[2..]),
        Some("solicit") => return asking::solicit_twice(),
        Some("arm") => return arm(Path::new(&args[2]), &args[3]),
        Some("abuse") => return hostile::abuse(SERVER.parse().unwrap()),
        Some("serve") => return serve(Path::new(&args[2]), Path::new(&args[3])),
        Some("--list") => return,
        _ => {}
    }
    let cases: [(&str, fn()); 12] = [
        ("dhcp_tftp_and_http_serve_foreign_clients", foreign_clients),
        ("the_same_ports_work_again_at_once", same_ports_again),
        ("two_capabilities_are_enough", two_capabilities),
        ("hostile_clients_change_nothing_for_others", hostile_clients),
        ("strangers_get_nothing_in_another_machines_name", strangers),
        ("two_networks_have_an_interface_block_each", two_networks),
        ("https_speaks_firmwares_suites_and_no_others", firmware_https),
        ("the_doctor_finds_what_keeps_machines_from_booting", doctor_finds),
        ("networks_behind_relays_get_addresses_and_files", settings::relayed_networks),
        ("quirks_and_styles_reach_the_wire", settings::quirks_and_styles),
        ("a_solicit_ends_what_is_left_of_the_last_boot", settings::solicit_after_reboot),
        ("ipv6_is_advertised_without_dhcp_over_ipv4", settings::advertised_without_dhcp),
    ];
    let filter = args.get(1).filter(|arg| !arg.starts_with('-')).cloned().unwrap_or_default();
    let mut run = 0;
    for (name, case) in cases.into_iter().filter(|(name, _)| name.contains(&filter)) {
        case();
        println!("test {name} ... ok");
        run += 1;
    }
    println!(
        "\ntest result: ok. {run} passed; 0 failed; 0 ignored; 0 measured; {} filtered out",
        cases.len() - run
    );
}

// ---- the server, inside the namespace -------------------------------------------------------------------------------

fn serve(dir: &Path, boot: &Path) {
    let filter = tracing_subscriber::EnvFilter::new("info,gravure_bootd=debug,gravure_server=debug");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        if !dir.join(CONFIG_NAME).exists() {
            let options = InitOptions {
                dir: dir.to_owned(),
                listen: Some(SERVER.parse().unwrap()),
                dhcp: Some(Dhcp::Full),
                pool: Some("10.77.0.100-10.77.0.150".into()),
                boot_dir: Some(boot.to_owned()),
                ..InitOptions::default()
            };
            init(&options).await.unwrap();
        }
        let config = Config::load(&dir.join(CONFIG_NAME)).unwrap();
        let describe = |path: &Path| Err(format!("{} is described by nobody here", path.display()));
        let server = Server::start(&config, Arc::new(describe)).await.unwrap();
        // Before anybody is told that the server is there, and may send the signal.
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        println!("serving on {}", server.content_urls().join(" "));
        terminate.recv().await;
        server.stop().await;
        println!("stopped");
    });
}

/// Prints the servers that answer a question to all, until one has.
fn find(address: Ipv4Addr) {
    use gravure_netboot::dnssd;
    let socket = std::net::UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&dnssd::question(), (dnssd::GROUP, dnssd::PORT)).unwrap();
    let mut buf = [0; dnssd::MAX_MESSAGE_BYTES];
    let len = socket.recv(&mut buf).unwrap();
    for server in dnssd::servers(&buf[..len]).unwrap() {
        println!("{} {} {}", server.address, server.api_port, server.content_port);
    }
}

fn own_command(lab: &Lab, args: &[&Path], word: &str) -> Command {
    let mut command = lab.command(std::env::current_exe().unwrap());
    command.arg(word).args(args);
    command
}

fn start_server(lab: &Lab, dir: &Path, boot: &Path) -> Running {
    let server = Running::start(&mut own_command(lab, &[dir, boot], "serve"), None).unwrap();
    server.console().wait_for("serving on", PATIENCE).unwrap();
    server
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

fn curl(client: &Neighbour, args: &[&str]) -> Output {
    let mut command = client.command("curl");
    command.args(["-sS", "--max-time", "60"]).args(args);
    output(command)
}

/// Bytes that compress badly and differ everywhere.
fn content(len: u64) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect()
}

fn boot_directory(dir: &Path) -> PathBuf {
    let boot = dir.join("payload");
    std::fs::create_dir_all(boot.join("pxe")).unwrap();
    for (name, len) in
        [("pxe/shimx64.efi", 1_053_697), ("vmlinuz", 6_000_000), ("initramfs.cpio.zst", 1468 * 64)]
    {
        std::fs::write(boot.join(name), content(len)).unwrap();
    }
    boot
}

// ---- cases ----------------------------------------------------------------------------------------------------------

fn foreign_clients() {
    let tools = ["udhcpc", "curl", "tftp"];
    if !can_make_labs() || tools.iter().any(|tool| oracle(tool).is_none()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let boot = boot_directory(dir.path());
    let site = dir.path().join("site");
    let mut server = start_server(&lab, &site, &boot);
    std::fs::write(site.join("images/a b.wim"), content(100_000)).unwrap();
    let client = lab.neighbour().unwrap();
    let address = lease(&client, dir.path());
    assert!((100..=150).contains(&address.octets()[3]), "{address}");
    assert_eq!(lease(&client, dir.path()), address, "the same machine gets the same address");

    // TFTP by two clients: tftp-hpa without options, curl with blksize and tsize.
    let shim = std::fs::read(boot.join("pxe/shimx64.efi")).unwrap();
    let local = dir.path().join("by-tftp");
    let mut tftp = client.command("tftp");
    tftp.args(["-m", "binary", SERVER, "-c", "get", "\\SHIMX64.EFI", local.to_str().unwrap()]);
    let said = output(tftp);
    assert!(std::fs::read(&local).unwrap() == shim, "{said:?}");
    for path in ["shimx64.efi", "boot/initramfs.cpio.zst"] {
        let said = curl(&client, &["-o", local.to_str().unwrap(), &format!("tftp://{SERVER}//{path}")]);
        let expected =
            path.strip_prefix("boot/").map_or(boot.join("pxe/shimx64.efi"), |name| boot.join(name));
        assert!(std::fs::read(&local).unwrap() == std::fs::read(expected).unwrap(), "{path}: {said:?}");
    }
    let missing = curl(&client, &[&format!("tftp://{SERVER}//none")]);
    assert_eq!(missing.status.code(), Some(68), "TFTP file not found: {missing:?}");

    // HTTP as loaders use it.
    let kernel = std::fs::read(boot.join("vmlinuz")).unwrap();
    let url = |path: &str| format!("http://{SERVER}/{path}");
    assert!(curl(&client, &[&url("boot/vmlinuz")]).stdout == kernel);
    assert!(curl(&client, &["--http1.0", &url("boot/vmlinuz")]).stdout == kernel);
    assert!(curl(&client, &["-H", "Connection: close", &url("boot/vmlinuz")]).stdout == kernel);
    assert!(curl(&client, &["--path-as-is", &url("//ShimX64.efi")]).stdout == shim);
    assert!(curl(&client, &["-r", "1000-1999", &url("boot/vmlinuz")]).stdout == kernel[1000..2000]);
    assert!(curl(&client, &["-r", "-10", &url("boot/vmlinuz")]).stdout == kernel[kernel.len() - 10..]);
    assert!(curl(&client, &[&url("images/a%20b.wim")]).stdout == content(100_000));
    // In this case: GRUB compares it letter by letter.
    let head = String::from_utf8(curl(&client, &["-I", &url("shimx64.efi")]).stdout).unwrap();
    assert!(
        head.contains("Content-Length: 1053697\r\n") && head.contains("Content-Type: application/efi\r\n"),
        "{head}"
    );
    let head = curl(&client, &["-I", &url("boot/token.cpio?mac=02:00:00:00:00:01")]).stdout;
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let token = curl(&client, &[&url("boot/token.cpio?mac=02:00:00:00:00:01")]).stdout;
    assert!(head.contains(&format!("content-length: {}\r\n", token.len())), "{head}");
    let status = |args: &[&str], path: &str| {
        let url = url(path);
        let said =
            curl(&client, &[args, &["--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", &url]].concat());
        String::from_utf8(said.stdout).unwrap()
    };
    assert_eq!(status(&[], "none"), "404");
    assert_eq!(status(&[], "../site/keys/plan.key"), "404");
    assert_eq!(status(&[], "images/%2e%2e/keys/plan.key"), "404");
    assert_eq!(status(&["-r", "6000000-"], "boot/vmlinuz"), "416");
    assert_eq!(status(&["-X", "POST"], "boot/vmlinuz"), "405");

    // The service by its name: asked by all and, as a foreign resolver does it, at the server itself.
    let mut find = client.command(std::env::current_exe().unwrap());
    find.args(["find", &address.to_string()]);
    let said = String::from_utf8(output(find).stdout).unwrap();
    assert_eq!(said, "10.77.0.1 8443 80\n");
    if oracle("dig").is_some() {
        let mut dig = client.command("dig");
        dig.args(["+short", "-p", "5353", "@10.77.0.1", "_gravure._tcp.local", "PTR"]);
        let said = String::from_utf8(output(dig).stdout).unwrap();
        assert!(said.trim().ends_with("10-77-0-1._gravure._tcp.local."), "{said:?}");
    }

    assert!(server.terminate(PATIENCE).unwrap().success());
    assert!(server.console().text().contains("stopped"));
    // The lease outlives the server.
    let mut server = start_server(&lab, &site, &boot);
    assert_eq!(lease(&client, dir.path()), address);
    assert!(server.terminate(PATIENCE).unwrap().success());
}

/// Orders a deployment of the machine with this address, or lets it boot something once where the order is there already.
fn arm(site: &Path, mac: &str) {
    let client =
        gravure_server::Client::new(&gravure_server::ClientSettings::of_site(site).unwrap()).unwrap();
    let request = gravure_model::job::JobRequest {
        machine: mac.parse().unwrap(),
        image: "x.wim".into(),
        image_index: 0,
        name: "pc".into(),
        disk: gravure_model::job::DiskRule::Only,
        assurance: gravure_model::Assurance::Token,
        expires: None,
        max_machines: None,
        then: gravure_model::job::Afterwards::Reboot,
        wipe: false,
        windows: None,
        capture: None,
        restore: None,
    };
    client.create_job(&request).unwrap();
}

/// The link-layer address of a client.
fn address_of(client: &Neighbour) -> String {
    let mut command = client.command("ip");
    command.args(["-j", "link", "show", "dev", client.interface()]);
    let links: serde_json::Value = serde_json::from_slice(&output(command).stdout).unwrap();
    links[0]["address"].as_str().unwrap().to_owned()
}

/// Where this server gives the addresses, a machine is who DHCP says it is (pxe/TRUST.md).
fn strangers() {
    if !can_make_labs() || ["udhcpc", "curl"].iter().any(|tool| oracle(tool).is_none()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let boot = boot_directory(dir.path());
    let site = dir.path().join("site");
    let mut server = start_server(&lab, &site, &boot);
    std::fs::write(site.join("images/x.wim"), content(1000)).unwrap();
    let machine = lab.neighbour().unwrap();
    lease(&machine, dir.path());
    let mac = address_of(&machine);
    let mut order = own_command(&lab, &[&site], "arm");
    order.arg(&mac);
    let said = output(order);
    assert!(said.status.success(), "{said:?}");
    let uuid = "12345678-0000-0000-0000-000000000001";
    let fetch = |client: &Neighbour, path: &str| {
        let url = format!("http://{SERVER}/boot/{path}?mac={mac}&uuid={uuid}&arch=x86_64-efi");
        String::from_utf8_lossy(&curl(client, &[&url]).stdout).into_owned()
    };
    let has_token = |part: String| part.contains("etc/gravure/token");
    // One with an address of its own choosing, and one with a lease of its own.
    let [stranger, other] = [lab.neighbour().unwrap(), lab.neighbour().unwrap()];
    stranger.set_address("10.77.0.222/24").unwrap();
    lease(&other, dir.path());
    for client in [&stranger, &other] {
        let menu = fetch(client, "grub.cfg");
        assert!(menu.contains("set default=local") && !menu.contains("--id deploy"), "{menu}");
        assert!(!has_token(fetch(client, "token.cpio")));
    }
    // The machine itself gets both, also after all that.
    assert!(fetch(&machine, "grub.cfg").contains("set default=deploy"));
    assert!(has_token(fetch(&machine, "token.cpio")));
    let log = server.console().text();
    assert!(log.contains("request in a machine's name that does not fit its address"), "{log}");
    assert!(server.terminate(PATIENCE).unwrap().success());
    // Who had the lease before the server was started again is still known.
    let mut server = start_server(&lab, &site, &boot);
    assert!(!has_token(fetch(&stranger, "token.cpio")));
    assert!(has_token(fetch(&machine, "token.cpio")));
    assert!(server.terminate(PATIENCE).unwrap().success());
}

/// One server on two networks: each gives its own addresses, and names the server by the address that it has there.
fn two_networks() {
    if !can_make_labs() || ["udhcpc", "curl"].iter().any(|tool| oracle(tool).is_none()) {
        return;
    }
    const OTHER: &str = "10.88.0.1";
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    // The first neighbour's cable, taken off the bridge: a second network of the server.
    let far = lab.neighbour().unwrap();
    lab.ip(&["link", "set", "peer0", "nomaster"]).unwrap();
    lab.ip(&["address", "add", &format!("{OTHER}/24"), "dev", "peer0"]).unwrap();
    let near = lab.neighbour().unwrap();
    let boot = boot_directory(dir.path());
    let site = dir.path().join("site");
    let mut server = start_server(&lab, &site, &boot);
    assert!(server.terminate(PATIENCE).unwrap().success());
    let config = site.join(CONFIG_NAME);
    let text = std::fs::read_to_string(&config).unwrap();
    let second = "\n[[interface]]\nname = \"peer0\"\ndhcp = \"full\"\npool = \"10.88.0.20-10.88.0.30\"\n";
    std::fs::write(&config, text + second).unwrap();
    let mut server = start_server(&lab, &site, &boot);
    let kernel = std::fs::read(boot.join("vmlinuz")).unwrap();
    for (client, own, pool) in [(&near, SERVER, 100..=150), (&far, OTHER, 20..=30)] {
        let [a, b, c, last] = lease(client, dir.path()).octets();
        assert!(
            own.starts_with(&format!("{a}.{b}.{c}.")) && pool.contains(&last),
            "{own}: {a}.{b}.{c}.{last}"
        );
        assert!(curl(client, &[&format!("http://{own}/boot/vmlinuz")]).stdout == kernel, "{own}");
        assert!(curl(client, &[&format!("tftp://{own}//boot/vmlinuz")]).stdout == kernel, "{own}");
        let script = curl(client, &[&format!("http://{own}/boot.ipxe?mac={}", address_of(client))]).stdout;
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains(&format!("http://{own}/boot")), "{own}: {script}");
    }
    assert!(server.terminate(PATIENCE).unwrap().success());
}

fn hostile_clients() {
    if !can_make_labs() || oracle("curl").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let boot = boot_directory(dir.path());
    let lab = Lab::new().unwrap();
    let site = dir.path().join("site");
    // Links that lead out of what is served: to the site's settings, and to itself.
    for (name, target) in [("leak", "../../site/gravure.toml"), ("circle", "circle")] {
        std::os::unix::fs::symlink(target, boot.join("pxe").join(name)).unwrap();
    }
    let server = start_server(&lab, &site, &boot);
    let [rogue, other] = ["10.77.0.200/24", "10.77.0.201/24"].map(|address| {
        let client = lab.neighbour().unwrap();
        client.set_address(address).unwrap();
        client
    });
    let mut command = rogue.command(std::env::current_exe().unwrap());
    let abuse = Running::start(command.arg("abuse"), None).unwrap();
    let held = abuse.console().wait_for("holding connections", PATIENCE);
    assert!(held.is_ok(), "{}\n{}", abuse.console().text(), server.console().text());
    // While all that the rogue may hold is held and half a request stands in each connection:
    let whole = curl(&other, &["-o", "-", &format!("http://{SERVER}/boot/vmlinuz")]);
    assert_eq!(whole.stdout, content(6_000_000), "another client is served");
    let log = server.console().text();
    assert_eq!(log.matches("asks by DHCP without end").count(), 1, "told once:\n{log}");
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("refused: ")).collect();
    for words in [
        "refused: the target ",
        "refused: the name ",
        "refused: what is no request",
        "refused: a request: ",
        "refused: to take the file ",
        "refused: another connection: 64 of this address are open",
    ] {
        assert_eq!(refused.iter().filter(|line| line.contains(words)).count(), 1, "{words:?}:\n{refused:#?}");
    }
    // Once by each service, for links that lead outside and for those that cannot be followed.
    for words in ["leak: a link that leads out of the served directory", "circle: a file that cannot be read"]
    {
        assert_eq!(refused.iter().filter(|line| line.contains(words)).count(), 2, "{words:?}:\n{refused:#?}");
    }
    assert_eq!(refused.len(), 10, "{refused:#?}");
    assert!(refused.iter().all(|line| line.contains("peer=10.77.0.200")), "{refused:#?}");
    assert!(!log.contains("panicked"), "{log}");
}

/// Gets a lease with busybox' client and configures the interface with it.
fn lease(client: &Neighbour, dir: &Path) -> Ipv4Addr {
    let script = dir.join("udhcpc.sh");
    let text = "#!/bin/sh\n[ \"$1\" = bound ] && ip address flush dev eth0 && ip address add $ip/24 dev eth0 && echo got $ip\nexit 0\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = client.command("udhcpc");
    command.args(["-i", client.interface(), "-n", "-q", "-f", "-s", script.to_str().unwrap()]);
    let said = output(command);
    let text = String::from_utf8(said.stdout).unwrap();
    let address = text.lines().find_map(|line| line.strip_prefix("got "));
    address.unwrap_or_else(|| panic!("no lease: {text}{:?}", said.stderr)).parse().unwrap()
}

/// GRUB opens every boot's connections from the same ports. An ordinary server still holds them.
fn same_ports_again() {
    if !can_make_labs() || oracle("curl").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let boot = boot_directory(dir.path());
    let mut server = start_server(&lab, &dir.path().join("site"), &boot);
    let client = lab.neighbour().unwrap();
    client.set_address("10.77.0.9/24").unwrap();
    let began = Instant::now();
    for round in 0..5 {
        let url = format!("http://{SERVER}/boot/vmlinuz");
        let said = curl(&client, &["--local-port", "21550", "-o", "/dev/null", "-w", "%{http_code}", &url]);
        assert_eq!(String::from_utf8_lossy(&said.stdout), "200", "round {round}: {said:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(server.terminate(PATIENCE).unwrap().success());
}

/// Prints what the doctor finds as JSON; runs inside the namespace, where the site's network is.
fn doctor(site: &Path) {
    let options = DoctorOptions { site: site.to_owned(), offers_within: Duration::from_secs(3) };
    println!("{}", serde_json::to_string(&examine(&options)).unwrap());
}

/// Verdict and text of one check.
fn check(checks: &serde_json::Value, name: &str) -> (String, String) {
    let found = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no check {name} in {checks:#}"));
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("found") + " -> " + &text("cure"))
}

fn doctor_finds() {
    if !can_make_labs() || oracle("dnsmasq").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let boot = boot_directory(dir.path());
    let site = dir.path().join("site");
    let mut server = start_server(&lab, &site, &boot);
    let look = || -> serde_json::Value {
        let said = output(own_command(&lab, &[&site], "doctor"));
        serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    };
    // Alone and running: its own services answer, two of the boot files are not there, and nobody else gives addresses.
    let checks = look();
    assert_eq!(
        check(&checks, "ports"),
        ("ok".into(), "those of 10.77.0.1 are held by this server -> ".into())
    );
    assert_eq!(check(&checks, "http").0, "ok", "{checks:#}");
    assert_eq!(check(&checks, "tftp").0, "ok", "{checks:#}");
    assert_eq!(check(&checks, "other DHCP servers"), ("ok".into(), "none answers -> ".into()));
    let (verdict, text) = check(&checks, "boot files");
    assert!(verdict == "problem" && text.starts_with("pxe/grubx64.efi is missing"), "{text}");
    assert_eq!(check(&checks, "root key").0, "warning");
    assert_eq!(check(&checks, "certificate").0, "ok", "{checks:#}");
    let shown = checks.as_array().unwrap().iter().filter(|check| check["name"] == "certificate");
    assert!(
        shown
            .filter_map(|check| check["found"].as_str())
            .any(|found| found.starts_with("that of 10.77.0.1:8443 names 10.77.0.1, ")),
        "{checks:#}"
    );
    assert_eq!(check(&checks, "relay"), ("ok".into(), "no relay has passed a request on -> ".into()));
    assert_eq!(
        check(&checks, "other IPv6 servers"),
        ("ok".into(), "no router and no DHCPv6 server answers -> ".into())
    );

    // A second server that gives addresses.
    let Some(foreign) = ForeignDhcp::start(&lab, dir.path()).unwrap() else { return };
    let (verdict, text) = check(&look(), "other DHCP servers");
    assert!(verdict == "problem" && text.contains("two servers give addresses"), "{text}");
    assert!(text.starts_with("10.77.0.2 offers the address 10.77.0."), "{text}");

    // Stopped, and a proxy beside that server: all is well; without it nobody gives addresses.
    assert!(server.terminate(PATIENCE).unwrap().success());
    let config = site.join(CONFIG_NAME);
    let text = std::fs::read_to_string(&config).unwrap();
    let pool = text.lines().find(|line| line.starts_with("pool")).unwrap();
    let proxy = text.replace("dhcp = \"full\"", "dhcp = \"proxy\"").replace(&format!("{pool}\n"), "");
    std::fs::write(&config, proxy).unwrap();
    let checks = look();
    assert_eq!(check(&checks, "other DHCP servers").0, "ok", "{checks:#}");
    assert!(check(&checks, "server").1.starts_with("no server is running here"), "{checks:#}");
    drop(foreign);
    let (verdict, text) = check(&look(), "other DHCP servers");
    assert!(verdict == "problem" && text.contains("nobody on this network gives addresses"), "{text}");

    // Somebody else on our port.
    let holder = Running::start(
        lab.command("dnsmasq").args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--enable-tftp",
            "--tftp-root=/",
            "--user=root",
        ]),
        None,
    );
    let holder = holder.unwrap();
    holder.console().wait_for("TFTP root is", PATIENCE).unwrap();
    let (verdict, text) = check(&look(), "ports");
    assert!(
        verdict == "problem" && text.contains("port 69 (tftp) of 10.77.0.1 is held by dnsmasq"),
        "{text}"
    );
}

/// The suites of OVMF 2022.11 and 2025.02 (specs/netboot.md, 3.5), as openssl calls them. Firmware has TLS 1.2 and no curves.
const FIRMWARE_SUITES: [&str; 12] = [
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-SHA256",
    "DHE-RSA-AES128-SHA256",
    "DHE-RSA-AES256-SHA",
    "DHE-RSA-AES128-SHA",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "AES256-SHA256",
    "AES128-SHA256",
    "AES256-SHA",
    "AES128-SHA",
];

fn firmware_https() {
    if !can_make_labs() || ["curl", "openssl"].iter().any(|tool| oracle(tool).is_none()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new().unwrap();
    let boot = boot_directory(dir.path());
    let site = dir.path().join("site");
    let mut server = start_server(&lab, &site, &boot);
    assert!(server.terminate(PATIENCE).unwrap().success());
    let config = site.join(CONFIG_NAME);
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("chain = \"grub\"", "chain = \"uki\"").replace("https = false", "https = true");
    std::fs::write(&config, text.replace("ipv6 = false", "ipv6 = true")).unwrap();
    std::fs::create_dir_all(site.join("uki")).unwrap();
    let image = content(5_000_003);
    std::fs::write(site.join("uki/gravure.efi"), &image).unwrap();
    let mut server = start_server(&lab, &site, &boot);
    let client = lab.neighbour().unwrap();
    client.set_address("10.77.0.9/24").unwrap();
    let authority = site.join("keys/https.pem");
    let authority = authority.to_str().unwrap();
    for suite in FIRMWARE_SUITES {
        let mut openssl = client.command("openssl");
        openssl.args(["s_client", "-connect", "10.77.0.1:443", "-tls1_2", "-cipher", suite, "-brief"]);
        openssl.args(["-CAfile", authority, "-verify_ip", SERVER, "-verify_return_error"]);
        let said = output(openssl);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(
            text.contains(&format!("Ciphersuite: {suite}")) && text.contains("Verification: OK"),
            "{suite}: {text}"
        );
    }
    for refused in [&["-tls1_1"][..], &["-tls1_2", "-cipher", "DES-CBC3-SHA:@SECLEVEL=0"]] {
        let mut openssl = client.command("openssl");
        openssl.args(["s_client", "-connect", "10.77.0.1:443", "-brief"]).args(refused);
        let said = output(openssl);
        assert!(
            !String::from_utf8_lossy(&said.stderr).contains("CONNECTION ESTABLISHED"),
            "{refused:?}: {said:?}"
        );
    }
    // A machine that nobody knows registers: shim asks with two slashes, firmware for the length first.
    let url = "https://10.77.0.1//uki/gravure.efi";
    let tls = ["--tls-max", "1.2", "--ciphers", FIRMWARE_SUITES[0], "--cacert", authority, "--path-as-is"];
    let head = curl(&client, &[&tls[..], &["-I", url]].concat());
    assert!(String::from_utf8_lossy(&head.stdout).contains("Content-Length: 5000003\r\n"), "{head:?}");
    let whole = curl(&client, &[&tls[..], &[url]].concat());
    assert!(
        whole.stdout == image,
        "{} bytes, {:?}",
        whole.stdout.len(),
        String::from_utf8_lossy(&whole.stderr)
    );
    let part = curl(&client, &[&tls[..], &["-r", "1000000-2999999", url]].concat());
    assert!(part.stdout == image[1_000_000..3_000_000]);
    client.set_address("fd77::9/64").unwrap();
    let six = curl(&client, &[&tls[..], &["https://[fd77::1]//uki/gravure.efi"]].concat());
    assert!(six.stdout == image, "over IPv6: {}", String::from_utf8_lossy(&six.stderr));
    // Not by TFTP, whatever is asked.
    for name in ["uki/gravure.efi", "uki/grubx64.efi"] {
        let said = curl(&client, &[&format!("tftp://{SERVER}//{name}")]);
        assert_eq!(said.status.code(), Some(68), "TFTP file not found: {said:?}");
    }
    assert!(server.terminate(PATIENCE).unwrap().success());
}

/// As its unit runs it: an ordinary user with two capabilities gives addresses and files.
fn two_capabilities() {
    if !can_make_labs() || ["udhcpc", "curl", "setpriv"].iter().any(|tool| oracle(tool).is_none()) {
        return;
    }
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    // Others may enter, as they may a directory below /srv.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lab = Lab::new().unwrap();
    let boot = boot_directory(dir.path());
    let site = dir.path().join("site");
    let mut server = start_server(&lab, &site, &boot);
    assert!(server.terminate(PATIENCE).unwrap().success());
    give_away(&site, NOBODY);
    // The program itself may lie where only root gets to.
    let program = dir.path().join("server");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = lab.command("setpriv");
    let two = "net_bind_service,+net_raw";
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()]);
    command.args([format!("--inh-caps=-all,+{two}"), format!("--ambient-caps=-all,+{two}")]);
    command.args([format!("--bounding-set=-all,+{two}"), "--no-new-privs".into()]);
    command.arg(&program).arg("serve").args([&site, &boot]);
    let mut server = Running::start(&mut command, None).unwrap();
    server.console().wait_for("serving on", PATIENCE).unwrap();
    let client = lab.neighbour().unwrap();
    lease(&client, dir.path());
    let kernel = std::fs::read(boot.join("vmlinuz")).unwrap();
    assert!(curl(&client, &[&format!("http://{SERVER}/boot/vmlinuz")]).stdout == kernel);
    assert!(curl(&client, &[&format!("tftp://{SERVER}//boot/vmlinuz")]).stdout == kernel);
    assert!(server.terminate(PATIENCE).unwrap().success());
}

fn give_away(path: &Path, user: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path(), user);
        }
    }
}
