"""Root file systems: how they are built, and removed."""
