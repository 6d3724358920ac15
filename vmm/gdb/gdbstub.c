/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb/gdbstub.h"

#include <string.h>
#include "util/log.h"
#include "hw/chardev/chardev_set.h"
#include "vmm/gdb/gdb_int.h"

static Gdb *the_gdb;     /* created by the first opening, lives as long as the VM */
static bool gdb_opening; /* gdbstub_co_open() is under way */

/* ---- sending ---- */

static void gdb_flush(Gdb *g)
{
    if (g->output->len > 0) {
        size_t n = chardev_write(g->chardev, g->output->data, g->output->len);
        g_byte_array_remove_range(g->output, 0, (guint)n);
    }
}

static void gdb_put(Gdb *g, const void *data, size_t size)
{
    if (g->session.connected) {
        g_byte_array_append(g->output, data, (guint)size);
        gdb_flush(g);
    }
}

void gdb_send(Gdb *g, const char *payload, size_t size)
{
    g_byte_array_set_size(g->last, 0);
    rsp_put_packet(g->last, payload, size);
    gdb_put(g, g->last->data, g->last->len);
}

void gdb_send_text(Gdb *g, const char *text)
{
    gdb_send(g, text, strlen(text));
}

/* ---- receiving ---- */

static void gdb_ack(Gdb *g, RspEvent event)
{
    if (!g->session.no_ack) {
        gdb_put(g, event == RSP_PACKET ? "+" : "-", 1);
    }
}

/* Parses up to the next packet: one at a time. */
static void gdb_parse(Gdb *g)
{
    size_t at = 0, used;
    while (at < g->input_size && !g->has_packet) {
        RspEvent event = rsp_reader_feed(&g->reader, g->input + at, g->input_size - at, &used);
        at += used;
        switch (event) {
        case RSP_PACKET:
            g->has_packet = true;
            gdb_ack(g, event);
            break;
        case RSP_DAMAGED:
            gdb_ack(g, event);
            break;
        case RSP_INTERRUPT:
            g->interrupted = true;
            break;
        case RSP_NAK: /* a client that did not receive it gets it again */
            if (!g->session.no_ack && g->output->len == 0) {
                gdb_put(g, g->last->data, g->last->len);
            }
            break;
        case RSP_ACK:
        case RSP_MORE:
            break;
        }
    }
    memmove(g->input, g->input + at, g->input_size - at);
    g->input_size -= at;
}

static size_t gdb_can_receive(void *opaque)
{
    const Gdb *g = opaque;
    if (!g->session.connected || g->has_packet || g->output->len > 0) {
        return 0;
    }
    return sizeof(g->input) - g->input_size;
}

static void gdb_receive(void *opaque, const uint8_t *data, size_t size)
{
    enter_main();
    Gdb *g = opaque;
    memcpy(g->input + g->input_size, data, size);
    g->input_size += size;
    gdb_parse(g);
    gdb_kick(g);
}

static void gdb_writable(void *opaque)
{
    enter_main();
    Gdb *g = opaque;
    gdb_flush(g);
    gdb_kick(g);
    if (g->output->len == 0) {
        chardev_accept_input(g->chardev);
    }
}

static bool gdb_is_answering(void *opaque)
{
    const Gdb *g = opaque;
    return g->has_packet || g->output->len > 0;
}

static void gdb_event(void *opaque, ChardevEvent event)
{
    enter_main();
    Gdb *g = opaque;
    switch (event) {
    case CHARDEV_OPENED:
        g->opened = true;
        break;
    case CHARDEV_CLOSED:
        g->closed |= g->session.connected;
        g->opened = false;
        g->session.connected = false; /* answers are dropped from here on */
        run_state_set_debugged(&g->vm->run, false);
        g_byte_array_set_size(g->output, 0);
        break;
    case CHARDEV_BREAK:
        g->interrupted = true;
        break;
    default:
        return;
    }
    gdb_kick(g);
}

/* ---- the coroutine ---- */

void gdb_kick(Gdb *g)
{
    if (g->waiting) {
        g->waiting = false;
        co_wake(g->waiter);
    }
}

