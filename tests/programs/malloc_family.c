// The malloc family at its edges. Prints what every allocator of glibc's kind should answer, so that two can be compared;
// "malloc_family jemalloc" calls jemalloc's names instead.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Not known to the compiler: calls stay calls, and sizes are no mistakes it could see.
static volatile size_t most = SIZE_MAX, half = (size_t)PTRDIFF_MAX, zero;

#define CHECK(what) ((what) ? (void)0 : (printf("%d: not %s\n", __LINE__, #what), fflush(stdout), abort()))
// Prints whether there is an object, and errno.
#define SHOW(call) do { errno = 0; void *shown = (call); \
    printf("%s: %s %s\n", #call, shown ? "an object" : "null", errno ? strerror(errno) : "-"); free(shown); } while (0)

static void at_zero(void) {
    void *a = malloc(zero), *b = malloc(zero), *c = calloc(zero, 8), *d = calloc(8, zero);
    CHECK(a && b && c && d && a != b && b != c && c != d);
    free(a), free(b), free(c), free(d), free(NULL);
    SHOW(malloc(zero));
    SHOW(realloc(NULL, zero));
    SHOW(realloc(malloc(100), zero));
    SHOW(reallocarray(malloc(100), zero, 8));
    SHOW(memalign(64, zero));
    SHOW(aligned_alloc(64, zero));
    SHOW(valloc(zero));
    SHOW(pvalloc(zero));
    printf("malloc_usable_size(NULL): %zu\n", malloc_usable_size(NULL));
}

static void at_most(void) {
    SHOW(malloc(most));
    SHOW(malloc(half));
    SHOW(malloc(half - 4096));
    SHOW(calloc(most, 2));
    SHOW(calloc(most / 2 + 2, 2));
    SHOW(calloc(1, most));
    SHOW(realloc(NULL, most));
    SHOW(reallocarray(NULL, most, 2));
    SHOW(reallocarray(NULL, most / 16 + 2, 16));
    SHOW(memalign(64, most));
    SHOW(memalign(64, half));
    SHOW(memalign(most, 64));
    SHOW(memalign(most / 2 + 1, 64));
    SHOW(memalign(zero, 64));
    SHOW(aligned_alloc(4096, most));
    SHOW(valloc(most));
    SHOW(pvalloc(most));
    SHOW(pvalloc(most - 4096));

    char *p = malloc(100), *big = malloc(3 << 20);
    memset(p, 7, 100), memset(big, 9, 3 << 20);
    errno = 0;
    CHECK(!realloc(p, most) && errno == ENOMEM && !realloc(big, half) && !reallocarray(p, most, 4));
    for (int i = 0; i < 100; i++) CHECK(p[i] == 7);
    for (int i = 0; i < 3 << 20; i += 999) CHECK(big[i] == 9);
    free(p), free(big);
}

static void posix(void) {
    static const size_t aligns[] = {0, 1, 2, 3, 4, 8, 12, 16, 24, 64, 4096, 1 << 20, (SIZE_MAX / 2) + 1};
    for (size_t i = 0; i < sizeof aligns / sizeof *aligns; i++) {
        void *const before = (void *)&most, *p = before;
        errno = 77;
        int error = posix_memalign(&p, aligns[i], 100);
        printf("posix_memalign(%zu): %s\n", aligns[i], error ? strerror(error) : "an object");
        // With ENOMEM glibc writes errno, which it need not.
        CHECK(error == ENOMEM || errno == 77);
        CHECK(error ? p == before : (uintptr_t)p % aligns[i] == 0);
        if (!error) free(p);
    }
    void *p = NULL;
    CHECK(posix_memalign(&p, 64, most) == ENOMEM && !p);
    CHECK(posix_memalign(&p, 64, zero) == 0);
    free(p);
}

static void aligned(void) {
    static void *kept[23][40];
    for (int lg = 0; lg < 23; lg++)
        for (int i = 0; i < 40; i++) {
            size_t n = (size_t)(i * i * 37 + i);
            char *p = i % 3 ? memalign((size_t)1 << lg, n) : aligned_alloc((size_t)1 << lg, n);
            CHECK(p && (uintptr_t)p % ((size_t)1 << lg) == 0 && malloc_usable_size(p) >= n);
            memset(p, lg + i, n);
            kept[lg][i] = p;
        }
    for (int lg = 0; lg < 23; lg++)
        for (int i = 0; i < 40; i++) {
            size_t n = (size_t)(i * i * 37 + i);
            char *p = realloc(kept[lg][i], n + 5000);
            for (size_t at = 0; at < n; at += 11) CHECK(p[at] == (char)(lg + i));
            free(p);
        }
    char *p = memalign(24, 10);
    CHECK(p && (uintptr_t)p % 32 == 0);
    free(p);
    long page = sysconf(_SC_PAGESIZE);
    p = pvalloc(1);
    CHECK((uintptr_t)p % (size_t)page == 0 && malloc_usable_size(p) >= (size_t)page);
    memset(p, 1, (size_t)page);
    free(p);
    p = valloc(100);
    CHECK((uintptr_t)p % (size_t)page == 0);
    free(p);
}

static void sizes(void) {
    for (size_t n = 0; n < 20u << 20; n += n / 9 + 1) {
        char *p = malloc(n);
        size_t usable = malloc_usable_size(p);
        CHECK(p && (uintptr_t)p % 16 == 0 && usable >= n);
        memset(p, (int)n, usable);
        size_t longer = n + n / 3 + 1, shorter = n / 3;
        p = realloc(p, longer);
        for (size_t i = 0; i < n; i += n / 50 + 1) CHECK(p[i] == (char)n);
        p = realloc(p, shorter + 1);
        for (size_t i = 0; i < shorter; i += n / 50 + 1) CHECK(p[i] == (char)n);
        errno = 77;
        free(p);
        CHECK(errno == 77);
        p = calloc(n + 1, 1);
        for (size_t i = 0; i <= n; i++) CHECK(!p[i]);
        free(p);
    }
}

typedef void *Alloc(size_t);
typedef void *Alloc2(size_t, size_t);
typedef void *Realloc(void *, size_t);
typedef void Free(void *);
static void *found(const char *name) {
    void *f = dlsym(RTLD_DEFAULT, name);
    CHECK(f);
    return f;
}

// The C library's own names are the same allocator: an object of one may be freed by another.
static void names(void) {
    free(((Alloc *)found("__libc_malloc"))(100));
    free(((Alloc2 *)found("__libc_calloc"))(10, 10));
    free(((Alloc2 *)found("__libc_memalign"))(64, 10));
    free(((Alloc *)found("__libc_valloc"))(10));
    free(((Alloc *)found("__libc_pvalloc"))(10));
    ((Free *)found("__libc_free"))(((Realloc *)found("__libc_realloc"))(malloc(10), 1000));
    Free *cfree = (Free *)dlsym(RTLD_DEFAULT, "cfree");
    if (cfree) cfree(malloc(10));
    void (*sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (sized) sized(malloc(10), 10);
    if (aligned_sized) aligned_sized(aligned_alloc(64, 128), 64, 128);
    // Objects that the C library makes are freed here.
    char *text = NULL, *line = strdup("a line");
    CHECK(asprintf(&text, "%0*d", 3000, 1) == 3000);
    size_t n = 0;
    char *memory = NULL;
    FILE *f = open_memstream(&memory, &n);
    fputs(text, f);
    fclose(f);
    CHECK(n == 3000);
    free(text), free(line), free(memory);
}

static size_t in_use(void) {
    struct mallinfo2 now = mallinfo2();
    return now.uordblks + now.hblkhd;
}

static void inspect(void) {
    size_t before = in_use();
    void *volatile big = malloc(10 << 20);
    memset(big, 1, 10 << 20);
    size_t with = in_use();
    CHECK(with >= before + (10u << 20) && with < before + (11u << 20));
    free(big);
    CHECK(in_use() < before + (1u << 20));
    CHECK(malloc_trim(0) >= 0 && malloc_trim(0) <= 1 && malloc_trim(most) <= 1);
    printf("mallopt: %d %d %d\n", mallopt(M_ARENA_MAX, 2), mallopt(M_MMAP_THRESHOLD, 1 << 20), mallopt(M_TRIM_THRESHOLD, 1 << 20));
    malloc_stats();
    char text[65536] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    CHECK(f && malloc_info(0, f) == 0 && malloc_info(1, f) != 0);
    fclose(f);
    CHECK(!strncmp(text, "<malloc version=", 16) && strstr(text, "</malloc>"));
}

static int jemalloc(void) {
    Alloc2 *mallocx = (Alloc2 *)dlsym(RTLD_DEFAULT, "mallocx");
    if (!mallocx) return puts("no jemalloc"), 0;
    void *(*rallocx)(void *, size_t, int) = (void *(*)(void *, size_t, int))found("rallocx");
    size_t (*xallocx)(void *, size_t, size_t, int) = (size_t (*)(void *, size_t, size_t, int))found("xallocx");
    size_t (*sallocx)(const void *, int) = (size_t (*)(const void *, int))found("sallocx");
    size_t (*nallocx)(size_t, int) = (size_t (*)(size_t, int))found("nallocx");
    void (*dallocx)(void *, int) = (void (*)(void *, int))found("dallocx");
    void (*sdallocx)(void *, size_t, int) = (void (*)(void *, size_t, int))found("sdallocx");
    int (*mallctl)(const char *, void *, size_t *, void *, size_t) =
        (int (*)(const char *, void *, size_t *, void *, size_t))found("mallctl");
    char *p = (char *)mallocx(1000, 12 | 0x40);
    CHECK(p && (uintptr_t)p % 4096 == 0 && !p[0] && !p[999] && sallocx(p, 0) >= 1000 && nallocx(1000, 12) == sallocx(p, 0));
    memset(p, 5, 1000);
    p = rallocx(p, 100000, 0x40);
    CHECK(p && p[999] == 5 && !p[99999] && xallocx(p, 100000, 0, 0) >= 100000);
    dallocx(p, 0);
    sdallocx(mallocx(64, 6), 64, 6);
    CHECK(!mallocx(half, 0) && nallocx(most, 0) == 0);
    for (int i = 0; i < 3; i++) CHECK(mallctl("stats.allocated", NULL, NULL, NULL, 0) == ENOENT);
    return puts("jemalloc's names"), 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "jemalloc")) return jemalloc();
    at_zero();
    at_most();
    posix();
    aligned();
    sizes();
    names();
    inspect();
    puts("ok");
    return 0;
}
