/* memcg.h: memory control groups for the tenants inside one process.
 *
 * The functions are real where the program runs under `memcg exec`, or is linked with or preloads libmemcg_preload.so.
 * Elsewhere they do nothing and answer 0 or NULL: the same binary runs with and without, and needs nothing to link.
 *
 *     memcg_group *acme = memcg_create("/acme");           // a group; "/acme/batch" needs "/acme" first
 *     memcg_write("/acme/memory.max", "256M");             // any file of cgroup v2, as text
 *     memcg_scope scope;
 *     memcg_enter(&scope, acme);                           // what this thread allocates is acme's ...
 *     serve(request);
 *     memcg_leave(&scope);                                 // ... to here
 *
 * Units: bytes. Charges are counted in multiples of 8.
 * Paths: components separated by '/', "/" is the root. A file is its group's path and its name: "/acme/memory.current".
 * Errors: -1 or NULL with errno set, as each function says. No function changes errno when it succeeds.
 * Threads: every function may be called by any thread at any time, except that a scope is left by the thread that
 * entered it, in reverse order of entering. None is for signal handlers. Handles are not reference counted: close a
 * handle when no other thread is using it. In the child of a fork all handles are as good as in the parent.
 * NULL for a handle is allowed everywhere: entering it changes nothing, reserving with it charges whom the thread works
 * for, closing it does nothing.
 */
#ifndef MEMCG_H
#define MEMCG_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A group of this process. The handle does not keep the group: after it was removed (by anybody) it may still be
 * entered, and what is then charged goes to the nearest group above that is left. */
typedef struct memcg_group memcg_group;

/* Bytes charged without memory of ours behind them, until they are given back. */
typedef struct memcg_charge memcg_charge;

/* Whom the thread worked for before. Its content is the library's; it stays where it is until it is left. */
typedef struct memcg_scope {
    uint64_t opaque[4];
} memcg_scope;

/* The library's own functions: weak, so that nothing has to be there. Call those below instead. */
#define MEMCG_WEAK __attribute__((weak))
MEMCG_WEAK uint32_t memcg_v1_version(void);
MEMCG_WEAK int memcg_v1_is_installed(void);
MEMCG_WEAK memcg_group *memcg_v1_create(const char *path);
MEMCG_WEAK memcg_group *memcg_v1_open(const char *path);
MEMCG_WEAK void memcg_v1_close(memcg_group *group);
MEMCG_WEAK int memcg_v1_remove(const char *path);
MEMCG_WEAK void memcg_v1_enter(memcg_scope *scope, const memcg_group *group);
MEMCG_WEAK void memcg_v1_no_account(memcg_scope *scope);
MEMCG_WEAK void memcg_v1_leave(memcg_scope *scope);
MEMCG_WEAK int64_t memcg_v1_read(const char *path, char *text, size_t size);
MEMCG_WEAK int memcg_v1_write(const char *path, const char *text);
MEMCG_WEAK uint64_t memcg_v1_current(const memcg_group *group);
MEMCG_WEAK int memcg_v1_reserve(memcg_charge **charge, const memcg_group *group, uint64_t bytes);
MEMCG_WEAK int memcg_v1_resize(memcg_charge *charge, uint64_t bytes);
MEMCG_WEAK void memcg_v1_unreserve(memcg_charge *charge);
MEMCG_WEAK int memcg_v1_move_thread(int tid, const char *path);
MEMCG_WEAK uint64_t memcg_v1_safe_point(void);
#undef MEMCG_WEAK

/* The library's version, major << 16 | minor << 8 | patch; 0 without it. */
static inline uint32_t memcg_version(void) {
    return memcg_v1_version ? memcg_v1_version() : 0;
}

/* Whether this process's heap is accounted: 1 or 0. 0 also under MEMCG=off. */
static inline int memcg_is_installed(void) {
    return memcg_v1_is_installed ? memcg_v1_is_installed() : 0;
}

/* Makes a group and answers a handle, to be closed. NULL: EEXIST there is one (or a file) of that name, ENOENT no
 * parent, EINVAL a bad name, EAGAIN too deep, ENOMEM. O(depth). */
