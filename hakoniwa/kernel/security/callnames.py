"""The names of system calls, in groups, as the default profile treats them. `man 2 syscalls`.

Names of x86-64, x32, i386, AArch64 and ARM; what a machine does not have is passed over when a filter is made for it.
"""

from __future__ import annotations

# What an ordinary program needs, root's included: whatever these may do is held by capabilities and namespaces.
FILES = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
    fadvise64_64 arm_fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
    fdatasync fgetxattr file_getattr file_setattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch
    inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat listxattr listxattrat
    llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
    newfstatat oldfstat oldlstat oldstat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2
    read readahead readdir readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile
    sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range
    sync_file_range2 arm_sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat ustat utime utimensat
    utimensat_time64 utimes vmsplice write writev cachestat
""".split()
MEMORY = """
    brk get_mempolicy madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
    mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_madvise
    process_mrelease remap_file_pages
""".split()
PROCESSES = """
    arch_prctl breakpoint cacheflush capget capset execve execveat exit exit_group fork get_robust_list get_thread_area
    getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid
    getpriority getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get
    ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self modify_ldt nice olduname oldolduname
    pidfd_open pidfd_send_signal prctl prlimit64 ptrace rseq sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area
    set_tid_address set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
    setuid setuid32 sysinfo tgkill times tkill ugetrlimit uname usr26 usr32 vfork wait4 waitid waitpid
""".split()
SIGNALS = """
    pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sgetmask sigaction sigaltstack signal signalfd signalfd4
    sigpending sigprocmask sigreturn sigsuspend ssetmask
""".split()
TIME = """
    alarm clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    getitimer gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 adjtimex clock_adjtime clock_adjtime64
""".split()
WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
    futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake io_cancel io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 io_setup io_submit _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 select
""".split()
SOCKETS = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
""".split()
IPC = """
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
    msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
""".split()
RANDOM = ["getrandom"]
ORDINARY = [*FILES, *MEMORY, *PROCESSES, *SIGNALS, *TIME, *WAITING, *SOCKETS, *IPC, *RANDOM]

# What only a capability opens: the call is let through for a container that has it (`man 7 capabilities`).
BY_CAPABILITY = {
    "cap_bpf": ["bpf"],
    "cap_dac_read_search": ["open_by_handle_at"],
    "cap_perfmon": ["perf_event_open"],
    "cap_sys_admin": """
        bpf clone3 fanotify_init fanotify_mark fsconfig fsmount fsopen fspick listmount lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr perf_event_open
        pivot_root quotactl quotactl_fd setdomainname sethostname setns statmount swapoff swapon syslog umount umount2
        unshare
    """.split(),
    "cap_sys_boot": ["reboot"],
    "cap_sys_chroot": ["chroot"],
    "cap_sys_module": ["delete_module", "finit_module", "init_module"],
    "cap_sys_nice": ["mbind", "migrate_pages", "move_pages", "set_mempolicy", "set_mempolicy_home_node"],
    "cap_sys_pacct": ["acct"],
    "cap_sys_ptrace": ["kcmp", "pidfd_getfd", "process_vm_readv", "process_vm_writev"],
    "cap_sys_rawio": ["ioperm", "iopl"],
    "cap_sys_time": ["clock_settime", "clock_settime64", "settimeofday", "stime"],
    "cap_sys_tty_config": ["vhangup"],
    "cap_syslog": ["syslog"],
}

# What nobody inside needs, whatever capabilities there are: host keyrings, another kernel, code that has had many holes,
# calls that no kernel has had for long.
NEVER = """
    add_key keyctl request_key
    kexec_file_load kexec_load
    io_uring_enter io_uring_register io_uring_setup userfaultfd
    uselib vm86 vm86old
    _sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx nfsservctl prof profil
    putpmsg query_module security stty sysfs tuxcall ulimit vserver
""".split()

# Let through with some arguments only (profile.py says which).
WITH_CONDITIONS = ["clone", "personality", "socket"]

CALLS = frozenset(
    [*ORDINARY, *(call for calls in BY_CAPABILITY.values() for call in calls), *NEVER, *WITH_CONDITIONS, "clone3"]
)
