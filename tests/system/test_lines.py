"""An error at start names the line of the setting that it is about, whatever else the file says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel import cgroup
from tests.conftest import Hako

Writer = Callable[..., Path]

MAPPED = (
    "config.namespace.set_uid_mapping(min=0, max=10, offset=100000)\n"
    "config.namespace.set_gid_mapping(min=0, max=10, offset=100000)\n"
)


def line_of(path: Path, setting: str) -> int:
    (number,) = [number for number, line in enumerate(path.read_text().splitlines(), 1) if setting in line]
    return number


@pytest.mark.parametrize(
    ("body", "setting", "told"),
    [
        ('config.workdir = "/nope"', "workdir", "cannot enter the folder /nope"),
        ('config.uid = "bob"\nconfig.gid = 5\nconfig.groups = [6]', "uid", "user 'bob' is not in"),
        ('config.uid = 5\nconfig.gid = "bob"\nconfig.groups = [6]', "gid", "group 'bob' is not in"),
        ('config.uid = 5\nconfig.gid = 5\nconfig.groups = ["bob"]', "groups", "group 'bob' is not in"),
        ('config.container_pid_file = "/no/such/pid"', "container_pid_file", "cannot write the pid file"),
        ('config.lxcfs_root = "/no/such"', "lxcfs_root", "lxcfs is not mounted on /no/such"),
        ('config.init_command = ["nope"]', "init_command", "there is no program 'nope' inside"),
        (MAPPED + "config.uid = 20\nconfig.gid = 5", ".uid", "user 20 is not mapped"),
        (MAPPED + "config.uid = 5\nconfig.gid = 20", ".gid", "group 20 is not mapped"),
        (MAPPED + "config.uid = 5\nconfig.gid = 5\nconfig.groups = [20]", "groups", "one of the groups 20"),
    ],
)
def test_each_setting_names_its_own_line(hako: Hako, box: Writer, body: str, setting: str, told: str) -> None:
    path = box(body + '\nconfig.environ["LAST"] = "line"')
    words = [] if setting == "init_command" else ["--", "true"]
    status = 127 if setting == "init_command" else 125
    assert f"hako: {path}:{line_of(path, setting)}: {told}" in hako("start", path, *words, status=status).stderr


@pytest.mark.skipif(
    "memory" not in (*cgroup.find_hierarchies().v1, *cgroup.find_hierarchies().v2_controllers),
    reason="this kernel has no controller memory",
)
@pytest.mark.parametrize("pids", ["", "config.limit(pids=100)"])
def test_too_little_memory_to_start_in_is_told(hako: Hako, box: Writer, pids: str) -> None:
    path = box(f'config.limit(memory="300K")\n{pids}')
    told = hako("start", path, "--", "true", status=125).stderr
    assert told == (
        f"hako: {path}:{line_of(path, 'limit(memory')}: 307200 bytes of memory are too few to start the container in"
        " (raise the limit)\n"
    )


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("-u", "70000000000"), 2, "-u: must be a name, or a number from 0 to 4294967294, not '70000000000'"),
        (("-u", "9" * 5000), 2, "-u: must be a name, or a number from 0 to 4294967294, not"),
        (("-u", "a:b"), 2, "-u: must be a name, or a number"),
        (("-g", "4294967295"), 2, "-g: must be a name, or a number"),
        (("-u", "bob"), 125, "-u: user 'bob' is not in the rootfs's /etc/passwd (give a number)"),
        (("-g", "bob"), 125, "-g: group 'bob' is not in the rootfs's /etc/group (give a number)"),
        (("-u", "alice", "-g", "bob"), 125, "-g: group 'bob' is not in"),
        (("-u", "20"), 125, "-u: group 20 is not mapped"),
        (("-u", "5", "-g", "20"), 125, "-g: group 20 is not mapped"),
        (("-A", "nope"), 2, "-A: capability 'nope' is unknown"),
        (("-D", "chwon"), 2, "-D: capability 'chwon' is unknown (did you mean 'cap_chown'?)"),
    ],
)
def test_an_attached_command_names_the_option(
    hako: Hako, box: Writer, words: tuple[str, ...], status: int, told: str
) -> None:
    path = box(MAPPED)
    hako("start", "-D", path, "--", "sleep", "1000")
    assert f"hako: {told}" in hako("attach", path, *words, "--", "true", status=status).stderr
    hako("kill", path)