static inline memcg_group *memcg_create(const char *path) {
    return memcg_v1_create ? memcg_v1_create(path) : NULL;
}

/* A handle on a group that is there, to be closed. NULL: ENOENT, ENOMEM. */
static inline memcg_group *memcg_open(const char *path) {
    return memcg_v1_open ? memcg_v1_open(path) : NULL;
}

/* Lets go of a handle. The group stays. */
static inline void memcg_close(memcg_group *group) {
    if (memcg_v1_close) memcg_v1_close(group);
}

/* Ends a group: at once, whatever it holds; that belongs to the parent from here on. -1: EBUSY it has children or live
 * tasks, ENOENT. Scopes that are inside do not matter. */
static inline int memcg_remove(const char *path) {
    return memcg_v1_remove ? memcg_v1_remove(path) : 0;
}

/* What this thread allocates is charged to the group until memcg_leave. A few nanoseconds. */
static inline void memcg_enter(memcg_scope *scope, const memcg_group *group) {
    if (memcg_v1_enter) memcg_v1_enter(scope, group);
}

/* What this thread allocates is charged to nobody until memcg_leave. */
static inline void memcg_no_account(memcg_scope *scope) {
    if (memcg_v1_no_account) memcg_v1_no_account(scope);
}

/* Ends the scope that this thread entered last: it works again for whom it did before. A thread that ends inside
 * scopes leaves them all; a longjmp or a cancellation that skips this does not. */
static inline void memcg_leave(memcg_scope *scope) {
    if (memcg_v1_leave) memcg_v1_leave(scope);
}

/* Reads a group's file: as snprintf, at most size - 1 bytes and a zero are written to `text`, and the whole length
 * without the zero is answered. -1: ENOENT no such group or file, EACCES it cannot be read. Without the library "". */
static inline int64_t memcg_read(const char *path, char *text, size_t size) {
    if (memcg_v1_read) return memcg_v1_read(path, text, size);
    if (size > 0) text[0] = 0;
    return 0;
}

/* Writes a group's file. -1: ENOENT, EACCES it cannot be written, EINVAL not a value for it, and what the file says. */
static inline int memcg_write(const char *path, const char *text) {
    return memcg_v1_write ? memcg_v1_write(path, text) : 0;
}

/* Bytes held in the group and below; exact when nothing is in flight. 0 once it is removed. O(threads). */
static inline uint64_t memcg_current(const memcg_group *group) {
    return memcg_v1_current ? memcg_v1_current(group) : 0;
}

/* Charges `bytes` of whatever the program wants to count and sets *charge, to be given back. -1: ENOMEM a limit is in
 * the way, or no memory for the handle; *charge is then NULL. Without the library 0, and *charge is NULL. */
static inline int memcg_reserve(memcg_charge **charge, const memcg_group *group, uint64_t bytes) {
    if (memcg_v1_reserve) return memcg_v1_reserve(charge, group, bytes);
    *charge = NULL;
    return 0;
}

/* Makes a charge one of `bytes`. -1: ENOMEM a limit refuses the growth; it is as it was. */
static inline int memcg_resize(memcg_charge *charge, uint64_t bytes) {
    return memcg_v1_resize ? memcg_v1_resize(charge, bytes) : 0;
}

/* Gives a charge back. */
static inline void memcg_unreserve(memcg_charge *charge) {
    if (memcg_v1_unreserve) memcg_v1_unreserve(charge);
}

/* Moves a thread (by its kernel id, gettid) and all that it holds to a group. -1: ESRCH no such task, ENOENT no such
 * group, ENOMEM it does not fit and stays where it was, EAGAIN it charges too fast. */
static inline int memcg_move_thread(int tid, const char *path) {
    return memcg_v1_move_thread ? memcg_v1_move_thread(tid, path) : 0;
}

/* Pays, by sleeping at most 2 s, the delay this thread owes for having charged groups above their memory.high; answers
 * the nanoseconds slept. For places where a pause harms nobody. */
static inline uint64_t memcg_safe_point(void) {
    return memcg_v1_safe_point ? memcg_v1_safe_point() : 0;
}

#ifdef __cplusplus
}
#endif
#endif
