/* SPDX-License-Identifier: Apache-2.0 */
/* gdb's packets. An unsupported one is answered by an empty packet, as the protocol requires. */
#include <string.h>
#include "vmm/gdb/gdb_int.h"

void gdb_send_ok(Gdb *g)
{
    gdb_send_text(g, "OK");
}

void gdb_send_malformed(Gdb *g)
{
    gdb_send_text(g, "E22");
}

void gdb_send_error(Gdb *g, GError *error)
{
    g_autofree char *text = g_strdup_printf("E.%s", error->message);
    gdb_send_text(g, text);
    g_error_free(error);
}

bool gdb_find_cpu(const Gdb *g, const RspThread *thread, unsigned any, unsigned *cpu)
{
    if (thread->any || thread->all) {
        *cpu = any;
        return true;
    }
    if (thread->id < 1 || thread->id > vcpus_count(g->vm->machine.vcpus)) {
        return false;
    }
    *cpu = (unsigned)thread->id - 1;
    return true;
}

/* ---- registers ---- */

typedef struct GdbRegisters {
    bool all, write;
    unsigned number;
    uint8_t bytes[ARCH_GDB_REGISTERS_MAX];
    GError *error;
} GdbRegisters;

static void gdb_registers_in_vcpu(Vcpu *v, void *opaque)
{
    enter_vcpu();
    GdbRegisters *r = opaque;
    int fd = vcpu_fd(v);
    if (r->all) {
        (void)(r->write ? arch_gdb_write_registers(fd, r->bytes, &r->error)
                        : arch_gdb_read_registers(fd, r->bytes, &r->error));
    } else {
        (void)(r->write ? arch_gdb_write_register(fd, r->number, r->bytes, &r->error)
                        : arch_gdb_read_register(fd, r->number, r->bytes, &r->error));
    }
}

