// Anonymous memory the program maps itself: what counts, for whom, until when. Exits 0 with "counted" under the library,
// with "not counted" without.
#define _GNU_SOURCE
#include "memcg.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { M = 1 << 20, P = 4096, RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };
static int on;

static long mapped(const char *group) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "%s/memory.stat", group);
    if (memcg_read(path, text, sizeof text) < 0) abort();
    char *at = strstr(text, "mapped ");
    return at ? atol(at + 7) : 0;
}

#define CHECK(is, what)                                                                             \
    do {                                                                                            \
        long got = (is), should = (what);                                                           \
        if (on && got != should) {                                                                  \
            fprintf(stderr, "line %d: %s is %ld, should be %ld\n", __LINE__, #is, got, should);    \
            exit(1);                                                                                \
        }                                                                                           \
    } while (0)
#define MUST(what)                                                                                  \
    do {                                                                                            \
        if (!(what)) {                                                                              \
            fprintf(stderr, "line %d: not %s (errno %d)\n", __LINE__, #what, errno);                \
            exit(1);                                                                                \
        }                                                                                           \
    } while (0)

static char *map(size_t n, int prot, int flags) {
    char *p = mmap(NULL, n, prot, ANON | flags, -1, 0);
    MUST(p != MAP_FAILED);
    return p;
}

static void one_group(void) {
    char *p = map(M, RW, 0);
    CHECK(mapped("/a"), M);
    munmap(p, M);
    CHECK(mapped("/a"), 0);

    // Rounded up to pages; taken away piece by piece, in the middle first, over the end last.
    p = map(10 * P - 100, RW, 0);
    CHECK(mapped("/a"), 10 * P);
    munmap(p + 4 * P, 2 * P);
    CHECK(mapped("/a"), 8 * P);
    munmap(p + 4 * P, 2 * P);
    CHECK(mapped("/a"), 8 * P);
    munmap(p, 10 * P);
    CHECK(mapped("/a"), 0);
    errno = 0;
    MUST(munmap(p + 1, P) == -1 && errno == EINVAL);

    // What cannot be written is address space; made writable it counts, once; taking the right away changes nothing.
    p = map(8 * P, PROT_NONE, MAP_NORESERVE);
    CHECK(mapped("/a"), 0);
    MUST(mprotect(p + 2 * P, 3 * P, RW) == 0);
    CHECK(mapped("/a"), 3 * P);
    MUST(mprotect(p, 4 * P, RW) == 0);
    CHECK(mapped("/a"), 5 * P);
    MUST(mprotect(p, 8 * P, PROT_NONE) == 0);
    MUST(mprotect(p, 8 * P, PROT_READ) == 0);
    CHECK(mapped("/a"), 5 * P);
    MUST(mprotect(p, 8 * P, RW) == 0);
    CHECK(mapped("/a"), 8 * P);
    munmap(p, 8 * P);
    CHECK(mapped("/a"), 0);
    p = map(64 * M, RW, MAP_NORESERVE);
    CHECK(mapped("/a"), 0);
    munmap(p, 64 * M);

    // Replaced in place: by reserved space, by memory, by a file.
    p = map(8 * P, RW, 0);
    MUST(mmap(p + P, 2 * P, PROT_NONE, ANON | MAP_FIXED, -1, 0) == p + P);
    CHECK(mapped("/a"), 6 * P);
    MUST(mmap(p, 4 * P, RW, ANON | MAP_FIXED, -1, 0) == p);
    CHECK(mapped("/a"), 8 * P);
    FILE *file = tmpfile();
    MUST(file && ftruncate(fileno(file), 8 * P) == 0);
    MUST(mmap(p + 6 * P, 2 * P, RW, MAP_PRIVATE | MAP_FIXED, fileno(file), 0) == p + 6 * P);
    CHECK(mapped("/a"), 6 * P);
    MUST(mmap(NULL, P, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    CHECK(mapped("/a"), 6 * P);
    munmap(p, 8 * P);
    CHECK(mapped("/a"), 0);
    fclose(file);

    // mremap: shorter, longer, elsewhere, onto something, leaving the old.
    p = map(8 * P, RW, 0);
    memset(p, 7, 8 * P);
    MUST(mremap(p, 8 * P, 5 * P, 0) == p);
    CHECK(mapped("/a"), 5 * P);
    p = mremap(p, 5 * P, 500 * P, MREMAP_MAYMOVE);
    MUST(p != MAP_FAILED && p[5 * P - 1] == 7);
    CHECK(mapped("/a"), 500 * P);
    char *q = map(600 * P, RW, 0);
    CHECK(mapped("/a"), 1100 * P);
    MUST(mremap(p, 500 * P, 400 * P, MREMAP_MAYMOVE | MREMAP_FIXED, q + 50 * P) == q + 50 * P);
    CHECK(mapped("/a"), 600 * P);
#ifdef MREMAP_DONTUNMAP
    p = mremap(q, 50 * P, 50 * P, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    if (p != MAP_FAILED) {
        CHECK(mapped("/a"), 650 * P);
        munmap(p, 50 * P);
    }
#endif
    CHECK(mapped("/a"), 600 * P);
    errno = 0;
    MUST(mremap(q, 600 * P, 0, 0) == MAP_FAILED && errno == EINVAL);
    munmap(q, 600 * P);
    CHECK(mapped("/a"), 0);

    // Nobody's.
    memcg_scope free_scope;
    memcg_no_account(&free_scope);
    p = map(M, RW, 0);
    memcg_leave(&free_scope);
    CHECK(mapped("/a"), 0);
    munmap(p, M);
    CHECK(mapped("/a"), 0);
}

static void two_groups(memcg_group *b) {
    memcg_scope in_b;
    char *p = map(100 * P, PROT_NONE, 0);
    for (int i = 0; i < 100; i++) {
        if (i & 1) memcg_enter(&in_b, b);
        MUST(mmap(p + i * P, P, RW, ANON | MAP_FIXED, -1, 0) == p + i * P);
        if (i & 1) memcg_leave(&in_b);
    }
    CHECK(mapped("/a"), 50 * P);
    CHECK(mapped("/b"), 50 * P);
    // The pieces keep their owners wherever they go; what is added is the last one's (b).
    char *q = mremap(p, 100 * P, 200 * P, MREMAP_MAYMOVE);
    MUST(q != MAP_FAILED);
    CHECK(mapped("/a"), 50 * P);
    CHECK(mapped("/b"), 150 * P);
    munmap(q, 50 * P);
    CHECK(mapped("/a"), 25 * P);
    CHECK(mapped("/b"), 125 * P);

    pid_t child = fork();
    if (child == 0) {
        CHECK(mapped("/a"), 25 * P);
        munmap(q, 200 * P);
        CHECK(mapped("/a"), 0);
        CHECK(mapped("/b"), 0);
        munmap(map(M, RW, 0), M);
        CHECK(mapped("/a"), 0);
        _exit(0);
    }
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
    CHECK(mapped("/b"), 125 * P);
    munmap(q, 200 * P);
    CHECK(mapped("/a"), 0);
    CHECK(mapped("/b"), 0);
}

static void limits(void) {
    MUST(memcg_write("/a/memory.max", "10M") == 0);
    char *p = map(4 * M, RW, 0);
    if (on) {
        errno = 0;
        MUST(mmap(NULL, 8 * M, RW, ANON, -1, 0) == MAP_FAILED && errno == ENOMEM);
        char *r = map(8 * M, PROT_NONE, 0);
        errno = 0;
        MUST(mprotect(r, 8 * M, RW) == -1 && errno == ENOMEM);
        MUST(mprotect(r, M, RW) == 0);
        errno = 0;
        MUST(mremap(p, 4 * M, 12 * M, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
        munmap(r, 8 * M);
    }
    CHECK(mapped("/a"), 4 * M);
    char *q = map(5 * M, RW, 0);
    // What is replaced makes room for what replaces it.
    MUST(mmap(q, 5 * M, RW, ANON | MAP_FIXED, -1, 0) == q);
    CHECK(mapped("/a"), 9 * M);
    munmap(q, 5 * M);
    MUST(memcg_write("/a/memory.oom.policy", "debt") == 0);
    q = map(7 * M, RW, 0);
    CHECK(mapped("/a"), 11 * M);
    munmap(q, 7 * M);
    munmap(p, 4 * M);
    MUST(memcg_write("/a/memory.max", "max") == 0);
    CHECK(mapped("/a"), 0);
}

static void *_Atomic slots[64];
enum { ROUNDS = 20000, LEN = 16 * P };
static void on_signal(int n) {
    (void)n;
    munmap(mmap(NULL, LEN, RW, ANON, -1, 0), LEN);
}

// Maps, hands over, cuts, moves and unmaps what others mapped, under a signal that maps too.
static void *work(void *group) {
    memcg_scope scope;
    memcg_enter(&scope, group);
    unsigned s = (unsigned)(uintptr_t)&scope;
    for (int i = 0; i < ROUNDS; i++) {
        s = s * 1664525u + 1013904223u;
        char *p = map(LEN, RW, 0);
        *p = 1;
        if (s >> 28 == 0) p = mremap(p, LEN, 3 * LEN, MREMAP_MAYMOVE), munmap(p + LEN, 2 * LEN);
        p = __atomic_exchange_n(&slots[s >> 20 & 63], p, __ATOMIC_ACQ_REL);
        if (p && munmap(p + LEN / 2, LEN / 2) | munmap(p, LEN / 2)) abort();
    }
    memcg_leave(&scope);
    return NULL;
}

int main(void) {
    on = memcg_is_installed();
    memcg_group *a = memcg_create("/a"), *b = memcg_create("/b");
    MUST(!on || (a && b));
    memcg_scope scope;
    memcg_enter(&scope, a);
    one_group();
    two_groups(b);
    limits();
    memcg_leave(&scope);

    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &sa, NULL);
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, work, i & 1 ? a : b);
    for (int i = 0; i < 300; i++) {
        usleep(300);
        pthread_kill(t[i % 4], SIGUSR1);
        if (i % 30 == 0) {
            pid_t child = fork();
            if (child == 0) {
                munmap(map(LEN, RW, 0), LEN);
                _exit(0);
            }
            int status;
            MUST(waitpid(child, &status, 0) == child && status == 0);
        }
    }
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 64; i++)
        if (slots[i]) munmap(slots[i], LEN);
    CHECK(mapped("/a"), 0);
    CHECK(mapped("/b"), 0);
    memcg_close(a);
    memcg_close(b);
    puts(on ? "counted" : "not counted");
    return 0;
}
