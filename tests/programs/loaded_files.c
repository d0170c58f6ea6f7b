// What the search for Rust's runtime does with the files of loaded objects.
//
// loaded_files replaced LIBRARY FILE: loads the library and puts FILE in the place of its file; then allocates 64 MiB, and
// says whether that was refused.
// loaded_files forks LIBRARY...: loads the libraries; one thread is refused, and so has them all read, while another forks.
// Each child walks the loaded objects.
// loaded_files cancelled LIBRARY: as the first, with the library's own file, in a thread that was cancelled: allocating is no
// place where it ends.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int is_refused;

static void check(int is_so, const char *what) {
    if (!is_so) {
        dprintf(2, "%s\n", what);
        _exit(1);
    }
}

static void *take(void *unused) {
    int refused = 0;
    for (int n = 0; n < 64 && !refused; n++) refused = !malloc(1 << 20);
    __atomic_store_n(&is_refused, refused ? 1 : 2, __ATOMIC_RELAXED);
    return unused;
}

static int count(struct dl_phdr_info *info, size_t size, void *nr) {
    (void)info, (void)size;
    ++*(int *)nr;
    return 0;
}

static void forks(void) {
    pthread_t thread;
    check(!pthread_create(&thread, NULL, take, NULL), "no thread");
    int nr = 0;
    do {
        nr++;
        pid_t child = fork();
        check(child >= 0, "no child");
        if (!child) {
            alarm(20);
            int objects = 0;
            dl_iterate_phdr(count, &objects);
            _exit(objects > 0 ? 0 : 1);
        }
        int status;
        check(waitpid(child, &status, 0) == child && status == 0, "a child hangs in the loader");
    } while (!__atomic_load_n(&is_refused, __ATOMIC_RELAXED));
    pthread_join(thread, NULL);
}

static void *take_cancelled(void *unused) {
    pthread_cancel(pthread_self());
    return take(unused);
}

static void cancelled(void) {
    pthread_t thread;
    void *end = PTHREAD_CANCELED;
    check(!pthread_create(&thread, NULL, take_cancelled, NULL), "no thread");
    pthread_join(thread, &end);
    check(end != PTHREAD_CANCELED, "the thread ended inside malloc");
}

int main(int argc, char **argv) {
    check(argc >= 3, "usage");
    int is_replaced = !strcmp(argv[1], "replaced");
    for (int n = 2; n < (is_replaced ? 3 : argc); n++) check(dlopen(argv[n], RTLD_NOW) != NULL, "no library");
    if (is_replaced) {
        check(!rename(argv[3], argv[2]), "no replacement");
        take(NULL);
    } else if (!strcmp(argv[1], "cancelled")) {
        cancelled();
    } else {
        forks();
    }
    printf("%s\n", is_refused == 1 ? "refused" : "went over");
    return 0;
}
