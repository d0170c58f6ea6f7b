// A process whose first thread leaves by pthread_exit, and a child forked by another thread: both end with their last thread.
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *forker(void *arg) {
    free(malloc(100));
    pid_t child = fork();
    if (child == 0) return arg; // the child's only thread: its end is the process's
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) abort();
    return arg;
}

int main(void) {
    pthread_t t;
    pthread_create(&t, NULL, forker, malloc(10));
    pthread_exit(NULL);
}
