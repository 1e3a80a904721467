"""How the kernel treats the container's processes: priority, scheduling policy, and who goes when memory runs out."""

from __future__ import annotations

import errno
import os

from hakoniwa.steps.step import Context, Step, write_own_file


class SetOomScore(Step):
    """Adjust how likely the out-of-memory killer takes the processes. While /proc is still the host's."""

    value: int

    def __str__(self) -> str:
        return f"set oom_score_adj {self.value}"

    def apply(self, context: Context) -> None:
        write_own_file("oom_score_adj", str(self.value))

    def hint(self, error: OSError) -> str:
        return "a lower value than the caller's needs cap_sys_resource" if error.errno == errno.EACCES else ""


class SetPolicy(Step):
    """Set the scheduling policy, before the nice value. `man 7 sched`."""

    policy: str

    def __str__(self) -> str:
        return f"set policy {self.policy}"

    def apply(self, context: Context) -> None:
        word, _, priority = self.policy.partition(":")
        number = {"other": os.SCHED_OTHER, "batch": os.SCHED_BATCH, "idle": os.SCHED_IDLE}
        number |= {"fifo": os.SCHED_FIFO, "rr": os.SCHED_RR}
        os.sched_setscheduler(0, number[word], os.sched_param(int(priority or 0)))

    def hint(self, error: OSError) -> str:
        if not isinstance(error, PermissionError):
            return ""
        return "that takes cap_sys_nice; a cgroup of its own may also leave no real-time budget (cpu.rt_runtime_us)"


class SetNice(Step):
    """Set the nice value. `man 2 setpriority`."""

    nice: int

    def __str__(self) -> str:
        return f"set nice {self.nice}"

    def apply(self, context: Context) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, self.nice)

    def hint(self, error: OSError) -> str:
        return "that takes cap_sys_nice" if isinstance(error, PermissionError) else ""
