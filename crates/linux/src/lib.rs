//! Linux system calls: mounts, block devices, netlink, reboot. The only crate where unsafe may stand.
