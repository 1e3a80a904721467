"""Nothing is imported by a process that has entered a root, or is about to: the files of the root would be executed as root.

Each test lets steps be applied for real; together they apply every step that there is. What is noted, and how, is told in
watched.py.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hakoniwa.steps
from hakoniwa.steps.step import Step
from tests.conftest import INITS, LONGEST, Hako
from tests.ordinary import Ordinary, user
from tests.system.test_namespaces import bystander, child_of
from tests.system.test_terminal import Terminal

__all__ = ["bystander", "user"]

Writer = Callable[..., Path]
WATCHED = Path(__file__).with_name("watched.py")
APPLIED: set[str] = set()  # what the tests of this file say that they apply
EVERYTHING = 'config.mount_independent("procfs", "sysfs", "devtmpfs", "devpts", "shm", "mqueue")\n'
USER = 'config.namespace.unshare("user")\n'


def applies(names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say which steps a test applies; `watched` holds it to that."""

    def mark(function: Callable[..., None]) -> Callable[..., None]:
        APPLIED.update(names.split())
        return pytest.mark.applies(*names.split())(function)  # type: ignore[no-any-return]

    return mark


class Watched:
    """Runs `hako` with its processes watched."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.touch()
        self.argv = [sys.executable, "-IS", str(WATCHED), source, str(self.notes)]

    def __call__(self, *words: str | Path, status: int = 0, **environ: str) -> str:
        """Run to the end, and look at the notes. Returns what was printed."""
        done = subprocess.run(
            [*self.argv, *map(str, words)],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            env={**os.environ, **environ},
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.look()
        return done.stdout + done.stderr

    def look(self) -> set[str]:
        """Which steps were applied. Fails when something was loaded."""
        lines = [line.partition(" ") for line in self.notes.read_text().splitlines()]
        assert [what for kind, _, what in lines if kind == "loaded"] == []
        return {what for kind, _, what in lines if kind == "applied"}


@pytest.fixture(params=["bundle", "sources"])
def watched(request: pytest.FixtureRequest, hako: Hako) -> Iterator[Watched]:
    """The runner. At the end, all steps must have been applied that the test says it applies."""
    runner = Watched(hako.folder, request.param)
    yield runner
    wanted = {name for mark in request.node.iter_markers("applies") for name in mark.args}
    assert wanted - runner.look() == set()


def every_step() -> set[str]:
    """The names of all kinds of steps, but for those that are there to be derived from."""
    for module in pkgutil.walk_packages(hakoniwa.steps.__path__, "hakoniwa.steps."):
        importlib.import_module(module.name)
    found, ahead = set(), [Step]
    while ahead:
        kind = ahead.pop()
        ahead += kind.__subclasses__()
        if kind.__module__.startswith("hakoniwa.") and (not kind.__subclasses__() or "__str__" in vars(kind)):
            found.add(kind.__name__)
    return found


def test_every_step_is_applied_by_a_test_here() -> None:
    assert every_step() == APPLIED


@applies(
    "CutOff BindRoot PivotRoot JoinKeyring FindAccount FixPaths HidePaths SetHostname MakeMount MakeDev MakeDevpts"
)
@applies("TakeNull SetLimits BecomeUser DieWithSupervisor EnterWorkdir PutFiltersInForce Execute Redirect BindMount")
@applies("SetNice SetPolicy SetOomScore RaiseLoopback ShiftClocks MakeCgroupNamespace MountCgroups BindLxcfs")
def test_a_start_with_all_that_a_file_can_say(watched: Watched, box: Writer, places: Path) -> None:
    (places / "lxcfs" / "proc").mkdir(parents=True)
    (places / "lxcfs" / "proc" / "meminfo").write_text("MemTotal: 42 kB\n")
    (places / "in").write_text("hello\n")
    body = f"""
config.mount_independent("cgroup")
config.lxcfs_root = {str(places / "lxcfs")!r}
config.init = {INITS[0]!r}
config.uid = "alice"
config.workdir = "/bin"
config.hostname = "here"
config.resource.set_limit("NOFILE", 50)
config.resource.nice = 1
config.resource.sched = "batch"
config.resource.oom_score_adj = 500
config.namespace.unshare("net")
config.namespace.time_offset(monotonic=5)
config.add_mount_point({str(places)!r}, to="/mnt")
config.add_mount_point("own", to="/tmp", fs="tmpfs", options="mode=1777")
config.add_mount_point("dev", to="/opt", fs="devtmpfs")
config.mount_network_etc()
config.filesystem.add_masked_path("/etc/passwd")
config.filesystem.add_readonly_path("/bin")
config.command.set_stdin(host_file={str(places / "in")!r})
config.command.set_stdout(host_file={str(places / "out")!r})
config.command.set_stderr(file="/tmp/err")
with config.seccomp.filter(default="allow") as rule:
    rule.errno("chown", "EPERM")
