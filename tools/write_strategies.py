"""Gather what each strategy takes, as the files in `hakoniwa/rootfs/strategies` say it.

A start has to know that, and has no time to load the strategies: hence `hakoniwa/spec/strategies.py`. Editors and type
checkers read `hakoniwa/haco/sections/strategysettings.py`.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "hakoniwa"
TABLE = '''\
"""What each strategy takes, and of which kind that is. tools/write_strategies.py writes this file: do not edit it."""

from __future__ import annotations

SETTINGS: dict[str, dict[str, str | tuple[str, ...]]] = {
'''
DECLARED = '''\
"""The settings of strategies for editors and type checkers. tools/write_strategies.py writes this file: do not edit it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import Any, Literal


class StrategySettings:
    """What strategies take; see docs/guide.md for which takes what."""

'''
# Of the kinds in spec/rules/buildchecks.py.
TYPES = {
    "archive": "str | os.PathLike[str]",
    "arguments": "Sequence[str] | str",
    "code": "str | Callable[[Any], object]",
    "texts": "Sequence[str]",
}

Settings = dict[str, dict[str, object]]


def literal(path: Path, name: str) -> dict[str, object]:
    """A literal of a strategy."""
    for node in ast.parse(path.read_text()).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if [ast.unparse(target) for target in targets] == [name]:
            found: dict[str, object] = ast.literal_eval(ast.unparse(node.value))  # type: ignore[attr-defined]
            return found
    sys.exit(f"{path}: a strategy needs {name}")


def gather(package: Path) -> tuple[Settings, Settings]:
    """`SETTINGS` and `HELP` of all strategies."""
    settings: Settings = {}
    helps: Settings = {}
    kinds: dict[str, object] = {}
    for path in sorted((package / "rootfs" / "strategies").glob("[!_]*.py")):
        own = settings[path.stem] = literal(path, "SETTINGS")
        helps[path.stem] = literal(path, "HELP")
        if list(own) != list(helps[path.stem]):
            sys.exit(f"{path}: HELP must tell of each setting, in the order of SETTINGS")
        for name, kind in own.items():
            if kinds.setdefault(name, kind) != kind:
                sys.exit(f"{path}: to other strategies {name} is {kinds[name]!r}, and not {kind!r}")
    return settings, helps


def table(settings: Settings) -> str:
    """The file that a start reads, as the formatter leaves it."""
    lines = []
    for strategy, items in settings.items():
        lines.append(f'    "{strategy}": {{' + ("" if items else "},"))
        lines += [f"        {_quoted(name)}: {_quoted(kind)}," for name, kind in items.items()]
        lines += ["    },"] if items else []
    return TABLE + "\n".join(lines) + "\n}\n"


def declared(settings: Settings, helps: Settings) -> str:
    """The file that editors read. A setting of several strategies tells what it is to each."""
    lines = []
    for name, kind in {name: kind for items in settings.values() for name, kind in items.items()}.items():
        told = [f"{strategy}: {items[name]}" for strategy, items in helps.items() if name in items]
        type_ = f"Literal[{', '.join(map(_quoted, kind))}]" if isinstance(kind, tuple) else TYPES.get(str(kind), "str")
        lines += [f"    {name}: {type_} | None", f'    """{"; ".join(told)}."""']
    return DECLARED + "\n".join(lines) + "\n"


def _quoted(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_quoted, value))})"
    return f'"{value}"'


def main() -> None:
    """Write what has changed."""
    settings, helps = gather(PACKAGE)
    texts = {"spec/strategies.py": table(settings), "haco/sections/strategysettings.py": declared(settings, helps)}
    for name, text in texts.items():
        target = PACKAGE / name
        if not target.exists() or target.read_text() != text:
            target.write_text(text)


if __name__ == "__main__":
    main()
