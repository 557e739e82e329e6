//! GPT and MBR tables, partition layouts, FAT system partitions, BIOS boot code placement.
