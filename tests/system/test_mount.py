"""`hako mount`: programs of the host on the whole rootfs of a stopped container."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.kernel.processes.pidfd import wait_end
from tests.conftest import Hako
from tests.ordinary import Ordinary, user
from tests.system.test_layers import HOST, PLAIN, RECIPE

__all__ = ["user"]

Writer = Callable[..., Path]
STEP = "p.run_shell('echo step > /step', name='step')\n"


@pytest.mark.parametrize("kind", [RECIPE, PLAIN, HOST])
def test_the_whole_tree_in_its_place(hako: Hako, write_file: Writer, places: Path, kind: str) -> None:
    path, rootfs = write_file(kind + STEP), places / "lib" / "box"
    told = hako("create", path).stderr
    assert (f"hako mount {path} shows the whole" in told) is (kind == RECIPE)
    if kind != PLAIN:
        assert not (rootfs / "step").exists()
    script = (
        f"pwd; test $ROOTFS = {rootfs} && cat step {rootfs}/step && ls -d bin/ && echo mine > {rootfs}/mine; exit 7"
    )
    done = hako("mount", path, "--", "/bin/sh", "-c", script, status=7)
    assert done.stdout == f"{rootfs}\nstep\nstep\nbin/\n"
    assert (rootfs / "mine").exists() is (kind == PLAIN)  # nothing stays mounted
    assert hako("start", path, "--", "cat", "/mine").stdout == "mine\n"
    hako("start", "-D", path, "--", "sleep", "1000")
    assert "is in use (hako kill ends" in hako("mount", "-n", "box", "--", "true", status=125).stderr
    hako("kill", path)
    hako("rm", "--rootfs", path)


def test_the_rootfs_is_locked_for_as_long_as_anybody_sees_it(hako: Hako, write_file: Writer, places: Path) -> None:
    path, fifo = write_file(RECIPE), places / "fifo"
    os.mkfifo(fifo)
    hako("create", path)
    with hako.background("mount", path, "--", "sh", "-c", f"cat {fifo} & echo $!") as mounting:
        assert mounting.stdout is not None
        left = os.pidfd_open(int(mounting.stdout.readline()))
        assert mounting.wait(30) == 0
        for words in (("start", path, "--", "true"), ("mount", path, "--", "true")):
            assert "in use" in hako(*words, status=125).stderr
        fifo.write_text("")
        assert wait_end(left, 30)
        os.close(left)
    hako("start", path, "--", "true")


def test_what_is_in_the_way_of_mounting(hako: Hako, write_file: Writer) -> None:
    path = write_file(RECIPE)
    assert "no container of this file is known" in hako("mount", path, status=125).stderr
    hako("create", path)
    assert "cannot execute '/no/such': No such file" in hako("mount", path, "--", "/no/such", status=127).stderr
    assert "cannot execute '/etc': Permission denied" in hako("mount", path, "--", "/etc", status=126).stderr
    assert hako("mount", path, "--", "sh", "-c", "kill -9 $$", status=137).stderr == ""
    assert hako("mount", path, input="pwd\n", SHELL="/bin/sh").stdout.endswith("/lib/box\n")


@pytest.mark.parametrize("kind", [RECIPE, HOST])
def test_without_root(user: Ordinary, kind: str) -> None:
    path = user.write(kind + STEP)
    user.hako("create", path)
    script = "id -u; cat step; ls -d usr/; echo mine > $ROOTFS/mine; exit 3"
    if kind == RECIPE:
        script = script.replace("usr", "bin")
    done = user.hako("mount", path, "--", "/bin/sh", "-c", script, status=3)
    assert done.stdout.split() == ["0", "step", "usr/" if kind == HOST else "bin/"]
    assert user.hako("start", path, "--", "cat", "/mine").stdout == "mine\n"
    user.hako("rm", "--rootfs", path)
