"""The control socket of a supervisor: what other commands ask of a running container."""
