"""Building a rootfs: which one, where, of what."""
