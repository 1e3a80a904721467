/* What the attacks of the tests do that no shell can: built once, without libraries, and copied into the rootfs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

static int tell(const char *what, long result) {
    printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "done");
    return result < 0;
}

/* probe call ABI NUMBER... : each call with -1 as every argument. ABI: native, x32, i386 */
static int calls(int count, char **words) {
    for (int i = 1; i < count; i++) {
        long number = atol(words[i]), result;
        if (!strcmp(words[0], "i386")) {
#ifdef __x86_64__
            __asm__ volatile("push %%rbp; mov $-1, %%ebp; int $0x80; pop %%rbp"
                             : "=a"(result)
                             : "a"(number), "b"(-1), "c"(-1), "d"(-1), "S"(-1), "D"(-1)
                             : "memory", "r8", "r9", "r10", "r11");
            result = (int)result;
            if (result < 0 && result > -4096)
                errno = -result, result = -1;
#else
            result = -1, errno = ENOSYS;
#endif
        } else {
            result = syscall(number | (strcmp(words[0], "x32") ? 0 : 0x40000000), -1L, -1L, -1L, -1L, -1L, -1L);
        }
        printf("%ld ", number);
        tell(words[0], result);
    }
    return 0;
}

/* probe key NAME: find a key of the session keyring. */
static int find_key(const char *name) {
    return tell("search", syscall(SYS_keyctl, 10 /* SEARCH */, -3 /* session */, "user", name, 0));
}

/* probe addkey NAME PROGRAM...: execute a program in a session with a key. */
static int add_key(char **words) {
    if (syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, NULL) < 0 || syscall(SYS_add_key, "user", words[0], "x", 1, -3) < 0)
        return tell("add", -1);
    execvp(words[1], words + 1);
    return 127;
}

/* probe type TEXT: put characters into the input of the terminal. */
static int type(const char *text) {
    for (; *text; text++)
        if (ioctl(0, TIOCSTI, text) < 0)
            return tell("TIOCSTI", -1);
    char paste = 3; /* TIOCL_PASTESEL, on a virtual console */
    tell("TIOCLINUX", ioctl(0, TIOCLINUX, &paste));
    return tell("TIOCSTI", 0);
}

/* probe connect NAME: to an abstract socket. */
static int reach(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    return tell("connect", connect(s, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
}

/* probe pass NAME: lock the root folder and hand it to whoever listens at an abstract socket. */
static int pass(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path + 1, name, sizeof address.sun_path - 2);
    int s = socket(AF_UNIX, SOCK_STREAM, 0), root = open("/", O_RDONLY | O_DIRECTORY);
    if (connect(s, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)) < 0)
        return tell("connect", -1);
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof root)];
    } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof root)}};
    memcpy(CMSG_DATA(&control.header), &root, sizeof root);
    struct iovec byte = {.iov_base = "x", .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
    return tell("lock", flock(root, LOCK_SH)) | tell("pass", sendmsg(s, &message, 0));
}

/* probe nest COUNT: make folders in each other, below the working folder, and a file in the last. */
static int nest(int count) {
    while (count-- > 0)
        if (mkdir("n", 0755) < 0 || chdir("n") < 0)
            return tell("nest", -1);
    return tell("nest", creat("end", 0644));
}

/* probe sink: go down through them. */
static int sink(void) {
    int count = 0;
    while (chdir("n") == 0)
        count++;
    printf("%d ", count);
    return tell("sink", access("end", F_OK));
}

/* probe climb: out of a chroot, by a second one with the working folder left outside. */
static int climb(void) {
    mkdir("/climb", 0700);
    if (chroot("/climb") < 0)
        return tell("chroot", -1);
    for (int i = 0; i < 100; i++)
        if (chdir("..") < 0)
            break;
    if (chroot(".") < 0)
        return tell("chroot", -1);
    execl("/bin/ls", "ls", "/", NULL);
    execl("/usr/bin/ls", "ls", "/", NULL);
    return tell("ls", -1);
}

/* probe socket FAMILY: by the plain call, with something in the upper half of the argument, and i386's two ways. */
static int make_sockets(int family) {
    tell("plain", syscall(SYS_socket, (long)family, (long)SOCK_STREAM, 0L));
    tell("upper", syscall(SYS_socket, 1L << 32 | family, (long)SOCK_STREAM, 0L));
#ifdef __x86_64__
    int *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    long calls[2][4] = {{359, family, SOCK_STREAM, 0}, {102, 1 /* SYS_SOCKET */, (long)low, 0}};
    low[0] = family, low[1] = SOCK_STREAM, low[2] = 0;
    for (int i = 0; i < 2; i++) {
        long result;
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(calls[i][0]), "b"(calls[i][1]), "c"(calls[i][2]), "d"(calls[i][3])
                         : "memory", "r8", "r9", "r10", "r11");
        errno = -(int)result;
        tell(i ? "socketcall" : "i386", (int)result < 0 ? -1 : 0);
    }
#endif
    return 0;
}

int main(int argc, char **argv) {
    const char *word = argc > 2 ? argv[1] : argc > 1 ? argv[1] : "";
    if (!strcmp(word, "call") && argc > 3)
        return calls(argc - 2, argv + 2);
    if (!strcmp(word, "key") && argc > 2)
        return find_key(argv[2]);
    if (!strcmp(word, "addkey") && argc > 3)
        return add_key(argv + 2);
    if (!strcmp(word, "type") && argc > 2)
        return type(argv[2]);
    if (!strcmp(word, "connect") && argc > 2)
        return reach(argv[2]);
    if (!strcmp(word, "socket") && argc > 2)
        return make_sockets(atoi(argv[2]));
    if (!strcmp(word, "pass") && argc > 2)
        return pass(argv[2]);
    if (!strcmp(word, "nest") && argc > 2)
        return nest(atoi(argv[2]));
    if (!strcmp(word, "sink"))
        return sink();
    if (!strcmp(word, "climb"))
        return climb();
    if (!strcmp(word, "uid"))
        return printf("%d\n", geteuid()) < 0;
    return 2;
}
