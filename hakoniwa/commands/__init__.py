"""One file per command: load, act, show."""
