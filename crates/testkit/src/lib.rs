//! Builders, fault disks, namespaces, VM runner and oracles for tests.
