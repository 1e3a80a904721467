"""What is known of containers and their rootfs, on the disk."""
