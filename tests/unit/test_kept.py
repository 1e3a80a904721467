"""Descriptions that are kept: of which texts, and whether they come back as they were."""

from __future__ import annotations

import ast
import marshal
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import hakoniwa
from hakoniwa.haco import keeping
from hakoniwa.haco.loader import load
from hakoniwa.known import copied, kept

PACKAGE = Path(hakoniwa.__file__).parent
EXAMPLES = sorted((PACKAGE.parent / "examples").glob("*.haco.py"))
HEAD = "from hakoniwa import Haconiwa\n"
WITH = "with Haconiwa.define() as config:\n    "
Writer = Callable[..., Path]

ALONE = [
    "config.name = 'a'",
    "config.init_command = ['sh', '-c', 'x' * 3 + str(2)]",
    "for name in ['a', 'b']:\n        config.add_mount_point(f'/srv/{name}', to='/' + name.upper())",
    "config.environ.update({key: key.lower() for key in ('A', 'B')})",
    "root = config.chroot_to('/srv/root')\n    config.add_mount_point('/srv', to=root / 'x')",
    "with config.bootstrap as b:\n        b.strategy = 'host'",
    "config.metadata['file'] = __file__",
    "config.limit(memory='512M', pids=sum(range(5)))",
    "config.namespace.unshare('user')\n    config.cgroup.v2['cgroup.max.depth'] = 5\n    config.cgroup.v2.assign_only = True",
    "with config.define() as one:\n        one.name = 'one'",
]
NOT_ALONE = [
    "import os\n    config.name = os.environ['NAME']",
    "import helper",
    "from pathlib import Path",
    "from hakoniwa import errors",
    "import hakoniwa",
    "config.name = open('/etc/hostname').read()",
    "config.name = __import__('os').uname()[1]",
    "config.name = globals()['x']",
    "config.name = getattr(config, 'name')",
    "config.name = config._reading.file",
    "config.name = '{0._reading.file}'.format(config)",
    "config.name = '{0._reading}'.format_map(config)",
    "config.name = config.__class__",
    "config.name = config.environ.section",
    "config.name = str(config.chroot_to('/srv').exists())",
    "config.name = config.chroot_to('/srv').read_text()",
    "config.name = Haconiwa.command",
    "Haconiwa.log('x')",
    "h = Haconiwa\n    config.name = h.command",
    "for name in {'a', 'b'}:\n        config.add_mount_point('/srv', to='/' + name)",
    "for name in set(['a', 'b']):\n        config.add_mount_point('/srv', to='/' + name)",
    "config.name = str(hash('a'))",
    "config.name = str(id(config))",
    "print('x')",
    "config.environ['A'] = repr(config)",
    "try:\n        pass\n    except:\n        pass",
    "def f(base):\n        pass",
    "config.add_general_hook('setup')(lambda base: None)",
    "class A:\n        pass",
    "global x\n    x = 1",
    "del config.name",
    "str = open",
    "len = 3",
    "config.name = 'a' if 1 is 1 else 'b'",  # a warning
    "match 1:\n        case _:\n            pass",
]


@pytest.mark.parametrize("body", ALONE)
def test_a_text_that_says_all(body: str) -> None:
    assert keeping.is_text_alone(f"{HEAD}{WITH}{body}\n".encode())


@pytest.mark.parametrize("body", NOT_ALONE)
def test_a_text_that_does_not(body: str) -> None:
    assert not keeping.is_text_alone(f"{HEAD}{WITH}{body}\n".encode())


def test_other_texts() -> None:
    configure = "Haconiwa.configure(log_level='debug')\n"
    assert keeping.is_text_alone(f"{HEAD}{configure}".encode(), of_all=True)
    assert not keeping.is_text_alone(f"{HEAD}{configure}".encode())
    assert not keeping.is_text_alone(f"{HEAD}{WITH}pass\n".encode(), of_all=True)
    assert keeping.is_text_alone(
        b"from __future__ import annotations\nfrom hakoniwa import Haconiwa as H\nH.define()\n"
    )
    for text in (b"\0", b"x = (", b"\xff", b"from . import Haconiwa\n", b"from hakoniwa import Haconiwa, run\n"):
        assert not keeping.is_text_alone(text)


def test_what_may_stand_behind_a_dot_looks_at_no_file() -> None:
    """The path of the rootfs has the attributes of a `pathlib.Path`, too, unless a string has one of that name."""
    assert keeping._words() & ({*dir(Path)} - {*dir(str)}) == {"name"}
    assert not {"format", "format_map", "section", "check"} & keeping._words()


