"""Write `hakoniwa/spec/strategies.py`: what each strategy takes, as the files in `hakoniwa/rootfs/strategies` say it.

A start has to know that, and has no time to load the strategies.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "hakoniwa"
HEAD = '''\
"""What each strategy takes, and of which kind that is. tools/write_strategies.py writes this file: do not edit it."""

from __future__ import annotations

SETTINGS: dict[str, dict[str, str | tuple[str, ...]]] = {
'''


def settings_of(path: Path) -> dict[str, object]:
    """The literal `SETTINGS` of a strategy."""
    for node in ast.parse(path.read_text()).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if [ast.unparse(target) for target in targets] == ["SETTINGS"]:
            found: dict[str, object] = ast.literal_eval(ast.unparse(node.value))  # type: ignore[attr-defined]
            return found
    sys.exit(f"{path}: a strategy needs SETTINGS")


def text(package: Path) -> str:
    """The whole file, as the formatter leaves it."""
    lines: list[str] = []
    kinds: dict[str, object] = {}
    for path in sorted((package / "rootfs" / "strategies").glob("[!_]*.py")):
        items = settings_of(path).items()
        for name, kind in items:
            if kinds.setdefault(name, kind) != kind:
                sys.exit(f"{path}: to other strategies {name} is {kinds[name]!r}, and not {kind!r}")
        lines.append(f'    "{path.stem}": {{' + ("" if items else "},"))
        lines += [f"        {_quoted(name)}: {_quoted(kind)}," for name, kind in items]
        lines += ["    },"] if items else []
    return HEAD + "\n".join(lines) + "\n}\n"


def _quoted(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_quoted, value))})"
    return f'"{value}"'


def main() -> None:
    """Write it, unless it says that already."""
    target = PACKAGE / "spec" / "strategies.py"
    new = text(PACKAGE)
    if not target.exists() or target.read_text() != new:
        target.write_text(new)


if __name__ == "__main__":
    main()
