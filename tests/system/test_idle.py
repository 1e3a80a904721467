"""A container that was started in the background without a command: it is there to be attached to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]

# A process whose parent ends before it: it is gone once somebody has reaped it.
ORPHAN = (
    "(sh -c 'echo $$ > /tmp/new; mv /tmp/new /tmp/pid; exec sleep 0.1' &); until [ -e /tmp/pid ]; do sleep 0.05; done; "
    "while [ -e /proc/$(cat /tmp/pid) ]; do sleep 0.05; done"
)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "config.init = 'tini'",
        "config.uid = 1000",
        "config.namespace.unshare('user')",
        "config.no_new_privs = False",
        "config.seccomp.profile = None",
    ],
)
def test_it_stays_up_and_is_attached_to(hako: Hako, box: Writer, body: str) -> None:
    path = box(body)
    hako("start", "-D", path)
    assert hako("attach", path, "--", "cat", "/proc/1/cmdline").stdout == "idle\0"
    assert hako("attach", path, input="echo $$ shell; exit 3", status=3).stdout.endswith("shell\n")
    (found,) = json.loads(hako("ps", "--json").stdout)["containers"]
    assert found["status"] == "running"
    hako("kill", "-T", "1000", path)  # at once: it would not return otherwise
    assert hako("logs", path).stdout == ""


def test_it_reaps_what_others_leave(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path)
    assert hako("attach", path, "--", "sh", "-c", ORPHAN).stdout == ""
    hako("kill", path)


def test_it_needs_no_program_inside(hako: Hako, box: Writer, rootfs: Path) -> None:
    (rootfs / "bin" / "sh").unlink()
    path = box("config.daemonize()")
    hako("start", path)
    assert hako("attach", path, "--", "busybox", "echo", "x").stdout == "x\n"
    assert "execute nothing, and wait" in hako("start", "--dry-run", path).stdout
    hako("kill", path)


def test_a_command_is_run_all_the_same(hako: Hako, box: Writer) -> None:
    path = box("config.init_command = ['sh', '-c', 'echo its own']")
    hako("start", "-D", path)
    hako("logs", "-f", path)
    assert hako("logs", path).stdout == "its own\n"
    assert hako("start", box(), input="echo in the foreground").stdout == "in the foreground\n"


def test_a_filter_that_forbids_waiting_ends_it(hako: Hako, box: Writer) -> None:
    body = 'rule = config.seccomp.filter(default="errno")\nrule.allow("execveat", "exit_group", "exit", "close_range", "fcntl")'
    path = box(body)
    hako("start", "-D", path)
    hako("logs", "-f", path)
    assert "stopped (125)" in hako("ps", "-a").stdout
