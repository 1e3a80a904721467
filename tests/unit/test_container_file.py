"""What a container file may say, and how it is told what is wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.haco.loader import load
from hakoniwa.spec.complete import mark_of
from hakoniwa.spec.records import Barn, Container

Writer = Callable[..., Path]

HEAD_LINES = 3  # of write_file, before the body


def loaded(path: Path) -> Barn:
    return load(str(path), "check")


def only(path: Path) -> Container:
    (container,) = loaded(path).containers
    return container


def problems(path: Path) -> list[str]:
    """The lines that the file is told, without its path."""
    with pytest.raises(HakoError) as caught:
        loaded(path)
    assert caught.value.status == 125
    return [line.removeprefix(str(path)) for line in caught.value.lines()]


def test_defaults(write_file: Writer, places: Path) -> None:
    container = only(write_file())
    assert container.name == container.hostname == container.barn == "box"
    assert container.files.rootfs.path == str(places / "lib" / container.name)
    assert container.namespaces.own == ("mount", "uts", "ipc", "pid")
    assert container.security.no_new_privs is True
    assert container.files.rootfs.readonly is False
    assert container.process.command is None
    assert (container.security.seccomp.profile, container.security.seccomp.filters) == ("default", ())


def test_every_setting(write_file: Writer) -> None:
    container = only(
        write_file(
            """
config.name = "other"
config.hostname = "host.example"
config.init_command = ["/bin/sh", "-c", "true"]
config.init = "tini"
config.workdir = "/srv"
config.uid, config.gid, config.groups = "alice", 7, ["wheel", 9]
config.environ["A"] = "1"
config.environ.update(B="2")
config.metadata["team"] = {"names": ["x"]}
config.no_new_privs = False
config.log_level = "debug"
config.container_pid_file = "box.pid"
config.rootfs.readonly = True
config.filesystem.use_legacy_chroot = True
config.filesystem.add_masked_path("/proc/cmdline")
config.filesystem.add_readonly_path("/etc")
config.namespace.unshare("net", "cgroup")
config.namespace.share("ipc")
config.resource.set_limit("NOFILE", 10, 20)
config.resource.set_limit("rlimit_core", "unlimited")
config.capabilities.allow("CAP_NET_RAW", "sys_time")
config.capabilities.drop("chown")
config.command.set_stdout(file="/tmp/out")
config.command.set_stderr(host_file="err.log")
"""
        )
    )
    assert container.process.command == ("/bin/sh", "-c", "true")
    assert (container.process.uid, container.process.gid, container.process.groups) == ("alice", 7, ("wheel", 9))
    assert container.process.environ == {"A": "1", "B": "2"}
    assert container.metadata == {"team": {"names": ["x"]}}
    assert container.namespaces.own == ("mount", "uts", "pid", "net", "cgroup")
    assert [(limit.name, limit.soft, limit.hard) for limit in container.resources.limits] == [
        ("NOFILE", 10, 20),
        ("CORE", -1, -1),
    ]
    assert container.security.capabilities.named == ("cap_net_raw", "cap_sys_time")
    assert container.security.capabilities.dropped == ("cap_chown",)
    assert [(stream.number, stream.inside) for stream in container.process.streams] == [(1, True), (2, False)]
    assert container.process.streams[1].path == str(Path(container.file).parent / "err.log")
    assert container.container_pid_file == str(Path(container.file).parent / "box.pid")


def test_cgroup_parameters_and_limits(write_file: Writer) -> None:
    body = """
config.cgroup["cpu.shares"] = 512
config.cgroup.v2["memory.max"] = "1G"
config.cgroup.name = "other"
config.limit(memory="512M", cpus=0.5, pids=200)
with config.define() as c:
    c.name = "child"
    c.cgroup["cpu.shares"] = 256
    c.limit(pids=5)
with config.define() as c:
    c.name = "twin"
