"""Several containers of one file, and general hooks: where each runs, and what a failure does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import HAKO, Hako

Writer = Callable[..., Path]

SLEEPERS = """
with config.define() as c:
    c.name = "one"
    c.init_command = ["/bin/sleep", "1000"]
with config.define() as c:
    c.name = "two"
    c.init_command = ["/bin/sleep", "1000"]
"""

PAIR = """
with config.define() as c:
    c.name = "one"
    c.init_command = ["/bin/sh", "-c", "echo out; printf half; cat; exit {}"]
with config.define() as c:
    c.name = "two"
    c.init_command = ["/bin/sh", "-c", "echo err >&2; exit {}"]
"""


def names(hako: Hako, *words: str) -> dict[str, str]:
    return {c["name"]: c["status"] for c in json.loads(hako("ps", "--json", *words).stdout)["containers"]}


def test_several_in_the_foreground(hako: Hako, box: Writer) -> None:
    done = hako("start", box(PAIR.format(0, 0)), input="nobody reads this")
    assert sorted(done.stdout.splitlines()) == ["one | half", "one | out"]
    assert done.stderr == "two | err\n"


def test_the_status_of_a_barn_is_the_first_failures(hako: Hako, box: Writer) -> None:
    hako("start", box(PAIR.format(0, 9)), status=9)
    hako("start", box(PAIR.format(8, 9)), status=8)


def test_one_that_cannot_start_leaves_the_other_running(hako: Hako, box: Writer) -> None:
    body = SLEEPERS + 'with config.define() as c:\n    c.name = "bad"\n    c.init_command = ["/nope"]\n'
    path = box(body)
    done = hako("start", "-D", path, status=127)
    assert ": there is no program '/nope' inside" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["one", "two"]
    assert names(hako) == {"one": "running", "two": "running"}
    hako("kill", path)


def test_several_in_the_background(hako: Hako, box: Writer) -> None:
    path = box(SLEEPERS)
    done = hako("start", "-D", "--wait", path)
    assert len(done.stdout.splitlines()) == 2
    assert "several containers run: one two" in hako("attach", path, "--", "true", status=125).stderr
    assert hako("attach", path, "-n", "two", "--", "hostname").stdout == "two\n"
    assert "a command after -- needs a file with one container" in hako("start", path, "--", "true", status=2).stderr
    hako("kill", path, "-n", "one")
    assert names(hako) == {"two": "running"}
    hako("kill", path)
    assert names(hako, "-a") == {"one": "stopped", "two": "stopped"}
    hako("rm", path)
    assert names(hako, "-a") == {}


def test_the_end_of_the_barns_process_leaves_its_containers(hako: Hako, box: Writer) -> None:
    path = box(SLEEPERS)
    hako("start", "-D", path)
    supervisors = [c["supervisor_pid"] for c in json.loads(hako("ps", "--json").stdout)["containers"]]
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in supervisors}
    (barn,) = parents
    os.kill(barn, signal.SIGKILL)
    assert names(hako) == {"one": "running", "two": "running"}
    hako("kill", path)


def test_a_term_to_the_barns_process_ends_its_containers(hako: Hako, box: Writer) -> None:
    path = box(SLEEPERS)
    front = hako.background("start", path)
    while len(names(hako)) < 2:
        pass
    front.terminate()
    assert front.wait(20) == 137
    front.communicate()


# Hooks

EVERY = """
import os, json
def note(point):
    def hook(subject):
        with open(LOG, "a") as file:
            root = os.path.exists("/bin/busybox-only-here")
            own = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns") else ""
            print(point, subject.name, root, own != OUTER, file=file)
    return hook
"""
POINTS = [
    "setup",
    "before_fork",
    "immediately_after_fork_on_parent",
    "after_network_created",
    "after_fork",
    "after_network_initialized",
    "before_chroot",
    "after_chroot",
    "before_start_wait",
    "after_failure",
    "teardown_container",
    "system_failure",
    "teardown",
]


def test_general_hooks_run_where_and_when_they_are_to(hako: Hako, box: Writer, rootfs: Path, places: Path) -> None:
    (rootfs / "bin" / "busybox-only-here").write_text("")
    log = places / "hooks.log"
    log.write_text("")
    head = f"LOG, OUTER = {str(log)!r}, {os.readlink('/proc/self/ns/pid')!r}\n" + EVERY
    body = "\n".join(f"config.add_general_hook({point!r})(note({point!r}))" for point in POINTS)
    body += f'\nconfig.namespace.unshare("net")\nconfig.add_mount_point({str(places)!r}, to={str(places)!r})'
    hako("start", box(body, head=head), "--", "sh", "-c", "exit 3", status=3)
    lines = [line.split() for line in log.read_text().splitlines()]
    seen = [line[0] for line in lines]
    assert set(seen) == set(POINTS) - {"system_failure"}
    assert len(seen) == len(set(seen))
    in_child = [
        point for point in seen if point in ("after_fork", "after_network_initialized", "before_chroot", "after_chroot")
    ]
    assert in_child == ["after_fork", "after_network_initialized", "before_chroot", "after_chroot"]
    assert seen[0] == "setup"
    assert seen[-3:] == ["teardown_container", "after_failure", "teardown"]
    inside = {line[0]: (line[2], line[3]) for line in lines}
    assert inside["after_chroot"] == ("True", "True")
    assert inside["before_chroot"] == inside["after_fork"] == ("False", "True")
    assert inside["before_start_wait"] == inside["setup"] == ("False", "False")


@pytest.mark.parametrize(
    "point", ["setup", "before_fork", "after_fork", "before_chroot", "after_chroot", "immediately_after_fork_on_parent"]
)
@pytest.mark.parametrize("where", ["foreground", "background"])
def test_a_hook_can_refuse_the_start(hako: Hako, box: Writer, places: Path, point: str, where: str) -> None:
    body = f"""
