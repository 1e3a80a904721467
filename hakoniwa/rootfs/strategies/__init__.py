"""One file a strategy. Each has `fill(boot, bootstrap)`, which fills the folder `boot.rootfs`."""
