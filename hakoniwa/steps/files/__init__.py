"""What a container sees as files: its root, what is mounted below it, and its /dev."""