@config.add_general_hook({point!r})
def refuse(subject):
    raise Haconiwa.Abort("not today")
@config.add_general_hook("teardown")
def end(barn):
    open({str(places / "ended")!r}, "a").write("x")
"""
    option = ["-D"] if where == "background" else []
    done = hako("start", *option, box(body), "--", "sleep", "1000", status=125)
    assert f"box.haco.py:8: the {point} hook refused the start: not today" in done.stderr
    assert names(hako) == {}
    if where == "foreground":
        assert (places / "ended").read_text() == "x"


@pytest.mark.parametrize(
    "point", ["setup", "before_fork", "after_chroot", "before_start_wait", "teardown_container", "teardown"]
)
@pytest.mark.parametrize("line", ["1 / 0", "raise SystemExit(7)", "raise KeyboardInterrupt"])
def test_a_hook_that_raises_is_told_and_harms_nothing(hako: Hako, box: Writer, point: str, line: str) -> None:
    path = box(f"@config.add_general_hook({point!r})\ndef f(x):\n    {line}")
    done = hako("start", path, "--", "echo", "ran")
    assert done.stdout == "ran\n"
    assert f"box.haco.py:7: {point} hook: " in done.stderr
    assert "box.haco.py:9 in f" in done.stderr


def test_system_failure(hako: Hako, box: Writer, places: Path) -> None:
    body = f"""
@config.add_general_hook("system_failure")
def failed(barn):
    open({str(places / "failed")!r}, "w").write(" ".join(barn.names))
"""
    hako("start", box(body), "--", "/nope", status=127)
    assert (places / "failed").read_text() == "box"


def test_what_base_offers(hako: Hako, box: Writer, places: Path) -> None:
    body = f"""
config.metadata["k"] = "v"
config.environ["A"] = "1"
@config.add_general_hook("before_start_wait")
def running(base):
    import os
    facts = [base.name, base.hostname, base.pid, base.supervisor_pid == os.getpid(), base.metadata, base.environ]
    facts += [os.path.exists(base.rootfs + "/bin/busybox"), base.exit_status]
    open({str(places / "facts")!r}, "w").write(repr(facts))
    base.log("said")
    base.kill("KILL")
@config.add_general_hook("teardown_container")
def ended(base):
    open({str(places / "facts")!r}, "a").write(repr([base.exit_status.code, base.exit_status.signal, base.exit_status.success]))
