"""The host, as far as a container can reach it: paths, its root, what of its own definition lies there."""