static size_t gdb_registers_size(const GdbRegisters *r)
{
    if (!r->all) {
        return arch_gdb_register_size(r->number);
    }
    size_t size = 0;
    for (unsigned i = 0; i < arch_gdb_register_count(); i++) {
        size += arch_gdb_register_size(i);
    }
    return size;
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_registers(Gdb *g, GdbRegisters *r)
{
    vcpus_co_call(g->vm->machine.vcpus, g->session.cpu, gdb_registers_in_vcpu, r);
    if (r->error != NULL) {
        gdb_send_error(g, r->error);
    } else if (r->write) {
        gdb_send_ok(g);
    } else {
        g_autoptr(GString) s = g_string_new(NULL);
        rsp_put_hex(s, r->bytes, gdb_registers_size(r));
        gdb_send(g, s->str, s->len);
    }
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_all_registers(Gdb *g, bool write, const char *args)
{
    GdbRegisters r = {.all = true, .write = write};
    if ((write && !rsp_take_bytes(&args, r.bytes, gdb_registers_size(&r))) || *args != '\0') {
        gdb_send_malformed(g);
        return;
    }
    gdb_co_registers(g, &r);
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_one_register(Gdb *g, bool write, const char *args)
{
    GdbRegisters r = {.write = write};
    uint64_t number;
    if (!rsp_take_number(&args, &number) || number >= arch_gdb_register_count()) {
        gdb_send_malformed(g);
        return;
    }
    r.number = (unsigned)number;
    if (write && (!rsp_take_char(&args, '=') ||
                  !rsp_take_bytes(&args, r.bytes, arch_gdb_register_size(r.number)))) {
        gdb_send_malformed(g);
        return;
    }
    if (*args != '\0') {
        gdb_send_malformed(g);
        return;
    }
    gdb_co_registers(g, &r);
}

/* ---- threads ---- */

static RUNS_IN_MAIN void gdb_set_thread(Gdb *g, const char *args)
{
    bool run = rsp_take_char(&args, 'c');
    RspThread thread;
    unsigned cpu;
    if ((!run && !rsp_take_char(&args, 'g')) || !rsp_take_thread(&args, &thread) || *args != '\0' ||
        !gdb_find_cpu(g, &thread, g->session.cpu, &cpu)) {
        gdb_send_malformed(g);
        return;
    }
    if (run) {
        g->session.run_cpu = cpu;
        g->session.run_one = !thread.all && !thread.any;
    } else {
        g->session.cpu = cpu;
    }
    gdb_send_ok(g);
}

static RUNS_IN_MAIN void gdb_query_thread(Gdb *g, const char *args)
{
    RspThread thread;
    unsigned cpu;
    if (!rsp_take_thread(&args, &thread) || !gdb_find_cpu(g, &thread, 0, &cpu)) {
        gdb_send_malformed(g);
        return;
    }
    gdb_send_ok(g);
}

/* ---- breakpoints ---- */

/* "TYPE,ADDRESS,KIND"; KIND is the size of the watched range. */
static coroutine_fn RUNS_IN_MAIN void gdb_co_breakpoint(Gdb *g, bool insert, const char *args)
{
    uint64_t type, address, kind;
    if (!rsp_take_number(&args, &type) || !rsp_take_char(&args, ',') ||
        !rsp_take_number(&args, &address) || !rsp_take_char(&args, ',') ||
        !rsp_take_number(&args, &kind) || (*args != '\0' && *args != ';')) {
        gdb_send_malformed(g);
        return;
    }
    if (type >= GDB_BREAKPOINT_TYPES) {
        gdb_send_text(g, "");
        return;
    }
    GError *error = NULL;
    if (!insert) {
        gdb_breakpoints_co_remove(&g->breakpoints, (GdbBreakpointType)type, address, kind);
    } else if (!gdb_breakpoints_co_insert(&g->breakpoints, (GdbBreakpointType)type, address, kind,
                                          g->session.cpu, g->session.physical, &error)) {
        gdb_send_error(g, error);
        return;
    }
    gdb_send_ok(g);
}

/* ---- the rest ---- */

static coroutine_fn RUNS_IN_MAIN void gdb_co_signalled(Gdb *g, bool step, const char *args)
{
    uint64_t signal; /* the guest has no signals */
    if (!rsp_take_number(&args, &signal) || (*args != '\0' && !rsp_take_char(&args, ';'))) {
        gdb_send_malformed(g);
        return;
    }
    gdb_co_run_classic(g, step, args);
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_verbose(Gdb *g, const char *packet)
{
    const char *args = packet;
    if (strcmp(packet, "vCont?") == 0) {
        gdb_send_text(g, "vCont;c;C;s;S");
    } else if (rsp_take_text(&args, "vCont")) {
        gdb_vcont(g, args);
    } else if (rsp_take_text(&args, "vKill")) {
        gdb_send_ok(g);
        vm_quit(g->vm, EXIT_STATUS_OK);
    } else {
        gdb_send_text(g, "");
    }
}

void gdb_co_execute(Gdb *g)
{
    const char *packet = g->reader.payload, *args = packet + 1;
    switch (packet[0]) {
    case '?':
        gdb_query_stop(g);
        break;
    case 'c':
    case 's':
        gdb_co_run_classic(g, packet[0] == 's', args);
        break;
    case 'C':
    case 'S':
        gdb_co_signalled(g, packet[0] == 'S', args);
        break;
    case 'D':
        gdb_co_detach(g);
        break;
    case 'g':
    case 'G':
        gdb_co_all_registers(g, packet[0] == 'G', args);
        break;
    case 'H':
        gdb_set_thread(g, args);
        break;
    case 'k':
        vm_quit(g->vm, EXIT_STATUS_OK);
        break;
    case 'm':
    case 'x':
        gdb_co_read_memory(g, packet[0] == 'x', args);
        break;
    case 'M':
        gdb_co_write_memory(g, args);
        break;
    case 'p':
    case 'P':
        gdb_co_one_register(g, packet[0] == 'P', args);
        break;
    case 'q':
    case 'Q':
        gdb_co_query(g, packet);
        break;
    case 'T':
        gdb_query_thread(g, args);
        break;
    case 'v':
        gdb_co_verbose(g, packet);
        break;
    case 'X':
        gdb_co_write_binary(g, args);
        break;
    case 'z':
    case 'Z':
        gdb_co_breakpoint(g, packet[0] == 'Z', args);
        break;
    default:
        gdb_send_text(g, "");
        break;
    }
}
