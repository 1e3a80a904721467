/* A program that takes TERM in the way that its argument names, prints "taken" and exits with 9. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static sigset_t only(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    return set;
}

static void taken(void) {
    puts("taken");
    fflush(stdout);
    _exit(9);
}

static void take(int number) {
    sigset_t set = only(number);
    siginfo_t info;
    while (sigwaitinfo(&set, &info) != number) {
    }
    taken();
}

static void *take_term(void *nothing) {
    take(SIGTERM);
    return nothing;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    sigset_t all, term = only(SIGTERM);
    sigfillset(&all);
    puts("ready");
    fflush(stdout);
    if (strcmp(how, "chld") == 0) {
        /* Waits for CHLD alone; TERM it would ignore, being the first of its pid namespace. */
        sigset_t chld = only(SIGCHLD);
        sigprocmask(SIG_BLOCK, &chld, NULL);
        take(SIGCHLD);
    }
    sigprocmask(SIG_BLOCK, &all, NULL);
    if (strcmp(how, "signalfd") == 0) {
        struct pollfd events = {signalfd(-1, &term, SFD_NONBLOCK), POLLIN, 0};
        while (poll(&events, 1, -1) != 1) {
        }
        taken();
    }
    if (strcmp(how, "thread") == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, take_term, NULL);
        pthread_join(thread, NULL);
    }
    if (strcmp(how, "tini") == 0) {
        /* As tini does: all signals at once, and now and then a look at something else. */
        struct timespec moment = {0, 1000000};
        while (sigtimedwait(&all, NULL, &moment) != SIGTERM) {
        }
        taken();
    }
    take(SIGTERM);
}