EVERYTHING = """
config.name = "all"
config.init_command = ["sh", "-c", "true"]
config.chroot_to("/srv/all")
config.add_mount_point("data", to="/data", readonly=True, options="noexec")
config.mount_network_etc()
config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm")
config.environ["A"] = "ü"
config.metadata["deep"] = {"list": [1, 2.5, None, True], "pair": (1, "x")}
config.cgroup["cpu.shares"] = 10
config.cgroup.v2["memory.max"] = 1 << 30
config.resource.set_limit("NOFILE", 10, "unlimited")
config.resource.nice = 3
config.capabilities.drop("chown")
config.namespace.unshare("user", "net")
config.network.publish("8080:80")
config.network.add(bridge_name="haconiwa1", bridge_ip="10.1.0.1/24", container_ip="10.1.0.7")
config.namespace.set_uid_mapping(min=0, max=9, offset=1000)
config.namespace.set_gid_mapping(min=0, max=9, offset=1000)
config.command.set_stdout(host_file="out")
with config.seccomp.filter(default="allow") as rule:
    rule.errno("mkdir", "EPERM", args={0: ("==", 3)})
with config.bootstrap as b:
    b.strategy = "debootstrap"
    b.debian_release = "bookworm"
with config.provision as p:
    p.run_shell("true", name="one")
"""


def test_a_description_comes_back_as_it_was(write_file: Writer) -> None:
    barn = load(str(write_file(EVERYTHING)), "start").replace(executed=())
    rows = keeping.rows_of(barn)
    assert rows is not None
    again = kept._rebuilt(marshal.loads(marshal.dumps(rows)))
    assert again == barn
    assert type(again.containers[0].files.mounts[0].source) is str


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_come_back_or_are_not_kept(path: Path, places: Path) -> None:
    barn = load(str(path), "start").replace(executed=())
    rows = keeping.rows_of(barn)
    functions = "def " in path.read_text()
    assert (rows is None) == functions
    assert rows is None or kept._rebuilt(marshal.loads(marshal.dumps(rows))) == barn


def test_what_only_executing_makes_is_not_kept(write_file: Writer) -> None:
    for body in (
        '@config.add_general_hook("setup")\ndef f(barn):\n    pass',
        "config.bootstrap.strategy = type('S', (), {'bootstrap': lambda self, boot: None})()",
        'config.support_reload("hooks")',
        'config.environ["A"] = repr(object())',
    ):
        assert keeping.rows_of(load(str(write_file(body)), "start")) is None, body


def test_damage_of_every_kind(tmp_path: Path) -> None:
    """Each byte is changed, and the copy cut at each length: it is no copy then."""
    path, stamp = tmp_path / "copy", bytes(range(20))
    path.touch(0o600)
    content = (("key",), (), (), (("", "Barn", {"name": "x", "containers": ()}, (), ()),))
    whole = copied.summed(stamp, marshal.dumps(content))
    path.write_bytes(whole)
    assert copied.content_of(str(path), stamp) == content
    assert copied.content_of(str(path), bytes(20)) is None
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        assert copied.content_of(str(path), stamp) is None
        path.write_bytes(whole[:at] + bytes([whole[at] ^ random.Random(at).randrange(1, 256)]) + whole[at + 1 :])
        assert copied.content_of(str(path), stamp) is None
    path.write_bytes(whole + b"x")
    assert copied.content_of(str(path), stamp) is None
    path.write_bytes(copied.summed(stamp, bytes(copied.LARGEST_COPY)))
    assert copied.content_of(str(path), stamp) is None


# What makes a description, and of `os` what it may use: nothing that asks the kernel, or for the environment.
MAKERS = [
    *(PACKAGE / "haco" / f"{name}.py" for name in ("build", "container", "reading")),
    *sorted((PACKAGE / "haco" / "sections").glob("*.py")),
    *sorted((PACKAGE / "spec" / "rules").glob("*.py")),
    *(PACKAGE / "spec" / f"{name}.py" for name in ("complete", "networks", "strategies")),
]
HARMLESS = {"path", "fsencode", "fspath", "PathLike"}
OF_PATHS = {"join", "normpath", "dirname", "basename", "split"}
# Those that look at the host all the same, with what makes up for it.
ASKING = {
    "hakoniwa.places": {"lib_dir"},  # in the key
    "hakoniwa.known": {"state"},  # `Reading.asked`
    "hakoniwa.trust": {"is_strict", "check"},  # of strategies of other packages, which are not kept
}


@pytest.mark.parametrize("path", MAKERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_makes_a_description_asks_for_nothing_else(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if text.startswith("os.path."):
            assert text.split(".")[2] in OF_PATHS
        elif text.startswith("os."):
            assert text.split(".")[1] in HARMLESS
        elif text.startswith("trust."):
            assert text.split(".")[1] in ASKING["hakoniwa.trust"]
        if isinstance(node, ast.ImportFrom) and node.module in ("hakoniwa.places", "hakoniwa.known"):
            assert {alias.name for alias in node.names} <= ASKING[node.module]
        if isinstance(node, ast.Name):
            assert node.id not in {"open", "input"}
        if text.startswith("_socket."):
            assert text.split(".")[1] in {"AF_INET", "AF_INET6", "inet_pton", "inet_ntop"}
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= {"os", "sys", "errno", "inspect", "_socket"}
