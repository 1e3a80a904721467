"""Containers that are added to a barn while it runs, started, stopped, and removed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.kernel.processes.pidfd import wait_end
from hakoniwa.run.barn.late import management
from tests.barns import Barns, barns, document, end
from tests.conftest import Hako, wait_for_log

__all__ = ["barns"]

Writer = Callable[..., Path]

SLEEP = {"command": ["/bin/sleep", "1000"]}
SLEEPERS = """
config.init_command = ["/bin/sleep", "1000"]
with config.define() as c: c.name = "one"
with config.define() as c: c.name = "two"
"""


@pytest.fixture
def pod(hako: Hako, box: Writer, barns: Barns) -> Callable[..., str]:
    """Make an empty barn, and have the document of a container for it: `pod(process=...)`."""
    path = box()
    barns("make", path, empty=True, namespaces=["net", "uts", "ipc"], hostname="pod")

    def describe(called: str, **changes: Any) -> str:
        return document(hako, path, **({"name": called, "process": SLEEP} | changes))

    return describe


def shown(hako: Hako, *words: str) -> dict[str, str]:
    return {one["name"]: one["status"] for one in json.loads(hako("ps", "--json", *words).stdout)["containers"]}


def test_the_life_of_an_added_container(hako: Hako, pod: Callable[..., str], barns: Barns, places: Path) -> None:
    assert barns("list", "box") == []
    assert barns("add", "box", document=pod("late"))["status"] == "added"
    assert shown(hako, "-a") == {}
    started = barns("start", "box", name="late")
    assert started["status"] == "running"
    assert shown(hako) == {"late": "running"}
    assert hako("attach", "-n", "late", "--", "hostname").stdout == "pod\n"
    assert os.readlink(f"/proc/{started['pid']}/ns/net") != os.readlink("/proc/self/ns/net")
    assert barns.fares("box") == {"late": "running"}
    stopped = barns("stop", "box", name="late")
    assert (stopped["status"], stopped["code"], stopped["signal"]) == ("stopped", 137, 9)
    assert shown(hako, "-a") == {"late": "stopped"}
    assert barns("start", "box", name="late")["pid"] not in (None, started["pid"])  # once more
    hako("kill", "-n", "late")
    assert barns.fares("box") == {"late": "stopped"}
    barns("remove", "box", name="late")
    assert barns("list", "box") == []
    assert shown(hako, "-a") == {}
    assert not (places / "log" / "late.log").exists()
    barns("end", "box")


def test_an_added_container_is_held_and_released(hako: Hako, pod: Callable[..., str], barns: Barns) -> None:
    barns("add", "box", document=pod("late"))
    assert "is not ready before it is released" in barns("start", "box", 125, name="late", wait=True, hold=True)
    assert barns("start", "box", name="late", hold=True)["status"] == "created"
    assert shown(hako) == barns.fares("box") == {"late": "created"}
    hako("release", "-n", "late")
    assert shown(hako) == barns.fares("box") == {"late": "running"}
    hako("kill", "-n", "late")
    assert barns("start", "box", name="late", hold=True)["status"] == "created"  # once more
    stopped = barns("stop", "box", name="late")
    assert (stopped["status"], stopped["code"]) == ("stopped", 143)
    assert barns("start", "box", name="late")["status"] == "running"  # and not held
    barns("end", "box")


def test_several_are_added_beside_those_of_a_file(hako: Hako, box: Writer, barns: Barns) -> None:
    path = box(SLEEPERS)
    hako("start", "-D", path)
    barns("add", "box", document=document(hako, box(name="other"), name="three", process=SLEEP))
    barns("start", "box", name="three")
    assert barns.fares("box") == {"one": "running", "two": "running", "three": "running"}
    hako("kill", "-n", "one")
    assert barns.fares("box")["one"] == "stopped"
    barns("start", "box", name="one")
    assert shown(hako) == {"one": "running", "two": "running", "three": "running"}
    hako("kill", path)  # one that was added is a container of the file as any other
    assert shown(hako, "-a") == {"one": "stopped", "two": "stopped", "three": "stopped"}
    assert barns.names() == []  # it was not kept
    hako("rm", path)
    assert shown(hako, "-a") == {}


def test_what_an_added_container_prints_is_logged(hako: Hako, pod: Callable[..., str], barns: Barns) -> None:
    process = {"command": ["/bin/sh", "-c", "echo hello; exit 3"]}
    barns("add", "box", document=pod("late", process=process))
    barns("start", "box", name="late")
    barns("stop", "box", name="late")
    fare = barns("list", "box")[0]
    assert (fare["status"], fare["code"]) == ("stopped", 3)
    assert "hello" in hako("logs", "-n", "late").stdout
    barns("end", "box")
    hako("rm", "-n", "late")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"process": {"command": "x"}}, "the added container: containers[0].process.command: must be"),
        ({"name": "../x"}, "the added container: containers[0].name: must be"),
        ({"hooks": {}}, "is about functions"),
        ({"files": {"rootfs": {"path": "/proc"}}}, "the rootfs cannot be /proc"),
        ({"security": {"capabilities": {"named": ["cap_x"]}}}, "must be"),
    ],
)
def test_a_wrong_document_adds_nothing(pod: Callable[..., str], barns: Barns, changes: Any, told: str) -> None:
    assert told in barns("add", "box", document=pod("late", **changes), status=125)
    assert barns("list", "box") == []
    barns("end", "box")


def test_a_document_that_is_none(pod: Callable[..., str], barns: Barns) -> None:
    assert "not JSON" in barns("add", "box", document="{", status=125)
    assert "must have a container" in barns("add", "box", document='{"schema": 1, "containers": []}', status=125)
    two = json.loads(pod("late"))
    two["name"], two["containers"] = "x", [two["containers"][0] | {"name": name} for name in ("a", "b")]
    assert "a document adds one container, and this has 2" in barns("add", "box", document=json.dumps(two), status=125)
    barns("end", "box")


def test_what_is_refused(hako: Hako, pod: Callable[..., str], box: Writer, barns: Barns, places: Path) -> None:
    barns("add", "box", document=pod("late"))
    assert "barn 'box' has a container 'late' already" in barns("add", "box", document=pod("late"), status=125)
    for action in ("start", "stop", "remove"):
        assert "no container 'lat' (did you mean 'late'?)" in barns(action, "box", name="lat", status=125)
    barns("start", "box", name="late")
    assert "container 'late' is already running" in barns("start", "box", name="late", status=125)
    assert "container 'late' is running (stop it first)" in barns("remove", "box", name="late", status=125)
    other = box('config.init_command = ["/bin/true"]', name="other")
    hako("start", other)
    assert f"the name 'other' belongs to {other}" in barns("add", "box", document=pod("other"), status=125)
    assert "no barn 'bax' runs (did you mean 'box'?)" in barns("list", "bax", status=125)
    assert "no barn can have the name '../x'" in barns("list", "../x", status=125)
    assert "barn 'box' is already running" in barns("make", places / "box.haco.py", empty=True, status=125)
    barns("end", "box")
    assert "no barn 'box' runs" in barns("add", "box", document=pod("later"), status=125)
    hako("rm", "-n", "late")


def test_one_that_cannot_be_started_says_why(pod: Callable[..., str], barns: Barns) -> None:
    barns("add", "box", document=pod("late", process={"command": ["/nope"]}))
    assert "there is no program '/nope' inside" in barns("start", "box", name="late", status=127)
    assert barns.fares("box") == {"late": "failed"}
    barns("end", "box")


def test_an_immutable_barn_refuses(hako: Hako, box: Writer, barns: Barns) -> None:
    path = box('config.init_command = ["/bin/sleep", "1000"]')
    barns("make", path, keep=True, immutable=True)
    told = "barn 'box' is immutable: its containers are those that it was made with"
    assert told in barns("add", "box", document=document(hako, path, name="late"), status=125)
    barns("stop", "box", name="box")
    assert told in barns("remove", "box", name="box", status=125)
    barns("start", "box", name="box")  # what it has may be started and stopped
    barns("end", "box")


def test_stopping_waits_as_long_as_it_is_told(pod: Callable[..., str], barns: Barns, hako: Hako) -> None:
    process = {"command": ["/bin/sh", "-c", "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done"]}
    barns("add", "box", document=pod("late", process=process))
    barns("start", "box", name="late")
    wait_for_log(hako, Path("-nlate"), "ready")
    stopped = barns("stop", "box", name="late", seconds=0.5)
    assert (stopped["status"], stopped["signal"]) == ("stopped", 9)
    assert "asked" in hako("logs", "-n", "late").stdout
    barns("end", "box")
    hako("rm", "-n", "late")


def test_a_barn_that_ends_takes_those_that_were_added_with_it(
    hako: Hako, pod: Callable[..., str], barns: Barns
) -> None:
    barns("add", "box", document=pod("late"))
    barns("start", "box", name="late")
    end(barns.process("box"))
    assert shown(hako, "-a") == {"late": "stopped"}
    assert barns.names() == []


def test_those_that_were_added_outlive_a_killed_barn(hako: Hako, pod: Callable[..., str], barns: Barns) -> None:
    barns("add", "box", document=pod("late"))
    barns("start", "box", name="late")
    end(barns.process("box"), signal.SIGKILL)
    assert "no barn 'box' runs" in barns("list", "box", status=125)
    assert hako("attach", "-n", "late", "--", "hostname").stdout == "pod\n"
    hako("kill", "-n", "late")
    hako("gc")
    assert barns.names() == []


def test_the_end_of_the_first_process_of_a_shared_pid_namespace(hako: Hako, box: Writer, barns: Barns) -> None:
    path = box()
    barns("make", path, empty=True, namespaces=["pid"])
    barns("add", "box", document=document(hako, path, name="late", process=SLEEP))
    supervisor = os.pidfd_open(json.loads(json.dumps(barns("start", "box", name="late")))["pid"])
    os.kill(barns.record("box")["first"]["pid"], signal.SIGKILL)
    assert wait_end(supervisor, 10)
    os.close(supervisor)
    barns("stop", "box", name="late")
    assert "was killed, and nothing can be started in it" in barns("start", "box", name="late", status=125)
    barns("end", "box")


def is_being_started(folder: Path) -> bool:
    """Whether a supervisor lives, and has not written down yet that its container runs."""
    try:
        with open(folder / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return not (folder / "state.json").exists()
    return False


@pytest.mark.parametrize(
    "place",
    [
        "record:clear_leftovers",
        "shared:Shared._choose_maps",
        "shared:Shared._open",
        "process:BarnProcess.write_record",
        "record:write",
        "shared:Shared._persist",
        "shared:Shared._let_go",
        "late.door:Door.__init__",
        "process:BarnProcess.bequeath",
        "row:_fork",
        "process:BarnProcess.listen_to",
        "process:BarnProcess.is_over",
        "process:BarnProcess.tear_down",
        "shared:Shared._end_first",
        "record:forget",
    ],
)
def test_a_barn_that_is_killed_at_any_moment(hako: Hako, box: Writer, barns: Barns, places: Path, place: str) -> None:
    kept, path = places / "kept", box('config.init_command = ["/bin/sleep", "1000"]')
    said: dict[str, Any] = {"namespaces": ["user", "net", "pid"], "persisted": {"net": str(kept)}}
    ending = place.split(":")[1] in ("BarnProcess.tear_down", "Shared._end_first", "forget")
    if ending:
        barns("make", path, die_at=place, **said)
        hako("kill", path)
    else:
        barns("make", path, status=125 if place != "process:BarnProcess.is_over" else 0, die_at=place, **said)
        while is_being_started(places / "run" / "box"):
            os.sched_yield()
        hako("kill", path)  # a supervisor lives on
    hako("gc")
    assert barns.names() == []
    assert not kept.exists()
    assert not list((places / "lib").glob(".ids/+*"))
    barns("make", path, **said)  # and it can be made again
    hako("kill", path)


def test_kill_ends_a_kept_barn_that_is_meant_as_a_whole(
    hako: Hako, pod: Callable[..., str], barns: Barns, places: Path
) -> None:
    barns("add", "box", document=pod("late"))
    barns("start", "box", name="late")
    hako("kill", "-n", "late")
    assert barns.fares("box") == {"late": "stopped"}  # it goes on
    barns("start", "box", name="late")
    hako("kill", "-n", "box")
    assert barns.names() == []
    assert shown(hako, "-a") == {"late": "stopped"}
    path = places / "box.haco.py"
    barns("make", path, empty=True)
    hako("kill", path)
    assert barns.names() == []
    barns("make", path, keep=True)
    hako("kill", "-n", "box", "-s", "TERM")
    assert barns.names() == ["box"]
    hako("kill", "-n", "box")  # its only container has the name of the barn
    assert barns.names() == []


def test_an_empty_barn_from_the_command_line(hako: Hako, barns: Barns, places: Path) -> None:
    path = places / "pod.json"
    path.write_text(json.dumps({"schema": 1, "name": "pod", "keep": True, "containers": []}))
    hako("start", "-D", "--spec", path)
    assert barns("list", "pod") == []
    hako("kill", "-n", "pod")
    assert barns.names() == []
    told = hako("start", "--spec", path, status=125).stderr
    assert "there is no container to run in the foreground" in told


def test_many_threads_of_one_program_ask_at_once(hako: Hako, pod: Callable[..., str], barns: Barns) -> None:
    documents = {f"c{number}": pod(f"c{number}") for number in range(8)}
    told: list[BaseException] = []

    def live(name: str) -> None:
        try:
            management.add_member("box", documents[name])
            for _ in range(2):
                assert management.start_member("box", name).status == "running"
                assert management.stop_member("box", name, seconds=0).status == "stopped"
            management.remove_member("box", name)
        except BaseException as error:
            told.append(error)

    threads = [threading.Thread(target=live, args=(name,)) for name in documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == []
    assert management.list_members("box") == ()
    management.end_barn("box")
    assert shown(hako, "-a") == {}


def test_the_same_container_is_asked_for_by_many_at_once(hako: Hako, pod: Callable[..., str], barns: Barns) -> None:
    described = pod("late")
    told: list[str] = []

    def add_and_start() -> None:
        for start in (False, True):
            try:
                done = management.start_member("box", "late") if start else management.add_member("box", described)
                told.append(done.status)
            except HakoError as error:
                told.append(error.message)

    threads = [threading.Thread(target=add_and_start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count("added") == told.count("running") == 1
    assert told.count("barn 'box' has a container 'late' already") == 4
    assert [fare.status for fare in management.list_members("box")] == ["running"]
    management.end_barn("box")


def test_nothing_is_added_to_a_barn_that_ends(hako: Hako, pod: Callable[..., str], barns: Barns) -> None:
    process = {"command": ["/bin/sh", "-c", "trap : TERM; echo ready; while :; do sleep 0.1; done"]}
    barns("add", "box", document=pod("late", process=process))
    barns("start", "box", name="late")
    wait_for_log(hako, Path("-nlate"), "ready")
    barn = os.pidfd_open(barns.process("box"))
    signal.pidfd_send_signal(barn, signal.SIGTERM)
    for action, said in (("add", {"document": pod("later")}), ("start", {"name": "late"})):
        assert "barn 'box' is ending" in barns(action, "box", status=125, **said)
    hako("kill", "-n", "late", "-T", "0")
    assert wait_end(barn, 10)
    os.close(barn)


def test_hooks_of_the_barn_run_once_and_hear_of_those_that_were_added(
    hako: Hako, box: Writer, barns: Barns, places: Path
) -> None:
    note = places / "note"
    hooks = "".join(
        f"""
