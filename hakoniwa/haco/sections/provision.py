"""`config.provision`: what is done inside the rootfs once it is made."""

from __future__ import annotations

from hakoniwa.haco.reading import Reading, short
from hakoniwa.haco.sections.section import Section
from hakoniwa.spec.records import ProvisionStep
from hakoniwa.spec.rules import buildchecks, checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self


class ProvisionSection(Section):
    """`config.provision`."""

    _word = "config.provision"
    _checks = {"skip": checks.flag}
    _defaults = {"skip": False}

    if TYPE_CHECKING:
        skip: bool
        """Whether a sibling that shares the rootfs takes the steps."""

    _steps: list[ProvisionStep]

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.__dict__["_steps"] = []

    def run_shell(self, text: str, *, name: str | None = None, sh: str = "/bin/sh", always: bool = False) -> None:
        """Run a shell text inside the rootfs: once, or each time."""
        check = self._reading.check
        script = check(f"{self._word}.run_shell()", buildchecks.script, text, "")
        shell = check(f"{self._word}.run_shell(sh=)", checks.absolute_path, sh, "/bin/sh")
        self._add("shell", name, always, text=script, shell=shell)

    def run_python(self, function: Callable[..., Any], *, name: str | None = None, always: bool = False) -> None:
        """Call a function inside the rootfs: without an argument, or with one that has `log()` and `run()`."""
        if not callable(function):
            self._reading.stop(f"{self._word}.run_python() must get a function, not {short(function)}")
        from hakoniwa.haco.functions import takes

        if not takes(function, 0):
            self._reading.must_take(function, "step of provisioning", ("inside",))
        self._add("python", name, always, function=function)

    def copy(
        self,
        src: str,
        dst: str,
        *,
        uid: int | str = 0,
        gid: int | str = 0,
        mode: int | None = None,
        name: str | None = None,
        always: bool = False,
    ) -> None:
        """Copy a file, or the content of a folder, into the rootfs."""
        check, word = self._reading.check, f"{self._word}.copy"
        facts = {
            "source": check(f"{word}(src)", checks.path, src, ""),
            "target": check(f"{word}(dst)", checks.absolute_path, dst, "/"),
            "uid": check(f"{word}(uid=)", checks.user, uid, 0),
            "gid": check(f"{word}(gid=)", checks.user, gid, 0),
            "mode": None if mode is None else check(f"{word}(mode=)", buildchecks.mode, mode),
        }
        self._add("copy", name, always, **facts)

    def _add(self, kind: str, name: str | None, always: bool, **facts: Any) -> None:
        self._must_be_open()
        check, where = self._reading.check, self._reading.here()
        word = f"{self._word}.{kind if kind == 'copy' else f'run_{kind}'}"
        given = "" if name is None else check(f"{word}(name=)", buildchecks.step_name, name, "")
        each_time = check(f"{word}(always=)", checks.flag, always, False)
        self._steps.append(ProvisionStep(kind=kind, name=given, always=each_time, where=where, **facts))

    def _copy(self) -> Self:
        twin = super()._copy()
        twin._steps.extend(self._steps)
        return twin
