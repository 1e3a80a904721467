"""One step of provisioning: a process in namespaces of its own, whose child enters the rootfs through pychroot's context.

The first process of the pid namespace waits for that child and ends with it, and all that it has left running with that.
What runs inside has the default capabilities, no_new_privs and the default seccomp profile, whatever the file says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback

import prctl

from hakoniwa.errors import HakoError, printable
from hakoniwa.kernel.filesystem import mount, paths
from hakoniwa.kernel.processes import idmap, process, signals
from hakoniwa.kernel.security import capabilities
from hakoniwa.plan.provisioning import NETWORK_FILES, entering_steps, process_of
from hakoniwa.rootfs.provision.copies import copy_in
from hakoniwa.rootfs.tools.environment import PROXIES
from hakoniwa.rootfs.tools.output import follow, quoted
from hakoniwa.rootfs.tools.programs import how_it_ended
from hakoniwa.run.process.child import close_imports
from hakoniwa.run.process.report import tell_failure
from hakoniwa.run.process.task import Task
from hakoniwa.seccomp.programs import programs_for
from hakoniwa.spec.held import Seccomp
from hakoniwa.steps.process.program import DEFAULT_PATH
from hakoniwa.steps.step import Context, apply_all, prepare_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Container, ProvisionStep
    from hakoniwa.steps.step import Step

_NAMESPACES = ("mount", "pid", "ipc", "uts")


class Inside:
    """What a `run_python` function may ask for."""

    def __init__(self, name: str, environ: dict[str, str]) -> None:
        self.name = name
        self._environ = environ

    def log(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    def run(self, argv: list[str]) -> None:
        """Run a program of the rootfs. Raises subprocess.CalledProcessError when it fails."""
        sys.stdout.flush()
        subprocess.run(argv, check=True, env=self._environ, stdin=subprocess.DEVNULL)


def run_inside(container: Container, step: ProvisionStep, hashed: str, root: Step, progress: Progress) -> None:
    """Take one step, whose digest is `hashed`, in the rootfs that `root` mounts.

    Raises HakoError with its name, exit status and last lines.
    """
    processes = _StepProcesses(container, step, hashed, root, _load_pychroot() if step.kind != "copy" else None)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with progress.stage(f"provisioning: {step.label}") as stage:
        namespaces = sum(process.NAMESPACES[name] for name in _NAMESPACES)
        task = Task(lambda report: processes.be_first_process(writer, report), namespaces, ending=signals.SIGKILL)
        os.close(writer)
        try:
            last = follow(reader, step.label, progress, stage)
        except BaseException:
            task.kill()
            raise
        finally:
            os.close(reader)
        try:
            status = task.wait(step.shell)
        except HakoError as failure:
            raise HakoError(
                f"provisioning step {step.label!r} failed: {failure.message}",
                where=failure.where or step.where,
                hint=failure.hint,
            ) from None
        if status:
            told = f"provisioning step {step.label!r} failed with {how_it_ended(status)}"
            raise HakoError(told, where=step.where, hint=quoted(last))


class _StepProcesses:
    """The processes of one step."""

    def __init__(self, container: Container, step: ProvisionStep, hashed: str, root: Step, entering: Any) -> None:
        self._entering = entering  # pychroot's context, as `_load_pychroot` has it
        inner = not idmap.is_host_root()
        names = (*_NAMESPACES, "user") if inner else _NAMESPACES
        self.container = container.replace(namespaces=container.namespaces.replace(own=names, entered=()))
        self.step = step
        self._hashed = hashed
        self._root = root
        self.environ = {
            "PATH": DEFAULT_PATH,
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "container": "hakoniwa",
            "DEBIAN_FRONTEND": "noninteractive",  # nobody is there to answer (`man 7 debconf`)
            **{word: os.environ[word] for word in PROXIES if word in os.environ},
        }
        held = capabilities.every() if inner else capabilities.held()
        bits = capabilities.mask((*capabilities.DEFAULT, *container.security.capabilities.named)) & held
        profile = Seccomp(
            profile=container.security.seccomp.profile, filters=(), where=container.security.seccomp.where
        )
        self._process = process_of(step, bits, programs_for(profile, bits, no_new_privs=True))

    def be_first_process(self, output: int, status: int) -> None:
        """Pid 1 of the namespaces: prepare what is needed from the host, then let pychroot fork the one that enters."""
        signals.reset_all()
        os.setsid()
        os.umask(0o022)
        null = os.open("/dev/null", os.O_RDONLY)
        for number, held in ((0, null), (1, output), (2, output)):
            os.dup2(held, number)
        process.close_all_but({status})
        prctl.set_name("hako:step")
        prctl.set_pdeathsig(signals.SIGKILL)
        prctl.set_dumpable(0)
        context = Context(supervisor=-1, status=status, environ=self.environ)
        context.null_streams = (0,)
        if not idmap.is_host_root():
            context.look_at_user_namespace()
        self._work(context)

    def _work(self, context: Context) -> None:
        first = entering_steps(self.container, self._root, self._process)
        if self.step.kind == "copy":
            apply_all(first[:2], context)  # the root alone: what is copied to /tmp is to stay
            copy_in(self.step, context.root, self._hashed)
            os._exit(0)
        last = self._process.become_provisioning(executes=self.step.kind == "shell")
        prepare_all([*first, *last], context)
        close_imports()
        with self._entering(first, context):
            # From here on in the child, in the rootfs. What it raises must not reach pychroot, which would pickle it.
            try:
                apply_all(last, context)
                self._call(context)
                os._exit(0)
            except HakoError as error:
                tell_failure(context.status, error)
            except BaseException as error:
                _explain(error)
            finally:
                os._exit(1)

    def _call(self, context: Context) -> None:
        function = self.step.function
        assert function is not None
        environ = context.environ
        os.environ.clear()
        os.environ.update(environ)
        takes = function.__code__.co_argcount if hasattr(function, "__code__") else 0
        bound = 1 if hasattr(function, "__self__") else 0
        if takes > bound:
            function(Inside(self.container.name, environ))
        else:
            function()
        sys.stdout.flush()
        sys.stderr.flush()


def _explain(error: BaseException) -> None:
    """Print what a function has raised, with the lines of users' code; no source is read, which would be the rootfs's."""
    sys.stdout.flush()
    trace = error.__traceback__
    for frame, line in traceback.walk_tb(trace):
        if frame.f_code.co_filename != __file__:
            print(f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}", flush=True)
    text = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
    print(printable(text), flush=True)


def _load_pychroot() -> type:
    """pychroot's context with mounts of ours. Loaded before the rootfs is entered, and only if a step is taken."""
    from pychroot import Chroot

    class Entering(Chroot):
        """Forks; the child enters the rootfs and goes on with the block; the parent waits for it, and ends with it.

        pychroot's own mounts go by path, and would follow symlinks of the rootfs, hence no `default_mounts`; its parent
        would unpickle what the child sends, and takes the end by a signal for success.
        """

        default_mounts: dict[str, dict[str, object]] = {}

        def __init__(self, steps: list[Step], context: Context) -> None:
            super().__init__("/")
            self._steps = steps
            self._context = context
            self._made_reader, self._made = os.pipe2(os.O_CLOEXEC)

        def _child_setup(self) -> None:
            """Mount, make the rootfs the root of this mount namespace, and enter it."""
            try:
                apply_all(self._steps[:2], self._context)
                os.write(self._made, "\0".join(_missing(self._context.root)).encode())
                apply_all(self._steps[2:], self._context)
                os.chroot(self.path)
                os.chdir("/")
            except HakoError as error:
                tell_failure(self._context.status, error)
                os._exit(1)
            except BaseException as error:
                tell_failure(self._context.status, HakoError(f"{type(error).__name__}: {error}"))
                os._exit(1)

        def _parent_setup(self) -> None:
            """Reap whatever ends, until the child does; then tidy up. The root is ours, too: `man 2 pivot_root`."""
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED)
                if ended is not None and ended.si_pid == self.childpid:
                    break
            os.close(self._made)
            made = os.read(self._made_reader, 4096).decode()
            for path in made.split("\0") if made else []:
                _remove_empty(path)
            killed = ended.si_code != os.CLD_EXITED
            os._exit(128 + ended.si_status if killed else ended.si_status)

    return Entering


def _missing(root: int) -> list[str]:
    """Those of the host's files that the rootfs has none of: they are mounted on empty ones."""
    missing = []
    for path in NETWORK_FILES:
        try:
            os.close(paths.open_inside(root, path))
        except OSError:
            missing.append(path)
    return missing


def _remove_empty(path: str) -> None:
    """Take a mount off the empty file that was made for it, and remove that."""
    try:
        real = os.path.realpath(path)
        mount.detach(real)
        if os.stat(real).st_size == 0:
            os.unlink(real)
    except OSError:
        pass  # the step has done something with it
