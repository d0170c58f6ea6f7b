// Works with as much memory as it gets: takes null for an answer, ENOMEM with it, and goes on with less.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 200, ROUNDS = 3000 };
static unsigned long refused;

static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0) _exit(9);
}

static void fail(const char *text) {
    say(text);
    _exit(7);
}

static uint32_t next(uint32_t *s) { return (*s = *s * 1664525u + 1013904223u) >> 8; }

static size_t some(uint32_t *s) {
    uint32_t kind = next(s) % 64;
    size_t most = kind < 40 ? 500 : kind < 58 ? 40000 : kind < 63 ? 2000000 : 30000000;
    return sizeof(size_t) + next(s) % most;
}

static void *checked(void *p) {
    if (!p) {
        if (errno != ENOMEM) fail("no memory, and errno is not ENOMEM\n");
        __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
    }
    return p;
}

static void *work(void *arg) {
    uint32_t s = (uint32_t)(uintptr_t)arg * 7919u + 3;
    size_t *slots[SLOTS] = {0};
    for (int i = 0; i < ROUNDS; i++) {
        size_t **slot = &slots[next(&s) % SLOTS], n = some(&s);
        if (*slot && ((*slot)[0] & 0xffff) != ((uintptr_t)arg & 0xffff)) fail("an object has changed\n");
        errno = 0;
        switch (next(&s) % 4) {
        case 0: {
            size_t *p = checked(realloc(*slot, n));
            if (p) *slot = p;
            break;
        }
        case 1:
            free(*slot);
            *slot = checked(calloc(1, n));
            if (*slot && ((char *)*slot)[n - 1]) fail("calloc is not zero\n");
            break;
        case 2:
            free(*slot);
            *slot = NULL;
            if (posix_memalign((void **)slot, 256, n)) *slot = NULL;
            break;
        default:
            free(*slot);
            *slot = checked(malloc(n));
        }
        if (*slot) (*slot)[0] = (uintptr_t)arg & 0xffff;
    }
    for (int i = 0; i < SLOTS; i++) free(slots[i]);
    return NULL;
}

int main(void) {
    work((void *)1);
    pthread_t t[3];
    int started[3];
    for (intptr_t i = 0; i < 3; i++) started[i] = !pthread_create(&t[i], NULL, work, (void *)(i + 2));
    for (int i = 0; i < 3; i++)
        if (started[i]) pthread_join(t[i], NULL);
    pid_t child = fork();
    if (child == 0) {
        work((void *)9);
        _exit(0);
    }
    int status = 0;
    if (child > 0 && (waitpid(child, &status, 0) != child || status)) fail("the child\n");
    say(refused ? "done, with refusals\n" : "done\n");
    return 0;
}
