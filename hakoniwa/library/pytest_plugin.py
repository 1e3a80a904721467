"""The pytest plugin: `hako` starts boxes for a test, `hako_session` for all tests; both end them and leave nothing behind.

A box is bound to the process of pytest: it ends with that, by Ctrl-C or by `kill -9`. With `--hako-keep` the boxes of a test
that has failed go on, and the summary says how to enter and to end them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from hakoniwa.library.box import Box, Limit, Running, Source

_failed = pytest.StashKey[bool]()
_ends = pytest.StashKey[pytest.Item]()  # the test that is at its end
_summary = pytest.StashKey["_Summary"]()
_KEPT = "hako-kept"  # the name of the property, in reports, that tells of a box which goes on


class Boxes:
    """What the fixtures are: `hako(source, ...)` starts a box, and returns it running."""

    def __init__(self, *, bound: bool) -> None:
        self._bound = bound
        self._started: list[tuple[Box, Running]] = []

    def __call__(
        self,
        source: Source,
        argv: Sequence[str] | None = None,
        *,
        name: str | None = None,
        wait: bool = True,
        limit: Limit | None = None,
    ) -> Running:
        """Start a box (see `hakoniwa.Box.start`), by default until it is ready. Raises hakoniwa.HakoError."""
        from hakoniwa.library.box import Box

        box = Box(source, name=name)
        running = box.start(argv, wait=wait, limit=limit, bound=self._bound)
        self._started.append((box, running))
        return running

    def keep(self) -> list[str]:
        """Let every box go on after the tests. Returns the names of the containers."""
        for _, running in self._started:
            running._keep()
        return [name for _, running in self._started for name in running.names]

    def end(self) -> None:
        """End every box, the last one first, and forget it. Raises the first HakoError, once all were tried."""
        from hakoniwa.errors import HakoError

        errors = []
        while self._started:
            box, running = self._started.pop()
            try:
                running.kill()
                box.remove()
            except HakoError as error:
                errors.append(error)
        if errors:
            raise errors[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's one option."""
    group = parser.getgroup("hakoniwa")
    group.addoption("--hako-keep", action="store_true", help="leave the boxes of a failed test running")


class _Summary:
    """Says which boxes go on. The tests may have run in other processes (pytest-xdist): their reports tell."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what the end of a test tells."""
        if report.when == "teardown":
            self.kept += [str(value) for name, value in report.user_properties if name == _KEPT]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how to enter and to end them."""
        for name in self.kept:
            terminalreporter.write_line(f"kept: {name} (hako attach -n {name}; hako kill -n {name}; hako rm -n {name})")


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is kept yet."""
    summary = config.stash[_summary] = _Summary()
    config.pluginmanager.register(summary, "hakoniwa-summary")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Know which test is at its end, and what is for all tests with it if that is the last."""
    item.config.stash[_ends] = item


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether a test, its set-up or its end has failed."""
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


def _end(boxes: Boxes, config: pytest.Config, *, failed: bool) -> None:
    if failed and config.getoption("--hako-keep"):
        kept = boxes.keep()
        if hasattr(config, "workerinput"):  # a process of pytest-xdist, which has no summary
            config.stash[_ends].user_properties += [(_KEPT, name) for name in kept]
        else:
            config.stash[_summary].kept += kept
    else:
        boxes.end()


@pytest.fixture
def hako(request: pytest.FixtureRequest) -> Iterator[Boxes]:
    """Starts boxes for one test: `running = hako("web.haco.py")`."""
    boxes = Boxes(bound=not request.config.getoption("--hako-keep"))
    yield boxes
    _end(boxes, request.config, failed=request.node.stash.get(_failed, False))


@pytest.fixture(scope="session")
def hako_session(request: pytest.FixtureRequest) -> Iterator[Boxes]:
    """Starts boxes that all tests use: `running = hako_session("database.haco.py")`."""
    boxes = Boxes(bound=not request.config.getoption("--hako-keep"))
    yield boxes
    _end(boxes, request.config, failed=request.session.testsfailed > 0)
