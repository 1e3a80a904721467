"""What tests know of kept descriptions: where they lie, whether a start took one, and how to forge one."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hakoniwa
from hakoniwa.known import copied

HAKO = Path(sys.executable).with_name("hako")
STAMP = 20  # bytes
# `hako`, which tells at its end whether it has loaded what executes a container file.
TELLING = (
    HAKO.read_text().removesuffix("main()\n")
    + """
from hakoniwa import cli
leave = cli._exit
def tell(status):
    print("executed" if "hakoniwa.haco.loader" in sys.modules else "taken", file=sys.stderr, flush=True)
    leave(status)
cli._exit = tell
main()
"""
)


def how(path: Path | str, *words: str, folder: Path | None = None, **options: Any) -> str:
    """How a start came to the description: it was "executed" or "taken"."""
    environ = {**os.environ, **options.pop("environ", {})}
    command = [sys.executable, "-ISc", TELLING, "start", str(path), *(words or ("--", "true"))]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    assert done.returncode == 0, done.stderr
    told: str = done.stderr.splitlines()[-1]
    return told


def copies(cache: Path) -> list[Path]:
    folder = cache / "descriptions"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def stamp() -> bytes:
    """That of the bundle that `hako` has."""
    (bundle,) = (Path(hakoniwa.__file__).parent / "__pycache__").glob(f"start.{sys.implementation.cache_tag}.bundle")
    return bundle.read_bytes()[:STAMP]


def forge(copy: Path, change: Callable[[str, dict[str, Any]], None]) -> None:
    """Write a copy anew that is whole, with the fields of its records changed."""
    key, names, sources, rows = marshal.loads(copy.read_bytes()[STAMP + 8 :])
    for _, kind, plain, _, _ in rows:
        change(kind, plain)
    copy.write_bytes(copied.summed(stamp(), marshal.dumps((key, names, sources, rows))))
