"""What haconiwa's files say in other words: what to write here. Loaded where a file has such a word."""

from __future__ import annotations

import re

from hakoniwa.dsl.bootstrap import BootstrapSection
from hakoniwa.dsl.container import _SECTIONS, ContainerBuilder
from hakoniwa.dsl.provision import ProvisionSection
from hakoniwa.dsl.section import Section

# Of the module `Haconiwa`.
OF_THE_MODULE = {
    "Logger": 'write Haconiwa.log(text, level="info")',
    "current_subcommand": "write Haconiwa.command",
    "Base": "write `with Haconiwa.define() as config:`",
    "Barn": "write `with Haconiwa.define() as config:`",
    "VERSION": "write hakoniwa.__version__",
}
_NEEDLESS = ("probe", "probe_str", "probe_phase_pass", "current_timer", "PHASE_")

_ANY_ADDRESS = "remove it: a port counts on any address"
# Of a word, by the argument; "" is one argument too many.
OF_ARGUMENTS = {
    ("add_readiness_hook", "readiness_port"): "write port=",
    ("add_readiness_hook", "readiness_ip"): _ANY_ADDRESS,
    ("add_readiness_hook", "readiness_ipv6"): _ANY_ADDRESS,
    ("add_readiness_hook", "nsenter_path"): "remove it: no program is needed to look inside",
    **{("add_readiness_hook", unit): "remove it: the first look is at once" for unit in ("msec", "sec", "min", "hour")},
    ("postprocess", ""): 'decorate a function with @b.postprocess: boot.run(["/bin/sh", "-e", "-c", CODE]) in it',
}


def of_the_module(name: str) -> str:
    """What to write in the place of `Haconiwa.NAME`, or nothing where it is not haconiwa's either."""
    needless = "remove it: it is not needed here" if name.startswith(_NEEDLESS) else ""
    return OF_THE_MODULE.get(name, needless)


def explain_call(line: str) -> tuple[str, str] | None:
    """What is wrong with a line that calls a setting, as Ruby files do: `config.name("web")`. (message, hint)."""
    kinds: tuple[type[Section], ...] = (ContainerBuilder, BootstrapSection, ProvisionSection, *_SECTIONS.values())
    settings = {name for kind in kinds for name in kind._checks}
    for match in re.finditer(r"(\w+(?:\.\w+)+)\s*\(", line):
        word = match[1].rpartition(".")[2]
        if word in settings:
            return f"{match[1]} is not called", f"write {match[1]} = ..."
        if word in _SECTIONS:
            return f"{match[1]} is not called", f"write {match[1]}.SETTING = ..., or `with {match[1]} as section:`"
    return None
