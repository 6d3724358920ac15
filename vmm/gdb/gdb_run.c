/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs and stops the guest for gdb. For the client it is in one of two states, which `resumed`
 * holds:
 *
 *            vCont, c, s                       T packet
 *   STOPPED -------------> RUNNING (resumed) ------------> STOPPED
 *
 * The VM is started and stopped by requests to the run state. A start may wait long in its queue
 * when storage hangs. A stop is reported when the vCPUs are parked, from within the transition, or
 * when it arrives while an operation has stopped the VM temporarily. An interrupt while the vCPUs
 * are parked is reported at once and revokes the start under way, which then finds every vCPU held.
 */
#include <string.h>
#include "vmm/gdb/gdb_int.h"

#define GDB_SETTLE_NS (INT64_C(3600) * 1000000000)

bool gdb_is_parked(const Gdb *g)
{
    RunPhase phase = g->vm->run.phase;
    return phase != RUN_RUNNING && phase != RUN_PARKING;
}

/* ---- requests and their effect ---- */

static void gdb_settle(void *opaque)
{
    enter_main();
    enter_coroutine();
    Gdb *g = opaque;
    unsigned seen;
    bool settled;
    do {
        seen = g->requests;
        settled = run_state_co_settle(&g->vm->run, GDB_SETTLE_NS);
    } while (!settled || seen != g->requests);
    g->settling = false;
    g->starting = false;
    g->session.revoked = false;
    g->session.interrupting = false;
    if (run_state_stays_stopped(&g->vm->run) && gdb_is_parked(g)) { /* a start was refused */
        g->stopped = true;
        gdb_kick(g);
    }
}

static void gdb_requested(Gdb *g)
{
    g->requests++;
    if (!g->settling) {
        g->settling = true;
        co_start(g->vm->ctx, gdb_settle, g);
    }
}

static RUNS_IN_MAIN void gdb_request_stop(Gdb *g)
{
    g->starting = false;
    run_state_request_stop(&g->vm->run, STOP_PAUSED);
    gdb_requested(g);
}

static RUNS_IN_MAIN void gdb_request_start(Gdb *g)
{
    g->starting = true;
    run_state_request_start(&g->vm->run);
    gdb_requested(g);
}

/* ---- announcements of the run state ---- */

static RUNS_IN_MAIN void gdb_hold_vcpus(Gdb *g)
{
    for (unsigned i = 0; i < vcpus_count(g->vm->machine.vcpus); i++) {
        vcpus_hold(g->vm->machine.vcpus, i, g->session.revoked || g->held[i]);
    }
}

/* A permanent stop: requested by the client, or not. */
static RUNS_IN_MAIN void gdb_note_stop(Gdb *g, StopReason reason)
{
    if (reason != STOP_DEBUG && !g->session.interrupting) {
        g->session.leave_running = false;
    }
    g->session.interrupting = false;
    g->session.revoked = false; /* any later start was requested after this stop */
    g->stopped = true;
    gdb_kick(g);
}

/* A temporary stop of an operation (a reset, a dump) is not reported. */
static void gdb_run_changed(VmListener *l, RunPhase phase, StopReason reason)
{
    enter_main();
    Gdb *g = (Gdb *)((char *)l - offsetof(Gdb, listener));
    bool stays = run_state_stays_stopped(&g->vm->run);
    if (phase == RUN_RUNNING) {
        gdb_hold_vcpus(g);
    } else if (phase == RUN_BACKENDS_STOPPING && stays) {
        g->stop_noted = true;
        gdb_note_stop(g, reason);
    } else if (phase == RUN_STOPPED && g->stop_noted) {
        g->stop_noted = false;
    } else if (phase == RUN_STOPPED && stays) {
        gdb_note_stop(g, reason);
    }
}

static void gdb_vm_reset(VmListener *l, VmCause cause)
{
    enter_main();
    Gdb *g = (Gdb *)((char *)l - offsetof(Gdb, listener));
    gdb_breakpoints_reset(&g->breakpoints);
}

static void gdb_memory_used(VmListener *l, bool begin)
{
    enter_main();
    Gdb *g = (Gdb *)((char *)l - offsetof(Gdb, listener));
    if (begin) {
        gdb_breakpoints_lift(&g->breakpoints);
    } else {
        gdb_breakpoints_plant(&g->breakpoints);
    }
}

