// own_needs LIBRARY: fills its group until malloc says no, then has the loader and the C library need memory: for
// themselves, which works, and for their caller, which is ENOMEM. LIBRARY has a thread-local variable that nobody has used.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <locale.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;

static char *(*own_place)(void);
static int ended, exited;
static FILE *in;

static void check(int is_so, const char *what) {
    if (!is_so) {
        dprintf(2, "%s\n", what);
        _exit(1);
    }
}

// Down to the smallest size, so that nothing at all is left.
static void fill(void) {
    for (size_t bytes = 16384; bytes >= 16; bytes /= 2)
        while (malloc(bytes)) {}
    check(!malloc(16) && errno == ENOMEM, "the group is not full");
}

static void at_end(void *n) { __atomic_fetch_add((int *)n, 1, __ATOMIC_RELAXED); }
static void at_exit(int status, void *n) {
    (void)status;
    ++*(int *)n;
}
static void last(void) { check(exited == 200, "a handler that was noted did not run"); }

static void uses_thread_local(void) {
    char *p = own_place();
    check(p[0] == 7 && p[9999] == 0, "a thread-local variable is not as it began");
    memset(p, 1, 10000);
}

static void *in_thread(void *unused) {
    uses_thread_local();
    check(!__cxa_thread_atexit_impl(at_end, &ended, &__dso_handle), "no destructor for a thread");
    check(!malloc(5000), "the thread's malloc was not refused");
    return unused;
}

static void refused(void) {
    static char text[5000];
    memset(text, 'x', sizeof text - 1);
    errno = 0;
    check(!strdup(text) && errno == ENOMEM, "strdup was not refused");
    errno = 0;
    check(!wcsdup(L"a wide text") && errno == ENOMEM, "wcsdup was not refused");
    char *line = NULL;
    size_t size = 0;
    errno = 0;
    check(getline(&line, &size, in) < 0 && errno == ENOMEM, "getline was not refused");
    errno = 0;
    check(!fopen("/dev/null", "r") && errno == ENOMEM, "fopen was not refused");
    check(asprintf(&line, "%s", text) < 0, "asprintf was not refused");
    check(!realpath("/", NULL) && errno == ENOMEM, "realpath was not refused");
}

int main(int argc, char **argv) {
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    check(library != NULL, "no library");
    own_place = (char *(*)(void))dlsym(library, "own_place");
    in = fopen("/proc/self/status", "r");
    check(in != NULL, "no file to read");
    setenv("TZ", "Europe/Paris", 1);
    atexit(last);
    fill();

    uses_thread_local();
    pthread_t threads[20];
    for (int n = 0; n < 20; n++) check(!pthread_create(&threads[n], NULL, in_thread, NULL), "no thread");
    for (int n = 0; n < 20; n++) pthread_join(threads[n], NULL);
    check(ended == 20, "a destructor of a thread did not run");
    refused();
    check(printf("printed without a buffer\n") > 0, "printf");
    check(fgetc(in) == 'N', "no buffer to read into");
    refused();
    for (int n = 0; n < 200; n++) check(!on_exit(at_exit, &exited), "no exit handler");
    check(setlocale(LC_ALL, "C.UTF-8") && setlocale(LC_ALL, "C"), "no locale");
    locale_t locale = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
    check(locale != NULL, "no new locale");
    uselocale(locale);
    wchar_t wide;
    check(mbrtowc(&wide, "\xc3\xa4", 2, NULL) == 2 && wide == 0xe4, "no conversion");
    time_t noon = 1718452800;
    struct tm there;
    tzset();
    localtime_r(&noon, &there);
    if (!access("/usr/share/zoneinfo/Europe/Paris", R_OK)) check(there.tm_hour == 14, "no time zone");
    // Not found is no failure; a configuration that could not be read is one.
    struct servent service, *found = &service;
    char names[1024];
    int failed = getservbyname_r("no-such-service", "tcp", &service, names, sizeof names, &found);
    if (!access("/etc/services", R_OK)) check(!failed && !found, "the name service");
    refused();
    check(fflush(stdout) == 0, "fflush");
    return 0;
}
