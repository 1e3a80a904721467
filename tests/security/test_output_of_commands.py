"""What a command inside prints to a hook has no end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Hako

Writer = Callable[..., Path]

HOOK = """
@config.add_async_hook()
def ask(base):
    done = base.run(["sh", "-c", {script!r}], timeout=60)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    base.log(f"read {{len(done.stdout)}} and {{len(done.stderr)}}, ended with {{done.returncode}}, peak {{peak >> 10}} MiB")
    base.kill("KILL")
"""


def told(hako: Hako, box: Writer, script: str) -> str:
    path = box(HOOK.format(script=script), head="import resource")
    hako("start", "-D", path, "--", "sleep", "1000")
    return hako("logs", "-f", path).stdout


def test_so_much_is_kept_and_the_rest_is_dropped(hako: Hako, box: Writer) -> None:
    lines = told(hako, box, "head -c 300000000 /dev/zero | tr '\\0' x; echo 'short' >&2; exit 3")
    assert "295805696 bytes of the output of 'sh' were dropped" in lines
    assert "read 4194304 and 6, ended with 3, peak" in lines
    assert int(lines.rpartition("peak ")[2].split()[0]) < 100  # without the bound, more than the output itself


def test_what_is_left_running_is_not_waited_for(hako: Hako, box: Writer) -> None:
    assert "read 3 and 0, ended with 0" in told(hako, box, "sleep 1000 & echo so")


def test_somebody_left_inside_who_writes_for_ever(hako: Hako, box: Writer) -> None:
    assert "ended with 0" in told(hako, box, "yes & exit 0")
