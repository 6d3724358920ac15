/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/machine/guest_memory.h"
#include "vmm/monitor/commands/qmp_cpu.h"

/* ---- query-memory-size-summary ---- */

static struct json_object *qmp_query_memory_size_summary(QmpCall *call, struct json_object *args,
                                                         GError **error)
{
    enter_main();
    struct json_object *info = json_object_new_object();
    qmp_put_u64(info, "base-memory", call->vm->machine.memory->size);
    qmp_put_int(info, "plugged-memory", 0);
    return info;
}

static const QmpType qmp_memory_info = {
    .name = "MemoryInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"base-memory", &qmp_size, .doc = "RAM from the start, in bytes"},
        {"plugged-memory", &qmp_size, true, "RAM plugged in later, in bytes: always 0"}),
};

/* ---- memsave, pmemsave ---- */

#define MEMORY_SAVE_CHUNK (UINT64_C(1) << 20)

/* One save. It runs in a worker, because the file's system calls block. */
typedef struct MemorySave {
    const GuestRam *ram;
    const ArchPaging *paging; /* NULL for physical addresses */
    uint64_t address, size;   /* bytes */
    const char *filename;
    uint64_t done;
    GError *error;
} MemorySave;

static bool qmp_memory_save_fail(MemorySave *s, const char *what)
{
    int err = errno;
    g_set_error(&s->error, QMP_ERROR, QMP_ERROR_GENERIC, "Could not %s '%s': %s", what, s->filename,
                g_strerror(err));
    return false;
}

static bool qmp_memory_save_read(MemorySave *s, void *buf, uint64_t size)
{
    uint64_t at = s->address + s->done;
    bool ok = s->paging != NULL ? guest_paging_read(s->paging, s->ram, at, buf, size, &s->error)
                                : guest_physical_read(s->ram, at, buf, size, &s->error);
    if (!ok) {
        g_prefix_error(&s->error,
                       "Invalid addr 0x%016" PRIx64 "/size %" PRIu64 " specified: ", s->address,
                       s->size);
    }
    return ok;
}

static bool qmp_memory_save_write(MemorySave *s, int fd, const uint8_t *buf, uint64_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, buf, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return qmp_memory_save_fail(s, "write");
        }
        buf += n;
        size -= (uint64_t)n;
        s->done += (uint64_t)n;
    }
    return true;
}

static bool qmp_memory_save_copy(MemorySave *s, int fd)
{
    g_autofree uint8_t *buf = g_malloc(MIN(s->size, MEMORY_SAVE_CHUNK));
    while (s->done < s->size) {
        uint64_t chunk = MIN(s->size - s->done, MEMORY_SAVE_CHUNK);
        if (!qmp_memory_save_read(s, buf, chunk) || !qmp_memory_save_write(s, fd, buf, chunk)) {
            return false;
        }
    }
    return true;
}

static int qmp_memory_save_in_worker(void *opaque)
{
    enter_worker();
    MemorySave *s = opaque;
    /* Without O_NONBLOCK, the open of a FIFO without a reader would block for ever. */
    int fd = open(s->filename, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
    if (fd < 0) {
        qmp_memory_save_fail(s, "open");
        return -1;
    }
    fcntl(fd, F_SETFL, 0);
    bool ok = qmp_memory_save_copy(s, fd);
    if (close(fd) != 0 && ok) {
        ok = qmp_memory_save_fail(s, "close");
    }
    if (!ok && s->done > 0) {
        g_prefix_error(&s->error, "'%s' has only the first %" PRIu64 " bytes: ", s->filename,
                       s->done);
    }
    return ok ? 0 : -1;
}

static coroutine_fn RUNS_IN_MAIN void qmp_co_save(QmpCall *call, struct json_object *args,
                                                  const ArchPaging *paging, GError **error)
{
    MemorySave s = {
        .ram = &call->vm->machine.ram,
        .paging = paging,
        .address = qmp_arg_u64(args, "val", 0),
        .size = (uint64_t)qmp_arg_int(args, "size", 0),
        .filename = qmp_arg_str(args, "filename"),
    };
    if (co_run_in_worker(qmp_memory_save_in_worker, &s) != 0) {
        g_propagate_error(error, s.error);
    }
}

static struct json_object *qmp_memsave(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    unsigned cpu;
    if (!qmp_arg_cpu(call, args, &cpu, error)) {
        return NULL;
    }
    ArchPaging paging;
    guest_co_get_paging(&call->vm->machine, cpu, &paging);
    qmp_co_save(call, args, &paging, error);
    return NULL;
}

static struct json_object *qmp_pmemsave(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    qmp_co_save(call, args, NULL, error);
    return NULL;
}

static const QmpType qmp_memsave_args = {
    .name = "memsave-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"val", &qmp_u64, .doc = "virtual address"},
                           {"size", &qmp_size, .doc = "bytes"},
                           {"filename", &qmp_str, .doc = "the file, which is truncated"},
                           {"cpu-index", &qmp_int, true, "the vCPU; default: 0"}),
};

static const QmpType qmp_pmemsave_args = {
    .name = "pmemsave-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"val", &qmp_u64, .doc = "physical address"},
                           {"size", &qmp_size, .doc = "bytes"},
                           {"filename", &qmp_str, .doc = "the file, which is truncated"}),
};

static const QmpCommand qmp_memory_commands[] = {
    {
        .name = "query-memory-size-summary",
        .ret = &qmp_memory_info,
        .flags = QMP_INSTANT,
        .run = qmp_query_memory_size_summary,
        .doc = "The size of the machine's RAM.",
    },
    {
        .name = "memsave",
        .args = &qmp_memsave_args,
        .run = qmp_memsave,
        .doc = "Saves guest memory at a virtual address, by a vCPU's current page tables, to a "
               "file. After an error the file has the bytes before it; the message has their "
               "number.",
    },
    {
        .name = "pmemsave",
        .args = &qmp_pmemsave_args,
        .run = qmp_pmemsave,
        .doc = "Saves guest memory at a physical address to a file. Reads RAM and ROM, never a "
               "device's registers. After an error the file has the bytes before it; the message "
               "has their number.",
    },
    {0},
};
static const QmpEvent qmp_memory_events[] = {{0}};

QMP_GROUP(memory);
