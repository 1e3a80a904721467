"""What a file says of a rootfs, in short: written into its mark when it is made, and compared at each start.

A start has no time for hashes of sources and of what is copied, which `create` and `provision` look at. So texts are summed
up by a checksum, and functions by one of their code: as one version of Python has it, so another version tells nothing.
"""

from __future__ import annotations

import sys

from hakoniwa.spec.records import Outline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    from hakoniwa.spec.records import Container, ProvisionStep

_LONGEST = 60  # of a value that is shown as it is
_FUNCTION, _TEXT = "function", "text"


def outline(container: Container) -> Outline:
    """The settings of the bootstrap, and the steps of provisioning, each as a short text."""
    bootstrap, rootfs = container.build.bootstrap, container.files.rootfs
    said = {"strategy": _short(bootstrap.strategy)}
    said |= {name: _short(value) for name, value in bootstrap.settings.items()}
    if bootstrap.postprocess:
        said["postprocess"] = _short([hook.function for hook in bootstrap.postprocess])
    if rootfs.owner_uid is not None:
        said["rootfs_owner"] = f"{rootfs.owner_uid}:{rootfs.owner_gid}"
    steps = () if container.build.provision.skip else container.build.provision.steps
    return Outline(bootstrap=said, steps={step.label: _step(step) for step in steps})


def _step(step: ProvisionStep) -> str:
    what = [step.kind, step.text, step.shell, step.function, step.target, str(step.uid), str(step.gid), str(step.mode)]
    return _short([item for item in what if item])


def _short(value: Any) -> str:
    if isinstance(value, str) and len(value) <= _LONGEST and value.isprintable():
        return repr(value)
    from binascii import crc32

    if isinstance(value, str):
        return f"{_TEXT} {crc32(value.encode(errors='replace')):08x}"
    if isinstance(value, (list, tuple)):
        parts = [_short(item) for item in value]
        version = _version() if any(part.startswith(_FUNCTION) for part in parts) else ""
        kind = f"{_FUNCTION} {version}" if version else _TEXT
        listed = ", ".join(parts)
        return listed if len(listed) <= _LONGEST and not version else f"{kind} {crc32(listed.encode()):08x}"
    code = getattr(value, "__code__", None)
    if code is not None:
        return f"{_FUNCTION} {_version()} {crc32(_code(code).encode(errors='replace')):08x}"
    if value is None or isinstance(value, (int, float)):
        return repr(value)
    return type(value).__qualname__


def _version() -> str:
    return f"{sys.hexversion >> 16:x}"


def _code(code: CodeType) -> str:
    """What a function does, without the lines that it stands in."""
    constants = [
        _code(item)
        if hasattr(item, "co_code")
        else f"{sorted(map(repr, item))}"  # its order is another one in each process
        if isinstance(item, frozenset)
        else repr(item)
        for item in code.co_consts
    ]
    return f"{code.co_code.hex()}{code.co_names}{constants}"


def differences(old: Outline, new: Outline) -> tuple[list[str], list[str]]:
    """What differs between two outlines, in words: in the bootstrap, and in the steps."""
    before, after = old.bootstrap, new.bootstrap
    settings = [
        f"bootstrap.{name} {_change(before.get(name), after.get(name))}"
        for name in {**before, **after}
        if _differs(before.get(name), after.get(name))
    ]
    before, after = old.steps, new.steps
    steps = []
    for name in {**before, **after}:
        if name not in after:
            steps.append(f"the step {name!r} is gone")
        elif name not in before:
            steps.append(f"the step {name!r} is new")
        elif _differs(before[name], after[name]):
            steps.append(f"the step {name!r} has changed")
    return settings, steps


def _differs(old: str | None, new: str | None) -> bool:
    if old is not None and new is not None and old.startswith(_FUNCTION) and new.startswith(_FUNCTION):
        *_, version, _ = old.split()
        if f" {version} " not in new:
            return False  # by another Python
    return old != new


def _change(old: str | None, new: str | None) -> str:
    if any(text is not None and text.startswith((_FUNCTION, _TEXT)) for text in (old, new)):
        return "has changed"
    return f"was {old or 'unset'} and is {new or 'unset'}"


def way_out(settings: list[str], steps: list[str], file: str) -> str:
    """What it takes to have the rootfs as it is described now."""
    if settings or any(step.endswith(" is gone") for step in steps):
        return f"hako create --rebuild {file}"
    return f"hako provision {file}, or create --rebuild"
