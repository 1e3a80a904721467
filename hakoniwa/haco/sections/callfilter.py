"""`rule`: what `config.seccomp.filter()` gives."""

from __future__ import annotations

import errno

from hakoniwa.errors import nearest
from hakoniwa.haco.reading import short
from hakoniwa.kernel.security.callnames import CALLS
from hakoniwa.spec.held import ArgumentTest, CallFilter, CallRule
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Self

    from hakoniwa.haco.sections.section import Section

_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "&")
_LARGEST = 2**64 - 1


def _number(value: object) -> int:
    return checks.number_between(value, 0, _LARGEST)


def _test(index: object, condition: object) -> ArgumentTest:
    """One entry of `args=`: `{0: ("==", 5)}`, or `{1: ("&", mask, value)}` for some bits of it."""
    checks.number_between(index, 0, 5)
    if not isinstance(condition, tuple) or len(condition) < 2 or condition[0] not in _OPERATORS:
        raise checks.Wrong(f"like {{0: ('==', 5)}}, with one of {' '.join(_OPERATORS)}")
    operator, *numbers = condition
    if len(numbers) != (2 if operator == "&" else 1):
        raise checks.Wrong("a tuple of an operator and a number; after '&' a mask and a number")
    values = [_number(number) for number in numbers]
    assert isinstance(index, int)
    if operator == "&":
        return ArgumentTest(index=index, operator="==", value=values[1], mask=values[0])
    return ArgumentTest(index=index, operator=operator, value=values[0], mask=None)


def _tests(value: object) -> tuple[ArgumentTest, ...]:
    if not isinstance(value, dict):
        raise checks.Wrong("a dict from the number of an argument to a condition, like {0: ('==', 5)}")
    return tuple(_test(index, condition) for index, condition in value.items())


def error_number(value: object) -> int:
    """An errno by its name (`EPERM`) or number."""
    if isinstance(value, str) and value.startswith("E") and isinstance(getattr(errno, value, None), int):
        return int(getattr(errno, value))
    try:
        return checks.number_between(value, 1, 4095)
    except checks.Wrong:
        raise checks.Wrong("an errno by name, such as 'EPERM', or a number from 1 to 4095") from None


class FilterBuilder:
    """`rule`: what `config.seccomp.filter()` gives."""

    def __init__(self, section: Section, default: str, errno: int) -> None:
        self._section = section
        self._default = default
        self._errno = errno
        self._where = section._reading.here()
        self._rules: list[CallRule] = []

    _word = "rule"

    def _get(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        from hakoniwa.haco.haconiwa import of_a_section

        hint = of_a_section(self._word, name)
        told = f"rule.{name} is {'a word of haconiwa only' if hint else 'unknown'}"
        self._section._reading.stop(told, hint or nearest(name, ["allow", "errno", "kill", "log", "trap"]))

    if not TYPE_CHECKING:
        __getattr__ = _get

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        return None

    def allow(self, *calls: str, args: dict[int, Any] | None = None) -> None:
        """Let these calls through."""
        self._add("allow", calls, 0, args)

    def kill(self, *calls: str, args: dict[int, Any] | None = None) -> None:
        """End the process that makes one of these calls, with SIGSYS."""
        self._add("kill", calls, 0, args)

    def trap(self, *calls: str, args: dict[int, Any] | None = None) -> None:
        """Send SIGSYS, which the process may handle, for these calls."""
        self._add("trap", calls, 0, args)

    def log(self, *calls: str, args: dict[int, Any] | None = None) -> None:
        """Let these calls through, and have the kernel log them."""
        self._add("log", calls, 0, args)

    def errno(self, *calls_and_error: str | int, args: dict[int, Any] | None = None) -> None:
        """Fail these calls with the error that comes last: `rule.errno("chown", "fchown", "EPERM")`."""
        if len(calls_and_error) < 2:
            self._section._reading.problem(
                "rule.errno() takes calls, and an error last", 'rule.errno("chown", "EPERM")'
            )
            return
        *calls, error = calls_and_error
        number = self._section._reading.check("rule.errno()", error_number, error, 1)
        self._add("errno", tuple(map(str, calls)), number, args)

    def _add(self, action: str, calls: tuple[str, ...], errno: int, args: object) -> None:
        self._section._must_be_open()
        reading = self._section._reading
        if not calls:
            reading.problem(f"rule.{action}() names no system call", f'rule.{action}("mkdir")')
        for call in calls:
            if not isinstance(call, str) or call not in CALLS:
                reading.problem(f"system call {short(call)} is unknown", nearest(str(call), sorted(CALLS)))
        tests = () if args is None else reading.check(f"rule.{action}(args=)", _tests, args, ())
        self._rules.append(CallRule(action=action, calls=calls, errno=errno, tests=tests, where=reading.here()))

    def _build(self) -> CallFilter:
        return CallFilter(default=self._default, errno=self._errno, rules=tuple(self._rules), where=self._where)

    def copy_for(self, section: Section) -> FilterBuilder:
        """The same filter, for a child of the barn."""
        twin = FilterBuilder(section, self._default, self._errno)
        twin._where = self._where
        twin._rules.extend(self._rules)
        return twin
