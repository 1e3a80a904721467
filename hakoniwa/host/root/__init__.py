"""What of the host a `host` rootfs shows, and what it hides."""
