// Threads that allocate, hand over, free, rename themselves, fork and take signals; the program checks its own memory.
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 6, ROUNDS = 30000, SLOTS = 256 };
static void *_Atomic shared[SLOTS];
static volatile sig_atomic_t signals;

// glibc's malloc, which is what serves the blocks, deadlocks when a handler allocates: so this one does not.
static void on_signal(int n) {
    (void)n;
    signals++;
}

static uint32_t next(uint32_t *s) { return *s = *s * 1664525u + 1013904223u; }

static void *block(uint32_t *s) {
    size_t n = next(s) % 17 == 0 ? next(s) % 300000 : next(s) % 2000;
    void *p;
    switch (next(s) % 4) {
    case 0: p = malloc(n + sizeof(size_t)); break;
    case 1:
        p = calloc(1, n + sizeof(size_t));
        for (size_t i = 0; p && i < n; i += 97)
            if (((char *)p)[i]) abort();
        break;
    case 2: p = aligned_alloc(64, (n + sizeof(size_t) + 63) & ~(size_t)63); break;
    default:
        if (posix_memalign(&p, 128, n + sizeof(size_t))) p = NULL;
    }
    if (!p) abort();
    if (malloc_usable_size(p) < n + sizeof(size_t)) abort();
    *(size_t *)p = n;
    memset((char *)p + sizeof(size_t), (int)(n & 0xff), n);
    return p;
}

static void check_and_free(void *p) {
    if (!p) return;
    size_t n = *(size_t *)p;
    unsigned char *c = (unsigned char *)p + sizeof(size_t);
    for (size_t i = 0; i < n; i += 61)
        if (c[i] != (n & 0xff)) abort();
    free(p);
}

static void *work(void *arg) {
    uint32_t s = (uint32_t)(uintptr_t)arg * 7919u + 1;
    char name[16];
    snprintf(name, sizeof name, "worker-%d", (int)(uintptr_t)arg);
    pthread_setname_np(pthread_self(), name);
    for (int i = 0; i < ROUNDS; i++) {
        void *old = __atomic_exchange_n(&shared[next(&s) % SLOTS], block(&s), __ATOMIC_ACQ_REL);
        if (old && next(&s) % 8 == 0) {
            size_t n = *(size_t *)old;
            void *grown = realloc(old, n + sizeof(size_t) + 5000);
            if (!grown) abort();
            old = grown;
        }
        check_and_free(old);
        if (i % 5000 == 4999) {
            snprintf(name, sizeof name, "phase%d-%d", i / 5000, (int)(uintptr_t)arg);
            pthread_setname_np(pthread_self(), name);
        }
    }
    return NULL;
}

int main(void) {
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &sa, NULL);
    pthread_t t[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, work, (void *)(i + 1));
    for (int i = 0; i < 40; i++) {
        for (int k = 0; k < THREADS; k++) pthread_kill(t[k], SIGUSR1);
        pid_t child = fork();
        if (child == 0) {
            uint32_t s = 5;
            for (int k = 0; k < 200; k++) check_and_free(block(&s));
            _exit(0);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            fprintf(stderr, "child: %x\n", status);
            return 1;
        }
        usleep(2000);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < SLOTS; i++) check_and_free(shared[i]);
    printf("ok\n");
    return 0;
}
