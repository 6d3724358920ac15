/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "block/block.h"

#define MONITOR_LINE_MAX 256
#define MONITOR_PROMPT "(skiff) "

struct Monitor {
    Vm *vm;
    Chardev *chardev;
    GString *pending; /* output that the chardev had no room for */
    char line[MONITOR_LINE_MAX];
    size_t length;
    bool greeted;
};

/* ---- output ---- */

static void monitor_flush(Monitor *m)
{
    size_t taken = chardev_write(m->chardev, (const uint8_t *)m->pending->str, m->pending->len);
    g_string_erase(m->pending, 0, (gssize)taken);
}

static void monitor_printf(Monitor *m, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void monitor_printf(Monitor *m, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_string_append_vprintf(m->pending, format, ap);
    va_end(ap);
    monitor_flush(m);
}

/* ---- commands ---- */

typedef struct MonitorCommand {
    const char *name, *alias;
    const char *parameters; /* NULL: takes none */
    const char *help;
    void (*run)(Monitor *m, const char *arguments); /* in main */
} MonitorCommand;

static const MonitorCommand monitor_commands[];

static RUNS_IN_MAIN void monitor_help(Monitor *m, const char *arguments)
{
    for (const MonitorCommand *c = monitor_commands; c->name != NULL; c++) {
        monitor_printf(m, "%s%s%s%s%s -- %s\r\n", c->name, c->alias != NULL ? "|" : "",
                       c->alias != NULL ? c->alias : "", c->parameters != NULL ? " " : "",
                       c->parameters != NULL ? c->parameters : "", c->help);
    }
}

static RUNS_IN_MAIN void monitor_info_status(Monitor *m, const char *arguments)
{
    const char *name = run_state_name(&m->vm->run);
    if (m->vm->run.phase == RUN_RUNNING || strcmp(name, "paused") == 0) {
        monitor_printf(m, "VM status: %s\r\n", name);
    } else {
        monitor_printf(m, "VM status: paused (%s)\r\n", name);
    }
}

static RUNS_IN_MAIN void monitor_info_block(Monitor *m, const char *arguments)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        monitor_printf(m, "%s (%s): %" PRIu64 " bytes%s, %u in flight\r\n",
                       block_node_name(blk_root(list[i])), blk_name(list[i]), blk_size(list[i]),
                       blk_read_only(list[i]) ? ", read-only" : "", blk_in_flight(list[i]));
    }
}

static void monitor_print_region(const IoRegion *r, void *opaque)
{
    monitor_printf(opaque, "  %016" PRIx64 "-%016" PRIx64 " %s\r\n", r->base, r->base + r->size - 1,
                   r->name);
}

static RUNS_IN_MAIN void monitor_info_mtree(Monitor *m, const char *arguments)
{
    monitor_printf(m, "RAM\r\n");
    for (unsigned i = 0; i < m->vm->ram.count; i++) {
        const RamBlock *b = &m->vm->ram.blocks[i];
        monitor_printf(m, "  %016" PRIx64 "-%016" PRIx64 " %s%s\r\n", b->gpa, b->gpa + b->size - 1,
                       b->name, b->read_only ? " (ROM)" : "");
    }
    bql_lock();
    monitor_printf(m, "memory\r\n");
    address_space_foreach(m->vm->mmio, monitor_print_region, m);
    monitor_printf(m, "I/O\r\n");
    address_space_foreach(m->vm->pio, monitor_print_region, m);
    bql_unlock();
}

static RUNS_IN_MAIN void monitor_info_qtree(Monitor *m, const char *arguments)
{
    for (unsigned i = 0; i < m->vm->devices->len; i++) {
        const Device *dev = m->vm->devices->pdata[i];
        monitor_printf(m, "%s%s%s%s\r\n", dev->type->name, dev->id != NULL ? ", id \"" : "",
                       dev->id != NULL ? dev->id : "", dev->id != NULL ? "\"" : "");
    }
}

static RUNS_IN_MAIN void monitor_stop(Monitor *m, const char *arguments)
{
    run_state_request_stop(&m->vm->run, STOP_PAUSED);
}

static RUNS_IN_MAIN void monitor_cont(Monitor *m, const char *arguments)
{
    run_state_request_start(&m->vm->run);
}

static RUNS_IN_MAIN void monitor_system_reset(Monitor *m, const char *arguments)
{
    vm_request(m->vm, VM_REQUEST_RESET, 0); /* -no-reboot has its say */
}

static RUNS_IN_MAIN void monitor_system_powerdown(Monitor *m, const char *arguments)
{
    board_press_power_button(m->vm);
}

static RUNS_IN_MAIN void monitor_quit(Monitor *m, const char *arguments)
{
    vm_quit(m->vm, EXIT_STATUS_OK);
}

/* block_resize is a control operation: it drains the disk, and takes its turn behind a stop or
 * reset. */
typedef struct MonitorResize {
    Monitor *m;
    char *name;
    uint64_t size;
} MonitorResize;

/* By the name of the -drive or -blockdev, or of the device that uses it. */
static RUNS_IN_MAIN BlockBackend *monitor_find_disk(const char *name)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(block_node_name(blk_root(list[i])), name) == 0) {
            return list[i];
        }
    }
    return blk_find(name);
}

static void monitor_resize_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    MonitorResize *r = opaque;
    g_autoptr(GError) error = NULL;
    vm_operation_begin(&r->m->vm->run);
    BlockBackend *blk = monitor_find_disk(r->name); /* now: it may have gone while we waited */
    if (blk == NULL) {
        monitor_printf(r->m, "block_resize: there is no disk '%s'; info block lists them\r\n",
                       r->name);
    } else if (blk_co_truncate(blk, r->size, &error) < 0) {
        monitor_printf(r->m, "block_resize: %s\r\n", error->message);
    }
    vm_operation_end(&r->m->vm->run);
    g_free(r->name);
    g_free(r);
}

