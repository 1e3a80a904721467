"""The processes beside a container: the barn's, one supervisor a container, and the front that owns the terminal."""
