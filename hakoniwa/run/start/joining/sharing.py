"""A network that is another container's."""

from __future__ import annotations

import os
import select
import time

from hakoniwa.errors import HakoError
from hakoniwa.kernel.security import capabilities
from hakoniwa.known import state
from hakoniwa.known.statefile import ALIVE, holder
from hakoniwa.network.facts import NetworkFacts
from hakoniwa.run.life import CLONE, HostStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.known.statefile import State
    from hakoniwa.run.life import Life
    from hakoniwa.spec.networks import Network
    from hakoniwa.spec.records import Container

_PATIENCE = 30.0  # seconds for a container of the same barn to run
_GRACE = 5.0  # of these for its supervisor to begin
_PAUSE = 5  # milliseconds between two looks


class ShareNetwork(HostStep):
    """Have the first process be cloned into the network namespace of another container, once that runs."""

    stage = CLONE

    def __init__(self, container: Container, network: Network) -> None:
        assert network.share_with is not None
        self._container = container
        self._other = network.share_with
        self._where = network.where

    def __str__(self) -> str:
        return f"enter the network namespace of {self._other}, once that runs"

    def do(self, life: Life) -> None:
        known = self._await(life)
        self._must_not_lift(life, known)
        other = state.identity(known).open()
        if other is None:
            raise self._refusal("has just ended", "start it again")
        life.entered["net"] = other
        try:
            theirs, ours = (os.stat(f"/proc/{pid}/ns/net").st_ino for pid in (known.pid, "self"))
        except FileNotFoundError:
            raise self._refusal("has just ended", "start it again") from None
        if theirs == ours:
            raise self._refusal("has the host's network", "leave config.network out to have that, too")
        shared = known.network or NetworkFacts()
        own = life.base.network or NetworkFacts()
        life.have_network(own.replace(interfaces=shared.interfaces))

    def _await(self, life: Life) -> State:
        """The state of the other container, which runs. One of the same barn may be on its way. Raises HakoError."""
        is_beside = self._other in life.inherited.beside
        begun, seen = time.monotonic(), False
        while True:
            starting = holder(self._other) is not None
            known = state.read(self._other)
            if known is not None and known.status in ALIVE:
                return known
            if not is_beside:
                hint = f"hako start -D {known.file}" if known is not None and known.file else "hako ps shows what runs"
                raise self._refusal("does not run", hint)
            waited = time.monotonic() - begun
            if not starting and (seen or waited > _GRACE):
                raise self._refusal("does not run: it was not started, or has ended already", "see why it does not run")
            if waited > _PATIENCE:
                raise self._refusal(f"does not run after {_PATIENCE:g} s", "see what its start waits for")
            seen = seen or starting
            select.poll().poll(_PAUSE)

    def _must_not_lift(self, life: Life, known: State) -> None:
        """Raise HakoError if this container could lift the policy of the other one's network."""
        policy = (known.definition.whole.get("network") or {}).get("policy")
        if policy is None or policy["insist"] or policy["default"] == "any":
            return
        from hakoniwa.spec.rules.networkrules import LIFTS

        for name in capabilities.names(life.launch.capabilities):
            if name in LIFTS:
                told = f"has a policy, and {name} {LIFTS[name]}"
                raise self._refusal(told, f"drop {name}, or say policy_can_be_lifted = True in {self._other}")

    def _refusal(self, told: str, hint: str) -> HakoError:
        return HakoError(f"network.share_with: the container {self._other!r} {told}", where=self._where, hint=hint)

    def undo(self) -> None:
        """The namespace is the other one's."""
