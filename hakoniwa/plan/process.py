"""The plan of one process on its way to its program: the same for a container's first one and for any further one.

What differs between the two is what they are made of: who they are, what they may do, and who can still open things outside.
"""

from __future__ import annotations

from hakoniwa.record import Record
from hakoniwa.steps.process import identity, program, standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from hakoniwa.seccomp.programs import Program
    from hakoniwa.spec.held import Process, Resources, Security
    from hakoniwa.steps.step import Step


class ProcessPlan(Record):
    """What a process is to become. Its methods give the steps, in the order in which they are applied."""

    process: Process
    resources: Resources
    security: Security
    capabilities: int  # resolved: a bit mask
    filters: tuple[Program, ...]  # of seccomp
    command: tuple[str, ...] | None  # None: a shell
    init: str | None = None  # the installed program that the command is a child of, such as tini
    idle: bool = False  # no program: the container is there to be attached to
    hold: int | None = None  # a socket: the program waits for a byte from it; None: it does not wait
    terminals: tuple[int, ...] = ()  # the standard streams that become a pty
    devpts: int | None = None  # the device number of the container's devpts, if it is mounted already
    attributes: Step | None = None  # takes the folder that an AppArmor profile is asked for in; None: it is opened here
    places: Mapping[str, str]  # where settings were asked for
    where: str  # where the others were

    def environment(self, term: str) -> dict[str, str]:
        """The environment of the program: nothing of the host's. HOME is added when the account is known."""
        base = {"PATH": program.DEFAULT_PATH, "TERM": term, "container": "hakoniwa"}
        return base | dict(self.process.environ)

    def scheduling(self) -> list[Step]:
        """How the kernel treats it; while /proc is the host's, and the process who has cloned it."""
        wanted = self.resources.scheduling
        steps: list[Step] = []
        if wanted.oom_score_adj is None and wanted.nice is None and wanted.policy is None:
            return steps
        from hakoniwa.steps.process import scheduling

        if wanted.oom_score_adj is not None:
            where = self.places.get("oom_score_adj", wanted.where)
            steps.append(scheduling.SetOomScore(value=wanted.oom_score_adj, where=where))
        if wanted.policy is not None:
            steps.append(scheduling.SetPolicy(policy=wanted.policy, where=self.places.get("sched", wanted.where)))
        if wanted.nice is not None:
            steps.append(scheduling.SetNice(nice=wanted.nice, where=self.places.get("nice", wanted.where)))
        return steps

    def account(self) -> Step:
        """Who it is, by the files of the root, which is known and not necessarily entered."""
        wanted = self.process
        return identity.FindAccount(uid=wanted.uid, gid=wanted.gid, groups=wanted.groups, places=self._account_places())

    def terminal(self) -> list[Step]:
        """Its own terminal. The account is known."""
        return [standard.OpenTerminal(streams=self.terminals, instance=self.devpts)] if self.terminals else []

    def redirects(self, *, inside: bool) -> list[Step]:
        """Its streams that lead to files of the container, or to those of the host."""
        streams = tuple(stream for stream in self.process.streams if stream.inside == inside)
        return [program.Redirect(streams=streams)] if streams else []

    def become_program(self) -> list[Step]:
        """The last part, in the container's root: limits, credentials, folder, program."""
        filtered = self._filtered()
        return [
            *self._restrict(filtered),
            identity.DieWithSupervisor(),
            *self.redirects(inside=True),
            program.EnterWorkdir(path=self.process.workdir, where=self._place("workdir")),
            *([self.attributes or program.OpenAttributes()] if self.security.apparmor else []),
            *filtered.late,
            *([] if self.hold is None else self._await_release(self.hold)),
            self._execute(filtered),
        ]

    def become_provisioning(self, *, executes: bool) -> list[Step]:
        """The same for a step of provisioning, which is in the right folder, and ends with its own first process.

        One that executes no program, but goes on as it is, has its filters at once.
        """
        filtered = self._filtered()
        last = [self._execute(filtered)] if executes else _put_in_force(filtered.last, self._place("seccomp"))
        return [*self._restrict(filtered), *filtered.late, *last]

    def _filtered(self) -> Filtered:
        security, where = self.security, self._place("seccomp")
        return when_filtered(self.filters, security.seccomp.profile, no_new_privs=security.no_new_privs, where=where)

    def _restrict(self, filtered: Filtered) -> list[Step]:
        """Limits and credentials."""
        limits = self.resources.limits
        return [
            standard.TakeNull(),
            *([identity.SetLimits(limits=limits)] if limits else []),
            *filtered.early,
            identity.BecomeUser(
                capabilities=self.capabilities,
                no_new_privs=self.security.no_new_privs,
                groups_asked=bool(self.process.groups),
                where=self._place("capabilities"),
                places=self._account_places(),
            ),
        ]

    def _execute(self, filtered: Filtered) -> Step:
        return program.Execute(
            command=self.command,
            init=self.init,
            idle=self.idle,
            apparmor=self.security.apparmor,
            filters=filtered.last,
            where=self.places.get("command", ""),
            init_where=self._place("init"),
            apparmor_where=self._place("apparmor"),
        )

    @staticmethod
    def _await_release(channel: int) -> list[Step]:
        from hakoniwa.steps.process.release import AwaitRelease

        return [AwaitRelease(channel=channel)]

    def _place(self, *settings: str) -> str:
        """Where the first of these settings was asked for that has a place."""
        return next((self.places[setting] for setting in settings if setting in self.places), self.where)

    def _account_places(self) -> dict[str, str]:
        """Where it was asked who the program is; what is not set follows from the user."""
        return {word: self._place(word, "uid") for word in ("uid", "gid", "groups")}


class Filtered(Record):
    """When each seccomp filter is put in force: before the credentials change, after that, or by the last program of ours."""

    early: list[Step]
    late: list[Step]
    last: tuple[bytes, ...]


def when_filtered(filters: tuple[Program, ...], profile: str | None, *, no_new_privs: bool, where: str) -> Filtered:
    """As late as can be, so that a filter of the file's own need not name what we call; but all early without no_new_privs.

    The default profile names all that is still to be called, and is in force before the last program of ours is executed.
    """
    contents = tuple(program.content for program in filters)
    if not no_new_privs:
        return Filtered(early=_put_in_force(contents, where), late=[], last=())
    known = 1 if profile == "default" else 0  # the default profile is always the first
    return Filtered(early=[], late=_put_in_force(contents[:known], where), last=contents[known:])


def _put_in_force(filters: tuple[bytes, ...], where: str) -> list[Step]:
    return [identity.PutFiltersInForce(filters=filters, where=where)] if filters else []
