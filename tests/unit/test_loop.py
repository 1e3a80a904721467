"""What a process waits for: descriptors, moments, signals; and a supervisor that outlives what goes wrong."""

from __future__ import annotations

import os
import signal

import pytest

from hakoniwa.kernel.processes import signals
from hakoniwa.run.loop import Loop


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def test_a_descriptor_is_served_until_it_is_dropped(pipe: tuple[int, int]) -> None:
    loop, heard = Loop(), []

    def hear() -> None:
        heard.append(os.read(pipe[0], 1))
        if len(heard) == 2:
            loop.drop(pipe[0])
            loop.after(0, loop.stop)

    os.write(pipe[1], b"abc")
    loop.add(pipe[0], hear)
    loop.run()
    assert heard == [b"a", b"b"]


def test_what_was_dropped_in_the_same_turn_is_not_served(pipe: tuple[int, int]) -> None:
    other, loop, served = os.pipe(), Loop(), []
    for reader, neighbour in ((pipe[0], other[0]), (other[0], pipe[0])):

        def serve(reader: int = reader, neighbour: int = neighbour) -> None:
            served.append(reader)
            loop.drop(neighbour)
            loop.stop()

        loop.add(reader, serve)
    for writer in (pipe[1], other[1]):
        os.write(writer, b".")
    loop.run()
    assert len(served) == 1


def test_moments_come_in_their_order_and_not_when_cancelled() -> None:
    loop, came = Loop(), []
    loop.after(0.03, loop.stop)
    loop.after(0.02, lambda: came.append("second"))
    cancelled = loop.after(0.01, lambda: came.append("never"))
    loop.after(0, lambda: came.append("first"))
    loop.after(0, lambda: loop.cancel(cancelled))
    loop.run()
    assert came == ["first", "second"]
    loop.cancel(cancelled)
    loop.cancel(None)


def test_it_runs_until_something_is_done() -> None:
    loop, came = Loop(), []
    loop.run(lambda: True)
    loop.after(0, lambda: came.append(1))
    loop.run(lambda: bool(came))
    assert came == [1]


def test_no_signal_is_lost_between_a_look_and_a_wait() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    loop, heard = Loop(), []

    def take(number: int) -> None:
        heard.append(number)
        if number == signal.SIGUSR1:
            os.kill(os.getpid(), signal.SIGUSR2)  # while signals are being taken
        else:
            loop.stop()

    try:
        wakeup = signals.listen((signal.SIGUSR1, signal.SIGUSR2))
        os.kill(os.getpid(), signal.SIGUSR1)  # before it waits
        loop.hear(wakeup, take)
        loop.run()
    finally:
        signal.set_wakeup_fd(-1)
        signals._heard = None
        for number, action in before.items():
            signal.signal(number, action)
    assert heard == [signal.SIGUSR1, signal.SIGUSR2]


def test_a_failure_ends_a_loop_that_need_not_survive(pipe: tuple[int, int]) -> None:
    loop = Loop()
    os.write(pipe[1], b".")
    loop.add(pipe[0], lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run()


def test_a_survivor_logs_and_lets_what_fails_rest(pipe: tuple[int, int], capfd: pytest.CaptureFixture[str]) -> None:
    loop, served = Loop("box"), []

    def fail() -> None:
        served.append(0)
        raise OSError(24, "Too many open files")

    os.write(pipe[1], b".")
    loop.add(pipe[0], fail, "take a request")
    loop.after(0.2, loop.stop)
    loop.run()
    assert len(served) == 2  # once more at once, and then not for a second
    assert capfd.readouterr().err == "hako: box: cannot take a request: Too many open files\n" * 2
    loop.drop(pipe[0])  # though it rests
    loop.after(0, loop.stop)
    loop.run()


def test_a_survivor_goes_on_after_a_moment_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    loop = Loop("box")
    loop.after(0, lambda: 1 // 0, "hear requests")
    loop.after(0.01, loop.stop)
    loop.run()
    assert "hako: box: cannot hear requests: ZeroDivisionError" in capfd.readouterr().err
