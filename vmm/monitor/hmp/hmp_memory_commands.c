/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: memory commands. Items have QEMU's format. */
#include <inttypes.h>
#include <string.h>
#include "vmm/machine/guest_memory.h"
#include "vmm/monitor/hmp/hmp_int.h"

#define HMP_DUMP_MAX (1u << 20) /* bytes of one command */
#define HMP_DUMP_LINE 16
#define HMP_SUM_MAX (UINT64_C(1) << 30)
#define HMP_SUM_CHUNK 65536u

/* ---- one value ---- */

static void hmp_print_character(HmpCall *call, uint8_t c)
{
    switch (c) {
    case '\'':
    case '\\':
        hmp_printf(call, "'\\%c'", c);
        break;
    case '\n':
        hmp_printf(call, "'\\n'");
        break;
    case '\r':
        hmp_printf(call, "'\\r'");
        break;
    default:
        hmp_printf(call, c >= 0x20 && c < 0x7f ? "'%c'" : "'\\x%02x'", c);
        break;
    }
}

/* Pads the item to the width of the widest value of @bytes bytes. */
static void hmp_print_item(HmpCall *call, char format, unsigned bytes, uint64_t value)
{
    int bits = (int)bytes * 8;
    switch (format) {
    case 'o':
        hmp_printf(call, "%#*" PRIo64, (bits + 2) / 3, value);
        break;
    case 'u':
        hmp_printf(call, "%*" PRIu64, (bits * 10 + 32) / 33, value);
        break;
    case 'd':
        hmp_printf(call, "%*" PRId64, (bits * 10 + 32) / 33, (int64_t)value);
        break;
    case 'c':
        hmp_print_character(call, (uint8_t)value);
        break;
    default:
        hmp_printf(call, "0x%0*" PRIx64, bits / 4, value);
        break;
    }
}

static char hmp_format_letter(struct json_object *args)
{
    const char *format = qmp_arg_str(args, "format");
    return format != NULL ? format[0] : 'x';
}

static void hmp_print(HmpCall *call, struct json_object *args)
{
    uint64_t value = qmp_arg_u64(args, "val", 0);
    switch (hmp_format_letter(args)) {
    case 'o':
        hmp_printf(call, "%#" PRIo64 "\n", value);
        break;
    case 'u':
        hmp_printf(call, "%" PRIu64 "\n", value);
        break;
    case 'd':
        hmp_printf(call, "%" PRId64 "\n", (int64_t)value);
        break;
    case 'c':
        hmp_print_character(call, (uint8_t)value);
        hmp_printf(call, "\n");
        break;
    default:
        hmp_printf(call, "%#" PRIx64 "\n", value);
        break;
    }
}

/* ---- x and xp ---- */

typedef struct HmpDump {
    uint64_t address;
    unsigned item; /* bytes */
    uint64_t size; /* bytes in all */
    char format;
    const ArchPaging *paging; /* NULL: physical */
} HmpDump;

static bool hmp_dump_check(HmpCall *call, struct json_object *args, HmpDump *d)
{
    d->format = hmp_format_letter(args);
    d->item = d->format == 'c' ? 1 : (unsigned)qmp_arg_int(args, "size", 4);
    d->address = qmp_arg_u64(args, "addr", 0);
    int64_t count = qmp_arg_int(args, "count", 1);
    if (d->format == 'i') {
        hmp_printf(call, "skiff has no disassembler; nearest is gdb's x/i (gdbserver)\n");
        return false;
    }
    if (count > HMP_DUMP_MAX / d->item) {
        hmp_printf(call, "at most %u bytes are shown; nearest for more is memsave\n", HMP_DUMP_MAX);
        return false;
    }
    d->size = (uint64_t)count * d->item;
    return true;
}

static uint64_t hmp_load(const uint8_t *bytes, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, bytes, size);
    return GUINT64_FROM_LE(value);
}

static void hmp_dump(HmpCall *call, const HmpDump *d)
{
    unsigned line = d->item == 1 ? HMP_DUMP_LINE / 2 : HMP_DUMP_LINE;
    uint8_t bytes[HMP_DUMP_LINE];
    for (uint64_t at = 0; at < d->size; at += line) {
        uint64_t address = d->address + at;
        unsigned n = (unsigned)MIN(d->size - at, line);
        hmp_printf(call, "%016" PRIx64 ":", address);
        bool ok =
            d->paging != NULL
                ? guest_paging_read(d->paging, &call->vm->machine.ram, address, bytes, n, NULL)
                : guest_physical_read(&call->vm->machine.ram, address, bytes, n, NULL);
        if (!ok) {
            hmp_printf(call, " Cannot access memory\n");
            return;
        }
        for (unsigned i = 0; i < n; i += d->item) {
            hmp_printf(call, " ");
            hmp_print_item(call, d->format, d->item, hmp_load(bytes + i, d->item));
        }
        hmp_printf(call, "\n");
    }
}

static void hmp_x(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    HmpDump d = {0};
    if (hmp_dump_check(call, args, &d)) {
        ArchPaging paging;
        guest_co_get_paging(&call->vm->machine, *call->cpu, &paging);
        d.paging = &paging;
        hmp_dump(call, &d);
    }
}

