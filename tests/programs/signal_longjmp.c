// A timer's handler jumps out of malloc and free, thousands of times: the thread keeps its stock, and the books hold what
// was lost by the jumps and no more.
#define _GNU_SOURCE
#include "memcg.h"
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { JUMPS = 4000, BYTES = 64 };
static sigjmp_buf back;
static jmp_buf back_plain;
static volatile int armed, jumps, plain;

static void on_timer(int n) {
    (void)n;
    if (!armed) return;
    armed = 0;
    jumps++;
    if (!plain) siglongjmp(back, 1);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    if (jumps & 1) _longjmp(back_plain, 1);
    longjmp(back_plain, 1);
}

static double ns_per_pair(void) {
    double best = 1e9;
    for (int batch = 0; batch < 30; batch++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < 20000; i++) {
            void *volatile p = malloc(BYTES);
            free(p);
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        double ns = ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / 20000;
        if (ns < best) best = ns;
    }
    return best;
}

static void spin(void) {
    for (;;) {
        void *volatile p = malloc(BYTES);
        armed = 1;
        free(p);
        p = malloc(BYTES);
        free(p);
        p = malloc(BYTES);
        free(p);
        armed = 0;
    }
}

int main(void) {
    memcg_group *group = memcg_create("/jumps-here");
    memcg_scope scope;
    memcg_enter(&scope, group);
    double before = ns_per_pair();
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_timer}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 100}, {0, 100}}, NULL);
    for (plain = 0; plain < 2; plain++) {
        jumps = 0;
        // The first returns here again and again; a jump may come out of any instruction of the loop.
        if (plain ? setjmp(back_plain) : sigsetjmp(back, 1)) {
        }
        if (jumps < JUMPS) spin();
    }
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    double after = ns_per_pair();
    unsigned long held = (unsigned long)memcg_current(group);
    printf("%d jumps; %.1f ns a pair before, %.1f after; %lu bytes lost\n", 2 * JUMPS, before, after, held);
    memcg_leave(&scope);
    memcg_close(group);
    // At most one block a jump, and the stock of a refill or two that was cut off.
    if (held > 2 * JUMPS * 96UL + 200000) return 1;
    return after > 4 * before + 20;
}