"""
    watched("start", box(EVERYTHING + body), "--", "sh", "-c", "cat; head -1 /proc/meminfo")
    assert (places / "out").read_text() == "hello\nMemTotal: 42 kB\n"


@applies("OpenTerminal MakeDevpts TakeNull Execute")
@pytest.mark.parametrize("command", ["start", "attach"])
@pytest.mark.parametrize("body", ["", USER, 'config.command.set_stderr(file="/err")'])
def test_terminals(watched: Watched, hako: Hako, box: Writer, command: str, body: str) -> None:
    path = box(body)
    if command == "attach":
        watched("start", "-D", path)
    words = [command, str(path), "--", "sh", "-c", "echo ready; read word; exit $word"]
    terminal = Terminal(words, hako.folder, program=watched.argv)
    try:
        terminal.wait_for("ready")
        terminal.type("7\n")
        assert terminal.end() == 7
    finally:
        terminal.process.kill()
        terminal.end()
        terminal.close()
        hako("kill", path, status=None)


@applies("HookPoint Wait")
@pytest.mark.parametrize("body", ["", USER])
def test_hooks_in_the_first_process(watched: Watched, box: Writer, body: str) -> None:
    points = ("after_network_created", "after_fork", "after_network_initialized", "before_chroot", "after_chroot")
    body += "".join(f"config.add_general_hook({point!r})(note)\n" for point in points)
    body += "@config.add_general_hook('after_chroot')\ndef raise_it(base): base.nothing_of_that_name\n"
    told = watched("start", box(body, head="def note(base): base.log('seen'); print('printed')"), "--", "true")
    assert told.count("seen") == told.count("printed") == len(points)
    assert "nothing_of_that_name" in told


@applies("AwaitOutside BindCovered BindMount BindRoot Execute")
def test_a_user_namespace(watched: Watched, box: Writer, places: Path) -> None:
    (places / "project").mkdir()
    body = USER + 'config.add_mount_point("project", to="/work", idmap=True)\nconfig.uid = "alice"\n'
    watched("start", box(EVERYTHING + body, mounts=False), "--", "touch", "/work/made")


@applies("CopyMounts AwaitOutside Execute")
def test_namespaces_that_are_entered(
    watched: Watched, box: Writer, bystander: subprocess.Popen[bytes], places: Path
) -> None:
    names = {"mount": "mnt", "uts": "uts", "net": "net"}
    body = "".join(
        f'config.namespace.enter("{name}", via="/proc/{child_of(bystander)}/ns/{file}")\n'
        for name, file in names.items()
    )
    watched("start", box(body + f'config.namespace.unshare("ipc", persist_in={str(places / "kept")!r})'), "--", "true")
    subprocess.run(["umount", str(places / "kept")], check=False)


@applies("Chroot JoinGroups PutFiltersInForce KeepPaths FixPaths Execute")
def test_the_older_ways(watched: Watched, box: Writer, places: Path) -> None:
    body = "config.filesystem.use_legacy_chroot = True\nconfig.no_new_privs = False\n"
    body += f'config.add_mount_point({str(places.parent)!r}, to="/work")\nconfig.limit(pids=100)\n'
    body += 'config.cgroup["pids.max"] = 50\n' if os.path.isdir("/sys/fs/cgroup/pids") else ""
    watched("start", box(body), "--", "true")


@applies("ReplaceRoot Execute")
def test_another_root(watched: Watched, box: Writer, busybox: Path) -> None:
    watched("start", box(f'config.add_mount_point({str(busybox)!r}, to="/")'), "--", "true")


@applies("LayerRoot Execute")
@pytest.mark.parametrize("body", ["", USER])
def test_a_rootfs_on_layers(watched: Watched, write_file: Writer, hako: Hako, body: str) -> None:
    for kind in (
        'config.bootstrap.strategy = "host"\n',
        'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\n',
    ):
        path = write_file(body + kind + 'config.mount_independent("procfs", "devtmpfs")')
        hako("create", path)
        watched("start", path, "--", "true")
        hako("rm", "--rootfs", path)


@applies("GatherRoot AwaitOutside BindCovered JoinNamespaces EnterRoot Execute")
def test_an_ordinary_user(watched: Watched, user: Ordinary) -> None:
    notes = user.home / "notes"
    watched.notes.rename(notes)
    os.chown(notes, *(os.stat(user.home).st_uid, os.stat(user.home).st_gid))
    watched.notes = notes
    path = user.write('config.bootstrap.strategy = "host"\n' + EVERYTHING)
    hako: tuple[str | Path, ...] = (*watched.argv[:-1], notes)
    user.run(*hako, "start", "-b", "-D", path, "--", "sleep", "1000")
    user.run(*hako, "attach", path, "--", "true")
    user.hako("kill", path)
    watched.look()
    watched.notes = watched.folder / "notes"
    watched.notes.write_text(notes.read_text())


@applies("JoinNamespaces EnterRoot JoinGroups JoinKeyring FindAccount SetLimits SetNice BecomeUser Execute")
@pytest.mark.parametrize("body", ["", USER, 'config.capabilities.allow("all")\n', "config.no_new_privs = False\n"])
def test_an_attached_command(watched: Watched, hako: Hako, box: Writer, body: str) -> None:
    body += 'config.resource.set_limit("NOFILE", 50)\nconfig.resource.nice = 1\nconfig.limit(pids=100)\n'
    path = box(body)
    watched("start", "-D", path, "--", "sleep", "1000")
    watched("attach", path, "--", "true")
    watched("attach", "-u", "alice", path, "--", "nowhere", status=127)
    watched("attach", "-u", "nobody-such", path, "--", "true", status=125)
    hako("kill", path)


@applies("OpenAttributes ReceiveAttributes Execute")
@pytest.mark.skipif(os.path.isdir("/sys/module/apparmor"), reason="this kernel has no lack of AppArmor")
def test_the_request_for_an_apparmor_profile(watched: Watched, hako: Hako, box: Writer, places: Path) -> None:
    told = watched("start", box('config.apparmor = "box"'), "--", "true", status=125, AS_IF_APPARMOR="1")
    assert "cannot change to the AppArmor profile" in told
    hako("start", "-D", box(), "--", "sleep", "1000")
    (state,) = (places / "run" / "box").glob("state*")
    text = state.read_text()
    assert '"apparmor": null' in text
    state.write_text(text.replace('"apparmor": null', '"apparmor": "box"'))
    told = watched("attach", "-n", "box", "--", "true", status=125, AS_IF_APPARMOR="1")
    assert "cannot change to the AppArmor profile" in told
    state.write_text(text)
    hako("kill", box())


@applies("Execute")
def test_no_program(watched: Watched, hako: Hako, box: Writer) -> None:
    path = box()
    watched("start", "-D", path)
    hako("kill", path)


@applies("BindRoot FindAccount")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('config.init_command = ["nowhere"]', 127),
        ('config.init_command = ["/etc/passwd"]', 126),
        ('config.workdir = "/nowhere"', 125),
        ('config.uid = "nobody-such"', 125),
        ('config.command.set_stdin(file="/nowhere")', 125),
        ('config.resource.set_limit("NOFILE", 50)\nconfig.init_command = ["nowhere"]', 127),
    ],
)
def test_what_fails_inside(watched: Watched, box: Writer, body: str, status: int) -> None:
    told = watched("start", box(body), status=status)
    assert "at the top of the file" not in told


@applies("CutOff LayerRoot JoinKeyring PivotRoot SetHostname TakeNull BecomeUser PutFiltersInForce Execute")
def test_provisioning(watched: Watched, write_file: Writer, hako: Hako) -> None:
    body = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\np = config.provision\n'
    body += "p.run_shell('echo shell')\np.run_python(inside)\np.copy(__file__, '/copied')\n"
    head = "def inside(box): box.log('python'); box.run(['/bin/echo', 'program'])"
    path = write_file(body, head=head)
    told = watched("create", path)
    assert all(word in told for word in ("shell", "python", "program"))
    hako("rm", "--rootfs", path)


def test_the_watch_sees_what_is_loaded(watched_alone: Watched, box: Writer) -> None:
    head = "def load(base):\n    import colorsys"
    told = subprocess.run(
        [
            *watched_alone.argv,
            "start",
            str(box("config.add_general_hook('after_chroot')(load)", head=head)),
            "--",
            "true",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=watched_alone.folder,
    )
    assert "colorsys is not loaded yet" in told.stderr
    with pytest.raises(AssertionError, match=r"colorsys in or after HookPoint.apply"):
        watched_alone.look()


@pytest.fixture
def watched_alone(hako: Hako) -> Watched:
    return Watched(hako.folder, "bundle")


@applies("AwaitKeeping WaitAsFirst EmptyRoot")
def test_the_namespaces_that_a_barn_shares(watched: Watched, box: Writer, hako: Hako, places: Path) -> None:
    said = json.loads(
        hako("inspect", "--spec", box(EVERYTHING + 'config.init_command = ["/bin/sleep", "1000"]')).stdout
    )
    names = ["user", "pid", "net", "uts", "ipc", "cgroup", "time"]
    said["shared"] = {"namespaces": names, "time_offset": {"monotonic": 5.0}}
    path = places / "box.json"
    path.write_text(json.dumps(said))
    watched("start", "-D", "--spec", path)
    hako("kill", "-n", "box")


@applies("AwaitRelease Execute")
@pytest.mark.parametrize("body", ["", USER])
def test_a_start_that_is_held_and_released(watched: Watched, box: Writer, hako: Hako, body: str) -> None:
    path = box(body)
    watched("start", "-D", "--hold", path, "--", "sleep", "1000")
    watched("release", path)
    hako("kill", path)