static void hmp_xp(HmpCall *call, struct json_object *args)
{
    HmpDump d = {0};
    if (hmp_dump_check(call, args, &d)) {
        hmp_dump(call, &d);
    }
}

/* ---- addresses and sums ---- */

static void hmp_gva2gpa(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    uint64_t gpa;
    if (guest_co_translate(&call->vm->machine, *call->cpu, qmp_arg_u64(args, "addr", 0), &gpa,
                           &error)) {
        hmp_printf(call, "gpa: %#" PRIx64 "\n", gpa);
    } else {
        hmp_printf(call, "Unmapped: %s\n", error->message);
    }
}

typedef struct HmpSum {
    const GuestRam *ram;
    uint64_t start, size;
    uint16_t sum;
    GError *error;
} HmpSum;

static uint16_t hmp_sum_bytes(uint16_t sum, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        sum = (uint16_t)((sum >> 1 | sum << 15) + bytes[i]); /* BSD's sum(1) */
    }
    return sum;
}

static int hmp_sum_in_worker(void *opaque)
{
    enter_worker();
    HmpSum *s = opaque;
    g_autofree uint8_t *bytes = g_malloc(HMP_SUM_CHUNK);
    for (uint64_t at = 0; at < s->size; at += HMP_SUM_CHUNK) {
        size_t n = MIN(s->size - at, HMP_SUM_CHUNK);
        if (!guest_physical_read(s->ram, s->start + at, bytes, n, &s->error)) {
            return -1;
        }
        s->sum = hmp_sum_bytes(s->sum, bytes, n);
    }
    return 0;
}

static void hmp_sum(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    HmpSum s = {.ram = &call->vm->machine.ram,
                .start = qmp_arg_u64(args, "start", 0),
                .size = qmp_arg_u64(args, "size", 0)};
    if (s.size > HMP_SUM_MAX) {
        hmp_printf(call, "at most %" PRIu64 " bytes are summed\n", HMP_SUM_MAX);
    } else if (co_run_in_worker(hmp_sum_in_worker, &s) == 0) {
        hmp_printf(call, "%05u\n", s.sum);
    } else {
        hmp_error(call, s.error);
        g_error_free(s.error);
    }
}

/* ---- dump-guest-memory ---- */

static void hmp_dump_guest_memory(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *qmp = json_object_new_object();
    g_autofree char *protocol = g_strconcat("file:", qmp_arg_str(args, "filename"), NULL);
    qmp_put_str(qmp, "protocol", protocol);
    qmp_put_bool(qmp, "paging", qmp_arg_bool(args, "paging", false));
    if (qmp_arg_bool(args, "detach", false)) {
        qmp_put_bool(qmp, "detach", true);
    }
    if (qmp_arg_has(args, "begin")) {
        qmp_put_int(qmp, "begin", qmp_arg_int(args, "begin", 0));
    }
    if (qmp_arg_has(args, "length")) {
        qmp_put_int(qmp, "length", qmp_arg_int(args, "length", 0));
    }
    json_object_put(hmp_co_qmp(call, "dump-guest-memory", qmp));
}

/* clang-format off */
const HmpCommand hmp_memory_commands[] = {
    {"x", NULL, HMP_PARAMS(HMP_PARAM("fmt", FORMAT), HMP_PARAM("addr", INT)),
     "show memory at a virtual address; /fmt is a count, one of x d u o c, and a size of b h w g",
     .run = hmp_x},
    {"xp", NULL, HMP_PARAMS(HMP_PARAM("fmt", FORMAT), HMP_PARAM("addr", INT)),
     "show memory at a physical address", .run = hmp_xp},
    {"print", "p", HMP_PARAMS(HMP_PARAM("fmt", FORMAT), HMP_PARAM("val", INT)),
     "show the value of an expression; $rip and others are registers", .run = hmp_print},
    {"gva2gpa", NULL, HMP_PARAMS(HMP_PARAM("addr", INT)),
     "translate a virtual to a physical address", .run = hmp_gva2gpa},
    {"sum", NULL, HMP_PARAMS(HMP_PARAM("start", INT), HMP_PARAM("size", INT)),
     "checksum physical memory, as sum(1) does", .run = hmp_sum},
    {"memsave", NULL,
     HMP_PARAMS(HMP_PARAM("val", INT), HMP_PARAM("size", INT), HMP_PARAM("filename", WORD)),
     "save memory at a virtual address to a file", .qmp = "memsave", .on_cpu = true},
    {"pmemsave", NULL,
     HMP_PARAMS(HMP_PARAM("val", INT), HMP_PARAM("size", INT), HMP_PARAM("filename", WORD)),
     "save memory at a physical address to a file", .qmp = "pmemsave"},
    {"dump-guest-memory", NULL,
     HMP_PARAMS(HMP_PARAM("paging", FLAG, .flag = 'p'), HMP_PARAM("detach", FLAG, .flag = 'd'),
                HMP_PARAM("filename", WORD), HMP_PARAM("begin", INT, .optional = true),
                HMP_PARAM("length", INT, .optional = true)),
     "dump the guest for crash(8) or gdb: -p by virtual address, -d without waiting",
     .run = hmp_dump_guest_memory},
    {0},
};
/* clang-format on */
