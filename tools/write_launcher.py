"""Write `.venv/bin/hako`: the launcher for a checkout, isolated and without what a start does not need.

`-I` keeps the caller's environment, folder and user site out of the interpreter; `-S` leaves out `site`, a fifth of an
empty interpreter's start, which is why the two folders are named here. pip's own launcher cannot say either.
"""

from __future__ import annotations

import compileall
import os
import sys
import sysconfig


def main() -> None:
    """Write the launcher beside the interpreter that runs this, and compile what it imports."""
    project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    packages = sysconfig.get_path("platlib")
    target = os.path.join(os.path.dirname(sys.executable), "hako")
    lines = [
        f"#!{sys.executable} -IS",
        "import _signal, sys",
        # Python would make an exception of INT, which is lost in whatever catches it; nothing is made yet.
        "if _signal.getsignal(2) is _signal.default_int_handler: _signal.signal(2, _signal.SIG_DFL)",
        f"sys.path.insert(0, {project!r})",
        "from hakoniwa import quickimport",
        # Only our own modules come from the checkout, and the standard library's from nowhere else.
        f"sys.path[:] = [*sys.path[1:], {packages!r}]",
        "quickimport.install()",
        "from hakoniwa.cli import main",
        "main()",
    ]
    new = f"{target}.new"
    with open(new, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    os.chmod(new, 0o755)
    os.rename(new, target)
    compileall.compile_dir(os.path.join(project, "hakoniwa"), quiet=1)
    sys.path.insert(0, project)
    from hakoniwa import quickimport

    quickimport.write_bundle()


main()