void gdb_run_init(Gdb *g)
{
    g->listener = (VmListener){
        .run_changed = gdb_run_changed, .reset = gdb_vm_reset, .memory_used = gdb_memory_used};
    vm_listen(g->vm, &g->listener);
}

/* ---- reports ---- */

static int gdb_reason_signal(StopReason reason)
{
    switch (reason) {
    case STOP_DEBUG:
        return GDB_SIGNAL_TRAP;
    case STOP_SHUTDOWN:
        return GDB_SIGNAL_QUIT;
    case STOP_IO_ERROR:
        return GDB_SIGNAL_IO;
    case STOP_WATCHDOG:
        return GDB_SIGNAL_ALRM;
    case STOP_INTERNAL_ERROR:
    case STOP_GUEST_PANICKED:
        return GDB_SIGNAL_ABRT;
    default:
        return GDB_SIGNAL_INT;
    }
}

static void gdb_put_reason(const Gdb *g, GString *s, const GdbStop *stop)
{
    static const char *const watches[] = {
        [GDB_WATCH_WRITE] = "watch", [GDB_WATCH_READ] = "rwatch", [GDB_WATCH_ACCESS] = "awatch"};
    if (stop->kind == GDB_STOP_WATCH) {
        g_string_append_printf(s, "%s:%" G_GINT64_MODIFIER "x;", watches[stop->type],
                               stop->address);
    } else if (stop->kind == GDB_STOP_SOFTWARE && g->session.wants_reasons) {
        g_string_append(s, "swbreak:;");
    } else if (stop->kind == GDB_STOP_HARDWARE && g->session.wants_reasons) {
        g_string_append(s, "hwbreak:;");
    }
}

static RUNS_IN_MAIN void gdb_send_stop(Gdb *g, int signal, const GdbStop *stop)
{
    g_autoptr(GString) s = g_string_new(NULL);
    g_string_printf(s, "T%02xthread:%02x;", (unsigned)signal, g->session.cpu + 1);
    gdb_put_reason(g, s, stop);
    gdb_send(g, s->str, s->len);
}

/* Clears all steps and holds, for whatever starts the VM next. */
static RUNS_IN_MAIN void gdb_clear_actions(Gdb *g)
{
    for (unsigned i = 0; i < vcpus_count(g->vm->machine.vcpus); i++) {
        gdb_breakpoints_set_step(&g->breakpoints, i, false);
        g->held[i] = false;
    }
}

void gdb_report_stop(Gdb *g)
{
    GdbStop stop = {0};
    if (!g->session.resumed || !gdb_is_parked(g)) {
        return;
    }
    g->session.resumed = false;
    gdb_clear_actions(g);
    if (gdb_breakpoints_take_stop(&g->breakpoints, &g->session.cpu, &stop)) {
        gdb_send_stop(g, GDB_SIGNAL_TRAP, &stop);
    } else {
        gdb_send_stop(g, gdb_reason_signal(g->vm->run.reason), &stop);
    }
}

void gdb_query_stop(Gdb *g)
{
    g->session.resumed = true;
    gdb_report_stop(g); /* otherwise when it has stopped */
}

/* ---- running ---- */

/* A start that is pending or under way applies the new holds. */
void gdb_resume(Gdb *g, const GdbAction *actions)
{
    run_state_set_debugged(&g->vm->run, true); /* again, after a detach */
    g->session.resumed = true;
    g->session.leave_running = true;
    g->stopped = false;
    /* two vCPUs hit watchpoints at the same time */
    if (gdb_breakpoints_has_stop(&g->breakpoints)) {
        gdb_report_stop(g);
        return;
    }
    if (!gdb_is_parked(g)) { /* it was started by another client */
        return;
    }
    for (unsigned i = 0; i < vcpus_count(g->vm->machine.vcpus); i++) {
        gdb_breakpoints_set_step(&g->breakpoints, i, actions[i] == GDB_STEP);
        g->held[i] = actions[i] == GDB_HOLD;
    }
    g->session.revoked = false;
    gdb_request_start(g);
}

void gdb_interrupt(Gdb *g)
{
    if (!g->session.connected || !g->session.resumed) {
        return;
    }
    g->session.interrupting = true;
    gdb_request_stop(g);
    if (gdb_is_parked(g)) {
        g->session.revoked = true;
        gdb_report_stop(g);
    }
}

/* ---- packets ---- */

