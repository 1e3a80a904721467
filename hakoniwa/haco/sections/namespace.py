"""`config.namespace`: which namespaces the container has of its own, joins, or shares with the host."""

from __future__ import annotations

from hakoniwa.errors import nearest
from hakoniwa.haco.reading import Reading, short
from hakoniwa.haco.sections.section import Section
from hakoniwa.kernel.processes.process import NAMESPACES
from hakoniwa.spec.records import OWN_NAMESPACES, Entered, IdRange, Namespaces, Persisted, TimeOffset
from hakoniwa.spec.rules import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_NETNS = "/run/netns"  # where `ip netns` keeps them, `man 8 ip-netns`


class NamespaceSection(Section):
    """`config.namespace`."""

    _word = "config.namespace"
    _own: dict[str, str]
    _entered: dict[str, Entered]
    _persisted: dict[str, Persisted]
    _maps: dict[str, list[IdRange]]
    _offset: TimeOffset | None

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        own = dict.fromkeys(OWN_NAMESPACES.own, reading.shown)
        self.__dict__.update(_own=own, _entered={}, _persisted={}, _maps={"uid": [], "gid": []}, _offset=None)

    def unshare(self, *names: str, persist_in: str | None = None) -> None:
        """Give the container namespaces of its own.

        `persist_in` keeps one beyond the container's end, as a file of that path; of several, as files in that folder.
        """
        self._must_be_open()
        place = self._reading.here()
        for name in self._known(names):
            self._own[name] = place
            self._entered.pop(name, None)
        if persist_in is None:
            return
        path = self._reading.check(f"{self._word}.unshare(persist_in=)", checks.path, persist_in)
        for name in self._known(names) if path else ():
            self._persisted[name] = Persisted(
                name=name, path=path if len(names) == 1 else f"{path}/{name}", where=place
            )

    def share(self, *names: str) -> None:
        """Leave the container in the host's namespaces."""
        self._must_be_open()
        for name in self._known(names):
            if name == "mount":
                self._reading.problem("the mount namespace cannot be shared", "a container has a root file system")
                continue
            self._own.pop(name, None)
            self._entered.pop(name, None)
            self._places[name] = self._reading.here()

    def enter(self, name: str, via: str) -> None:
        """Join the namespace that a file of the host refers to, such as /proc/PID/ns/net."""
        self._must_be_open()
        path = self._reading.check(f"{self._word}.enter(via=)", checks.path, via)
        for known in self._known((name,)) if path else ():
            self._own.pop(known, None)
            self._entered[known] = Entered(name=known, path=path, where=self._reading.here())

    def use_netns(self, name: str) -> None:
        """Join a network namespace that `ip netns add` has made."""
        word = self._reading.check(f"{self._word}.use_netns()", checks.name, name)
        if word is not None:
            self.enter("net", f"{_NETNS}/{word}")

    def time_offset(self, monotonic: float = 0, boottime: float = 0) -> None:
        """Set the clocks of the container ahead (or, below 0, back) by so many seconds, in a time namespace of its own."""
        self._must_be_open()
        place, check = self._reading.here(), self._reading.check
        ahead = [
            check(f"{self._word}.time_offset({word}=)", checks.seconds, value, 0.0)
            for word, value in (("monotonic", monotonic), ("boottime", boottime))
        ]
        self._own["time"] = place
        self.__dict__["_offset"] = TimeOffset(monotonic=ahead[0], boottime=ahead[1], where=place)

    def set_uid_mapping(self, min: int, max: int, offset: int) -> None:
        """Users min to max of the container, both included, are those from `offset` on to the host."""
        self._map("uid", min, max, offset)

    def set_gid_mapping(self, min: int, max: int, offset: int) -> None:
        """Groups min to max of the container, both included, are those from `offset` on to the host."""
        self._map("gid", min, max, offset)

    def _map(self, kind: str, first: object, last: object, offset: object) -> None:
        self._must_be_open()
        setting, place = f"{self._word}.set_{kind}_mapping", self._reading.here()
        low, high, outside = (
            self._reading.check(f"{setting}({word}=)", checks.number_id, value)
            for word, value in (("min", first), ("max", last), ("offset", offset))
        )
        if low is None or high is None or outside is None:
            return
        if high < low:
            self._reading.problem(f"{setting}(): max {high} is below min {low}", "swap them")
            return
        if outside + high - low >= 2**32 - 1:
            self._reading.problem(
                f"{setting}(): {high - low + 1} ids from {outside} on go beyond the last one, 4294967294",
                "lower offset or max",
            )
            return
        self._own["user"] = place
        self._entered.pop("user", None)
        self._maps[kind].append(IdRange(inside=low, outside=outside, count=high - low + 1, where=place))

    def _known(self, names: tuple[str, ...]) -> list[str]:
        known = [name for name in names if isinstance(name, str) and name in NAMESPACES]
        for name in names:
            if name not in known:
                self._reading.problem(f"namespace {short(name)} is unknown", nearest(str(name), list(NAMESPACES)))
        return known

    def _build(self) -> Namespaces:
        return Namespaces(
            own=tuple(self._own),
            entered=tuple(one.replace(path=self._beside(one.path)) for one in self._entered.values()),
            persisted=tuple(one.replace(path=self._beside(one.path)) for one in self._persisted.values()),
            uid_map=tuple(self._maps["uid"]),
            gid_map=tuple(self._maps["gid"]),
            time_offset=self._offset,
        )

    def _copy(self) -> Self:
        twin = super()._copy()
        mine: dict[str, Any] = self.__dict__
        twin.__dict__.update({word: dict(mine[word]) for word in ("_own", "_entered", "_persisted")})
        twin.__dict__["_maps"] = {kind: list(ranges) for kind, ranges in self._maps.items()}
        twin.__dict__["_offset"] = self._offset
        return twin
