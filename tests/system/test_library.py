"""The library: boxes of a Python program, without a fork of the program."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hakoniwa
from hakoniwa import Box, Haconiwa, HakoError
from hakoniwa.errors import Problems
from hakoniwa.haco.container import ContainerBuilder
from hakoniwa.known import state
from tests.conftest import LONGEST, Hako

Writer = Callable[..., Path]
MOUNTS = ("procfs", "sysfs", "devtmpfs", "devpts", "shm")


WATCHED: list[bool] = []


@pytest.fixture(autouse=True)
def never_forked() -> Iterator[None]:
    """This process is never forked: neither by a box that starts nor by a command inside."""
    if not WATCHED:
        os.register_at_fork(before=_refuse_fork)  # for good
    WATCHED[:] = [True]
    yield
    WATCHED[:] = [False]


def _refuse_fork() -> None:
    if WATCHED[0] and sys._getframe(1).f_code.co_filename.startswith(os.path.dirname(hakoniwa.__file__)):
        raise AssertionError("the program was forked")


def sandbox(rootfs: Path, **settings: object) -> ContainerBuilder:
    """A definition of a program's own."""
    with Haconiwa.define() as config:
        config.chroot_to(str(rootfs))
        config.rootfs.readonly = True
        config.mount_independent(*MOUNTS)
        for name, value in settings.items():
            setattr(config, name, value)
    return config


