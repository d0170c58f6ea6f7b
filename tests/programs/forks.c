// Children of every kind: when they get a helper thread, whose tasks they are, and that all end when their threads do.
#define _GNU_SOURCE
#include "memcg.h"
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MUST(what)                                                                                  \
    do {                                                                                            \
        if (!(what)) {                                                                              \
            fprintf(stderr, "line %d: not %s (errno %d)\n", __LINE__, #what, errno);                \
            syscall(SYS_exit_group, 1);                                                             \
        }                                                                                           \
    } while (0)

static int on;
extern char **environ;
// The C library's from 2.34 on.
extern pid_t _Fork(void) __attribute__((weak));

static int nr_threads(void) {
    DIR *dir = opendir("/proc/self/task");
    int n = 0;
    for (struct dirent *d; (d = readdir(dir));) n += d->d_name[0] != '.';
    closedir(dir);
    return n;
}

static int has_socket(void) {
    char path[500];
    struct stat stat_of;
    snprintf(path, sizeof path, "%s/%d.sock", getenv("MEMCG_DIR"), (int)getpid());
    return stat(path, &stat_of) == 0;
}

// A number on a line of its own.
static int has_task(int tid) {
    char text[10000], number[20];
    MUST(memcg_read("/forks/cgroup.threads", text + 1, sizeof text - 1) >= 0);
    text[0] = '\n';
    snprintf(number, sizeof number, "\n%d\n", tid);
    return strstr(text, number) != NULL;
}

static long stay_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    return nanosleep(&t, NULL);
}

static long ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

// A child is younger than the time since then.
static long born;
static pid_t bare(void) { return born = ns(), (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static pid_t forked(void) { return born = ns(), fork(); }

static void *volatile p;
// Larger than a thread's stock: always a slow path.
static void slow(void) {
    p = malloc(300000);
    free(p);
}

static void reap(pid_t child, const char *what) {
    int status;
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0) return;
    fprintf(stderr, "%s: %x\n", what, status);
    exit(1);
}

// In a child: one that ends at once has nothing; one that stays gets its helper, its socket and its task.
static void live_as_child(int parent) {
    for (int i = 0; i < 1000; i++) free(malloc(100));
    if (!on) return;
    int is_bare = nr_threads() == 1 && !has_socket();
    // On a busy machine it may be one that stays by now.
    MUST(is_bare || ns() - born >= 20000000L);
    slow();
    stay_ms(30);
    slow();
    MUST(has_task((int)syscall(SYS_gettid)) && !has_task(parent));
    MUST(nr_threads() == 2 && has_socket());
    memcg_close(memcg_create("/child"));
    MUST(memcg_remove("/child") == 0);
}

static void *forks_and_returns(void *arg) {
    int me = (int)syscall(SYS_gettid);
    pid_t child = forked();
    if (child == 0) {
        live_as_child(me);
        return arg; // the child's only thread: its end is the process's
    }
    reap(child, "forked by a thread");
    return NULL;
}

static volatile int end;
static void *noise(void *arg) {
    char path[32];
    for (int i = 0; !end; i++) {
        snprintf(path, sizeof path, "/noise%d-%d", (int)(intptr_t)arg, i % 7);
        memcg_close(memcg_create(path));
        memcg_remove(path);
        snprintf(path, sizeof path, "w%d-%d", (int)(intptr_t)arg, i % 3);
        if (i % 50 == 0) pthread_setname_np(pthread_self(), path);
        free(malloc((size_t)i % 3000));
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "exec")) return 0;
    on = memcg_is_installed();
    p = malloc(10);
    free(p);
    int me = (int)getpid();
    pid_t child = forked();
    if (child == 0) live_as_child(me), exit(0);
    reap(child, "fork");

    pthread_t t;
    for (int i = 0; i < 5; i++) {
        long start = ns();
        pthread_create(&t, NULL, forks_and_returns, NULL);
        pthread_join(t, NULL);
        MUST(ns() - start < 1000000000L);
    }

    if (_Fork) {
        born = ns();
        if ((child = _Fork()) == 0) live_as_child(me), _exit(0);
        reap(child, "_Fork");
    }
    if ((child = bare()) == 0) live_as_child(me), _exit(0);
    reap(child, "clone");
    // And a child of that one.
    if ((child = bare()) == 0) {
        slow();
        if ((child = forked()) == 0) live_as_child(me), _exit(0);
        reap(child, "fork of a clone");
        _exit(0);
    }
    reap(child, "clone");

    // Shared memory: nobody may take the child for one.
    for (int i = 0; i < 20; i++) {
        slow();
        if ((child = vfork()) == 0) {
            execl(argv[0], argv[0], "exec", NULL);
            _exit(9);
        }
        reap(child, "vfork");
        char *args[] = {argv[0], "exec", NULL};
        MUST(posix_spawn(&child, argv[0], NULL, NULL, args, environ) == 0);
        reap(child, "posix_spawn");
        slow();
        MUST(!on || has_task(me));
    }

    // Forks while others change the tree; the child has it whole.
    pthread_t others[3];
    for (intptr_t i = 0; i < 3; i++) pthread_create(&others[i], NULL, noise, (void *)i);
    for (int i = 0; i < 50; i++) {
        if ((child = fork()) == 0) {
            for (int k = 0; k < 50; k++) free(malloc(70000));
            memcg_close(memcg_create("/child"));
            MUST(memcg_remove("/child") == 0);
            MUST(!on || memcg_is_installed());
            _exit(0);
        }
        reap(child, "fork in the noise");
        // Without handlers it may have to do without accounting; it lives.
        if ((child = bare()) == 0) {
            for (int k = 0; k < 50; k++) slow();
            _exit(0);
        }
        reap(child, "clone in the noise");
    }
    end = 1;
    for (int i = 0; i < 3; i++) pthread_join(others[i], NULL);
    puts(on ? "under" : "without");
    return 0;
}
