// Threads renamed by others while they work: their tasks, with all they hold, are where the names say.
#define _GNU_SOURCE
#include "memcg.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 4, KEPT = 1000000 };
static int tid[THREADS];
static pthread_barrier_t ready, done;
static volatile int end;

static void *work(void *arg) {
    int n = (int)(long)arg;
    tid[n] = (int)syscall(SYS_gettid);
    char *kept = malloc(KEPT);
    pthread_barrier_wait(&ready);
    while (!end) free(malloc(5000));
    pthread_barrier_wait(&done);
    free(kept);
    return NULL;
}

static int lists(const char *file, int number) {
    char text[2000];
    if (memcg_read(file, text, sizeof text) < 0) return 0;
    for (char *at = text, *next; *at; at = *next ? next + 1 : next)
        if (strtol(at, &next, 10) == number) return 1;
    return 0;
}

int main(void) {
    pthread_t t[THREADS];
    pthread_barrier_init(&ready, NULL, THREADS + 1);
    pthread_barrier_init(&done, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++) pthread_create(&t[i], NULL, work, (void *)i);
    pthread_barrier_wait(&ready);
    for (int round = 0; round < 300; round++)
        for (int i = 0; i < THREADS; i++) {
            char name[16], path[40];
            snprintf(name, sizeof name, "%s-%d", round & 1 ? "odd" : "even", i);
            if (pthread_setname_np(t[i], name)) return 2;
            snprintf(path, sizeof path, "/%s/cgroup.threads", round & 1 ? "odd" : "even");
            if (memcg_is_installed() && !lists(path, tid[i])) {
                fprintf(stderr, "round %d: task %d is not in %s\n", round, tid[i], path);
                return 1;
            }
        }
    end = 1;
    pthread_barrier_wait(&done);
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    // One that is gone, or never was a task, is no mistake.
    memcg_group *odd = memcg_open("/odd");
    printf("%d threads, %lu bytes held in /odd\n", THREADS, (unsigned long)memcg_current(odd));
    memcg_close(odd);
    return 0;
}
