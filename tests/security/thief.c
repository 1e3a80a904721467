/* What a process that sees another one does to take it over: thief PID. Prints a line for each way that works. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int opens(int pid, const char *file, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    int f = open(path, flags | O_NONBLOCK | O_CLOEXEC);
    if (f >= 0)
        close(f);
    return f >= 0;
}

static void take_descriptors(int pid) {
    int pidfd = syscall(SYS_pidfd_open, pid, 0), taken = 0, written = 0;
    for (int number = 0; number < 40; number++) {
        char path[32];
        int copy = syscall(438, pidfd, number, 0); /* pidfd_getfd */
        taken |= copy >= 0;
        written |= copy >= 0 && write(copy, "", 0) == 0;
        snprintf(path, sizeof path, "fd/%d", number);
        written |= opens(pid, path, O_WRONLY);
    }
    if (taken)
        puts("took a descriptor");
    if (written)
        puts("wrote into a descriptor");
}

int main(int argc, char **argv) {
    int pid = argc > 1 ? atoi(argv[1]) : 0;
    if (!pid) { /* one that is ours to take, to show that the ways work */
        pid = fork();
        if (!pid)
            for (;;)
                pause();
    }
    take_descriptors(pid);
    if (opens(pid, "mem", O_RDWR))
        puts("opened the memory");
    if (opens(pid, "root", O_PATH | O_DIRECTORY))
        puts("reached the root");
    if (opens(pid, "exe", O_RDONLY))
        puts("opened the program");
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0)
        puts("traced it");
    puts("tried everything");
    return 0;
}
