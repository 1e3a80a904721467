"""What is asked of a barn's process, and what it answers, there and back; a container on its way between two forks."""

from __future__ import annotations

import errno
import os
import signal
from types import SimpleNamespace

import pytest

from hakoniwa.errors import HakoError, Problems
from hakoniwa.run.barn.late import requests
from hakoniwa.run.barn.late.members import Members
from hakoniwa.run.barn.late.packing import pack, unpack
from hakoniwa.run.barn.late.requests import Answer, Fare, Request
from hakoniwa.spec.documents.plain import from_plain

EVERY: list[Request] = [
    requests.List(),
    requests.Add(document='{"schema": 1, "text": "\\u2028"}'),
    requests.Start(name="x", wait=True, hold=True),
    requests.Stop(name="x"),
    requests.Remove(name="x"),
    requests.End(),
]


@pytest.mark.parametrize("request_", EVERY, ids=lambda one: type(one).__name__)
def test_a_request_there_and_back(request_: Request) -> None:
    line = requests.written_request(request_)
    assert line.count(b"\n") == 1
    assert requests.read_request(line) == request_


def test_every_kind_of_request_is_tested() -> None:
    assert {type(one) for one in EVERY} == set(requests.KINDS.values())


def test_a_request_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(HakoError, match="bytes are more than"):
        requests.written_request(requests.Add(document="x" * requests.LARGEST))


def test_an_answer_there_and_back() -> None:
    answer = Answer(members=(Fare(name="x", status="running", pid=3), Fare(name="y", status="stopped", code=0)))
    assert requests.read_answer(requests.written_answer(answer)) == answer


def test_all_that_is_wrong_is_answered() -> None:
    one, other = HakoError("a", where="b", hint="c", status=127), HakoError("d")
    with pytest.raises(HakoError) as alone:
        requests.read_answer(requests.written_answer(requests.refused(one)))
    assert (alone.value.lines(), alone.value.status) == (one.lines(), 127)
    with pytest.raises(Problems) as both:
        requests.read_answer(requests.written_answer(requests.refused(Problems([one, other]))))
    assert both.value.lines() == [*one.lines(), *other.lines()]


@pytest.mark.parametrize("line", [b"", b"{}x", b'{"members": [{"name": "x"}]}', b'{"members": [], "more": 1}'])
def test_an_answer_that_is_none(line: bytes) -> None:
    with pytest.raises(HakoError, match="cannot be understood"):
        requests.read_answer(line)


def test_a_container_is_packed_with_all_that_a_document_says() -> None:
    described = {
        "name": "x",
        "process": {"command": ["a", "b"], "environ": {"A": "1"}, "uid": 3, "groups": ["x", 4]},
        "namespaces": {
            "own": ["mount", "pid", "user"],
            "uid_map": [{"inside": 0, "outside": 5, "count": 9}],
            "gid_map": [{"inside": 0, "outside": 5, "count": 9}],
        },
        "resources": {"cgroup": {"cpus": 0.5, "memory": 1 << 30}},
        "metadata": {"a": [1, None, {"b": True}]},
        "build": {"bootstrap": {"strategy": "tarball", "settings": {"archive_path": "/x.tar"}}},
    }
    (container,) = from_plain({"schema": 1, "containers": [described]}).containers
    assert unpack(pack(container)) == container


def test_a_barn_that_cannot_fork_still_hears_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    process = SimpleNamespace(members=[], ended_by=None, barn=SimpleNamespace(name="x", immutable=False))
    members, visitor = Members(process), SimpleNamespace()  # type: ignore[arg-type]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.listdir("/proc/self/fd")
    with pytest.raises(HakoError, match="no process can be had"):
        members.serve(requests.Add(document="{}"), visitor)  # type: ignore[arg-type]
    assert (signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.listdir("/proc/self/fd")) == before
