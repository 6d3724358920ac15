/* SPDX-License-Identifier: Apache-2.0 */
/* q and Q packets: the stub's features, threads, descriptions, the monitor, QEMU's extensions. */
#include <string.h>
#include "vmm/gdb/gdb_int.h"

/* Bytes of the monitor's output in one packet. */
#define GDB_CONSOLE_PIECE 1024

/* ---- features ---- */

static void gdb_query_supported(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    g->session.wants_reasons = strstr(args, "swbreak+") != NULL;
    g_autofree char *text =
        g_strdup_printf("PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;"
                        "swbreak+;hwbreak+;vContSupported+;binary-upload+",
                        RSP_PAYLOAD_MAX);
    gdb_send_text(g, text);
}

static void gdb_query_no_ack(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    gdb_send_ok(g);
    g->session.no_ack = true;
}

static void gdb_query_attached(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    gdb_send_text(g, "1"); /* when gdb quits, it detaches instead of killing */
}

/* ---- threads ---- */

static void gdb_halted_in_vcpu(Vcpu *v, void *opaque)
{
    enter_vcpu();
    *(bool *)opaque = vcpu_is_halted(v);
}

static coroutine_fn RUNS_IN_MAIN char *gdb_co_describe_cpu(Gdb *g, unsigned cpu)
{
    bool halted = false;
    vcpus_co_call(g->vm->machine.vcpus, cpu, gdb_halted_in_vcpu, &halted);
    return g_strdup_printf("CPU#%u [%s]", cpu, halted ? "halted " : "running");
}

static void gdb_query_current_thread(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    g_autofree char *text = g_strdup_printf("QC%x", g->session.cpu + 1);
    gdb_send_text(g, text);
}

static void gdb_query_next_threads(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GString) s = g_string_new(NULL);
    unsigned count = vcpus_count(g->vm->machine.vcpus);
    while (g->session.thread_list < count && s->len < RSP_PAYLOAD_MAX - 16) {
        g_string_append_printf(s, "%c%x", s->len == 0 ? 'm' : ',', ++g->session.thread_list);
    }
    gdb_send_text(g, s->len == 0 ? "l" : s->str);
}

static void gdb_query_first_threads(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    g->session.thread_list = 0;
    gdb_query_next_threads(g, args);
}

static void gdb_query_thread_extra(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    RspThread thread;
    unsigned cpu;
    if (!rsp_take_thread(&args, &thread) || !gdb_find_cpu(g, &thread, 0, &cpu)) {
        gdb_send_malformed(g);
        return;
    }
    g_autofree char *text = gdb_co_describe_cpu(g, cpu);
    g_autoptr(GString) s = g_string_new(NULL);
    rsp_put_hex(s, text, strlen(text));
    gdb_send(g, s->str, s->len);
}

static coroutine_fn RUNS_IN_MAIN char *gdb_co_make_threads_xml(Gdb *g)
{
    GString *s = g_string_new("<?xml version=\"1.0\"?>\n<threads>\n");
    for (unsigned i = 0; i < vcpus_count(g->vm->machine.vcpus); i++) {
        g_autofree char *text = gdb_co_describe_cpu(g, i);
        g_string_append_printf(s, "<thread id=\"%x\" core=\"%u\" name=\"vcpu/%u\">%s</thread>\n",
                               i + 1, i, i, text);
    }
    g_string_append(s, "</threads>\n");
    return g_string_free(s, false);
}

/* ---- reading in pieces ---- */

/* "OFFSET,LENGTH": 'm' with a piece of @text, or 'l' with the last. */
static RUNS_IN_MAIN void gdb_send_piece(Gdb *g, const char *text, const char *args)
{
    uint64_t offset, length;
    size_t size = strlen(text);
    if (!rsp_take_number(&args, &offset) || !rsp_take_char(&args, ',') ||
        !rsp_take_number(&args, &length) || *args != '\0' || offset > size) {
        gdb_send_malformed(g);
        return;
    }
    size_t n = MIN(MIN(length, size - offset), RSP_PAYLOAD_MAX / 2); /* escapes need room */
    g_autoptr(GString) s = g_string_new(offset + n < size ? "m" : "l");
    g_string_append_len(s, text + offset, (gssize)n);
    gdb_send(g, s->str, s->len);
}

static void gdb_query_features(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    if (!rsp_take_text(&args, "target.xml:")) {
        gdb_send_text(g, "E00"); /* the annex does not exist */
        return;
    }
    gdb_send_piece(g, arch_gdb_target_xml(), args);
}

static void gdb_query_threads_xml(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    if (!rsp_take_char(&args, ':')) {
        gdb_send_text(g, "E00");
        return;
    }
    if (g_str_has_prefix(args, "0,") || g->session.threads_xml == NULL) {
        g_free(g->session.threads_xml);
        g->session.threads_xml = gdb_co_make_threads_xml(g);
    }
    gdb_send_piece(g, g->session.threads_xml, args);
}

