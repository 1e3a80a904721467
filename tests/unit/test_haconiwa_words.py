"""Words of haconiwa: taken over, or refused with what is to be written in their place; and wrong values of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.errors import HakoError, Problems
from hakoniwa.haco.loader import load
from hakoniwa.spec import records as spec
from hakoniwa.spec.records import Container
from hakoniwa.steps.files import mounts

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
        ('config.bootstrap.strategy = "mruby"', "must be a strategy of hakoniwa, not 'mruby' (write 'python')"),
        ('config.bootstrap.strategy = "lxc-create"', "(write 'lxc')"),
        ('config.bootstrap.strategy = "git-clone"', "(write 'git')"),
        ('config.bootstrap.strategy = "unarchive"', "(write 'tarball')"),
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
        "if config.checkpoint.enabled: pass",
        "print(config.checkpoint.container_ip_with_netmask)",
        'f"{config.checkpoint.images_dir}"',
        "[*config.checkpoint.hosts]",
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
    assert container.files.network_etc == "/etc/netns/x"
    assert container.build.bootstrap.settings["components"] == ("main", "contrib")
    assert [(limit.soft, limit.hard) for limit in container.resources.limits] == [(1024, -1)]
    assert container.files.independent == ("procfs",)  # what lxcfs's files lie in
    assert container.resources.cgroup.assign_only


def test_lxcfs_takes_the_proc_that_is_there(write_file: Writer) -> None:
    body = 'config.lxcfs_root = "/lxcfs"\nconfig.add_mount_point("/proc", to="/proc")'
    assert read(write_file(body)).files.independent == ()
    with pytest.raises(Problems, match="a fresh procfs needs a pid namespace"):
        read(write_file('config.lxcfs_root = "/lxcfs"\nconfig.namespace.share("pid")'))


@pytest.mark.parametrize("to", ["/x", "/"])
def test_options_that_a_bind_mount_does_not_have(write_file: Writer, to: str) -> None:
    told = problem_of(write_file(f'config.add_mount_point("/srv", to="{to}", options="ro,noexce,nosuid")'))
    assert told == "a bind mount has no option 'noexce' (did you mean 'noexec'?)"
    assert read(write_file(f'config.add_mount_point("/srv", to="{to}", options={[*spec.MOUNT_WORDS, "rw"]})'))
    assert set(spec.MOUNT_WORDS) == set(mounts._ATTRIBUTES)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("config.daemonize(True)", "config.daemonize() does not take 1 argument without a name (arguments: none)"),
        ("config.daemonize = True", "config.daemonize cannot be assigned (call config.daemonize())"),
        ('config.command.set_stdout("x")', "does not take 1 argument without a name (arguments: file= host_file=)"),
        ("config.init_command = [1]", "must be a list of strings alone, not [1]"),
        ("config.groups = [None]", "must be a list, each item a name, or a number from 0 to 4294967294, not [None]"),
        ("config.chroot_to(None)", "config.chroot_to() must be a string, not None"),
        ('config.chroot_to("")', "config.chroot_to() must be a path, not ''"),
        ('config.add_mount_point("/x", to="/y", readonly=True, options="rw")', "exclude each other"),
        ('config.namespace.unshare(["net"])', "namespace ['net'] is unknown (did you mean 'net'?)"),
        ('config.seccomp.filter().kill(["mkdir"])', "system call ['mkdir'] is unknown (did you mean 'mkdir'?)"),
        ('config.validate_real_id("x")', "validate_real_id must get a function, not 'x'"),
        ('config.add_async_hook(print, sec="x")', "add_async_hook(sec=) must be a number from 0 on, not 'x'"),
        ("config.resource.nofile = 1", '(write config.resource.set_limit("NOFILE", SOFT, HARD))'),
        ('config.provision.run_shell("x", name="a,b")', "config.provision.run_shell(name=) must be"),
        ('config.provision.copy("a", "/b", mode="644")', "must be a mode from 0 to 0o7777, not '644' (write 0o644"),
        (
            'config.bootstrap.strategy = "debotstrap"',
            "name of a strategy, not 'debotstrap' (did you mean 'debootstrap'?)",
        ),
        ('config.log_level = "warn"', "not 'warn' (did you mean 'warning'?)"),
        ('Haconiwa.log("x", "warn")', "log level 'warn' is unknown (did you mean 'warning'?)"),
        ("Haconiwa.log()", "Haconiwa.log() missing 1 required positional argument: 'text' (arguments: text level)"),
        ('Haconiwa.command = "x"', "Haconiwa.command cannot be assigned"),
        ("config.nothing_of_the_kind = 1", "config.nothing_of_the_kind is unknown"),
        ('config.restart("on-failure")', "config.restart() is not supported yet"),
        ('config.pod.share("net")', "config.pod.share() is not supported yet"),
        ("config.run_as_restore = True", "config.run_as_restore is not supported yet"),
        ('config.bootstrap.image = "x"', "config.bootstrap.image is not supported yet"),
        ('config.bootstrap.strategy = "image"', "'image' is not supported yet"),
    ],
)
def test_wrong_uses_are_told_with_the_right_word(write_file: Writer, line: str, told: str) -> None:
    with pytest.raises(HakoError) as failure:
        load(str(path := write_file(line)), "check")
    (found,) = failure.value.lines()
    assert found.startswith(f"{path}:4: ")
    assert told in found
    assert len(found) < 400
