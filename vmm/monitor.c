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
    const char *name, *alias, *help;
    void (*run)(Monitor *m); /* in main */
} MonitorCommand;

static const MonitorCommand monitor_commands[];

static RUNS_IN_MAIN void monitor_help(Monitor *m)
{
    for (const MonitorCommand *c = monitor_commands; c->name != NULL; c++) {
        monitor_printf(m, "%s%s%s -- %s\r\n", c->name, c->alias != NULL ? "|" : "",
                       c->alias != NULL ? c->alias : "", c->help);
    }
}

static RUNS_IN_MAIN void monitor_info_status(Monitor *m)
{
    const char *name = run_state_name(&m->vm->run);
    if (m->vm->run.phase == RUN_RUNNING || strcmp(name, "paused") == 0) {
        monitor_printf(m, "VM status: %s\r\n", name);
    } else {
        monitor_printf(m, "VM status: paused (%s)\r\n", name);
    }
}

static RUNS_IN_MAIN void monitor_info_block(Monitor *m)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        monitor_printf(m, "%s: %" PRIu64 " bytes%s, %u in flight\r\n", blk_name(list[i]),
                       blk_size(list[i]), blk_read_only(list[i]) ? ", read-only" : "",
                       blk_in_flight(list[i]));
    }
}

static void monitor_print_region(const IoRegion *r, void *opaque)
{
    monitor_printf(opaque, "  %016" PRIx64 "-%016" PRIx64 " %s\r\n", r->base, r->base + r->size - 1,
                   r->name);
}

static RUNS_IN_MAIN void monitor_info_mtree(Monitor *m)
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

static RUNS_IN_MAIN void monitor_info_qtree(Monitor *m)
{
    for (unsigned i = 0; i < m->vm->devices->len; i++) {
        const Device *dev = m->vm->devices->pdata[i];
        monitor_printf(m, "%s%s%s%s\r\n", dev->type->name, dev->id != NULL ? ", id \"" : "",
                       dev->id != NULL ? dev->id : "", dev->id != NULL ? "\"" : "");
    }
}

static RUNS_IN_MAIN void monitor_stop(Monitor *m)
{
    run_state_request_stop(&m->vm->run, STOP_PAUSED);
}

static RUNS_IN_MAIN void monitor_cont(Monitor *m)
{
    run_state_request_start(&m->vm->run);
}

static RUNS_IN_MAIN void monitor_system_reset(Monitor *m)
{
    run_state_request_reset(&m->vm->run);
}

static RUNS_IN_MAIN void monitor_system_powerdown(Monitor *m)
{
    board_press_power_button(m->vm);
}

static RUNS_IN_MAIN void monitor_quit(Monitor *m)
{
    vm_quit(m->vm, EXIT_STATUS_OK);
}

static const MonitorCommand monitor_commands[] = {
    {"help", "?", "this list", monitor_help},
    {"info status", NULL, "whether the VM runs", monitor_info_status},
    {"info block", NULL, "disks", monitor_info_block},
    {"info mtree", NULL, "address spaces", monitor_info_mtree},
    {"info qtree", NULL, "devices", monitor_info_qtree},
    {"stop", NULL, "stop the processors", monitor_stop},
    {"cont", "c", "go on", monitor_cont},
    {"system_reset", NULL, "press the reset button", monitor_system_reset},
    {"system_powerdown", NULL, "press the power button", monitor_system_powerdown},
    {"quit", "q", "end the VM", monitor_quit},
    {0},
};

static RUNS_IN_MAIN void monitor_execute(Monitor *m)
{
    char *line = g_strstrip(m->line);
    if (line[0] == '\0') {
        return;
    }
    for (const MonitorCommand *c = monitor_commands; c->name != NULL; c++) {
        if (strcmp(line, c->name) == 0 || g_strcmp0(line, c->alias) == 0) {
            c->run(m);
            return;
        }
    }
    monitor_printf(m, "unknown command: '%s'; help lists them\r\n", line);
}

/* ---- input ---- */

static size_t monitor_can_receive(void *opaque)
{
    return MONITOR_LINE_MAX;
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
    monitor_flush(opaque);
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
