"""Files, mounts, and paths that are walked by descriptor."""
