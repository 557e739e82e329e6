//! PID 1 and the agent inside the initramfs.
