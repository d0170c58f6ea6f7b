// One bad free (or the like), named by the first argument. Prints the pointer first; "lived" at the end if nothing stopped it.
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHUNK = 32 << 20, UNIT = 64 << 10 };
static char a_static[256];
static void *volatile keep[64];
static char *volatile bad;

static char *get(size_t n) {
    char *p = malloc(n);
    if (!p) abort();
    memset(p, 0x5a, n < 4096 ? n : 4096);
    return p;
}

// The pointer that is to be named.
static char *say(char *p) {
    bad = p;
    char line[40];
    int n = snprintf(line, sizeof line, "%p\n", (void *)p);
    if (write(1, line, (size_t)n) != n) _exit(9);
    return bad;
}

static void *free_it(void *p) {
    free(p);
    return NULL;
}

static void *free_twice(void *p) {
    free(p);
    free(p);
    return NULL;
}

static void elsewhere(void *(*f)(void *), void *p) {
    pthread_t t;
    pthread_create(&t, NULL, f, p);
    pthread_join(t, NULL);
}

static char *chunk_of(char *p) { return (char *)((uintptr_t)p & ~(uintptr_t)(CHUNK - 1)); }

int main(int argc, char **argv) {
    if (argc < 2) return 8;
    const char *what = argv[1];
    size_t size = argc > 2 ? strtoul(argv[2], NULL, 0) : 100;
    char on_stack[256];
    // 1072 to 1280 is a class nobody else here uses.
    if (!strcmp(what, "again")) {
        keep[0] = get(size);
        char *p = get(size);
        keep[1] = get(size);
        say(p);
        free(p);
        free(p);
    } else if (!strcmp(what, "again-last")) {
        char *p = say(get(size));
        free(p);
        free(p);
    } else if (!strcmp(what, "again-after-others")) {
        // Nothing of the slab is held by anybody at the third free.
        char *p = get(size), *q = get(size);
        say(p);
        free(p);
        free(q);
        free(p);
        for (int i = 0; i < 64; i++) keep[i] = get(size);
    } else if (!strcmp(what, "again-among-others")) {
        for (int i = 0; i < 8; i++) keep[i] = get(size);
        char *p = say(keep[2]);
        free(p);
        free(keep[3]);
        free(p);
    } else if (!strcmp(what, "again-elsewhere")) {
        keep[0] = get(size);
        char *p = say(get(size));
        keep[1] = get(size);
        elsewhere(free_it, p);
        elsewhere(free_it, p);
    } else if (!strcmp(what, "again-both-elsewhere")) {
        keep[0] = get(size);
        char *p = say(get(size));
        keep[1] = get(size);
        elsewhere(free_twice, p);
    } else if (!strcmp(what, "again-here-then-elsewhere")) {
        keep[0] = get(size);
        char *p = say(get(size));
        keep[1] = get(size);
        free(p);
        elsewhere(free_it, p);
    } else if (!strcmp(what, "again-slab-gone")) {
        // Its slab has been given back since.
        static char *all[40000];
        for (int i = 0; i < 40000; i++) all[i] = get(size);
        for (int i = 0; i < 40000; i++) free(all[i]);
        malloc_trim(0);
        free(say(all[20]));
    } else if (!strcmp(what, "stack")) {
        free(say(on_stack + 16));
    } else if (!strcmp(what, "static")) {
        free(say(a_static + 16));
    } else if (!strcmp(what, "text")) {
        free(say((char *)(uintptr_t)main));
    } else if (!strcmp(what, "wild")) {
        free(say((char *)0x123456789ab0));
    } else if (!strcmp(what, "at") || !strcmp(what, "realloc-at") || !strcmp(what, "usable-at") || !strcmp(what, "page-at")) {
        // Any value at all; "page-at": in a page that the program has mapped there.
        keep[0] = get(100);
        char *p = (char *)(uintptr_t)strtoull(argv[2], NULL, 0);
        if (!strcmp(what, "page-at")) {
            char *page = (char *)((uintptr_t)p & ~(uintptr_t)4095);
            int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
            if (mmap(page, 4096, PROT_READ | PROT_WRITE, flags, -1, 0) != page) return 7;
        }
        if (!strcmp(what, "realloc-at")) keep[1] = realloc(say(p), 200);
        else if (!strcmp(what, "usable-at")) keep[1] = (void *)malloc_usable_size(say(p));
        else free(say(p));
    } else if (!strcmp(what, "beside")) {
        // So many chunks above, or below, one of ours: where the next is to be, or something else is, or nothing.
        char *p = get(100);
        free(say(p + strtol(argv[2], NULL, 0) * CHUNK));
    } else if (!strcmp(what, "chunk-gone")) {
        // Its chunk has gone back to the kernel; those around it have not.
        static char *all[6][400];
        for (int c = 0; c < 6; c++)
            for (int i = 0; i < 400; i++) all[c][i] = get(60000);
        for (int c = 1; c < 5; c++)
            for (int i = 0; i < 400; i++) free(all[c][i]);
        malloc_trim(0);
        // The next chunk comes where one was, and is as good as new.
        if (argc > 2 && !strcmp(argv[2], "again")) {
            for (int c = 1; c < 5; c++)
                for (int i = 0; i < 400; i++) all[c][i] = get(60000);
            for (int c = 0; c < 6; c++)
                for (int i = 0; i < 400; i++)
                    if (all[c][i][4000] != 0x5a && all[c][i][100] != 0x5a) return 6;
        } else {
            free(say(all[3][200]));
        }
    } else if (!strcmp(what, "inside")) {
        keep[0] = get(size);
        char *p = get(size);
        keep[1] = get(size);
        free(say(p + (argc > 3 ? strtoul(argv[3], NULL, 0) : 16)));
    } else if (!strcmp(what, "inside-elsewhere")) {
        keep[0] = get(size);
        char *p = get(size);
        keep[1] = get(size);
        elsewhere(free_it, say(p + (argc > 3 ? strtoul(argv[3], NULL, 0) : 16)));
    } else if (!strcmp(what, "never-handed-out")) {
        char *p = get(size);
        free(say(p + (UNIT - ((uintptr_t)p & (UNIT - 1))) - 512));
    } else if (!strcmp(what, "header")) {
        free(say(chunk_of(get(100)) + 1024));
    } else if (!strcmp(what, "header-start")) {
        free(say(chunk_of(get(100))));
    } else if (!strcmp(what, "tags")) {
        free(say(chunk_of(get(100)) + 384 * UNIT + 16));
    } else if (!strcmp(what, "tags-end")) {
        free(say(chunk_of(get(100)) + 511 * UNIT + 4096));
    } else if (!strcmp(what, "free-unit")) {
        free(say(chunk_of(get(100)) + 380 * UNIT));
    } else if (!strcmp(what, "realloc-freed")) {
        keep[0] = get(size);
        char *p = get(size);
        keep[1] = get(size);
        free(say(p));
        keep[2] = realloc(p, size * 3);
    } else if (!strcmp(what, "realloc-stack")) {
        keep[0] = realloc(say(on_stack + 16), 100);
    } else if (!strcmp(what, "usable-stack")) {
        keep[0] = (void *)malloc_usable_size(say(on_stack + 16));
    } else if (!strcmp(what, "usable-inside")) {
        keep[0] = (void *)malloc_usable_size(say(get(100) + 16));
    } else if (!strcmp(what, "usable-freed")) {
        char *p = get(size);
        free(say(p));
        keep[0] = (void *)malloc_usable_size(p);
    } else if (!strcmp(what, "write-after-free")) {
        // Overwrites the link; two more objects are taken through it.
        for (int i = 0; i < 4; i++) keep[i] = get(size);
        char *volatile p = keep[2];
        free(p);
        memset(p, argc > 3 ? (int)strtoul(argv[3], NULL, 0) : 0, 16);
        for (int i = 4; i < 60; i++) keep[i] = malloc(size);
    } else if (!strcmp(what, "overflow")) {
        // The neighbour is free: its link is what is hit.
        for (int i = 0; i < 8; i++) keep[i] = get(size);
        free(keep[3]);
        size_t usable = malloc_usable_size(keep[2]);
        memset((char *)keep[2], 'A', usable + 8);
        for (int i = 8; i < 60; i++) keep[i] = malloc(size);
    } else {
        return 8;
    }
    if (write(1, "lived\n", 6) != 6) return 9;
    _exit(0);
}
