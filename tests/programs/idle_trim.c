// Takes 200 MiB in blocks of many sizes, writes to all of it, frees it, and then does nothing. Says what it has resident
// before, with it, and when it ends.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long resident_kib(void) {
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    if (!status) return -1;
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1) break;
    fclose(status);
    return kib;
}

int main(int argc, char **argv) {
    enum { BLOCKS = 60000 };
    static char *blocks[BLOCKS];
    long before = resident_kib(), taken = 0;
    int n = 0;
    for (; n < BLOCKS && taken < 200L << 20; n++) {
        size_t bytes = n % 1000 == 0 ? 3 << 20 : 40 + (size_t)n * 37 % 9000;
        if (!(blocks[n] = malloc(bytes))) return 1;
        memset(blocks[n], n, bytes);
        taken += (long)bytes;
    }
    long with = resident_kib();
    while (n > 0) free(blocks[--n]);
    sleep(argc > 1 ? (unsigned)atoi(argv[1]) : 0);
    printf("%ld %ld %ld\n", before, with, resident_kib());
    return 0;
}
