"""Values that no setting takes: each is an error of the line that wrote it, and none is an exception of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.commands.build import new
from hakoniwa.errors import USAGE, HakoError
from hakoniwa.haco.loader import load
from hakoniwa.options import read

Writer = Callable[..., Path]

ODD = [
    *(
        "None",
        "-1",
        "10**30",
        "-10**30",
        "float('nan')",
        "float('inf')",
        "object()",
        "b'x'",
        "'\\0'",
        "'\\ud800'",
        "'9' * 5000",
    ),
    *("[None]", "{}", "lambda: 1"),
]
SETTINGS = [
    *(
        "config.hostname = V",
        "config.workdir = V",
        "config.resource.sched = V",
        "config.log_level = V",
        "config.init = V",
    ),
    *(
        "config.limit(memory=V, cpus=V, pids=V)",
        "config.resource.set_limit('NOFILE', V)",
        "config.rootfs_owner(uid=V, gid=0)",
    ),
    *("config.add_async_hook(print, sec=V, interval_msec=V)", "config.add_timer_hook(print, every=V)"),
    *("config.add_signal_handler(V)(print)", "config.add_readiness_hook(print, timeout=V)"),
    *("config.namespace.set_uid_mapping(min=0, max=V, offset=0)", "config.namespace.time_offset(monotonic=V)"),
    *("config.provision.run_shell(V)", "config.add_mount_point('/tmp', to=V)", "config.seccomp.filter(default=V)"),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_odd_value_is_an_error_of_its_line(write_file: Writer, setting: str) -> None:
    for value in ODD:
        path = write_file(setting.replace("V", value))
        try:
            load(str(path), "check")
        except HakoError as error:
            for line in error.lines():
                assert line.startswith(f"{path}:4: "), (value, line)
                assert "--debug" not in line, (value, line)
                assert len(line) < 600, (value, line)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ('config.metadata["x"] = float("nan")', "made of finite numbers of 64 bits"),
        ('config.metadata["x"] = {"y": [float("-inf")]}', "made of finite numbers of 64 bits"),
        ('config.metadata["x"] = 10**5000', "made of finite numbers of 64 bits"),
        ('config.uid = "-5"', "must be a name, or a number from 0 to 4294967294"),
        ('config.environ["x"] = "\\ud800"', "must be a string that can be encoded"),
        ("config.add_signal_handler(5)(print)", "add_signal_handler(sig) must be a list of strings"),
        ("config.add_signal_handler([])(print)", "add_signal_handler() needs a signal"),
    ],
)
def test_what_is_told_of_it(write_file: Writer, setting: str, told: str) -> None:
    with pytest.raises(HakoError) as raised:
        load(str(write_file(setting)), "check")
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-n", "x", "--global"], "--global writes the global file, and --name is about another one"),
        (["-G", "--strategy", "host"], "and --strategy is about another one"),
        (["x", "--global"], "--global writes the global file, and x is about another one"),
    ],
)
def test_the_global_file_has_no_other_options(
    places: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.setattr(new, "global_file", lambda: str(places / "conf.py"))
    with pytest.raises(HakoError, match="is about another one") as raised:
        new.run(read(new.COMMAND, words))
    assert told in str(raised.value)
    assert raised.value.status == USAGE
    assert not (places / "conf.py").exists()
