/* What a container does to catch whoever comes into it: looks at every new pid as fast as it can, or traces it.
   catcher STOP MARK [trace|write]: until the file STOP is there; MARK is what only the host's mounts show. Prints a line for
   each catch. `write` fills every descriptor that it gets hold of with what once was 1 GB to its reader, and keeps it open. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static char content[1 << 16];

static int look(int pid, const char *file) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    int f = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (f < 0)
        return 0;
    ssize_t length = read(f, content, sizeof content - 1);
    close(f);
    content[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static void trace(int pid) {
    while (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0)
        if (errno == ESRCH)
            return;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    waitpid(pid, NULL, __WALL);
    const char *found = look(pid, "status") ? strstr(content, "Seccomp_filters:") : NULL;
    if (found) /* it has not ended already */
        printf("traced with %d filters\n", atoi(found + 16));
    ptrace(PTRACE_DETACH, pid, 0, 0);
}

static void write_into(int pid) {
    char path[64];
    int caught = 0;
    while (!caught && kill(pid, 0) == 0)
        for (int number = 3; number < 12; number++) {
            snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, number);
            int f = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
            if (f >= 0 && write(f, "\6\0\0\0+[\0\0\0\10", 10) == 10)
                caught = 1;
        }
    if (caught)
        puts("wrote into a descriptor of ours");
}

int main(int argc, char **argv) {
    int last = getpid();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3)
        return 2;
    puts("watching");
    while (access(argv[1], F_OK) < 0)
        for (int pid = last + 1; pid < last + 6; pid++) {
            if (kill(pid, 0) < 0 && errno == ESRCH)
                continue;
            last = pid;
            if (argc > 3) {
                (strcmp(argv[3], "trace") ? write_into : trace)(pid);
                continue;
            }
            if (look(pid, "mountinfo") && strstr(content, argv[2]))
                puts("mounts of the host");
            if (look(pid, "net/unix") && strstr(content, argv[2]))
                puts("network of the host");
            char path[64];
            for (int number = 3; number < 12; number++) {
                snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, number);
                int f = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
                if (f >= 0) {
                    puts("a descriptor of ours");
                    close(f);
                }
            }
        }
    return 0;
}
