"""What several rooms of rootfs need: programs, progress, sources, digests."""
