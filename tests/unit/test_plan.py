"""The list of steps that a description leads to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.haco.loader import load
from hakoniwa.kernel.security import capabilities
from hakoniwa.plan.container import Handed, Launch, process_plan
from hakoniwa.plan.flavours import flavour_of, plan
from hakoniwa.run.life import HostStep, Life
from hakoniwa.run.prepare import describe
from hakoniwa.run.start.hostside import take
from hakoniwa.run.start.undo import Undo
from hakoniwa.steps.step import Context, Outside, Step, apply_all, provide_all, sort_provided

Writer = Callable[..., Path]


def steps(path: Path, command: tuple[str, ...] | None = None, terminals: tuple[int, ...] = ()) -> list[str]:
    (container,) = load(str(path), "check").containers
    bits = capabilities.mask(["cap_chown"])
    return [str(step) for step in plan(container, Launch(command=command, terminals=terminals, capabilities=bits))]


def test_the_shortest_plan(write_file: Writer) -> None:
    told = steps(write_file('config.name = "box"\nconfig.chroot_to("/srv/r")\nconfig.init_command = ["/bin/x", "y"]'))
    assert told == [
        "make a session keyring",
        "run the after_fork hooks",
        "run the after_network_initialized hooks",
        "make all mounts private",
        "bind /srv/r as the root",
        "look up the user 0",
        "make read-only /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger",
        told[7],
        "set the host name box",
        "run the before_chroot hooks",
        "enter the root (pivot_root)",
        "run the after_chroot hooks",
        "open the container's own /dev/null",
        "become the user, with capabilities cap_chown",
        "set the parent-death signal",
        "enter the folder /",
        "execute /bin/x y",
    ]
    assert told[7].startswith("hide /proc/acpi ")


def test_the_parent_death_signal_comes_after_the_last_change_of_credentials(write_file: Writer) -> None:
    told = steps(write_file("config.uid = 5"))
    assert told.index("set the parent-death signal") > next(i for i, s in enumerate(told) if s.startswith("become"))


def test_a_private_dev_brings_terminals_and_shared_memory_in_their_order(write_file: Writer) -> None:
    told = steps(write_file('config.mount_independent("devtmpfs")'))
    where = [told.index(step) for step in ("make a private /dev", "mount devpts on /dev/pts")]
    shm = next(i for i, step in enumerate(told) if step.startswith("mount tmpfs on /dev/shm"))
    assert where == sorted(where)
    assert shm > where[0]


def test_a_mount_over_an_independent_one_comes_before_it(write_file: Writer) -> None:
    body = 'config.mount_independent("devpts", "procfs")\nconfig.add_mount_point("/dev", to="/dev")\n'
    told = steps(write_file(body + 'config.add_mount_point("/a", to="/proc/x")'))
    assert told.index("bind /dev on /dev") < told.index("mount devpts on /dev/pts")
    assert told.index("bind /a on /proc/x") > told.index("mount proc on /proc (noexec)")


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ('config.bootstrap.strategy = "host"', "mount overlay of / and /srv/r/upper as the root"),
        ("config.rootfs.readonly = True", "bind /srv/r as the root, read-only"),
        ("config.filesystem.use_legacy_chroot = True", "enter the root (chroot)"),
        ('config.namespace.unshare("net")', "bring up lo"),
        ('config.add_mount_point("/a", to="/b", readonly=True)', "bind /a on /b, read-only"),
        ('config.add_mount_point("x", to="/b", fs="tmpfs", options="size=1m")', "mount tmpfs on /b (size=1m)"),
        ('config.add_mount_point("/other", to="/srv/r")', "mount /other as the root"),
        ('config.resource.set_limit("NOFILE", 5, 9)', "set limits NOFILE=5:9"),
        ('config.command.set_stdout(file="/o")', "redirect 1 to /o"),
        ('config.init = "tini"', "execute tini -- /bin/bash or /bin/sh"),
        ('config.uid = "alice"', "look up the user alice"),
        ("config.no_new_privs = False", "become the user, with capabilities cap_chown, new privileges allowed"),
    ],
)
def test_a_word_and_its_step(write_file: Writer, line: str, step: str) -> None:
    assert step in steps(write_file(f'config.chroot_to("/srv/r")\n{line}'))


def test_a_shared_uts_namespace_has_no_name_of_its_own(write_file: Writer) -> None:
    assert not any("host name" in step for step in steps(write_file('config.namespace.share("uts")')))


def test_a_terminal_is_opened_only_where_there_is_one(write_file: Writer) -> None:
    path = write_file()
    assert "open a terminal" in steps(path, terminals=(0, 1))
    assert "open a terminal" not in steps(path)


def test_a_command_takes_the_place_of_the_files_own(write_file: Writer) -> None:
    assert steps(write_file('config.init_command = ["/bin/a"]'), command=("b", "c"))[-1] == "execute b c"


def test_the_environment_holds_nothing_of_the_host(write_file: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    (container,) = load(str(write_file('config.environ["A"] = "1"')), "check").containers
    launch = Launch(command=None, terminals=(), capabilities=0)
    assert process_plan(container, launch).environment("xterm") == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TERM": "xterm",
        "container": "hakoniwa",
        "A": "1",
    }


class Opening(Step):
    """Takes what was opened for it."""

    count: int

    def __str__(self) -> str:
        return f"take {self.count}"

    def provide(self, outside: Outside) -> list[int]:
        return [os.open("/dev/null", os.O_PATH) for _ in range(self.count)]

    def apply(self, context: Context) -> None:
        assert len(context.take_provided() or []) == self.count


def test_what_is_opened_outside_belongs_to_a_step_by_its_number() -> None:
    steps = [Opening(count=count) for count in (0, 2, 0, 1)]
    outside = Outside(Context(supervisor=-1, status=-1, environ={}), 1, -1)
    owners, opened = provide_all(steps, outside)
    assert owners == b"\1\0\1\0\3\0"
    context = Context(supervisor=-1, status=-1, environ={})
    context.provided = sort_provided(owners, opened)
    apply_all(steps, context)
    assert context.provided == {}
    for descriptor in opened:
        os.close(descriptor)


def test_a_plan_that_is_shown_has_the_steps_of_one_that_is_applied(write_file: Writer) -> None:
    """Both sides of the clone number the steps alike, and `--dry-run` prints no others."""
    said = 'config.namespace.unshare("user")\n@config.add_general_hook("after_network_created")\ndef _(base): pass\n'
    (container,) = load(str(write_file(said)), "check").containers
    launch = Launch(command=None, terminals=(), capabilities=0)
    here, there = socket.socketpair()
    with here, there:
        handed = Handed(channel=here, gate=7, hierarchies=("",))
        told = [str(step) for step in plan(container, launch, handed)]
        assert told == [str(step) for step in plan(container, launch)]
        assert handed.descriptors() == {here.fileno(), 7}
    assert told[:3] == ["become root of the user namespace", "wait for the hooks outside", "make a session keyring"]


def test_a_fly_container_has_a_root_of_its_own_and_no_more(write_file: Writer) -> None:
    (container,) = load(
        str(write_file('config.flavour = "fly"\nconfig.mount_independent("procfs")')), "check"
    ).containers
    launch = Launch(command=None, terminals=(), capabilities=0)
    told = [str(step) for step in plan(container, launch)]
    assert flavour_of(container).clone_flags(container) == ("mount",)
    assert flavour_of(container).is_chroot(container)
    assert "enter the root (chroot)" in told
    assert not any(word in step for step in told for word in ("pivot", "host name", "bring up"))


def test_what_is_done_on_the_host_is_part_of_the_plan_that_is_shown(write_file: Writer) -> None:
    body = 'config.chroot_to("/srv/r")\nconfig.name = "box"\nconfig.limit(pids=9)\nconfig.container_pid_file = "/run/box.pid"\n'
    body += 'config.namespace.unshare("net", persist_in="/run/netns/box")\nconfig.namespace.unshare("user")'
    (container,) = load(str(write_file(body)), "check").containers
    told = list(describe(container, Launch(command=None, terminals=(), capabilities=0)))
    before = told.index("new namespaces mount uts ipc pid net user")
    assert told[:before] == [
        "on the host: lock the name box",
        "on the host: lock the rootfs /srv/r",
        "on the host: have ids that are nobody else's, unless the file maps some",
        "on the host: make the cgroup hakoniwa-box in each hierarchy that is needed",
    ]
    assert told[before + 1] == "on the host: keep the net namespace in /run/netns/box"
    assert told[-1] == "on the host: write the pid file /run/box.pid"


class Doing(HostStep):
    """Notes what becomes of it, and may fail half-way."""

    stage = "claim"

    def __init__(self, notes: list[str], name: str, *, fails: bool = False) -> None:
        self._notes = notes
        self._name = name
        self._fails = fails

    def __str__(self) -> str:
        return f"do {self._name}"

    def do(self, life: Life) -> None:
        self._notes.append(f"did {self._name}")
        if self._fails:
            raise HakoError("no")

    def undo(self) -> None:
        self._notes.append(f"undid {self._name}")
        if self._name == "two":
            raise PermissionError(1, "not permitted")


def test_what_was_done_on_the_host_is_undone_from_the_last_on_and_half_a_step_too() -> None:
    notes: list[str] = []
    undo = Undo()
    life: Any = SimpleNamespace(undo=undo)
    steps = [Doing(notes, "one"), Doing(notes, "two"), Doing(notes, "three", fails=True), Doing(notes, "four")]
    with pytest.raises(HakoError):
        take(steps, "claim", life)
    take(steps, "another stage", life)
    assert undo.run() == ["cannot undo: do two: not permitted"]
    assert notes == ["did one", "did two", "did three", "undid three", "undid two", "undid one"]