"""
    child, twin = loaded(write_file(body)).containers
    assert [(p.name, p.value) for p in child.resources.cgroup.v1] == [("cpu.shares", "256")]
    assert [(p.name, p.value) for p in twin.resources.cgroup.v1] == [("cpu.shares", "512")]
    assert [(p.name, p.value) for p in child.resources.cgroup.v2] == [("memory.max", "1G")]
    assert (twin.resources.cgroup.memory, twin.resources.cgroup.cpus, twin.resources.cgroup.pids) == (
        512 * 1024**2,
        0.5,
        200,
    )
    assert (child.resources.cgroup.name, child.resources.cgroup.pids) == ("other", 5)


def test_sections_serve_as_blocks_and_as_objects(write_file: Writer) -> None:
    container = only(write_file('with config.bootstrap as b:\n    b.strategy = "host"\nconfig.bootstrap.skip = True'))
    assert container.build.bootstrap.strategy == "host"
    assert container.build.bootstrap.skip


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'config.name = "../x"',
            "config.name must be 1 to 63 of A-Z a-z 0-9 _ . - and begin with a letter or digit, not '../x'",
        ),
        ('config.name = "-rf"', "config.name must be"),
        (r'config.name = "a\nb"', r"not 'a\nb'"),
        (r'config.name = "a\x1b[31m"', r"not 'a\x1b[31m'"),
        ("config.name = 7", "config.name must be a string, not 7"),
        ('config.nmae = "x"', "config.nmae is unknown (did you mean 'name'?)"),
        ("config.guid = 7", "config.guid is a word of haconiwa only (write config.gid)"),
        ("config.init_command = []", "config.init_command must be a list that begins with a program, not []"),
        ('config.init_command = "ls -l"', "never a shell line, not 'ls -l' (write ['ls', '-l'])"),
        ("config.uid = -1", "config.uid must be a name, or a number from 0 to 4294967294, not -1"),
        ("config.uid = 2**32 - 1", "config.uid must be"),
        ("config.uid = True", "config.uid must be"),
        (r'config.environ["A"] = "x\0y"', r"config.environ['A'] must be a string without NUL, not 'x\x00y'"),
        ('config.environ["A=B"] = "x"', "config.environ['A=B'] must be set by a name"),
        ('config.environ = "A=B"', "config.environ must be a dict"),
        ('config.metadata["x"] = object', "config.metadata['x'] must be made of strings"),
        ('config.namespace.unshare("nett")', "namespace 'nett' is unknown (did you mean 'net'?)"),
        ('config.namespace.share("mount")', "the mount namespace cannot be shared"),
        ('config.resource.set_limit("NOFILES", 1)', "resource 'NOFILES' is unknown (did you mean 'NOFILE'?)"),
        ('config.resource.set_limit("NOFILE", -1)', "must be a number from 0 on, or 'unlimited', not -1"),
        ('config.resource.set_limit("NOFILE", 5, 4)', "the soft limit 5 is above the hard limit 4"),
        ('config.capabilities.allow("net_rwa")', "capability 'net_rwa' is unknown"),
        ('config.mount_independent("procs")', "independent mount 'procs' is unknown (did you mean 'procfs'?)"),
        ('config.add_mount_point("/a", to="b")', "config.add_mount_point(to=) must be an absolute path"),
        ('config.add_mount_point("/a", to="/b", redonly=True)', "(did you mean 'readonly'?)"),
        ('config.add_mount_point("/a")', "missing 1 required positional argument: 'to'"),
        ('config.chroot_to("/")', "the rootfs cannot be /"),
        ('config.chroot_to("/proc/1")', "the rootfs cannot be /proc/1"),
        ('config.bootstrap.strategy = "hots"', "did you mean 'host'?"),
        ('config.bootstrap.strategy = "tarball"', "strategy 'tarball' needs config.bootstrap.archive_path"),
        ('config.provisio.run_shell("x")', "config.provisio is unknown (did you mean 'provision'?)"),
        ('config.bootstra.strategy = "host"', "config.bootstra is unknown (did you mean 'bootstrap'?)"),
        ("config.provision = 3", "config.provision cannot be assigned"),
        ('config.bootstrap.strategy = "debootstrap"', "strategy 'debootstrap' needs config.bootstrap.debian_release"),
        ('config.bootstrap.git_url = "x"', "config.bootstrap.git_url means nothing to strategy None"),
        ('config.add_general_hook("setpu")(print)', "hook point 'setpu' is unknown (did you mean 'setup'?)"),
        ('config.add_general_hook("setup")(7)', "a hook must be a function, not 7"),
        ("config.rootfs = 7", "config.rootfs cannot be assigned"),
        ("config.chroot_to = 7", "config.chroot_to cannot be assigned"),
        ("del config.name", "config.name cannot be deleted"),
        ('config.command.set_stdin(file="/a", host_file="/b")', "takes one of file= and host_file="),
        ('config.workdir = "srv"', "config.workdir must be an absolute path, not 'srv'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "the file called exit(3)"),
        ('config.namespace.share("pid"); config.mount_independent("procfs")', "a fresh procfs needs a pid namespace"),
        ('config.cgroup["memory"] = 3', "must be the name of a parameter, such as"),
        ('config.cgroup["a/../b.c"] = 3', "must be the name of a parameter, such as"),
        ('config.cgroup["cpu.shares"] = True', "config.cgroup['cpu.shares'] must be a number or a string"),
        ('config.cgroup.v2["memory.max"] = ""', "config.cgroup.v2['memory.max'] must be a number or a string"),
        ('config.cgroup["cpu.shares"] += 1', "config.cgroup['cpu.shares'] is not set"),
        ('config.cgroup.name = "a//b"', "config.cgroup.name must be"),
        ('config.limit(memory="lots")', "config.limit(memory=) must be a number of bytes from 4096 on and below 8E"),
        ('config.limit(memory="999999999999999999999T")', "must be a number of bytes from 4096 on and below 8E"),
        ('config.limit(memory="' + "9" * 5000 + '")', "must be a number of bytes from 4096 on and below 8E"),
        ("config.limit(memory=1)", "must be a number of bytes from 4096 on and below 8E"),
        ('config.limit(cpus=float("nan"))', "config.limit(cpus=) must be a number of processors"),
        ("config.limit(cpus=0)", "config.limit(cpus=) must be a number of processors"),
        ("config.limit(pids=-1)", "config.limit(pids=) must be a whole number from 1 to 4194304"),
        ("config.limit(memroy=3)", "did you mean 'memory'?"),
        ("config.add_async_hook(sec=1, min=2)(print)", "takes one of msec=, sec=, min= and hour="),
        ("config.add_async_hook(sec=-1)(print)", "must be a number from 0 on, not -1"),
        ("config.add_async_hook(interval_msec=0)(print)", "add_async_hook(interval_msec=) must be a number above 0"),
        ("config.add_async_hook(limit_count=2)(print)", "limit_count= means nothing without interval_msec="),
        ("config.add_timer_hook()(print)", "add_timer_hook() takes one of every= and cron="),
        (
            'config.add_timer_hook(cron="61 * * * *")(print)',
            "must be a cron expression such as '*/5 * * * *' (Bad minute)",
        ),
        ('config.add_cgroup_hook(type="ooom")(print)', "add_cgroup_hook(type=) must be one of memory_pressure oom"),
        (
            'config.add_cgroup_hook(type="oom", level="hi")(print)',
            "add_cgroup_hook(level=) must be one of low medium critical",
        ),
        ('config.support_reload("cgruop")', "'cgruop' cannot be reloaded (did you mean 'cgroup'?)"),
        ("config.add_watch_hook()(print)", "add_watch_hook() needs a pattern of paths"),
        ("config.add_readiness_hook(port=0)(print)", "add_readiness_hook(port=) must be a port from 1 to 65535"),
        ("config.add_readiness_hook(timeout=0)(print)", "add_readiness_hook(timeout=) must be a number above 0"),
        ("config.add_timer_hook(every=0)(print)", "add_timer_hook(every=) must be a number above 0"),
        ('config.add_signal_handler("TERM")(print)', "signal 'TERM' cannot have a handler"),
        ('config.add_handler(["USR1", "USR3"])(print)', "signal 'USR3' cannot have a handler (did you mean 'USR2'?)"),
        ("config.add_async_hook(sec=1)(7)", "a hook must be a function, not 7"),
        ("config.rootfs_owner(uid=1, gid=1)", "rootfs_owner() means nothing to strategy None"),
        ('config.namespace.share("uts"); config.hostname = "x"', "a hostname needs a uts namespace"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(write_file: Writer, line: str, told: str) -> None:
    path = write_file(f"config.init_command = ['x']\n{line}")
    (problem,) = problems(path)
    if "exit" not in line and "SystemExit" not in line:
        assert problem.startswith(f":{HEAD_LINES + 2}: "), problem
    assert told in problem
    assert problem.isprintable()


@pytest.mark.parametrize(
    "line",
    [
        'config.checkpoint.images_dir = "x"',
        'config.add_mount_point("/a", to="/b", criu_ext_key="k")',
        'config.add_general_hook("after_restore")(print)',
    ],
)
def test_what_is_not_supported_yet_is_an_error(write_file: Writer, line: str) -> None:
    (problem,) = problems(write_file(line))
    assert "is not supported yet" in problem


def test_all_problems_are_told_together(write_file: Writer) -> None:
    told = problems(write_file('config.uid = -1\nconfig.namespace.unshare("nett")\nconfig.hostname = ""'))
    assert [line.split(": ")[0] for line in told] == [":4", ":5", ":6"]


def test_an_exception_is_told_after_the_problems_before_it(write_file: Writer) -> None:
    told = problems(write_file("config.uid = -1\nconfig.what"))
    assert len(told) == 2
    assert "config.what is unknown" in told[1]


def test_an_exception_in_the_block_discards_the_barn(places: Path) -> None:
    path = places / "x.haco.py"
    path.write_text(
        "from hakoniwa import Haconiwa\ntry:\n    with Haconiwa.define() as config:\n        raise KeyError\n"
        "except KeyError:\n    pass\n"
    )
    assert problems(path) == [": no barn is defined (write `with Haconiwa.define() as config:`)"]


def test_two_barns_are_one_too_many(places: Path) -> None:
    path = places / "x.haco.py"
    path.write_text("from hakoniwa import Haconiwa\n" + "with Haconiwa.define() as config:\n    pass\n" * 2)
    assert "a file defines one barn, and this is the second" in problems(path)[0]


def test_nothing_can_be_written_after_the_block(places: Path) -> None:
    path = places / "x.haco.py"
    path.write_text("from hakoniwa import Haconiwa\nwith Haconiwa.define() as config:\n    pass\nconfig.uid = 3\n")
    assert problems(path) == [":4: the description is closed (write this inside the `with Haconiwa.define()` block)"]


def test_tables_take_what_dicts_take(write_file: Writer) -> None:
    body = 'config.environ = {"A": "1"}\nconfig.environ |= {"B": "2"}\nconfig.environ.setdefault("C", "3")\ndel config.environ["A"]'
    assert only(write_file(body)).process.environ == {"B": "2", "C": "3"}


def test_lists_and_dicts_are_copied(write_file: Writer) -> None:
    body = (
        'command = ["/bin/sh"]\nvalues = {"a": ["b"]}\nconfig.init_command = command\nconfig.metadata["v"] = values\n'
    )
    container = only(write_file(body + 'command.append("x")\nvalues["a"].append("c")'))
    assert container.process.command == ("/bin/sh",)
    assert container.metadata == {"v": {"a": ["b"]}}


# Several containers


@pytest.mark.parametrize(
    ("folder", "file", "name"),
    [
        ("shop", "dev.haco.py", "shop-dev"),
        ("shop", "shop.haco.py", "shop"),
        ("shop", "dev.py", "shop-dev"),
        (".hidden", "dev.haco.py", "hidden-dev"),
        ("My Shop é", "dev.haco.py", "My-Shop---dev"),
        ("買", "dev.haco.py", "dev"),
        ("f" * 100, "dev.haco.py", "f" * 59 + "-dev"),
        ("shop", "d" * 61 + ".haco.py", "s-" + "d" * 61),
        ("shop", "d" * 63 + ".haco.py", "d" * 63),
    ],
)
def test_a_name_is_made_of_the_folder_and_the_file(places: Path, folder: str, file: str, name: str) -> None:
    path = places / folder / file
    path.parent.mkdir()
    path.write_text("from hakoniwa import Haconiwa\nwith Haconiwa.define() as config: pass\n")
    path.chmod(0o644)
    assert only(path).name == name


def test_a_child_begins_as_a_copy_of_the_barn(write_file: Writer) -> None:
    barn = loaded(
        write_file(
            """
