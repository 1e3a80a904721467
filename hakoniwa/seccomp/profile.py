"""The default profile: what a container may ask of the kernel, which depends on the capabilities that it has.

A call that is named nowhere is answered as by a kernel without it (ENOSYS), so that programs fall back to an older one;
a call that is refused on purpose is EPERM.
"""

from __future__ import annotations

import errno

from hakoniwa.kernel.security import capabilities
from hakoniwa.kernel.security.callnames import BY_CAPABILITY, NEVER, ORDINARY
from hakoniwa.seccomp.compiling import prefixes
from hakoniwa.spec.held import ArgumentTest, CallFilter, CallRule

_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag that clone(2) takes (linux/sched.h)
_AF_VSOCK, _AF_ALG = 40, 38
_SOCKETS = ((0, _AF_ALG - 1), (_AF_ALG + 1, _AF_VSOCK - 1), (_AF_VSOCK + 1, 63))  # families; there are fewer than 64
# PER_LINUX, with and without UNAME26, PER_LINUX32 likewise, and the question for the present one.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def default_profile(held: int) -> CallFilter:
    """The profile for a container with these capabilities, a bit mask."""
    opened = {call for name, calls in BY_CAPABILITY.items() if held & capabilities.mask([name]) for call in calls}
    shut = {call for calls in BY_CAPABILITY.values() for call in calls} - opened
    rules = [_rule("allow", [*ORDINARY, *sorted(opened)]), _rule("errno", sorted({*shut, *NEVER} - {"clone3"}))]
    if "clone3" not in opened:
        # Its flags lie in memory, where no filter sees them: without it, programs use clone(2).
        rules.append(_rule("errno", ["clone3"], error=errno.ENOSYS))
    if held & capabilities.mask(["cap_sys_admin"]):
        rules.append(_rule("allow", ["clone"]))
    else:
        rules.append(_rule("allow", ["clone"], _test(0, "==", 0, mask=_NEW_NAMESPACES)))
        for flag in (1 << bit for bit in range(32) if _NEW_NAMESPACES >> bit & 1):
            rules.append(_rule("errno", ["clone"], _test(0, "==", flag, mask=flag)))
    rules += [_rule("allow", ["personality"], _test(0, "==", value)) for value in _PERSONALITIES]
    # Neither reaches into a network namespace: sockets to the hypervisor, and the kernel's cryptography.
    for first, last in _SOCKETS:
        rules += [_rule("allow", ["socket"], _test(0, "==", *prefix)) for prefix in prefixes(first, last)]
    rules += [
        _rule("errno", ["socket"], _test(0, "==", kind), error=errno.EAFNOSUPPORT) for kind in (_AF_ALG, _AF_VSOCK)
    ]
    return CallFilter(default="errno", errno=errno.ENOSYS, rules=tuple(rules), where="")


def _rule(action: str, calls: list[str], *tests: ArgumentTest, error: int = errno.EPERM) -> CallRule:
    return CallRule(action=action, calls=tuple(calls), errno=error, tests=tests, where="")


def _test(index: int, operator: str, value: int, mask: int | None = None) -> ArgumentTest:
    return ArgumentTest(index=index, operator=operator, value=value, mask=mask)