def test_a_program_of_ten_lines(places: Path, rootfs: Path) -> None:
    program = places / "job.py"
    program.write_text(
        textwrap.dedent(f"""\
            import hakoniwa

            with hakoniwa.Haconiwa.define() as config:
                config.chroot_to({str(rootfs)!r})
                config.mount_independent("procfs", "devtmpfs")

            done = hakoniwa.run(config, ["tr", "a-z", "A-Z"], input=b"hello", timeout=30, limit={{"pids": 20}})
            print(done.stdout.decode(), done.returncode)
            """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=LONGEST)
    assert (done.stdout, done.stderr) == ("HELLO 0\n", "")
    assert not any((places / "run").glob("[!.]*")), "something is known of what has run"


def test_what_a_command_returns(places: Path, rootfs: Path) -> None:
    config = sandbox(rootfs)
    done = hakoniwa.run(config, ["sh", "-c", "cat; echo err >&2; exit 3"], input=b"in\0")
    assert (done.stdout, done.stderr, done.returncode, done.dropped) == (b"in\0", b"err\n", 3, 0)
    assert hakoniwa.run(config, ["sh", "-c", "kill -9 $$; exit 1"]).returncode in (1, 137)
    done = hakoniwa.run(config, ["head", "-c", "100000", "/dev/zero"], largest=1000)
    assert (len(done.stdout), done.dropped) == (1000, 99000)
    with pytest.raises(subprocess.CalledProcessError):
        hakoniwa.run(config, ["false"], check=True)
    with pytest.raises(HakoError, match="nowhere") as failed:
        hakoniwa.run(config, ["nowhere"])
    assert failed.value.status == 127


def test_a_command_that_takes_too_long_is_ended_with_its_container(places: Path, rootfs: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as expired:
        hakoniwa.run(sandbox(rootfs), ["sh", "-c", "echo begun; exec sleep 1000"], timeout=1)
    assert expired.value.output == b"begun\n"
    assert hakoniwa.run(sandbox(rootfs), ["cat"], input=b"x" * 3_000_000, timeout=30).stdout == b"x" * 3_000_000


def test_a_command_that_closes_its_outputs_has_no_more_time(places: Path, rootfs: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        hakoniwa.run(sandbox(rootfs), ["sh", "-c", "exec sleep 1000 > /dev/null 2>&1"], timeout=1)


def test_a_box_of_a_file(box: Writer, places: Path) -> None:
    file = Box(box('config.uid = "alice"\nconfig.environ["A"] = "b"'))
    assert file.running is None
    with file.start(["sleep", "1000"]) as running:
        assert running.name == "box"
        assert running.status == "running"
        assert Path(f"/proc/{running.pid}/comm").read_text() == "sleep\n"
        assert running.run(["sh", "-c", "id -un; echo $A"]).stdout == b"alice\nb\n"
        assert running.run(["id", "-u"], user=0).stdout == b"0\n"
        for wrong in ({"user": -1}, {"group": 2**32}, {"workdir": "etc"}, {"environ": {"A=B": "c"}}):
            with pytest.raises(HakoError, match="must be"):
                running.run(["id"], **wrong)
        assert running.run(["pwd"], workdir="/etc").stdout == b"/etc\n"
        assert running.run(["env"], environ={"C": "d"}).stdout.count(b"C=d\n") == 1
        with pytest.raises(subprocess.TimeoutExpired):
            running.run(["sleep", "1000"], timeout=0.5)
        assert Box("box").running is not None
        with pytest.raises(HakoError, match="already running"):
            file.start(["true"])
        with pytest.raises(TimeoutError):
            running.wait(0.1)
    assert (running.status, running.exit_status) == ("stopped", 137)
    assert running.wait() == 137
    file.remove()
    assert not state.is_known("box")


def test_of_several_all_run_or_none(hako: Hako, write_file: Writer, rootfs: Path) -> None:
    first, second = "\n".join(TWO.format(rootfs=str(rootfs), name=name) for name in "ab"), 'c.workdir = "/nowhere"'
    path = write_file(f'config.name = "both"\n{first}\n    {second}')
    with pytest.raises(HakoError, match="/nowhere"):
        Box(path).start()
    assert json.loads(hako("ps", "--json").stdout)["containers"] == []
    path = write_file(f'config.name = "both"\n{first}')
    with Box(path).start() as running:
        assert running.names == ("a", "b")
        assert running["b"].run(["hostname"]).stdout == b"b\n"
        with pytest.raises(HakoError, match="several containers: a b"):
            running.run(["true"])


TWO = """\
with config.define() as c:
    c.name = "{name}"
    c.chroot_to({rootfs!r})
    c.init_command = ["/bin/sleep", "1000"]
    c.mount_independent("procfs")
"""


def test_a_program_inside_has_nothing_of_the_library_open(places: Path, rootfs: Path) -> None:
    done = hakoniwa.run(sandbox(rootfs), ["sh", "-c", "ls /proc/self/fd"])
    assert done.stdout.split() == [b"0", b"1", b"2", b"3"]  # the last is what ls reads from


def test_limits(places: Path, rootfs: Path) -> None:
    done = hakoniwa.run(sandbox(rootfs), ["cat", "/proc/self/cgroup"], limit={"pids": 7, "memory": "64M"})
    assert b"hakoniwa" in done.stdout
    for wrong, told in ({"memroy": 1}, "memroy"), ({"memory": "much"}, "much"), ({"pids": -1}, "-1"):
        with pytest.raises(HakoError, match=told):
            hakoniwa.run(sandbox(rootfs), ["true"], limit=wrong)


def test_limits_that_do_not_fit_the_definition(rootfs: Path) -> None:
    with Haconiwa.define() as config:
        config.chroot_to(str(rootfs))
        config.cgroup.name = "some"
        config.cgroup.v2.assign_only = True
    with pytest.raises(HakoError, match="assign_only is for a v2 group without parameters"):
        hakoniwa.run(config, ["true"], limit={"pids": 7})


def test_what_is_wrong_in_a_definition_is_told_where_it_is_made(rootfs: Path) -> None:
    with Haconiwa.define() as config:
        config.chroot_to(str(rootfs))
        config.uid = -1
        config.namespace.unshare("nett")
    with pytest.raises(Problems) as found:
        Box(config)
    lines = [line.partition(": ") for line in found.value.lines()]
    assert all(where.rpartition(":")[0].endswith("test_library.py") for where, _, _ in lines)
    assert "'nett' is unknown (did you mean 'net'?)" in lines[-1][2]


def test_names_that_are_nowhere(places: Path) -> None:
    with pytest.raises(HakoError, match="no container has that name"):
        Box("nowhere").start()
    with pytest.raises(HakoError, match="No such file"):
        Box(places / "nowhere.haco.py").start()
    with pytest.raises(HakoError, match="the name of a box"):
        Box("box.haco.py", name="../x")
    with pytest.raises(TypeError):
        Box("box").run("ls -l")


def told(base: object) -> None:
    """A hook of this file: it runs in another process."""
    Path(os.environ["TOLD"]).write_text(f"{base.name} {os.getpid()}")  # type: ignore[attr-defined]


def test_functions_of_a_program_are_hooks(places: Path, rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLD", str(places / "told"))
    with Haconiwa.define() as config:
        config.chroot_to(str(rootfs))
        config.add_general_hook("before_start_wait", told)
    with Box(config, name="hooked").start(["sleep", "1000"]) as running:
        assert (places / "told").read_text() == f"hooked {running.supervisor_pid}"


def test_functions_that_cannot_travel_say_so(rootfs: Path) -> None:
    caught = 3
    for function in (lambda base: caught, print):
        with Haconiwa.define() as config:
            config.chroot_to(str(rootfs))
            config.add_general_hook("before_start_wait", function)
        with pytest.raises(HakoError, match="cannot be passed on"):
            Box(config)


class Server(socketserver.ThreadingUnixStreamServer):
    """Runs what it is sent, a spec and a command as JSON, in a thread for each connection; as servers of gRPC do."""

    request_queue_size = 64
    daemon_threads = True


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        spec, argv = json.loads(self.rfile.readline())
        self.wfile.write(hakoniwa.run(spec, argv, timeout=LONGEST).stdout)


def ask(address: str, spec: object, argv: list[str]) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps([spec, argv]).encode() + b"\n")
        return connection.makefile("rb").read()


def test_a_threaded_server_runs_fifty_at_once_from_specs(hako: Hako, box: Writer, places: Path) -> None:
    spec = json.loads(hako("inspect", "--spec", box("config.rootfs.readonly = True")).stdout)
    address = str(places / "socket")

    def run_one(number: int) -> bytes:
        own = json.loads(json.dumps(spec).replace('"box"', f'"box{number}"'))
        return ask(address, own, ["sh", "-c", "hostname; echo $0", str(number)])

    with Server(address, Handler) as server, ThreadPoolExecutor(51) as pool:
        serving = pool.submit(server.serve_forever)
        done = list(pool.map(run_one, range(50)))
        server.shutdown()
        serving.result()
    assert done == [b"box%d\n%d\n" % (number, number) for number in range(50)]


def test_fifty_at_once_of_one_definition(places: Path, rootfs: Path) -> None:
    config = sandbox(rootfs)
    with ThreadPoolExecutor(50) as pool:
        done = list(pool.map(lambda n: hakoniwa.run(config, ["echo", str(n)], timeout=LONGEST), range(50)))
    assert [one.stdout for one in done] == [b"%d\n" % number for number in range(50)]


def test_a_document_of_others_names_no_functions(places: Path, rootfs: Path) -> None:
    marker = places / "executed"
    (places / "evil.py").write_text(f"open({str(marker)!r}, 'w')\ndef f(base): pass\n")
    hook = {"point": "before_fork", "function": {"file": str(places / "evil.py"), "line": 2, "name": "f"}}
    spec = {
        "schema": 1,
        "name": "x",
        "containers": [{"name": "x", "files": {"rootfs": {"path": str(rootfs)}}, "hooks": {"general": [hook]}}],
    }
    with pytest.raises(HakoError, match="hooks"):
        hakoniwa.run(spec, ["true"])
    assert not marker.exists()


def test_coroutines(places: Path, rootfs: Path) -> None:
    config = sandbox(rootfs)

    async def several() -> list[bytes]:
        done = await asyncio.gather(*(Box(config).run_async(["echo", str(n)]) for n in range(5)))
        return [one.stdout for one in done]

    assert asyncio.run(several()) == [b"%d\n" % number for number in range(5)]

    async def cancelled() -> None:
        with Box(config, name="long").start(["sleep", "1000"]) as running:
            work = asyncio.create_task(running.run_async(["sh", "-c", "echo > /dev/shm/there; exec sleep 999"]))
            while running.run(["test", "-e", "/dev/shm/there"]).returncode:
                await asyncio.sleep(0)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            assert b"sleep 999" not in running.run(["ps"]).stdout

    asyncio.run(cancelled())


BOUND = """\
import sys, hakoniwa
running = hakoniwa.Box(sys.argv[1]).start(["sleep", "1000"], bound=sys.argv[2] == "bound")
print(running.pid, running.supervisor_pid, flush=True)
sys.stdin.read()
"""


def host() -> ContainerBuilder:
    with Haconiwa.define() as config:
        config.bootstrap.strategy = "host"
        config.mount_independent("procfs", "devtmpfs")
    return config


def remains(places: Path) -> list[Path]:
    """What is known of containers, their rootfs, and the locks of those."""
    found = [path for word in ("run", "lib") for path in (places / word).glob("[!.]*")]
    return [*found, *(places / "run" / ".rootfs").glob("*")]


def test_nothing_stays_of_what_has_no_name(places: Path) -> None:
    config = host()
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda n: hakoniwa.run(config, ["sh", "-c", "echo > /file; ls /file"]), range(3)))
    assert [one.stdout for one in done] == [b"/file\n"] * 3
    assert remains(places) == []
    with Box(config).start(["sleep", "1000"]) as first, Box(config).start(["sleep", "1000"]) as second:
        assert first.name != second.name
        assert first.run(["true"]).returncode == 0
    assert remains(places) == []
    with pytest.raises(HakoError, match="no program"):
        Box(config).start(["/not/there"])
    assert remains(places) == []


UNNAMED = """\
import sys, hakoniwa
with hakoniwa.Haconiwa.define() as config:
    config.bootstrap.strategy = "host"
running = hakoniwa.Box(config).start(["sleep", "1000"])
print(running.supervisor_pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_nothing_stays_of_it_when_the_program_has_gone(places: Path, end: str) -> None:
    program = places / "program.py"
    program.write_text(UNNAMED)
    words = [sys.executable, str(program)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        supervisor = os.pidfd_open(int(running.stdout.readline()))
        if end == "kill":
            running.kill()
        else:
            running.stdin.close()
    wait_until_readable(supervisor)
    os.close(supervisor)
    assert remains(places) == []


@pytest.mark.parametrize("bound", ["bound", "free"])
def test_what_is_bound_ends_with_the_program(hako: Hako, box: Writer, places: Path, bound: str) -> None:
    path = box()
    program = [sys.executable, "-c", BOUND, str(path), bound]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=places) as running:
        assert running.stdout is not None
        supervisor = os.pidfd_open(int(running.stdout.readline().split()[1]))
        running.kill()
    if bound == "free":
        assert state.read("box").status == "running"  # type: ignore[union-attr]
        hako("kill", path)
    else:
        wait_until_readable(supervisor)
        assert [one["status"] for one in json.loads(hako("ps", "-a", "--json").stdout)["containers"]] == ["stopped"]
    os.close(supervisor)


def wait_until_readable(descriptor: int) -> None:
    import select

    assert select.select([descriptor], [], [], LONGEST)[0]


PLUGIN = """
def test_passes(hako):
    assert hako({box!r}, ["sleep", "1000"]).run(["echo", "hi"]).stdout == b"hi\\n"

def test_fails(hako):
    hako({box!r}, ["sleep", "1000"])
    {then}
"""


PYTEST = (sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", ".")


@pytest.mark.parametrize("process", ["pytest", "worker"])
def test_what_a_failed_test_keeps_has_its_name_for_good(hako: Hako, places: Path, rootfs: Path, process: str) -> None:
    if process == "worker":  # as pytest-xdist has it: what is shown comes by reports alone
        (places / "conftest.py").write_text("def pytest_configure(config): config.workerinput = {}\n")
    (places / "test_it.py").write_text(
        "from hakoniwa import Haconiwa\n"
        "def test_fails(hako):\n"
        "    with Haconiwa.define() as config:\n"
        f"        config.chroot_to({str(rootfs)!r})\n"
        "    hako(config, ['sleep', '1000'])\n"
        "    assert False\n"
    )
    told = run_pytest(places, "test_it.py", "--hako-keep", check=1)
    (found,) = json.loads(hako("ps", "--json").stdout)["containers"]
    assert f"kept: {found['name']} " in told
    hako("kill", "-n", found["name"])
    hako("rm", "-n", found["name"])


def run_pytest(places: Path, *words: str, check: int) -> str:
    done = subprocess.run(
        [*PYTEST, *words],
        cwd=places,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    assert done.returncode == check, done.stdout + done.stderr
    return done.stdout


def test_the_pytest_plugin(hako: Hako, box: Writer, places: Path) -> None:
    (places / "test_it.py").write_text(PLUGIN.format(box=str(box()), then="raise ValueError"))
    assert "1 failed, 1 passed" in run_pytest(places, "test_it.py", check=1)
    assert json.loads(hako("ps", "-a", "--json").stdout)["containers"] == []
    assert "kept: box (hako attach -n box" in run_pytest(places, "--hako-keep", "test_it.py", check=1)
    hako("attach", "-n", "box", "--", "true")
    hako("kill", "-n", "box")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_pytest_plugin_is_killed(hako: Hako, box: Writer, places: Path, number: int) -> None:
    fifo = f"pathlib.Path({str(places / 'fifo')!r})"
    waits = f"import pathlib; {fifo}.write_text('begun'); {fifo}.read_text()"
    os.mkfifo(places / "fifo")
    begun = os.open(places / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    (places / "test_it.py").write_text(PLUGIN.format(box=str(box()), then=waits))
    words = ["env", "--default-signal=INT", *PYTEST, "test_it.py::test_fails"]  # whatever ours does with INT
    with subprocess.Popen(words, cwd=places, stdout=subprocess.DEVNULL) as running:
        try:
            wait_until_readable(begun)
            found = state.read("box")
            assert found is not None
            supervisor = os.pidfd_open(found.supervisor.pid)
            running.send_signal(number)
            running.wait(LONGEST)
        finally:
            running.kill()
    os.close(begun)
    wait_until_readable(supervisor)
    os.close(supervisor)
    assert json.loads(hako("ps", "--json").stdout)["containers"] == []


STOPS = """
import os, sys
def stop():
    with open("told", "w"): pass
    with open("let"): pass
"""
STOPPING = {
    "while the file is read": "stop()",
    "in a hook of the barn": '@config.add_general_hook("setup")\ndef hook(barn): stop()',
    "in a hook of the supervisor": '@config.add_general_hook("before_fork")\ndef hook(base): stop()',
}


@pytest.mark.parametrize("when", STOPPING)
def test_a_start_whose_program_is_killed_leaves_nothing(hako: Hako, box: Writer, places: Path, when: str) -> None:
    for name in ("told", "let"):
        os.mkfifo(places / name)
    here = f"os.chdir({str(places)!r})\n"  # a daemon has left it
    path = box(here + STOPPING[when].replace("stop()", f"os.chdir({str(places)!r}); stop()"), head=STOPS)
    program = [sys.executable, "-c", BOUND, str(path), "free"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=places) as running:
        (places / "told").read_text()  # the start is under way
        (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        executed = os.pidfd_open(int(child))
        running.kill()
        running.wait()
        let = os.open(places / "let", os.O_RDWR)  # waits for nobody: who is told to end may have ended
    wait_until_readable(executed)
    os.close(let)
    os.close(executed)
    assert json.loads(hako("ps", "--json").stdout)["containers"] == []
    box()
    assert hako("start", path, "--", "echo", "again").stdout == "again\n"


def test_the_folder_run_does_not_take_the_name_of_the_function() -> None:
    code = "import hakoniwa.run.supervisor; from hakoniwa import run; print(run.__name__, hakoniwa.run is run)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "run True\n", done.stderr
