"""What is kept of rootfs: layers, snapshots, copies; and how they go."""