"""
    done = hako("start", box(body), "--", "sleep", "1000", status=137)
    assert "hako: box: said" in done.stderr
    facts = (places / "facts").read_text()
    assert facts.startswith("['box', 'box', ")
    assert facts.endswith("True, {'k': 'v'}, {'A': '1'}, True, None][137, 9, False]")


def test_an_import_that_is_not_done_yet_fails_inside(hako: Hako, box: Writer, rootfs: Path) -> None:
    (rootfs / "usr" / "lib" / "python3.11").mkdir(parents=True)
    (rootfs / "usr" / "lib" / "python3.11" / "uuid.py").write_text("open('/tmp/executed', 'w')\n")
    path = box('@config.add_general_hook("after_chroot")\ndef f(base):\n    import uuid')
    done = hako("start", path, "--", "true")
    assert "after_chroot hook: uuid is not loaded yet: import it at the top of the file" in done.stderr
    assert not (rootfs / "tmp" / "executed").exists()


def test_the_log_function_and_the_command(hako: Hako, box: Writer) -> None:
    path = box('Haconiwa.log(f"doing {Haconiwa.command}")')
    assert "hako: doing start" in hako("start", path, "--", "true").stderr


def test_the_hooks_of_a_barn_run_for_the_start_that_wins_alone(hako: Hako, box: Writer, places: Path) -> None:
    body = "".join(
        f'@config.add_general_hook("{point}")\ndef {point}(barn): open({str(places / "ran")!r}, "a").write("{point} ")\n'
        for point in ("setup", "teardown")
    )
    path = box(body)
    hako("start", "-D", path, "--", "sleep", "1000")
    for option in ([], ["-D"]):
        assert "barn 'box' is already running" in hako("start", *option, path, "--", "true", status=125).stderr
    assert (places / "ran").read_text() == "setup "
    hako("kill", path)
    assert (places / "ran").read_text() == "setup teardown "
    assert sorted(os.listdir(places / "run")) == [".rootfs", "box"]


def several(box: Writer, number: int) -> Path:
    """A container file with so many containers."""
    members = "".join(f"with config.define() as c:\n    c.name = 'box{i}'\n" for i in range(number))
    return box("config.init_command = ['sleep', '1000']\n" + members, mounts=False)


def test_a_supervisor_has_nothing_of_its_siblings(hako: Hako, box: Writer) -> None:
    """They are prepared together and forked in a row: each with the locks, logs and sockets of all at first."""
    path = several(box, 4)
    hako("start", "-D", path)
    found = json.loads(hako("ps", "--json").stdout)["containers"]
    opened = []
    for one in found:
        folder = Path(f"/proc/{one['supervisor_pid']}/fd")
        opened.append({os.readlink(file) for file in folder.iterdir()} - {"/dev/null", "anon_inode:[pidfd]"})
        assert {link for link in opened[-1] if link.endswith("/lock")} == {f"{hako.folder}/run/{one['name']}/lock"}
        assert {link for link in opened[-1] if link.endswith(".log")} == {f"{hako.folder}/log/{one['name']}.log"}
    numbered = [{link for link in links if link.startswith(("pipe:", "socket:"))} for links in opened]
    assert not numbered[0] & numbered[1] & numbered[2]
    assert len({len(links) for links in opened}) == 1
    barn = json.loads((hako.folder / "run" / "box0" / "state.json").read_text())["barn_process"]["pid"]
    held = [os.readlink(file) for file in Path(f"/proc/{barn}/fd").iterdir()]
    assert not [link for link in held if "/run/box" in link or "/log/box0" in link]
    hako("kill", path)


def test_more_containers_than_there_are_descriptors_for_at_once(hako: Hako, box: Writer) -> None:
    path = several(box, 20)
    words = ["prlimit", "--nofile=60:60", *map(str, (HAKO, "start", "-D", path))]
    subprocess.run(words, cwd=hako.folder, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert len(json.loads(hako("ps", "--json").stdout)["containers"]) == 20
    hako("kill", path)


def test_one_of_many_that_cannot_be_started(hako: Hako, box: Writer) -> None:
    other = box("", name="box2", mounts=False)
    hako("start", "-D", other, "--", "sleep", "1000")
    done = hako("start", "-D", several(box, 4), status=125)
    assert "the name 'box2' belongs to" in done.stderr or "'box2' is already running" in done.stderr
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == ["box0", "box1", "box3"]
    hako("kill", "--all", several(box, 4))
    hako("kill", other)


def test_a_supervisor_of_several_has_its_first_process_as_its_only_child(hako: Hako, box: Writer) -> None:
    """Another child of its own has started the container, and has ended."""
    path = several(box, 3)
    hako("start", "-D", path)
    found = {one["name"]: one for one in json.loads(hako("ps", "--json").stdout)["containers"]}
    for one in found.values():
        pid = one["supervisor_pid"]
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text().split() == [str(one["pid"])]
    first = os.pidfd_open(found["box1"]["pid"])
    os.kill(found["box1"]["supervisor_pid"], signal.SIGKILL)
    assert wait_end(first, 10), "the parent-death signal is of who is the parent, and not of who has cloned"
    os.close(first)
    assert names(hako, "-a") == {"box0": "running", "box1": "dead", "box2": "running"}
    hako("kill", path)
    assert names(hako) == {}


def test_programs_of_several_that_cannot_be_executed(hako: Hako, box: Writer) -> None:
    members = "".join(
        f"with config.define() as c:\n    c.name = 'box{i}'\n    c.init_command = [{program!r}, '1000']\n"
        for i, program in enumerate(("sleep", "/nope", "/etc/passwd"))
    )
    path = box(members, mounts=False)
    done = hako("start", "-D", path, status=127)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["box0"]
    assert "there is no program '/nope'" in done.stderr
    assert "cannot execute /etc/passwd: " in done.stderr
    assert names(hako, "-a") == {"box0": "running", "box1": "failed", "box2": "failed"}
    hako("kill", path)


@pytest.mark.parametrize("told", [True, False])
def test_who_starts_a_container_is_killed(hako: Hako, box: Writer, places: Path, told: bool) -> None:
    harness = Path(__file__).with_name("harness.py")
    place = "read_to_end" if told else "clone"
    path = several(box, 2)
    words = [sys.executable, "-I", str(harness), "starter", place, "start", "-D", str(path)]
    done = subprocess.run(words, cwd=places, capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "was ended before its program ran" in done.stderr or "was to start the container was killed" in done.stderr
    assert names(hako) == {}
    assert len(hako("start", "-D", path).stdout.splitlines()) == 2
    hako("kill", path)
