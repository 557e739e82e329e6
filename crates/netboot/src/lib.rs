//! DHCP, ProxyDHCP, TFTP and HTTP-range decisions with no socket in them.