config.environ["A"] = "1"
config.add_mount_point("tmpfs", to="/tmp", fs="tmpfs")
config.uid = 5
@config.add_general_hook("before_fork")
def hook(base): pass
with config.define() as c:
    c.name = "one"
    c.environ["A"] = "2"
    c.capabilities.drop("chown")
config.environ["LATE"] = "x"
with config.define() as c:
    c.name = "two"
    c.uid = 6
"""
        )
    )
    one, two = barn.containers
    assert barn.name == "box"
    assert one.siblings == two.siblings == mark_of(["two", "one"]) != mark_of(["one", "two", "three"])
    assert (one.name, two.name) == ("one", "two")
    assert (one.process.environ, two.process.environ) == ({"A": "2"}, {"A": "1", "LATE": "x"})
    assert (one.process.uid, two.process.uid) == (5, 6)
    assert one.files.mounts == two.files.mounts
    assert one.security.capabilities.dropped
    assert not two.security.capabilities.dropped
    assert one.hooks_at("before_fork")[0].function is two.hooks_at("before_fork")[0].function


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("with config.define() as c: pass", "a container of a barn has no name"),
        (
            'with config.define() as c: c.name = "a"\nwith config.define() as c: c.name = "a"',
            "two containers have the name 'a'",
        ),
        ('with config.define() as c:\n    c.name = "a"\n    c.add_general_hook("setup")(print)', "belongs to the barn"),
        (
            'config.container_pid_file = "p"\nwith config.define() as c: c.name = "a"\nwith config.define() as c: c.name = "b"',
            "containers 'a' and 'b' have one pid file",
        ),
        (
            'config.chroot_to("r")\nconfig.bootstrap.strategy = "host"\n'
            'with config.define() as c: c.name = "a"\nwith config.define() as c: c.name = "b"',
            "containers 'a' and 'b' have one layer",
        ),
        ("with config.define() as c:\n    c.define()", "cannot define containers of its own"),
    ],
)
def test_wrong_children(write_file: Writer, body: str, told: str) -> None:
    assert told in problems(write_file(body))[0]


# Mount points


@pytest.mark.parametrize(
    ("target", "inside"),
    [
        ("/srv/root/tmp", "/tmp"),
        ("/srv/root/srv/root/x", "/srv/root/x"),
        ("/srv/rootless", "/srv/rootless"),
        ("/tmp/", "/tmp"),
    ],
)
def test_the_path_of_the_rootfs_is_cut_from_a_target(write_file: Writer, target: str, inside: str) -> None:
    body = f'config.add_mount_point("tmpfs", to={target!r}, fs="tmpfs")\nconfig.chroot_to("/srv/root")'
    assert [mount.target for mount in only(write_file(body)).files.mounts] == [inside]


def test_the_rootfs_as_its_own_source_applies_readonly(write_file: Writer) -> None:
    body = 'root = config.chroot_to("/srv/root")\nconfig.add_mount_point(root, to=root, readonly=True)'
    container = only(write_file(body))
    assert container.files.rootfs.readonly
    assert container.files.rootfs.replacement is None
    assert container.files.mounts == ()


def test_another_source_becomes_the_rootfs(write_file: Writer) -> None:
    container = only(write_file('root = config.chroot_to("/srv/root")\nconfig.add_mount_point("/other", to=root)'))
    assert container.files.rootfs.replacement is not None
    assert container.files.rootfs.replacement.source == "/other"


def test_relative_paths_are_beside_the_file(write_file: Writer, places: Path) -> None:
    body = 'root = config.chroot_to("r")\nassert root / "tmp" == str(root) + "/tmp"\nassert root.name == "r"\n'
    container = only(write_file(body + 'config.add_mount_point("data", to="/data")'))
    assert container.files.rootfs.path == str(places / "r")
    assert container.files.mounts[0].source == str(places / "data")


# The file itself


def test_syntax_error(places: Path) -> None:
    path = places / "x.haco.py"
    path.write_text("x = 1\nwith Haconiwa.define() as config\n")
    assert problems(path) == [":2: syntax error: expected ':'"]


def test_missing_folder_binary_and_fifo(places: Path) -> None:
    assert problems(places / "no.haco.py")[0].startswith(": No such file or directory (hako new ")
    assert problems(places) == [": not a regular file (name a NAME.haco.py file)"]
    binary = places / "b.haco.py"
    binary.write_bytes(b"\x7fELF\0\0")
    assert "not a text file" in problems(binary)[0]


def test_a_name_that_the_file_cannot_give(places: Path) -> None:
    path = places / "-x y.haco.py"
    path.write_text("from hakoniwa import Haconiwa\nwith Haconiwa.define() as config: pass\n")
    assert "the name of the file, '-x y', cannot name the container" in problems(path)[0]


def test_modules_beside_the_file_are_found(write_file: Writer, places: Path) -> None:
    (places / "beside_it.py").write_text("NAME = 'imported'\n")
    assert only(write_file("import beside_it\nconfig.name = beside_it.NAME")).name == "imported"


def test_the_global_file_gives_defaults(write_file: Writer, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = places / "conf.py"
    defaults.write_text('from hakoniwa import Haconiwa\nHaconiwa.configure(uid=7, environ={"A": "1"})\n')
    for module in ("haco.loader", "known.kept"):
        monkeypatch.setattr(f"hakoniwa.{module}.global_file", lambda: str(defaults))
    container = only(write_file('config.environ["B"] = "2"'))
    assert (container.process.uid, container.process.environ) == (7, {"A": "1", "B": "2"})
    assert container.place("uid") == f"{defaults}:2"
    path = write_file()
    path.write_text(path.read_text() + "with Haconiwa.define() as config: pass\n")
    assert "a file defines one barn, and this is the second" in problems(path)[0]
    defaults.write_text("from hakoniwa import Haconiwa\nHaconiwa.configure(udi=7)\n")
    with pytest.raises(HakoError, match="default 'udi' is unknown"):
        loaded(write_file())


def test_configure_outside_the_global_file(write_file: Writer) -> None:
    assert "belongs in the global file" in problems(write_file("Haconiwa.configure(uid=7)"))[0]