static bool gdb_has_news(const Gdb *g)
{
    bool packet = g->has_packet && g->output->len == 0;
    return g->opened || g->closed || g->interrupted || g->stopped || packet;
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_end_session(Gdb *g)
{
    g->closed = false;
    gdb_co_run_leave(g);
    g_free(g->session.threads_xml);
    g->session = (GdbSession){0};
}

static RUNS_IN_MAIN void gdb_enter(Gdb *g)
{
    g->opened = g->interrupted = g->has_packet = false;
    g->input_size = 0;
    rsp_reader_init(&g->reader);
    g_byte_array_set_size(g->output, 0);
    g_byte_array_set_size(g->last, 0);
    g->session = (GdbSession){.connected = true};
    gdb_run_enter(g);
    chardev_accept_input(g->chardev);
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_take_packet(Gdb *g)
{
    gdb_co_execute(g);
    g->has_packet = false;
    if (g->session.connected || g->closed) {
        gdb_parse(g);
        chardev_accept_input(g->chardev);
    }
}

static void gdb_main(void *opaque)
{
    enter_main();
    enter_coroutine();
    Gdb *g = opaque;
    for (;;) {
        while (!gdb_has_news(g)) {
            g->waiter = co_arm();
            g->waiting = true;
            co_wait(g->waiter);
        }
        if (g->closed && !g->has_packet) { /* the client's last packet has been executed */
            gdb_co_end_session(g);
        }
        if (g->opened && !g->closed) {
            gdb_enter(g);
        }
        if (g->interrupted) {
            g->interrupted = false;
            gdb_interrupt(g);
        }
        if (g->stopped) {
            g->stopped = false;
            gdb_report_stop(g);
        }
        if (g->has_packet && g->output->len == 0) {
            gdb_co_take_packet(g);
        }
    }
}

/* ---- opening and closing ---- */

static int gdb_probe_in_worker(void *opaque)
{
    enter_worker();
    return arch_debug_probe(opaque) ? 0 : -1;
}

/* After the sandbox is entered no test is possible: KVM is assumed to support everything. */
static coroutine_fn RUNS_IN_MAIN ArchDebugAbilities gdb_co_probe(Vm *vm)
{
    ArchDebugAbilities a = {.instruction = true, .execute = true, .watch = true};
    if (vm->config->process.sandbox == NULL || vm->config->control.gdb != NULL) {
        co_run_in_worker(gdb_probe_in_worker, &a);
    }
    if (!a.instruction || !a.execute || !a.watch) {
        log_info("gdb: this host's KVM does not report all of what it is asked to (break "
                 "instructions %s, "
                 "hardware breakpoints %s, watchpoints %s): skiff uses slower methods",
                 a.instruction ? "yes" : "no", a.execute ? "yes" : "no", a.watch ? "yes" : "no");
    }
    return a;
}

static coroutine_fn RUNS_IN_MAIN Gdb *gdb_co_get(Vm *vm)
{
    if (the_gdb == NULL) {
        ArchDebugAbilities abilities = gdb_co_probe(vm);
        the_gdb = g_new0(Gdb, 1);
        the_gdb->vm = vm;
        the_gdb->output = g_byte_array_new();
        the_gdb->last = g_byte_array_new();
        the_gdb->held = g_new0(bool, vcpus_count(vm->machine.vcpus));
        gdb_breakpoints_init(&the_gdb->breakpoints, vm, &abilities);
        gdb_run_init(the_gdb);
        co_start(vm->ctx, gdb_main, the_gdb);
    }
    return the_gdb;
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_close(Gdb *g)
{
    if (g->chardev == NULL) {
        return;
    }
    g->input_size = 0;
    gdb_event(g, CHARDEV_CLOSED);
    chardev_release(g_steal_pointer(&g->chardev));
    g_autofree char *id = g_steal_pointer(&g->own_id);
    g_autoptr(GError) error = NULL;
    if (id != NULL && !chardev_co_remove(id, &error)) {
        log_warn("gdb: %s", error->message);
    }
}

static coroutine_fn RUNS_IN_MAIN bool gdb_co_open(Vm *vm, const char *device, GError **error)
{
    static const ChardevFrontendOps ops = {
        .can_receive = gdb_can_receive,
        .receive = gdb_receive,
        .event = gdb_event,
        .writable = gdb_writable,
        .is_answering = gdb_is_answering,
    };
    static unsigned opened;
    if (the_gdb != NULL) {
        gdb_co_close(the_gdb);
    }
    if (strcmp(device, "none") == 0) {
        return true;
    }
    g_autofree char *label = opened == 0 ? g_strdup("gdb") : g_strdup_printf("gdb%u", opened);
    g_autofree char *id = NULL;
    opened++;
    if (!backends_co_open_listening(&vm->backends, device, label, "gdb", &id, error)) {
        return false;
    }
    Chardev *c = id != NULL ? chardev_claim(id, "gdb", error) : NULL;
    if (c == NULL) {
        g_prefix_error(error, "-gdb %s: ", device);
        return false;
    }
    Gdb *g = gdb_co_get(vm);
    g->chardev = c;
    g->own_id = g_str_has_prefix(device, "chardev:") ? NULL : g_steal_pointer(&id);
    chardev_attach(c, &ops, g);
    return true;
}

/* Two monitors may request it at the same time. */
bool gdbstub_co_open(Vm *vm, const char *device, GError **error)
{
    if (gdb_opening) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_AGAIN,
                    "another request to open it is under way");
        return false;
    }
    gdb_opening = true;
    bool ok = gdb_co_open(vm, device, error);
    gdb_opening = false;
    return ok;
}
