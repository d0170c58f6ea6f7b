// Timers' handlers that allocate, resize, free and fork, in the middle of malloc and free on several threads. A child
// goes on with what its handler interrupted. Every block is checked, in parents and children.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { THREADS = 3, SLOTS = 32, MINE = 16, FORKS = 400, STEPS_OF_A_CHILD = 1500, AT_LEAST = 3000 };
static void *_Atomic handed[SLOTS];
static _Atomic unsigned long handled, forks, children;
static _Atomic int end;
static __thread uint32_t seed;
// Steps a child has yet to make; 0 in the parent.
static __thread int left;

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

static uint32_t next(void) { return (seed = seed * 1664525u + 1013904223u) >> 8; }

static size_t some(void) {
    uint32_t kind = next() % 128;
    return kind == 0 ? next() % 900000 : kind < 6 ? next() % 50000 : next() % 1500;
}

static void on_timer(int n) {
    (void)n;
    int error = errno;
    uint32_t before = seed;
    seed += 77 * ++handled;
    for (int i = 0; i < 3; i++) {
        void *block = filled(some());
        size_t more = some();
        if (i == 1 && (block = realloc(block, more + sizeof(size_t)))) {
            *(size_t *)block = more;
            memset((size_t *)block + 1, (int)(more & 0xff), more);
        }
        check_and_free(__atomic_exchange_n(&handed[next() % SLOTS], block, __ATOMIC_ACQ_REL));
    }
    if (!left && handled % 6 == 0 && forks < FORKS) {
        forks++;
        pid_t child = fork();
        if (child > 0) children++;
        if (child == 0) {
            left = STEPS_OF_A_CHILD;
            void *many[300];
            for (int i = 0; i < 300; i++) many[i] = filled(some());
            for (int i = 0; i < 300; i++) check_and_free(many[i]);
        }
    }
    seed = before;
    errno = error;
}

static void *work(void *arg) {
    seed = (uint32_t)(uintptr_t)arg * 7919u + 1;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer)) return NULL;
    struct itimerspec every = {{0, 150000 + 7000 * (long)(intptr_t)arg}, {0, 1}};
    timer_settime(timer, 0, &every, NULL);
    void *mine[MINE] = {0};
    for (int i = 0; handled < AT_LEAST || forks < FORKS; i++) {
        int k = i % MINE;
        check_and_free(mine[k]);
        mine[k] = filled(some());
        if (i % 5 == 0)
            check_and_free(__atomic_exchange_n(&handed[next() % SLOTS], filled(some()), __ATOMIC_ACQ_REL));
        if (left && --left == 0) _exit(0);
    }
    timer_delete(timer);
    if (left) _exit(0);
    for (int k = 0; k < MINE; k++) check_and_free(mine[k]);
    end++;
    return NULL;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    pthread_t t[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, work, (void *)(i + 1));
    unsigned long reaped = 0;
    int status;
    while (end < THREADS || reaped < children) {
        pid_t child = waitpid(-1, &status, WNOHANG);
        if (child > 0 && status != 0) {
            fprintf(stderr, "a child: %x\n", status);
            return 1;
        }
        if (child > 0) reaped++;
        else usleep(500);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < SLOTS; i++) check_and_free(handed[i]);
    printf("handlers ran: %s; children: %s\n", handled >= AT_LEAST ? "many" : "few", reaped >= FORKS ? "many" : "few");
    return 0;
}
