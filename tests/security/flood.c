/* Makes files and removes them, as fast as it can. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char name[32];
    if (argc < 2 || chdir(argv[1]) != 0) {
        return 1;
    }
    for (unsigned number = 0;; number++) {
        snprintf(name, sizeof name, "%u.txt", number % 100000);
        close(open(name, O_CREAT | O_WRONLY, 0644));
        unlink(name);
    }
}
