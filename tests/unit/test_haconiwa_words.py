"""Words of haconiwa: taken over, or refused with what is to be written in their place; and wrong values of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa import spec
from hakoniwa.errors import Problems
from hakoniwa.loader import load
from hakoniwa.spec import Container
from hakoniwa.steps import mounts

Writer = Callable[..., Path]


def read(path: Path) -> Container:
    (container,) = load(str(path), "check").containers
    return container


def problem_of(path: Path) -> str:
    """The one problem of a file."""
    with pytest.raises(Problems) as problems:
        load(str(path), "check")
    (line,) = problems.value.lines()
    assert line.startswith(f"{path}:4: "), line
    return line.removeprefix(f"{path}:4: ")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('config.mount_network_etc("/etc")', "is about the rootfs "),
        ("config.mount_network_etc(3)", "must be a string"),
        ('config.cgroup("v2")["memory.max"] = 1', "config.cgroup is not called (write config.cgroup.v2)"),
        ('config.cgroup("v1")', "config.cgroup is not called (write config.cgroup)"),
        ('config.cgroup_name = "x"', "(write config.cgroup.name; the group is hakoniwa-NAME)"),
        ('config.apparmor_profile = "x"', "(write config.apparmor)"),
        ('config.bootstrap.strategy = "mruby"', "must be 'python', which does here what 'mruby' does in haconiwa"),
        ('config.bootstrap.strategy = "lxc-create"', "must be 'lxc', "),
        ('config.bootstrap.strategy = "git-clone"', "must be 'git', "),
        ('config.bootstrap.strategy = "unarchive"', "must be 'tarball', "),
        (
            'config.add_mount_point("x", to="/x", fs="tmpfs", data="size=1m")',
            "argument 'data' (write options=\"size=1m\")",
        ),
        ('config.add_mount_point("x", to="/x", nosuid=True)', '(write options="nosuid")'),
        ('config.add_mount_point("x", to="/x", noexec=True)', '(write options="noexec")'),
        ('config.command.set_stdin(container_file="/x")', "(write file=)"),
        ('config.command.set_stdout(container_file="/x")', "(write file=)"),
        ("config.cancel_daemonize()", "hako start -T"),
        ("config.log_level = 0", "must be one of debug info warning error, not 0"),
        ("config.rootfs.owner_uid = 0", "(write config.rootfs_owner(uid=, gid=))"),
        ("config.filesystem.masked_paths", "(write config.filesystem.add_masked_path())"),
        ('config.command.init_command = ["x"]', "(write config.init_command)"),
        ("config.cgroup.assign_only = True", "(write config.cgroup.v2.assign_only)"),
        ('config.seccomp.filter().trace("mkdir")', "(write rule.trap(...), rule.log(...) or rule.errno("),
        ('config.seccomp.filter().kil("mkdir")', "rule.kil is unknown (did you mean 'kill'?)"),
        ('config.seccomp.filter().kill("mkdir", arg={})', "rule.kill() got an unexpected keyword argument 'arg'"),
        ('config.provision.run_shell("x", nam="y")', "(did you mean 'name'?)"),
    ],
)
def test_words_that_are_not_taken_over(write_file: Writer, line: str, told: str) -> None:
    assert told in problem_of(write_file(line))


@pytest.mark.parametrize(
    "line",
    [
        "if config.network.enabled: pass",
        "print(config.network.container_ip_with_netmask)",
        "config.network.enabled",
        'f"{config.network.namespace}"',
        "[*config.network.hosts]",
        "bool(config.checkpoint.dump)",
    ],
)
def test_what_is_not_carried_out_is_not_read_either(write_file: Writer, line: str) -> None:
    with pytest.raises(Problems) as problems:
        load(str(write_file(line)), "check")
    assert all("is not supported yet" in told for told in problems.value.lines())


def test_words_that_are_taken_over(write_file: Writer) -> None:
    container = read(
        write_file("""
root = config.chroot_to("box")
config.mount_network_etc(root, host_root="/etc/netns/x")
config.bootstrap.strategy = "debootstrap"
config.bootstrap.debian_release = "bookworm"
config.bootstrap.components = "main, contrib"
config.resource.set_limit("NOFILE", 1024, "infinity")
config.lxcfs_root = "/var/lib/lxcfs"
config.cgroup.v2.assign_only = True
""")
    )
    assert container.network_etc == "/etc/netns/x"
    assert container.bootstrap.settings["components"] == ("main", "contrib")
    assert [(limit.soft, limit.hard) for limit in container.limits] == [(1024, -1)]
    assert container.independent == ("procfs",)  # what lxcfs's files lie in
    assert container.cgroup.assign_only


def test_lxcfs_takes_the_proc_that_is_there(write_file: Writer) -> None:
    body = 'config.lxcfs_root = "/lxcfs"\nconfig.add_mount_point("/proc", to="/proc")'
    assert read(write_file(body)).independent == ()
    with pytest.raises(Problems, match="a fresh procfs needs a pid namespace"):
        read(write_file('config.lxcfs_root = "/lxcfs"\nconfig.namespace.share("pid")'))


@pytest.mark.parametrize("to", ["/x", "/"])
def test_options_that_a_bind_mount_does_not_have(write_file: Writer, to: str) -> None:
    told = problem_of(write_file(f'config.add_mount_point("/srv", to="{to}", options="ro,noexce,nosuid")'))
    assert told == "a bind mount has no option 'noexce' (did you mean 'noexec'?)"
    assert read(write_file(f'config.add_mount_point("/srv", to="{to}", options={[*spec.MOUNT_WORDS, "rw"]})'))
    assert set(spec.MOUNT_WORDS) == set(mounts._ATTRIBUTES)
