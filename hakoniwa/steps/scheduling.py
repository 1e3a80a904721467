"""How the kernel treats the container's processes: priority, scheduling policy, and who goes when memory runs out."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.steps.step import Context, Step, write_own_file


class SetOomScore(Step):
    """Adjust how likely the out-of-memory killer takes the processes. While /proc is still the host's."""

    value: int

    def __str__(self) -> str:
        return f"set oom_score_adj {self.value}"

    def apply(self, context: Context) -> None:
        write_own_file("oom_score_adj", str(self.value))

    def hint(self, error: OSError) -> str:
        return "a lower value than the caller's needs cap_sys_resource" if error.errno == 13 else ""


class SetScheduling(Step):
    """Set the policy, then the nice value. `man 7 sched`."""

    nice: int | None
    policy: str | None

    def __str__(self) -> str:
        shown = [f"policy {self.policy}"] if self.policy else []
        return "set " + " and ".join([*shown, *([f"nice {self.nice}"] if self.nice is not None else [])])

    def apply(self, context: Context) -> None:
        try:
            if self.policy is not None:
                word, _, priority = self.policy.partition(":")
                number = {"other": os.SCHED_OTHER, "batch": os.SCHED_BATCH, "idle": os.SCHED_IDLE}
                number |= {"fifo": os.SCHED_FIFO, "rr": os.SCHED_RR}
                os.sched_setscheduler(0, number[word], os.sched_param(int(priority or 0)))
            if self.nice is not None:
                os.setpriority(os.PRIO_PROCESS, 0, self.nice)
        except PermissionError as error:
            hint = "that takes cap_sys_nice; a cgroup of its own may also leave no real-time budget (cpu.rt_runtime_us)"
            raise HakoError(f"cannot {self}: {error.strerror}", where=self.where, hint=hint) from None
