"""Attacks from a fly container, whose root is all that keeps it apart. Each is shown to work without what is in its way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Hako
from tests.security.test_escapes import built_probe, probe

__all__ = ["built_probe", "probe"]  # fixtures

Writer = Callable[..., Path]

FLY = 'config.flavour = "fly"\n'


def test_a_second_chroot_leads_out_only_if_the_file_allows_it_by_name(
    hako: Hako, box: Writer, probe: Path, places: Path
) -> None:
    host = {name for name in os.listdir("/") if not name.startswith(".")}
    allowed = box(FLY + 'config.capabilities.allow("sys_chroot")')
    assert set(hako("start", allowed, "--", "probe", "climb").stdout.split()) >= host - {"lost+found"}
    assert hako("start", box(FLY), "--", "probe", "climb", status=None).stdout == "chroot EPERM\n"
    all_of_them = box(FLY + 'config.capabilities.allow("all")')
    assert hako("start", all_of_them, "--", "probe", "climb", status=None).stdout == "chroot EPERM\n"


def test_the_root_of_the_host_s_processes_is_closed(hako: Hako, box: Writer, places: Path) -> None:
    """They are all to be seen, and root inside is root: what keeps it out are the capabilities that it lacks."""
    (places / "secret").write_text("secret\n")
    script = f"cat /proc/1/root{places}/secret; cat /proc/{os.getpid()}/root{places}/secret"
    allowed = box(FLY + 'config.capabilities.allow("all")')
    # Process 1 may have capabilities that we lack, and then is closed to us, too.
    assert "secret\n" in hako("start", allowed, "--", "sh", "-c", script, status=None).stdout
    done = hako("start", box(FLY), "--", "sh", "-c", script, status=None)
    assert done.stdout == ""
    assert done.stderr.count("Permission denied") == 2


def test_the_kernel_s_settings_cannot_be_written(hako: Hako, box: Writer) -> None:
    """A program for core dumps, say, which the kernel would execute as the host's root."""
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    script = "echo x > /proc/sys/kernel/core_pattern; echo x > /sys/kernel/profiling"
    done = hako("start", box(FLY), "--", "sh", "-c", script, status=None)
    assert done.stderr.count("Read-only file system") == 2
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_nobody_is_left_by_whatever_leaves_its_group_of_processes(hako: Hako, box: Writer) -> None:
    """A new session, an orphan, and one that hears no signal; the look-out for leaks finds them if they live."""
    script = "for i in 1 2 3; do (setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1000; done' &) ; done; echo"
    hako("start", box(FLY), "--", "sh", "-c", script)


def test_its_cgroup_cannot_be_left(hako: Hako, box: Writer) -> None:
    """Who could move out of it would outlive the container."""
    script = (
        "mkdir -p /tmp/c; mount -t cgroup2 x /tmp/c; for f in $(find / -name cgroup.procs); do echo $$ > $f; done; "
    )
    script += "cat /proc/self/cgroup"
    found = hako("start", box(FLY), "--", "sh", "-c", script, status=None).stdout
    assert "0::/" in found
    assert "hakoniwa-box" in found.partition("0::/")[2].split()[0]
