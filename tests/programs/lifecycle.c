// What surrounds a program's plain life: constructors before main, libraries that come and go, cancelled threads, thread
// ends that allocate, storms of threads, exit handlers. Every block is checked; at the end little may be left charged.
#define _GNU_SOURCE
#include "memcg.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(what)                                                                                  \
    do {                                                                                            \
        if (!(what)) {                                                                              \
            fprintf(stderr, "line %d: not %s\n", __LINE__, #what);                                  \
            abort();                                                                                \
        }                                                                                           \
    } while (0)

static void *filled(size_t n) {
    unsigned char *p = malloc(n + 1);
    MUST(p);
    memset(p, (int)(n & 0xff), n + 1);
    return p;
}

static void check_and_free(void *block, size_t n) {
    unsigned char *p = block;
    for (size_t i = 0; i <= n; i += 7) MUST(p[i] == (n & 0xff));
    free(p);
}

#ifdef PLUGIN

static void *kept;
static __thread void *mine;
__attribute__((constructor)) static void begin(void) { kept = filled(3000); }
__attribute__((destructor)) static void finish(void) { check_and_free(kept, 3000); }
void *plugin_work(size_t n) {
    if (mine) check_and_free(mine, 777);
    mine = n ? filled(777) : NULL;
    return n ? filled(n) : NULL;
}

#else

static void *early[3];
// Before any other constructor of the program, and last.
__attribute__((constructor(101))) static void first(void) { early[0] = filled(1000); }
__attribute__((constructor)) static void second(void) {
    early[1] = filled(100000);
    free(early[0]);
    early[0] = filled(2000);
    early[2] = calloc(10, 10);
    early[2] = realloc(early[2], 5000);
}

static void *plugins(void *path) {
    for (int i = 0; i < 40; i++) {
        void *library = dlopen(path, i & 1 ? RTLD_NOW : RTLD_LAZY);
        MUST(library);
        void *(*work)(size_t) = (void *(*)(size_t))dlsym(library, "plugin_work");
        MUST(work);
        check_and_free(work(5000), 5000);
        work(0);
        MUST(!dlsym(library, "nothing_of_that_name") && dlerror());
        MUST(dlclose(library) == 0);
    }
    MUST(!dlopen("/nonexistent.so", RTLD_NOW) && dlerror());
    return NULL;
}

static void drop(void *block) { check_and_free(block, 500); }

// Cancelled where it says it can be: what it holds is freed by its cleanup.
static void *deferred(void *arg) {
    for (size_t i = 1;; i++) {
        void *block = filled(500);
        pthread_cleanup_push(drop, block);
        check_and_free(filled(i * 37 % 5000), i * 37 % 5000);
        pthread_testcancel();
        pthread_cleanup_pop(1);
    }
    return arg;
}

// Cancelled between any two instructions of what may be: not of malloc, by the rules of POSIX.
static volatile unsigned long sum;
static void *async(void *arg) {
    int old;
    for (size_t i = 1;; i++) {
        void *block = filled(500);
        pthread_cleanup_push(drop, block);
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
        for (int k = 0; k < 50; k++) sum += (unsigned long)k;
        pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old);
        pthread_cleanup_pop(1);
    }
    return arg;
}

static void cancel(void *(*body)(void *)) {
    for (int round = 0; round < 60; round++) {
        pthread_t t[4];
        for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, body, NULL);
        if (round % 3) usleep(100 * (useconds_t)round);
        for (int i = 0; i < 4; i++) pthread_cancel(t[i]);
        for (int i = 0; i < 4; i++) {
            void *how;
            MUST(pthread_join(t[i], &how) == 0 && how == PTHREAD_CANCELED);
        }
    }
}

enum { KEYS = 60 };
static pthread_key_t keys[KEYS];
// Destructors of a thread's end, in rounds, most of them after the engine's own: they free, allocate, and hand on once.
static void last_words(void *block) {
    check_and_free(block, 500);
    for (size_t n = 1; n < 30; n++) check_and_free(filled(n * 100), n * 100);
    static __thread int again;
    if (again++ < 10) pthread_setspecific(keys[again * 3 + 1], filled(500));
}

static void *speaks_last(void *arg) {
    for (int i = 0; i < KEYS; i += 3) pthread_setspecific(keys[i], filled(500));
    check_and_free(filled(100000), 100000);
    return arg;
}

static void *brief(void *arg) {
    check_and_free(filled(64), 64);
    return arg ? filled(900) : NULL;
}

static void storm(void) {
    for (int wave = 0; wave < 60; wave++) {
        pthread_t t[50];
        int n = 0;
        while (n < 50 && pthread_create(&t[n], NULL, brief, n % 2 ? "keeps" : NULL) == 0) n++;
        MUST(n > 0);
        for (int i = 0; i < n; i++) {
            void *block;
            pthread_join(t[i], &block);
            MUST(!block == !(i % 2));
            if (block) check_and_free(block, 900);
        }
    }
}

static void *bystander(void *arg) {
    for (;;) check_and_free(filled(3000), 3000);
    return arg;
}

static void *for_exit;
static void at_the_end(void) {
    check_and_free(for_exit, 4000);
    for (int i = 0; i < 3; i++)
        if (early[i]) free(early[i]);
    void *library = dlopen(getenv("PLUGIN"), RTLD_NOW);
    MUST(library);
    check_and_free(((void *(*)(size_t))dlsym(library, "plugin_work"))(100), 100);
    ((void *(*)(size_t))dlsym(library, "plugin_work"))(0);
    dlclose(library);
    puts("ok");
}

int main(int argc, char **argv) {
    int still = argc > 1 && !strcmp(argv[1], "still");
    atexit(at_the_end);
    for_exit = filled(4000);
    for (int i = 0; i < KEYS; i++) MUST(pthread_key_create(&keys[i], last_words) == 0);
    pthread_t t[4];
    for (int i = 0; i < (still ? 2 : 4); i++) pthread_create(&t[i], NULL, i < 2 ? plugins : bystander, getenv("PLUGIN"));
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    cancel(deferred);
    cancel(async);
    for (int round = 0; round < 30; round++) {
        pthread_t ends[8];
        for (int i = 0; i < 8; i++) pthread_create(&ends[i], NULL, speaks_last, NULL);
        for (int i = 0; i < 8; i++) pthread_join(ends[i], NULL);
    }
    storm();
    // The bystanders, if any, are in the middle of it when the process ends.
    return 7;
}

#endif
