//! Parsers of SMBIOS and sysfs bytes into the inventory.
