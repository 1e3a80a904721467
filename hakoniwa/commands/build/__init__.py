"""Commands about container files and rootfs."""
