"""What each strategy takes, and of which kind that is. tools/write_strategies.py writes this file: do not edit it."""

from __future__ import annotations

SETTINGS: dict[str, dict[str, str | tuple[str, ...]]] = {
    "debootstrap": {
        "debian_release": "argument",
        "variant": "argument",
        "components": "arguments",
        "mirror_url": "argument",
        "arch": "argument",
        "tool": ("debootstrap", "mmdebstrap"),
    },
    "git": {
        "git_url": "repository",
        "git_ref": "argument",
        "git_options": "texts",
    },
    "host": {},
    "lxc": {
        "os_type": "argument",
        "project_name": "name",
        "debian_release": "argument",
        "mirror_url": "argument",
        "arch": "argument",
        "lxc_options": "texts",
    },
    "python": {
        "code": "code",
    },
    "recipe": {
        "recipe": "name",
    },
    "shell": {
        "code": "code",
    },
    "tarball": {
        "archive_path": "archive",
        "sha256": "digest",
        "tar_options": "texts",
    },
}