static RUNS_IN_MAIN void monitor_block_resize(Monitor *m, const char *arguments)
{
    g_auto(GStrv) words = g_strsplit(arguments, " ", 2);
    g_autoptr(GError) error = NULL;
    uint64_t size;
    if (g_strv_length(words) != 2 ||
        !opt_parse_size(g_strstrip(words[1]), UINT64_C(1) << 20, &size, &error)) {
        monitor_printf(
            m, "block_resize: DISK SIZE is wanted, the size in MiB or with a suffix%s%s\r\n",
            error != NULL ? ": " : "", error != NULL ? error->message : "");
        return;
    }
    MonitorResize *r = g_new(MonitorResize, 1);
    *r = (MonitorResize){.m = m, .name = g_strdup(words[0]), .size = size};
    co_start(m->vm->ctx, monitor_resize_run, r);
}

/* clang-format off */
static const MonitorCommand monitor_commands[] = {
    {"help", "?", NULL, "this list", monitor_help},
    {"info status", NULL, NULL, "whether the VM runs", monitor_info_status},
    {"info block", NULL, NULL, "disks", monitor_info_block},
    {"info mtree", NULL, NULL, "address spaces", monitor_info_mtree},
    {"info qtree", NULL, NULL, "devices", monitor_info_qtree},
    {"stop", NULL, NULL, "stop the processors", monitor_stop},
    {"cont", "c", NULL, "go on", monitor_cont},
    {"system_reset", NULL, NULL, "press the reset button", monitor_system_reset},
    {"system_powerdown", NULL, NULL, "press the power button", monitor_system_powerdown},
    {"block_resize", NULL, "disk size", "give a disk another size", monitor_block_resize},
    {"quit", "q", NULL, "end the VM", monitor_quit},
    {0},
};
/* clang-format on */

/* The arguments behind @name in @line; NULL: @line is another command. */
static const char *monitor_match(const char *line, const char *name)
{
    if (name == NULL || !g_str_has_prefix(line, name)) {
        return NULL;
    }
    const char *rest = line + strlen(name);
    return *rest == '\0' || *rest == ' ' ? rest + strspn(rest, " ") : NULL;
}

static RUNS_IN_MAIN void monitor_execute(Monitor *m)
{
    char *line = g_strstrip(m->line);
    if (line[0] == '\0') {
        return;
    }
    for (const MonitorCommand *c = monitor_commands; c->name != NULL; c++) {
        const char *arguments = monitor_match(line, c->name);
        if (arguments == NULL) {
            arguments = monitor_match(line, c->alias);
        }
        if (arguments == NULL) {
            continue;
        }
        if (c->parameters == NULL && arguments[0] != '\0') {
            monitor_printf(m, "%s takes no parameters, found '%s'\r\n", c->name, arguments);
            return;
        }
        c->run(m, arguments);
        return;
    }
    monitor_printf(m, "unknown command: '%s'; help lists them\r\n", line);
}

/* ---- input ---- */

/* A peer that asks and does not read gets no more answers to hold for it. */
static size_t monitor_can_receive(void *opaque)
{
    const Monitor *m = opaque;
    return m->pending->len == 0 ? MONITOR_LINE_MAX : 0;
}

static RUNS_IN_MAIN void monitor_type(Monitor *m, uint8_t byte)
{
    switch (byte) {
    case '\r':
    case '\n':
        monitor_printf(m, "\r\n");
        m->line[m->length] = '\0';
        m->length = 0;
        monitor_execute(m);
        monitor_printf(m, MONITOR_PROMPT);
        break;
    case 0x08:
    case 0x7f:
        if (m->length > 0) {
            m->length--;
            monitor_printf(m, "\b \b");
        }
        break;
    case 0x15: /* Ctrl-U */
        m->length = 0;
        monitor_printf(m, "\r\n" MONITOR_PROMPT);
        break;
    default:
        if (byte >= 0x20 && byte < 0x7f && m->length < MONITOR_LINE_MAX - 1) {
            m->line[m->length++] = (char)byte;
            monitor_printf(m, "%c", byte);
        }
        break;
    }
}

static void monitor_receive(void *opaque, const uint8_t *data, size_t size)
{
    enter_main();
    Monitor *m = opaque;
    for (size_t i = 0; i < size; i++) {
        monitor_type(m, data[i]);
    }
}

static void monitor_event(void *opaque, ChardevEvent event)
{
    Monitor *m = opaque;
    if (event != CHARDEV_FOCUSED) {
        return;
    }
    if (!m->greeted) {
        m->greeted = true;
        monitor_printf(m, "\r\nskiff " SKIFF_VERSION " monitor; help lists its commands\r\n");
    }
    monitor_printf(m, MONITOR_PROMPT);
}

static void monitor_writable(void *opaque)
{
    Monitor *m = opaque;
    monitor_flush(m);
    if (m->pending->len == 0) {
        chardev_accept_input(m->chardev);
    }
}

Monitor *monitor_new(Vm *vm, Chardev *chardev)
{
    static const ChardevFrontendOps ops = {
        .can_receive = monitor_can_receive,
        .receive = monitor_receive,
        .event = monitor_event,
        .writable = monitor_writable,
    };
    Monitor *m = g_new0(Monitor, 1);
    m->vm = vm;
    m->chardev = chardev;
    m->pending = g_string_new(NULL);
    chardev_attach(chardev, &ops, m);
    return m;
}

void monitor_free(Monitor *m)
{
    chardev_attach(m->chardev, NULL, NULL);
    g_string_free(m->pending, true);
    g_free(m);
}