@config.add_general_hook("{point}")
def {point}(barn):
    with open({str(note)!r}, "a") as file:
        print("{point}", barn.failed if "{point}" == "system_failure" else "", file=file)
"""
        for point in ("setup", "system_failure", "teardown")
    )
    barns("make", box(hooks), empty=True)
    other = box(name="other")
    barns("add", "box", document=document(hako, other, name="late", process={"command": ["/nope"]}))
    barns("start", "box", status=127, name="late")
    barns("add", "box", document=document(hako, other, name="later", process=SLEEP))
    barns("start", "box", name="later")
    barns("end", "box")
    assert note.read_text().split() == ["setup", "system_failure", "late", "teardown"]


def test_one_that_fails_before_it_has_a_supervisor_is_told(
    hako: Hako, pod: Callable[..., str], barns: Barns, places: Path
) -> None:
    barns("add", "box", document=pod("late"))
    with open(places / "run" / "lock", "w") as lock:
        (places / "run" / "late").mkdir(0o700)
        os.link(lock.name, places / "run" / "late" / "lock")
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = barns("start", "box", status=125, name="late")
    assert "container 'late' is being started or stopped by another command" in told
    os.unlink(places / "run" / "lock")
    assert barns("start", "box", name="late")["status"] == "running"
    barns("end", "box")


EMPTY = {"schema": 1, "name": "k", "keep": True, "shared": {"namespaces": ["net"]}, "containers": []}


def test_a_barn_without_containers_is_seen_and_ended_by_its_name(hako: Hako, barns: Barns) -> None:
    hako("start", "-D", "--spec", "-", input=json.dumps(EMPTY))
    pid = barns.process("k")
    assert hako("ps").stdout.splitlines()[1].split() == ["k", "empty", "barn", "-", str(pid), "-", "-", "-"]
    told = json.loads(hako("ps", "--json").stdout)
    assert (told["containers"], told["barns"]) == ([], [{"name": "k", "file": "", "pid": pid, "shared": ["net"]}])
    assert hako("status", "k", status=125).stderr == "hako: barn 'k' has no containers (hako kill k ends it)\n"
    again = hako("start", "-D", "--spec", "-", input=json.dumps(EMPTY), status=125)
    assert "hako ps shows it" in again.stderr
    hako("kill", "k")
    assert len(hako("ps").stdout.splitlines()) == 1
    hako("kill", "k", status=125)


def test_a_barn_without_containers_that_was_killed_is_cleared(hako: Hako, barns: Barns) -> None:
    hako("start", "-D", "--spec", "-", input=json.dumps(EMPTY))
    end(barns.process("k"), signal.SIGKILL)
    assert len(hako("ps").stdout.splitlines()) == 1
    assert "its process was killed: hako gc" in barns("list", "k", status=125)
    assert hako("kill", "k").stderr == "hako: nothing is running\n"
    hako("gc")
