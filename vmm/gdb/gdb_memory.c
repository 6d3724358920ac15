/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for gdb: by the page tables of its current vCPU, or physical. Reads show the guest's bytes
 * in place of break instructions, and writes over them are preserved. */
#include <string.h>
#include "vmm/gdb/gdb_int.h"
#include "vmm/machine/guest_memory.h"

#define GDB_PIECE_MAX 4096 /* the smallest page, and the granularity of RAM and ROM */

/* The physical address of @address. Limits *@size to bytes that are all mapped, or all unmapped. */
static bool gdb_look_up(const Gdb *g, const ArchPaging *paging, uint64_t address, uint64_t *gpa,
                        size_t *size, GError **error)
{
    ArchTranslation t = {.gpa = address};
    if (paging != NULL && !arch_translate(paging, &g->vm->machine.ram, address, &t, error)) {
        return false;
    }
    *gpa = t.gpa;
    *size = MIN(*size, GDB_PIECE_MAX - (address & (GDB_PIECE_MAX - 1)));
    return true;
}

/* Reads up to the first unmapped byte; returns the number of bytes. */
static RUNS_IN_MAIN size_t gdb_read(Gdb *g, const ArchPaging *paging, uint64_t address,
                                    uint8_t *bytes, size_t size, GError **error)
{
    size_t done = 0;
    while (done < size && (done == 0 || address + done != 0)) {
        size_t n = size - done;
        uint64_t gpa;
        if (!gdb_look_up(g, paging, address + done, &gpa, &n, done == 0 ? error : NULL) ||
            !guest_physical_read(&g->vm->machine.ram, gpa, bytes + done, n,
                                 done == 0 ? error : NULL)) {
            break;
        }
        gdb_breakpoints_hide(&g->breakpoints, gpa, bytes + done, n);
        done += n;
    }
    return done;
}

static RUNS_IN_MAIN bool gdb_write(Gdb *g, const ArchPaging *paging, uint64_t address,
                                   const uint8_t *bytes, size_t size, GError **error)
{
    for (size_t done = 0; done < size;) {
        size_t n = size - done;
        uint64_t gpa;
        if (!gdb_look_up(g, paging, address + done, &gpa, &n, error) ||
            !gdb_breakpoints_write(&g->breakpoints, gpa, bytes + done, n, error)) {
            return false;
        }
        done += n;
    }
    return true;
}

/* NULL: addresses are physical. */
static coroutine_fn RUNS_IN_MAIN const ArchPaging *gdb_co_get_paging(Gdb *g, ArchPaging *paging)
{
    if (g->session.physical) {
        return NULL;
    }
    guest_co_get_paging(&g->vm->machine, g->session.cpu, paging);
    return paging;
}

/* "ADDRESS,LENGTH" */
static bool gdb_take_range(const char **at, uint64_t *address, uint64_t *size)
{
    return rsp_take_number(at, address) && rsp_take_char(at, ',') && rsp_take_number(at, size);
}

void gdb_co_read_memory(Gdb *g, bool binary, const char *args)
{
    uint64_t address, size;
    if (!gdb_take_range(&args, &address, &size) || *args != '\0') {
        gdb_send_malformed(g);
        return;
    }
    ArchPaging at;
    const ArchPaging *paging = gdb_co_get_paging(g, &at);
    GError *error = NULL;
    uint8_t bytes[GDB_MEMORY_MAX];
    size_t done = gdb_read(g, paging, address, bytes, MIN(size, sizeof(bytes)), &error);
    if (error != NULL) {
        gdb_send_text(g, "E14"); /* gdb expects no text here */
        g_error_free(error);
        return;
    }
    g_autoptr(GString) s = g_string_new(NULL);
    if (binary) {
        g_string_append_c(s, 'b');
        g_string_append_len(s, (const char *)bytes, (gssize)done);
    } else {
        rsp_put_hex(s, bytes, done);
    }
    gdb_send(g, s->str, s->len);
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_do_write(Gdb *g, uint64_t address,
                                                      const uint8_t *bytes, size_t size)
{
    ArchPaging at;
    const ArchPaging *paging = gdb_co_get_paging(g, &at);
    GError *error = NULL;
    if (gdb_write(g, paging, address, bytes, size, &error)) {
        gdb_send_ok(g);
    } else {
        gdb_send_error(g, error);
    }
}

void gdb_co_write_memory(Gdb *g, const char *args)
{
    uint64_t address, size;
    uint8_t bytes[GDB_MEMORY_MAX];
    if (!gdb_take_range(&args, &address, &size) || size > sizeof(bytes) ||
        !rsp_take_char(&args, ':') || !rsp_take_bytes(&args, bytes, size) || *args != '\0') {
        gdb_send_malformed(g);
        return;
    }
    gdb_co_do_write(g, address, bytes, size);
}

void gdb_co_write_binary(Gdb *g, const char *args)
{
    uint64_t address, size;
    if (!rsp_take_number(&args, &address) || !rsp_take_char(&args, ',') ||
        !rsp_take_number(&args, &size) || !rsp_take_char(&args, ':') ||
        size != (uint64_t)(g->reader.payload + g->reader.size - args)) {
        gdb_send_malformed(g);
        return;
    }
    gdb_co_do_write(g, address, (const uint8_t *)args, size);
}
