/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prompt on a chardev.
 *
 * Input goes to a small queue and is taken from it byte by byte, while no command runs and all
 * output has been read: so a peer that does not read cannot make output pile up. The lines of a peer
 * that has left are still executed, without output, before the next peer is served.
 */
#include <string.h>
#include "hw/chardev/chardev_set.h"
#include "vmm/monitor/hmp/hmp_complete.h"
#include "vmm/monitor/hmp/line_editor.h"

#define HMP_PROMPT "(skiff) "
#define HMP_INPUT_MAX 4096

struct HmpMonitor {
    Vm *vm;
    Chardev *chardev;
    GByteArray *input; /* unprocessed: at most HMP_INPUT_MAX bytes */
    GString *pending;  /* output that the chardev had no room for */
    LineEditor *editor;
    char *line; /* the line to execute */
    unsigned cpu;
    bool greeted, busy, taking, freed;
    bool left; /* the peer has left; its input is still processed */
};

/* ---- output ---- */

static void hmp_monitor_flush(HmpMonitor *m)
{
    size_t taken = chardev_write(m->chardev, (const uint8_t *)m->pending->str, m->pending->len);
    g_string_erase(m->pending, 0, (gssize)taken);
}

/* Writes text with each newline as \r\n. */
static void hmp_monitor_write(HmpMonitor *m, const char *text, size_t length)
{
    if (m->left) {
        return;
    }
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

/* ---- commands ---- */

static RUNS_IN_MAIN void hmp_monitor_take_input(HmpMonitor *m);

static RUNS_IN_MAIN void hmp_monitor_destroy(HmpMonitor *m)
{
    g_byte_array_free(m->input, true);
    g_string_free(m->pending, true);
    line_editor_free(m->editor);
    g_free(m->line);
    g_free(m);
}

static void hmp_monitor_execute(void *opaque)
{
    enter_main();
    enter_coroutine();
    HmpMonitor *m = opaque;
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree char *line = g_steal_pointer(&m->line);
    hmp_co_execute_on(m->vm, &m->cpu, line, out);
    m->busy = false;
    if (m->freed) {
        hmp_monitor_destroy(m);
        return;
    }
    hmp_monitor_write(m, out->str, out->len);
    if (!m->vm->life.quitting) {
        line_editor_show(m->editor);
    }
    hmp_monitor_take_input(m);
}

/* ---- the editor's callbacks ---- */

static void hmp_monitor_edit_write(void *opaque, const char *text, size_t size)
{
    hmp_monitor_write(opaque, text, size);
}

static void hmp_monitor_edit_line(void *opaque, const char *line)
{
    enter_main();
    HmpMonitor *m = opaque;
    if (line == NULL) {
        hmp_monitor_puts(m, "a line has at most " G_STRINGIFY(HMP_LINE_MAX) " bytes\n");
        line_editor_show(m->editor);
        return;
    }
    m->line = g_strdup(line);
    m->busy = true;
    co_start_now(m->vm->ctx, hmp_monitor_execute, m);
}

static size_t hmp_monitor_edit_complete(void *opaque, const char *text, GPtrArray *words)
{
    enter_main();
    const HmpMonitor *m = opaque;
    return hmp_complete(m->vm, text, words);
}

/* ---- taking input ---- */

static bool hmp_monitor_may_read(const HmpMonitor *m)
{
    return !m->busy && m->pending->len == 0;
}

/* Greets each peer once. */
static RUNS_IN_MAIN void hmp_monitor_greet(HmpMonitor *m)
{
    if (!m->greeted && chardev_connected(m->chardev)) {
        m->greeted = true;
        hmp_monitor_puts(m, "\nskiff " SKIFF_VERSION " monitor; help lists its commands\n");
        line_editor_show(m->editor);
    }
}

/* Called after the last line of a peer that has left. The next peer may be connected already. */
static RUNS_IN_MAIN void hmp_monitor_forget_peer(HmpMonitor *m)
{
    m->left = m->greeted = false;
    line_editor_reset(m->editor);
    if (chardev_has_focus(m->chardev)) {
        hmp_monitor_greet(m);
    }
}

static RUNS_IN_MAIN void hmp_monitor_take_input(HmpMonitor *m)
{
    if (m->taking) {
        return; /* called from the loop below, which continues */
    }
    m->taking = true;
    unsigned taken = 0;
    while (taken < m->input->len && hmp_monitor_may_read(m)) {
        line_editor_type(m->editor, m->input->data[taken++]);
    }
    g_byte_array_remove_range(m->input, 0, MIN(taken, m->input->len));
    m->taking = false;
    if (m->left && m->input->len == 0 && !m->busy) {
        hmp_monitor_forget_peer(m);
    }
    if (hmp_monitor_may_read(m)) {
        chardev_accept_input(m->chardev);
    }
}

/* ---- the chardev's frontend ---- */

static size_t hmp_monitor_can_receive(void *opaque)
{
    const HmpMonitor *m = opaque;
    return hmp_monitor_may_read(m) && !m->left ? HMP_INPUT_MAX - m->input->len : 0;
}

static bool hmp_monitor_is_answering(void *opaque)
{
    const HmpMonitor *m = opaque;
    return m->busy || m->input->len > 0 || m->pending->len > 0;
}

static void hmp_monitor_receive(void *opaque, const uint8_t *data, size_t size)
{
    enter_main();
    HmpMonitor *m = opaque;
    hmp_monitor_greet(m); /* input may precede the event of the connection */
    g_byte_array_append(m->input, data, (guint)size);
    hmp_monitor_take_input(m);
}

static RUNS_IN_MAIN void hmp_monitor_peer_left(HmpMonitor *m)
{
    m->left = true;
    g_string_truncate(m->pending, 0);
    hmp_monitor_take_input(m);
}

static void hmp_monitor_event(void *opaque, ChardevEvent event)
{
    enter_main();
    HmpMonitor *m = opaque;
    switch (event) {
    case CHARDEV_OPENED:
        if (chardev_has_focus(m->chardev) && !m->left) {
            hmp_monitor_greet(m);
        }
        break;
    case CHARDEV_FOCUSED:
        if (m->left) {
            break;
        }
        if (m->greeted && !m->busy) {
            line_editor_show(m->editor);
        }
        hmp_monitor_greet(m);
        break;
    case CHARDEV_CLOSED:
        hmp_monitor_peer_left(m);
        break;
    default:
        break;
    }
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
        .is_answering = hmp_monitor_is_answering,
    };
    static const LineEditorOps editor_ops = {
        .write = hmp_monitor_edit_write,
        .line = hmp_monitor_edit_line,
        .complete = hmp_monitor_edit_complete,
    };
    HmpMonitor *m = g_new0(HmpMonitor, 1);
    m->vm = vm;
    m->chardev = chardev;
    m->input = g_byte_array_new();
    m->pending = g_string_new(NULL);
    m->editor = line_editor_new(HMP_PROMPT, HMP_LINE_MAX, &editor_ops, m);
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
