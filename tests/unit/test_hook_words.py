"""The words that register hooks, and what of haconiwa's is told to be written otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa.commands.build.checking import find_problems
from hakoniwa.errors import HakoError
from hakoniwa.spec.records import Container
from tests.unit.test_container_file import HEAD_LINES, loaded, only, problems

Writer = Callable[..., Path]


def hooks_of(container: Container) -> list[str]:
    return [hook.point for hook in container.hooks.general] + [hook.kind for hook in container.hooks.background]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('config.add_general_hook("before_fork", f)', "before_fork"),
        ("config.add_async_hook(f, sec=1)", "async"),
        ("config.after_spawn(f)", "async"),
        ("config.add_timer_hook(f, every=2)", "timer"),
        ('config.add_signal_handler("USR1", f)', "signal"),
        ("config.add_readiness_hook(g, port=80)", "readiness"),
        ('config.add_cgroup_hook(f, type="oom")', "cgroup"),
        ("@config.add_async_hook\ndef h(base): pass\nassert h", "async"),
        ("config.add_async_hook()(print)", "async"),
        ("config.add_async_hook()(lambda *a: 0)", "async"),
        ("config.add_async_hook()(lambda base, more=1: 0)", "async"),
        ("class C:\n    def m(self, base): pass\nconfig.add_async_hook()(C().m)", "async"),
        ("class C:\n    def __call__(self, base): pass\nconfig.add_async_hook()(C())", "async"),
        ("import functools\nconfig.add_async_hook()(functools.partial(g, ok=1))", "async"),
        ('config.add_signal_handler("USR1")(g)', "signal"),
    ],
)
def test_hooks_are_registered_as_decorators_and_by_call(write_file: Writer, line: str, kind: str) -> None:
    container = only(write_file(line, head="def f(base): pass\ndef g(base, ok): pass"))
    assert hooks_of(container) == [kind]


@pytest.mark.parametrize(
    ("line", "told", "hint"),
    [
        ("@config.add_async_hook()\ndef tick(): pass", "the async hook must be def tick(base)", "it takes ()"),
        ("config.add_readiness_hook()(f)", "the readiness hook must be def f(base, ok)", "it takes (base)"),
        ('config.add_watch_hook("x")(f)', "the watch hook must be def f(base, paths)", "it takes (base)"),
        (
            'config.add_signal_handler("USR1")(h)',
            "the signal hook must be def h(base) or def h(base, sig)",
            "(a, b, c)",
        ),
        ('config.add_general_hook("setup")(h)', "the setup hook must be def h(barn)", "(a, b, c)"),
        ('config.add_general_hook("setup")(k)', "the setup hook must be def k(barn)", "(base, *, more)"),
        ("config.validate_real_id(f)", "the function of validate_real_id must be def f(uid, gid)", "it takes (base)"),
        ("config.bootstrap.postprocess(h)", "the postprocess function must be def h(boot)", "(a, b, c)"),
        ("config.provision.run_python(h)", "the step of provisioning must be def h(inside)", "(a, b, c)"),
        ('config.add_general_hook("before_fork")', "add_general_hook('before_fork') registers nothing", "@decorator"),
        ("config.add_async_hook(sec=1)", "the decorator of the async hook registers nothing", "@decorator"),
        ("@config.add_general_hook\ndef x(base): pass", "needs the point", '@config.add_general_hook("before_fork")'),
        ("@config.add_handler\ndef x(base): pass", "needs the signal", '@config.add_signal_handler("USR1")'),
        ("config.add_async_hook({'sec': 1})", "a hook must be a function, not {'sec': 1}", "add_async_hook(sec=3)"),
        (
            '@config.add_general_hook("setup")\nasync def x(barn): pass',
            "a setup hook cannot be an `async def`",
            "asyncio.run()",
        ),
    ],
)
def test_hooks_that_would_not_run(write_file: Writer, line: str, told: str, hint: str) -> None:
    head = "def f(base): pass\ndef h(a, b, c): pass\ndef k(base, *, more): pass"
    (problem,) = problems(write_file(line, head=head))
    where, _, text = problem.partition(": ")
    assert where == f":{HEAD_LINES + 3}"
    assert told in text
    assert hint in text


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ('Haconiwa.Logger.info("x")', "Haconiwa.Logger is a word of haconiwa only (write Haconiwa.log(text, level"),
        ("Haconiwa.current_subcommand", "(write Haconiwa.command)"),
        ("config.current_subcommand", "(write Haconiwa.command)"),
        ("Haconiwa.VERSION", "(write hakoniwa.__version__)"),
        ("Haconiwa.Base.define()", "(write `with Haconiwa.define() as config:`)"),
        ("Haconiwa.probe_phase_pass(1)", "(remove it: it is not needed here)"),
        ("Haconiwa.PHASE_START", "(remove it: it is not needed here)"),
        ("Haconiwa.current_timer", "(remove it: it is not needed here)"),
        ("Haconiwa.lgo", "Haconiwa.lgo is unknown (did you mean 'log'?)"),
        ("config.wait_interval = 50", "(remove it: it is not needed here)"),
        ("config.use_legacy_watchdog = True", "(remove it: it is not needed here)"),
        ("config.filesystem.skip_make_rslave_on_host_root = True", "(remove it: it is not needed here)"),
        ("config.add_readiness_hook(readiness_port=80)", "(write port=)"),
        ('config.add_readiness_hook(readiness_ip="::")', "(remove it: a port counts on any address)"),
        ("config.add_readiness_hook(nsenter_path=1)", "(remove it: no program is needed to look inside)"),
        ("config.add_readiness_hook(msec=50)", "(remove it: the first look is at once)"),
        ('config.bootstrap.postprocess("shell", "true")', "(decorate a function with @b.postprocess"),
        ("config.bootstrap.code(print)", "config.bootstrap.code is not called (write config.bootstrap.code = ...)"),
        ('config.hostname("x")', "config.hostname is not called (write config.hostname = ...)"),
        ('config.rootfs("v2")', "config.rootfs is not called (write config.rootfs.SETTING = ..., or `with"),
    ],
)
def test_words_of_haconiwa_are_told_what_to_write(write_file: Writer, line: str, hint: str) -> None:
    (problem,) = problems(write_file(line))
    assert problem.startswith(f":{HEAD_LINES + 1}: ")
    assert hint in problem


def test_an_unknown_word_of_the_module_is_no_attribute(write_file: Writer) -> None:
    only(write_file('assert not hasattr(Haconiwa, "Logger") and hasattr(Haconiwa, "log")'))


def test_defaults_that_haconiwa_has(write_file: Writer) -> None:
    (hook,) = only(write_file('config.add_cgroup_hook(type="oom")(print)')).hooks.background
    assert hook.level == "critical"


# What `hako check` finds besides


def found(path: Path) -> list[str]:
    lines = [line for problem in find_problems(loaded(path), str(path)) for line in HakoError.lines(problem)]
    return [line.removeprefix(str(path)) for line in lines]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("config.daemonize", "the statement config.daemonize does nothing (write config.daemonize())"),
        ("config.capabilities.reset_to_privileged", "(write config.capabilities.reset_to_privileged())"),
        ("config.acts_as_session_leader", "(write config.acts_as_session_leader())"),
        ("config.hostname", "(write config.hostname = ...)"),
        ("with config.capabilities as c:\n    pass; c.reset_to_privileged", "(write c.reset_to_privileged())"),
        ("with config.rootfs as r:\n    pass; r.readonly", "(write r.readonly = ...)"),
        ("def web(box): box.skip_bootstrap\nweb(config)", "(write box.skip_bootstrap())"),
    ],
)
def test_statements_that_do_nothing(write_file: Writer, line: str, told: str) -> None:
    (problem,) = found(write_file(line))
    assert told in problem
    assert problem.startswith(f":{HEAD_LINES + 1 + ('pass;' in line)}: ")


@pytest.mark.parametrize(
    "line",
    [
        'config.add_mount_point("nope", to="/x")',
        'config.provision.copy("nope", "/x")',
        'config.command.set_stdin(host_file="nope")',
        'config.command.set_stdout(host_file="nope/log")',
        'config.seccomp.profile = "nope"',
        'config.bootstrap.strategy = "tarball"; config.bootstrap.archive_path = "nope"',
    ],
)
def test_what_is_not_there(write_file: Writer, line: str, places: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (problem,) = found(write_file(line))
    assert problem.startswith(f":{HEAD_LINES + 1}: ")
    assert f"missing: {places}/nope" in problem or f"{places}/nope is missing" in problem
    hook = "\nconfig.add_general_hook('before_fork')(print)"
    assert found(write_file(line + hook)) == []
    assert "unless a hook makes it" in capfd.readouterr().err
    (places / "nope").mkdir()
    assert found(write_file(line)) == []
