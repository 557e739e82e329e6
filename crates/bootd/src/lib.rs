//! Sockets and policy around netboot: DHCP, ProxyDHCP, TFTP, HTTP boot.
