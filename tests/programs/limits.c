// until-null LOW HIGH: allocates MiB by MiB until malloc says no, which must come within [LOW, HIGH] MiB with ENOMEM.
// talk: prints its pid, then does what it is told, a line at a time.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *kept[4096];
static int n;

static int grow(int mib) {
    for (int i = 0; i < mib; i++) {
        errno = 0;
        char *p = malloc(1 << 20);
        if (!p) {
            int why = errno;
            for (int k = 0; k < i; k++) free(kept[--n]);
            return why;
        }
        memset(p, 1, 1 << 20);
        kept[n++] = p;
    }
    return 0;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 4) {
        int why = 0;
        while (n < 4096 && !(why = grow(1))) {}
        printf("%d MiB, then %s\n", n, strerror(why));
        return why == ENOMEM && n >= atoi(argv[2]) && n <= atoi(argv[3]) ? 0 : 1;
    }
    printf("%d\n", (int)getpid());
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        int mib;
        if (sscanf(line, "alloc %d", &mib) == 1) {
            int why = grow(mib);
            puts(why == 0 ? "ok" : why == ENOMEM ? "ENOMEM" : "?");
        } else if (!strncmp(line, "free", 4)) {
            while (n) free(kept[--n]);
            puts("ok");
        } else {
            puts("bye");
            return 0;
        }
    }
    return 0;
}