/* The first action that names a thread applies to it; one without threads applies to all others. */
static RUNS_IN_MAIN bool gdb_take_action(Gdb *g, const char **at, GdbAction *actions, bool *decided)
{
    char c = **at;
    uint64_t signal;
    RspThread thread = {.all = true};
    if (strchr("cCsS", c) == NULL || c == '\0') {
        return false;
    }
    ++*at;
    if ((c == 'C' || c == 'S') && !rsp_take_number(at, &signal)) { /* the guest has no signals */
        return false;
    }
    if (rsp_take_char(at, ':') && !rsp_take_thread(at, &thread)) {
        return false;
    }
    unsigned one = 0;
    if (!thread.all && !gdb_find_cpu(g, &thread, g->session.run_cpu, &one)) {
        return false;
    }
    for (unsigned i = 0; i < vcpus_count(g->vm->machine.vcpus); i++) {
        if (!decided[i] && (thread.all || i == one)) {
            actions[i] = c == 'c' || c == 'C' ? GDB_CONTINUE : GDB_STEP;
            decided[i] = true;
        }
    }
    return **at == '\0' || **at == ';';
}

void gdb_vcont(Gdb *g, const char *args)
{
    unsigned count = vcpus_count(g->vm->machine.vcpus);
    g_autofree GdbAction *actions = g_new0(GdbAction, count);
    g_autofree bool *decided = g_new0(bool, count);
    bool any = false;
    while (rsp_take_char(&args, ';')) {
        if (!gdb_take_action(g, &args, actions, decided)) {
            gdb_send_malformed(g);
            return;
        }
        any = true;
    }
    if (!any || *args != '\0') {
        gdb_send_malformed(g);
        return;
    }
    gdb_resume(g, actions);
}

static void gdb_set_pc_in_vcpu(Vcpu *v, void *opaque)
{
    enter_vcpu();
    arch_gdb_set_pc(vcpu_fd(v), *(uint64_t *)opaque);
}

void gdb_co_run_classic(Gdb *g, bool step, const char *args)
{
    unsigned count = vcpus_count(g->vm->machine.vcpus);
    g_autofree GdbAction *actions = g_new0(GdbAction, count);
    uint64_t pc;
    if (*args != '\0') {
        if (!rsp_take_number(&args, &pc) || *args != '\0') {
            gdb_send_malformed(g);
            return;
        }
        vcpus_co_call(g->vm->machine.vcpus, g->session.run_cpu, gdb_set_pc_in_vcpu, &pc);
    }
    for (unsigned i = 0; i < count; i++) {
        bool mine = i == g->session.run_cpu;
        actions[i] = step && mine                  ? GDB_STEP
                     : g->session.run_one && !mine ? GDB_HOLD
                                                   : GDB_CONTINUE;
    }
    gdb_resume(g, actions);
}

/* ---- connect and disconnect ---- */

void gdb_run_enter(Gdb *g)
{
    g->session.leave_running = g->vm->run.run_requested || g->starting;
    g->session.interrupting = true;
    run_state_set_debugged(&g->vm->run, true);
    gdb_request_stop(g); /* even if stopped: the previous client may have requested a start */
}

/* A vCPU held while others run is released by a stop and a start. */
static RUNS_IN_MAIN bool gdb_holds_vcpus(const Gdb *g)
{
    bool holds = false;
    for (unsigned i = 0; i < vcpus_count(g->vm->machine.vcpus); i++) {
        holds |= g->held[i];
    }
    return holds;
}

static coroutine_fn RUNS_IN_MAIN void gdb_co_release_guest(Gdb *g, bool run)
{
    bool stop = !gdb_is_parked(g) && gdb_holds_vcpus(g);
    run_state_set_debugged(&g->vm->run, false);
    gdb_clear_actions(g);
    gdb_breakpoints_co_remove_all(&g->breakpoints);
    g->session.resumed = false;
    if (stop) {
        gdb_request_stop(g);
    }
    if (run || stop) {
        g->session.revoked = false;
        gdb_request_start(g);
    }
}

void gdb_co_run_leave(Gdb *g)
{
    if (g->vm->life.quitting) {
        return;
    }
    gdb_co_release_guest(g, g->session.leave_running);
}

void gdb_co_detach(Gdb *g)
{
    gdb_co_release_guest(g, true);
    gdb_send_ok(g);
}