/* ---- the monitor ---- */

static GdbMonitor *gdb_monitor;

void gdbstub_set_monitor(GdbMonitor *monitor)
{
    gdb_monitor = monitor;
}

static void gdb_query_monitor(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    if (gdb_monitor == NULL) {
        gdb_send_text(g, "");
        return;
    }
    size_t size = strlen(args) / 2;
    g_autofree char *line = g_malloc0(size + 1);
    if (strlen(args) % 2 != 0 || !rsp_take_bytes(&args, line, size) ||
        !g_utf8_validate(line, (gssize)size, NULL)) {
        gdb_send_malformed(g);
        return;
    }
    g_autoptr(GString) out = g_string_new(NULL);
    gdb_monitor(g->vm, &g->session.cpu, g_strstrip(line), out);
    for (size_t at = 0; at < out->len; at += GDB_CONSOLE_PIECE) {
        g_autoptr(GString) s = g_string_new("O");
        rsp_put_hex(s, out->str + at, MIN(GDB_CONSOLE_PIECE, out->len - at));
        gdb_send(g, s->str, s->len);
    }
    gdb_send_ok(g);
}

/* ---- QEMU's extensions ---- */

static void gdb_query_qemu_supported(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    gdb_send_text(g, "sstepbits;sstep;PhyMemMode");
}

static void gdb_query_physical(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    gdb_send_text(g, g->session.physical ? "1" : "0");
}

static void gdb_set_physical(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    uint64_t on;
    if (!rsp_take_number(&args, &on) || *args != '\0') {
        gdb_send_malformed(g);
        return;
    }
    g->session.physical = on != 0;
    gdb_send_ok(g);
}

static void gdb_query_step_bits(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    gdb_send_text(g, "ENABLE=1,NOIRQ=2,NOTIMER=4");
}

/* A VM's clock does not stop for one instruction: NOTIMER has the same effect as NOIRQ. */
static void gdb_query_step(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    unsigned bits = GDB_STEP_ENABLE;
    bits |= g->breakpoints.blocks_interrupts ? GDB_STEP_NO_INTERRUPTS | GDB_STEP_NO_TIMER : 0;
    g_autofree char *text = g_strdup_printf("0x%x", bits);
    gdb_send_text(g, text);
}

static void gdb_set_step(Gdb *g, const char *args)
{
    enter_main();
    enter_coroutine();
    uint64_t bits;
    bool can = arch_debug_can_block_interrupts(&g->vm->machine.kvm);
    rsp_take_text(&args, "0x");
    if (!rsp_take_number(&args, &bits) || *args != '\0' ||
        ((bits & GDB_STEP_NO_INTERRUPTS) != 0 && !can)) {
        gdb_send_malformed(g);
        return;
    }
    g->breakpoints.blocks_interrupts = (bits & GDB_STEP_NO_INTERRUPTS) != 0;
    gdb_send_ok(g);
}

/* ---- */

/* By prefix, the longer ones first; one that ends in a letter must match the whole packet. */
static const struct {
    const char *name;
    bool whole;
    void (*answer)(Gdb *g, const char *args); /* in a coroutine in main */
} gdb_queries[] = {
    {"qSupported", false, gdb_query_supported},
    {"QStartNoAckMode", true, gdb_query_no_ack},
    {"qAttached", false, gdb_query_attached},
    {"qC", true, gdb_query_current_thread},
    {"qfThreadInfo", true, gdb_query_first_threads},
    {"qsThreadInfo", true, gdb_query_next_threads},
    {"qThreadExtraInfo,", false, gdb_query_thread_extra},
    {"qXfer:features:read:", false, gdb_query_features},
    {"qXfer:threads:read:", false, gdb_query_threads_xml},
    {"qRcmd,", false, gdb_query_monitor},
    {"qqemu.Supported", true, gdb_query_qemu_supported},
    {"qqemu.PhyMemMode", true, gdb_query_physical},
    {"Qqemu.PhyMemMode:", false, gdb_set_physical},
    {"qqemu.sstepbits", true, gdb_query_step_bits},
    {"qqemu.sstep", true, gdb_query_step},
    {"Qqemu.sstep=", false, gdb_set_step},
};

void gdb_co_query(Gdb *g, const char *packet)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(gdb_queries); i++) {
        const char *args = packet;
        if (rsp_take_text(&args, gdb_queries[i].name) && (!gdb_queries[i].whole || *args == '\0')) {
            gdb_queries[i].answer(g, args);
            return;
        }
    }
    gdb_send_text(g, "");
}
