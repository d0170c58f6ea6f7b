// Three tenants of a server, each with a group of its own, by memcg.h. Runs the same with and without the library:
//
//     cc -Wall -Wextra -I include tests/programs/tenants.c -o tenants
//     ./tenants                 # nothing is counted
//     memcg exec -- ./tenants   # each tenant's memory is, and the greedy one meets its limit
#include "memcg.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tenant {
    const char *name;
    int wants_mib;
    memcg_group *group;
    char *kept[64];
    int has_mib;
};

// Keeps MiB by MiB until it has what it wants or malloc says no.
static void serve(struct tenant *tenant) {
    memcg_scope scope;
    memcg_enter(&scope, tenant->group);
    while (tenant->has_mib < tenant->wants_mib) {
        char *piece = malloc(1 << 20);
        if (!piece) break;
        memset(piece, 1, 1 << 20);
        tenant->kept[tenant->has_mib++] = piece;
    }
    memcg_leave(&scope);
}

static void try_everything(void) {
    // What a program may do with the interface and be wrong: an error each, nothing else.
    memcg_group *again = memcg_create("/tenants/acme");
    if (again || (memcg_is_installed() && errno != EEXIST)) exit(1);
    if (memcg_open("/nobody") || (memcg_is_installed() && errno != ENOENT)) exit(1);
    if (memcg_is_installed()) {
        if (memcg_create("/no/parent") || errno != ENOENT) exit(1);
        if (memcg_create("/bad\001name") || errno != EINVAL) exit(1);
        if (memcg_remove("/tenants") != -1 || errno != EBUSY) exit(1);
        if (memcg_remove("/nobody") != -1 || errno != ENOENT) exit(1);
        if (memcg_write("/tenants/memory.max", "rather a lot") != -1 || errno != EINVAL) exit(1);
        if (memcg_write("/tenants/memory.current", "0") != -1 || errno != EACCES) exit(1);
        if (memcg_read("/tenants/no.such.file", NULL, 0) != -1 || errno != ENOENT) exit(1);
        if (memcg_move_thread(1, "/tenants") != -1 || errno != ESRCH) exit(1);
    }
    char text[5];
    errno = 77;
    int64_t length = memcg_read("/tenants/acme/memory.max", text, sizeof text);
    if (memcg_is_installed() ? length != 8 || strcmp(text, "8388") : length || *text) exit(1);
    memcg_close(NULL);
    memcg_unreserve(NULL);
    memcg_scope scope, inner;
    memcg_enter(&scope, NULL);
    memcg_no_account(&inner);
    free(malloc(100));
    memcg_leave(&inner);
    memcg_leave(&scope);
    if (memcg_current(NULL) || memcg_safe_point() || errno != 77) exit(1);
}

static void reserve(memcg_group *group) {
    memcg_charge *sort;
    uint64_t before = memcg_current(group);
    if (memcg_reserve(&sort, group, 1 << 20)) exit(1);
    if (memcg_is_installed()) {
        if (memcg_current(group) != before + (1 << 20)) exit(1);
        if (memcg_resize(sort, 100 << 20) != -1 || errno != ENOMEM) exit(1);
        if (memcg_resize(sort, 100) || memcg_current(group) != before + 104) exit(1);
        memcg_charge *no;
        if (memcg_reserve(&no, group, 100 << 20) != -1 || errno != ENOMEM || no) exit(1);
    }
    memcg_unreserve(sort);
    if (memcg_current(group) != before) exit(1);
}

int main(void) {
    struct tenant tenants[] = {{.name = "acme", .wants_mib = 3}, {.name = "zeta", .wants_mib = 50}, {.name = "umbrella", .wants_mib = 5}};
    memcg_close(memcg_create("/tenants"));
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "/tenants/%s", tenants[i].name);
        tenants[i].group = memcg_create(path);
        strcat(path, "/memory.max");
        if (memcg_write(path, "8M")) return 1;
    }
    try_everything();
    reserve(tenants[0].group);
    for (int i = 0; i < 3; i++) serve(&tenants[i]);
    for (int i = 0; i < 3; i++)
        printf("%-8s wanted %2d MiB, has %2d, is charged %u MiB\n", tenants[i].name, tenants[i].wants_mib,
               tenants[i].has_mib, (unsigned)(memcg_current(tenants[i].group) >> 20));
    for (int i = 0; i < 3; i++) {
        while (tenants[i].has_mib) free(tenants[i].kept[--tenants[i].has_mib]);
        if (memcg_current(tenants[i].group) >= 4096) return 1;
        memcg_close(tenants[i].group);
    }
    // A tenant leaves: at once, whatever it holds.
    if (memcg_remove("/tenants/zeta")) return 1;
    memcg_group *gone = memcg_open("/tenants/zeta");
    printf("version %u.%u, zeta %s\n", memcg_version() >> 16, memcg_version() >> 8 & 255, gone ? "stayed" : "is gone");
    return gone != NULL;
}
