// Signal handlers that allocate, in the middle of malloc and free, and of each other, on several threads. Every block is
// checked. Only an allocator without locks that a handler could meet lives through this.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 3, ROUNDS = 60000, SLOTS = 32 };
static void *_Atomic handed[SLOTS];
static volatile unsigned long handled;
static volatile int end;

static void *filled(size_t n) {
    size_t *p = malloc(n + sizeof *p);
    if (!p) abort();
    *p = n;
    memset(p + 1, (int)(n & 0xff), n);
    return p;
}

static void check_and_free(void *block) {
    if (!block) return;
    size_t n = *(size_t *)block;
    unsigned char *p = (unsigned char *)block + sizeof n;
    for (size_t i = 0; i < n; i += 31)
        if (p[i] != (n & 0xff)) abort();
    free(block);
}

static __thread uint32_t seed;
static size_t some(void) {
    seed = seed * 1664525u + 1013904223u;
    // Small mostly; page-sized and large ones too.
    return seed % 61 == 0 ? seed % 400000 : seed % 1500;
}

static void on_signal(int n) {
    (void)n;
    uint32_t before = seed;
    handled++;
    for (int i = 0; i < 3; i++) {
        void *block = filled(some());
        size_t more = some();
        if (i == 1 && (block = realloc(block, more + sizeof(size_t)))) {
            *(size_t *)block = more;
            memset((size_t *)block + 1, (int)(more & 0xff), more);
        }
        // Handed to whoever is next, so that blocks are freed by others and in handlers.
        check_and_free(__atomic_exchange_n(&handed[some() % SLOTS], block, __ATOMIC_ACQ_REL));
    }
    munmap(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
    seed = before;
}

static void *work(void *arg) {
    seed = (uint32_t)(uintptr_t)arg * 7919u + 1;
    void *mine[16] = {0};
    for (int i = 0; i < ROUNDS || (handled < 3000 && i < 50 * ROUNDS); i++) {
        int k = i % 16;
        check_and_free(mine[k]);
        mine[k] = filled(some());
        if (i % 5 == 0) check_and_free(__atomic_exchange_n(&handed[some() % SLOTS], filled(some()), __ATOMIC_ACQ_REL));
    }
    for (int k = 0; k < 16; k++) check_and_free(mine[k]);
    __atomic_fetch_add(&end, 1, __ATOMIC_RELAXED);
    while (end < THREADS) usleep(100);
    return NULL;
}

int main(void) {
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART}, NULL);
    sigaction(SIGUSR2, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART}, NULL);
    pthread_t t[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, work, (void *)(i + 1));
    while (end < THREADS)
        for (int i = 0; i < THREADS; i++) {
            // Two kinds, so that a handler is interrupted by a handler.
            pthread_kill(t[i], SIGUSR1);
            pthread_kill(t[i], SIGUSR2);
        }
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < SLOTS; i++) check_and_free(handed[i]);
    printf("handlers ran: %s\n", handled > 100 ? "many" : "few");
    return 0;
}
