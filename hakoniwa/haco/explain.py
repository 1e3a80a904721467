"""What is wrong with a call that Python has refused, in the words of container files. Loaded for that."""

from __future__ import annotations

import inspect
import re

from hakoniwa.errors import nearest
from hakoniwa.haco.container import ContainerBuilder
from hakoniwa.haco.facade import Haconiwa
from hakoniwa.haco.haconiwa import OF_ARGUMENTS
from hakoniwa.haco.sections.bootstrap import BootstrapSection
from hakoniwa.haco.sections.callfilter import FilterBuilder
from hakoniwa.haco.sections.cgroup import CgroupSection
from hakoniwa.haco.sections.hooks import HookWords
from hakoniwa.haco.sections.namespace import NamespaceSection
from hakoniwa.haco.sections.network import NetworkSection
from hakoniwa.haco.sections.provision import ProvisionSection
from hakoniwa.haco.sections.seccomp import SeccompSection
from hakoniwa.haco.sections.section import Section
from hakoniwa.haco.sections.settings import (
    CapabilitiesSection,
    CommandSection,
    FilesystemSection,
    ResourceSection,
    RootfsSection,
)

SECTIONS: dict[str, type[Section]] = {
    "rootfs": RootfsSection,
    "filesystem": FilesystemSection,
    "namespace": NamespaceSection,
    "resource": ResourceSection,
    "capabilities": CapabilitiesSection,
    "command": CommandSection,
    "bootstrap": BootstrapSection,
    "provision": ProvisionSection,
    "cgroup": CgroupSection,
    "seccomp": SeccompSection,
    "network": NetworkSection,
}
KINDS: tuple[type[Section], ...] = (ContainerBuilder, *SECTIONS.values())


def explain_type_error(text: str, lines: list[bytes]) -> tuple[str, str] | None:
    """A message and a hint for what a TypeError says of the line that raised it; None for what is not about our words."""
    if text.endswith("object is not callable") and lines:
        return _explain_call(lines[0].decode(errors="replace"))
    return _explain_arguments(text)


def _explain_call(line: str) -> tuple[str, str] | None:
    """A line that calls a setting, as Ruby files do: `config.name("web")`."""
    settings = {name for kind in KINDS for name in kind._checks}
    for match in re.finditer(r"(\w+(?:\.\w+)+)\s*\(([^)]*)", line):
        word = match[1].rpartition(".")[2]
        if word == "cgroup" and (version := match[2].strip("\"': ")) in ("v1", "v2"):
            return f"{match[1]} is not called", f"write {match[1]}{'.v2' if version == 'v2' else ''}"
        if word in settings:
            return f"{match[1]} is not called", f"write {match[1]} = ..."
        if word in SECTIONS:
            return f"{match[1]} is not called", f"write {match[1]}.SETTING = ..., or `with {match[1]} as section:`"
    return None


def _explain_arguments(text: str) -> tuple[str, str] | None:
    """A wrong call of one of the file's words: Python's own message, and the nearest argument that exists."""
    match = re.match(r"(\w+)\.(\w+)\(\) (.*)", text)
    kinds: list[type] = [*KINDS, HookWords, FilterBuilder, Haconiwa]
    classes = {kind.__name__: kind for kind in kinds}
    if not match or match[1] not in classes:
        return None
    kind, word, told = classes[match[1]], match[2], match[3]
    parameters = dict(inspect.signature(getattr(kind, word)).parameters)
    if parameters.pop("self", None):
        told = re.sub(r"takes (?:from )?.* but (\d+) .*given.*", lambda found: _too_many(int(found[1]) - 1), told)
    known = [f"{name}=" if one.kind is one.KEYWORD_ONLY else name for name, one in parameters.items()]
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", told)
    hint = nearest(unexpected[1], [*parameters]) if unexpected else f"arguments: {' '.join(known) or 'none'}"
    hint = OF_ARGUMENTS.get((word, unexpected[1] if unexpected else ""), hint)
    return f"{getattr(kind, '_word', kind.__name__)}.{word}() {told}", hint


def _too_many(count: int) -> str:
    return f"does not take {count} argument{'s' if count > 1 else ''} without a name"
