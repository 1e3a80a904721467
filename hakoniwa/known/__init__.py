"""What is known of containers and their rootfs, on the disk."""

from __future__ import annotations

# Of states and records. To be raised with each field that is added: a file of a later schema is left alone, and not read.
SCHEMA = 6
BEGINNING = 2048  # bytes, in which the first line of a file ends, but for the longest paths
STATE, RECORDS = "state.json", ".containers"
OVER = "over"  # beside a state: a FIFO, which the supervisor writes to when it has undone everything (run/control/requests.py)
