/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prompt on a chardev.
 *
 * Input is kept in a small queue and taken from it byte by byte, while no command is under way and
 * all output has gone: so a peer that asks and does not read gets no more answers to hold for it.
 */
#include <string.h>
#include "vmm/hmp/hmp.h"

#define HMP_PROMPT "(skiff) "
#define HMP_INPUT_MAX 4096

struct HmpMonitor {
    Vm *vm;
    Chardev *chardev;
    GByteArray *input; /* not looked at yet: at most HMP_INPUT_MAX */
    GString *pending;  /* output that the chardev had no room for */
    GString *line;
    unsigned cpu;
    bool greeted, busy, taking, freed;
    unsigned peer; /* counts those who came and went */
};

/* ---- output ---- */

static void hmp_monitor_flush(HmpMonitor *m)
{
    size_t taken = chardev_write(m->chardev, (const uint8_t *)m->pending->str, m->pending->len);
    g_string_erase(m->pending, 0, (gssize)taken);
}

/* A newline goes out as a terminal wants it. */
static void hmp_monitor_write(HmpMonitor *m, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n') {
            g_string_append_c(m->pending, '\r');
        }
        g_string_append_c(m->pending, text[i]);
    }
    hmp_monitor_flush(m);
}

static void hmp_monitor_puts(HmpMonitor *m, const char *text)
{
    hmp_monitor_write(m, text, strlen(text));
}

/* ---- input ---- */

static RUNS_IN_MAIN void hmp_monitor_take_input(HmpMonitor *m);

static void hmp_monitor_destroy(HmpMonitor *m)
{
    g_byte_array_free(m->input, true);
    g_string_free(m->pending, true);
    g_string_free(m->line, true);
    g_free(m);
}

static void hmp_monitor_execute(void *opaque)
{
    enter_main();
    enter_coroutine();
    HmpMonitor *m = opaque;
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *line = g_strdup(m->line->str);
    unsigned peer = m->peer;
    g_string_truncate(m->line, 0);
    hmp_co_execute_on(m->vm, &m->cpu, line, out);
    m->busy = false;
    if (m->freed) {
        hmp_monitor_destroy(m);
        return;
    }
    if (peer == m->peer) { /* nobody gets what another asked for */
        hmp_monitor_write(m, out->str, out->len);
        hmp_monitor_puts(m, HMP_PROMPT);
    }
    hmp_monitor_take_input(m);
}

static RUNS_IN_MAIN void hmp_monitor_type(HmpMonitor *m, uint8_t byte)
{
    switch (byte) {
    case '\r':
    case '\n':
        hmp_monitor_puts(m, "\n");
        m->busy = true;
        co_start_now(m->vm->ctx, hmp_monitor_execute, m);
        break;
    case 0x08:
    case 0x7f:
        if (m->line->len > 0) {
            g_string_truncate(m->line, m->line->len - 1);
            hmp_monitor_puts(m, "\b \b");
        }
        break;
    case 0x15: /* Ctrl-U */
        g_string_truncate(m->line, 0);
        hmp_monitor_puts(m, "\n" HMP_PROMPT);
        break;
    default:
        if (byte >= 0x20 && byte < 0x7f && m->line->len < HMP_LINE_MAX) {
            g_string_append_c(m->line, (char)byte);
            hmp_monitor_write(m, (const char *)&byte, 1);
        }
        break;
    }
}

static bool hmp_monitor_may_read(const HmpMonitor *m)
{
    return !m->busy && m->pending->len == 0;
}

static RUNS_IN_MAIN void hmp_monitor_take_input(HmpMonitor *m)
{
    if (m->taking) {
        return; /* the caller of the caller goes on */
    }
    m->taking = true;
    unsigned taken = 0;
    while (taken < m->input->len && hmp_monitor_may_read(m)) {
        hmp_monitor_type(m, m->input->data[taken++]);
    }
    g_byte_array_remove_range(m->input, 0, MIN(taken, m->input->len));
    m->taking = false;
    if (hmp_monitor_may_read(m)) {
        chardev_accept_input(m->chardev);
    }
}

/* ---- the chardev's frontend ---- */

static size_t hmp_monitor_can_receive(void *opaque)
{
    const HmpMonitor *m = opaque;
    return hmp_monitor_may_read(m) ? HMP_INPUT_MAX - m->input->len : 0;
}

static void hmp_monitor_receive(void *opaque, const uint8_t *data, size_t size)
{
    enter_main();
    HmpMonitor *m = opaque;
    g_byte_array_append(m->input, data, (guint)size);
    hmp_monitor_take_input(m);
}

static void hmp_monitor_event(void *opaque, ChardevEvent event)
{
    HmpMonitor *m = opaque;
    if (event != CHARDEV_FOCUSED) {
        return;
    }
    if (!m->greeted) {
        m->greeted = true;
        hmp_monitor_puts(m, "\nskiff " SKIFF_VERSION " monitor; help lists its commands\n");
    }
    hmp_monitor_puts(m, HMP_PROMPT);
}

static void hmp_monitor_writable(void *opaque)
{
    enter_main();
    HmpMonitor *m = opaque;
    hmp_monitor_flush(m);
    hmp_monitor_take_input(m);
}

HmpMonitor *hmp_monitor_new(Vm *vm, Chardev *chardev)
{
    static const ChardevFrontendOps ops = {
        .can_receive = hmp_monitor_can_receive,
        .receive = hmp_monitor_receive,
        .event = hmp_monitor_event,
        .writable = hmp_monitor_writable,
    };
    HmpMonitor *m = g_new0(HmpMonitor, 1);
    m->vm = vm;
    m->chardev = chardev;
    m->input = g_byte_array_new();
    m->pending = g_string_new(NULL);
    m->line = g_string_new(NULL);
    chardev_attach(chardev, &ops, m);
    return m;
}

void hmp_monitor_free(HmpMonitor *m)
{
    chardev_attach(m->chardev, NULL, NULL);
    if (m->busy) {
        m->freed = true;
    } else {
        hmp_monitor_destroy(m);
    }
}
