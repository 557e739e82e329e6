//! The `gravure.toml` a new site starts with: every block that can be set, with words on it.

use std::path::Path;

use super::{Chain, Config, Dhcp, InterfaceConfig};

/// The file a new site starts with.
pub(crate) fn starting_text(
    name: &str,
    interfaces: &[InterfaceConfig],
    boot: Option<&Path>,
    chain: Chain,
) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!(
        "# A Gravure site. Everything not set here has a safe default.\n\
         \n\
         [site]\n\
         # Shown in boot menus.\n\
         name = {}\n\
         # Further host names or addresses of this server, for its certificate.\n\
         names = []\n\
         \n\
         # One block for each network interface that is served.\n\
         # dhcp = \"proxy\": beside the DHCP server that is there (the default; gives no addresses).\n\
         # dhcp = \"full\":  gives addresses too; only where no other server does. Needs a pool.\n\
         # dhcp = \"off\":   the site's own DHCP server names our boot files.\n",
        quoted(name)
    );
    for interface in interfaces {
        text.push_str("[[interface]]\n");
        if let Some(name) = &interface.name {
            text.push_str(&format!("name = {}\n", quoted(name)));
        }
        if let Some(address) = interface.address {
            text.push_str(&format!("address = \"{address}\"\n"));
        }
        let dhcp = match interface.dhcp {
            Dhcp::Proxy => "proxy",
            Dhcp::Full => "full",
            Dhcp::Off => "off",
        };
        text.push_str(&format!("dhcp = \"{dhcp}\"\n"));
        match &interface.pool {
            Some(pool) => text.push_str(&format!("pool = {}\n", quoted(pool))),
            None => text.push_str("# pool = \"10.77.0.100-10.77.0.200\"\n"),
        }
        text.push_str(
            "# routers = [\"10.77.0.1\"]\n# dns = [\"10.77.0.1\"]\n# ntp = [\"10.77.0.1\"]\n\
             # domain = \"example.org\"\n# lease_minutes = 60\n\
             # With dhcp = \"full\", in place of a server that was switched off: machines keep the addresses it gave them where\n\
             # those are free, and are told at once where not. \"shared\" (the default) stays silent about them.\n\
             # authority = \"sole\"\n\
             # With dhcp = \"proxy\": \"two-phase\" for firmware that takes its boot file only from port 4011.\n\
             # proxy_style = \"one-phase\"\n",
        );
        text.push_str("# Network boot over IPv6 too: DHCPv6 and router advertisements, where no other server does that.\n");
        text.push_str(&format!("ipv6 = {}\n\n", interface.ipv6));
    }
    text.push_str(
        "# With dhcp = \"full\": a network behind a DHCP relay. The relay's address in it, or the one it names for the client's link\n\
         # (option 82.5, or 118), selects the block. The relay forwards to this server's address. A proxy needs no such block.\n\
         # [[network]]\n# network = \"10.88.0.0/24\"\n# pool = \"10.88.0.100-10.88.0.200\"\n# routers = [\"10.88.0.1\"]\n\
         # dns, ntp, domain and lease_minutes as above.\n\
         # With dhcp = \"full\": the fixed address of a machine, in any network that is served.\n\
         # [[reservation]]\n# mac = \"52:54:00:12:34:56\"\n# address = \"10.77.0.50\"\n\
         # What some firmware needs otherwise. Conditions, all of which must hold: vendor_class (DHCP option 60; a star at the\n\
         # end for any rest), mac, subnet. file_in = \"field\" leaves option 67 out,\n\
         # proxy_style as above, block_bytes the longest TFTP block (1428 behind tunnels that lose fragments).\n\
         # [[quirk]]\n# name = \"old boot ROMs\"\n# vendor_class = [\"PXEClient:Arch:00000:*\"]\n# file_in = \"field\"\n\n",
    );
    text.push_str(
        "# What happens to which machines at boot; the first rule that fits decides. Without one, a machine that is not\n\
         # known registers and one that is known starts from its disk. What was ordered comes before all rules but \"ignore\".\n\
         # boot = ignore (no boot file), local, register, quarantine (registers, then is held back until `gravure machine\n\
         # quarantine MACHINE --release`), menu, or the name of an entry. Conditions: mac, uuid, serial,\n\
         # firmware (bios, uefi), arch (bios, ia32, x64, arm64), subnet, known.\n\
         # [[rule]]\n# name = \"printers are left alone\"\n# mac = [\"00:11:22:*\"]\n# boot = \"ignore\"\n\
         # Something of your own in the menus; its files lie below `extra`. kind = linux, efi or wimboot.\n\
         # [[entry]]\n# name = \"memtest\"\n# title = \"Memory test\"\n# kind = \"linux\"\n# file = \"memtest/memtest64.bin\"\n\n",
    );
    text.push_str(&format!(
        "[boot]\n\
         # What UEFI machines start: \"grub\": Debian's shim, GRUB and kernel, nothing to enrol; \"shim-uki\": shim, then one image\n\
         # signed by this site's own key (`gravure init --uki`); \"uki\": that image alone. See pxe/TRUST.md.\n\
         chain = \"{}\"\n\
         # Firmware fetches that image by HTTPS; keys/https.pem is then enrolled in each machine's firmware.\n\
         https = false\n\n",
        match chain {
            Chain::Grub => "grub",
            Chain::ShimUki => "shim-uki",
            Chain::Uki => "uki",
        }
    ));
    let boot = boot.map_or_else(|| "boot".to_owned(), |path| path.display().to_string());
    let defaults = Config::default();
    let (ports, paths, limits) = (defaults.ports, defaults.paths, defaults.limits);
    text.push_str(&format!(
        "[ports]\n\
         http = {}\n\
         https = {}\n\
         api = {}\n\
         tftp = {}\n\
         \n\
         # Relative to this file's directory.\n\
         [paths]\n\
         images = {}\n\
         # Images of disks, captured from machines or put there.\n\
         store = {}\n\
         # Driver repository, filled by `gravure driver add --repository`.\n\
         drivers = {}\n\
         # Layers for Windows images: DIRECTORY/layer.toml each.\n\
         layers = {}\n\
         # Made by the server of both.\n\
         bundles = {}\n\
         # Names and rooms of machines, for --name '{name}': columns serial, mac or uuid, then any others.\n\
         names = {}\n\
         # Kernel, initramfs and boot loaders, as `cargo xtask payload` makes them.\n\
         boot = {}\n\
         keys = {}\n\
         # Templates here replace the built-in boot menus.\n\
         pxe = {}\n\
         # Files of your own menu entries.\n\
         extra = {}\n\
         # The image that this site's own key signed.\n\
         uki = {}\n\
         # A SQLite file, or \"postgres://user:password@host/name\".\n\
         database = {}\n\
         \n\
         # The store in an S3-compatible bucket; machines read from there themselves, by signed addresses.\n\
         # [store]\n# bucket = \"gravure\"\n# endpoint = \"http://10.77.0.5:9000\"\n\
         # credentials = \"keys/store.toml\"   # access_key = \"...\", secret_key = \"...\"; or AWS_ACCESS_KEY_ID and so on\n\
         # In place of a bucket, url = \"http://10.77.0.2/store\": the store of another site, or on any web server, read alone.\n\
         # With a cache machines get everything from this server, which keeps what they asked for, up to cache_gib.\n\
         # cache = \"store-cache\"\n# cache_gib = 100\n\
         # Where else the same store is: a directory, a url, or a bucket as above. Read while the store cannot be reached.\n\
         # [[store.copy]]\n# directory = \"/mnt/copy/store\"\n\
         \n\
         [limits]\n\
         # How long a boot token may wait until the machine has started.\n\
         token_minutes = {}\n\
         # How long a plan may be begun after it was handed out.\n\
         plan_minutes = {}\n\
         menu_seconds = {}\n",
        ports.http,
        ports.https,
        ports.api,
        ports.tftp,
        quoted(&paths.images.display().to_string()),
        quoted(&paths.store.display().to_string()),
        quoted(&paths.drivers.display().to_string()),
        quoted(&paths.layers.display().to_string()),
        quoted(&paths.bundles.display().to_string()),
        quoted(&paths.names.display().to_string()),
        quoted(&boot),
        quoted(&paths.keys.display().to_string()),
        quoted(&paths.pxe.display().to_string()),
        quoted(&paths.extra.display().to_string()),
        quoted(&paths.uki.display().to_string()),
        quoted(&paths.database),
        limits.token_minutes,
        limits.plan_minutes,
        limits.menu_seconds,
    ));
    text
}
