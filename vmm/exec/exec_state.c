/* SPDX-License-Identifier: Apache-2.0 */
/* What a saved machine has of -exec: how far the conversation with the agent has come. */
#include <string.h>
#include "util/opts/opts.h"
#include "vmm/exec/exec_int.h"

static bool exec_check_saved(const void *state, GError **error)
{
    const ExecSaved *s = state;
    if (s->partial_count != 0 && s->phase != EXEC_PHASE_WAITING) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                    "a part of a greeting after the greeting");
        return false;
    }
    return true;
}

static const StateField exec_fields[] = {
    STATE_FIELD_MAX(ExecSaved, STATE_U8, phase, EXEC_PHASE_BUSY),
    STATE_FIELD(ExecSaved, STATE_BOOL, open),
    STATE_FIELD(ExecSaved, STATE_BOOL, powers_off),
    STATE_FIELD_MAX(ExecSaved, STATE_U8, partial_count, EXEC_PARTIAL_BYTES),
    STATE_ARRAY(ExecSaved, STATE_U8, partial),
    {0}};

const StateDesc exec_state_desc = {.name = "exec",
                                   .version = 1,
                                   .min_version = 1,
                                   .struct_size = sizeof(ExecSaved),
                                   .fields = exec_fields,
                                   .check = exec_check_saved};

static ExecPhase exec_phase(const Exec *e)
{
    if (e->state == EXEC_STATE_WAITING && e->parser.have <= EXEC_PARTIAL_BYTES) {
        return EXEC_PHASE_WAITING;
    }
    bool unsent = e->state == EXEC_STATE_READY || (e->state == EXEC_STATE_RUNNING && e->send_run);
    return unsent && e->parser.have == 0 ? EXEC_PHASE_READY : EXEC_PHASE_BUSY;
}

void exec_save(const Exec *e, ExecSaved *s)
{
    *s = (ExecSaved){.phase = (uint8_t)exec_phase(e), .open = e->open};
    if (s->phase == EXEC_PHASE_READY) {
        s->powers_off = e->powers_off;
    }
    if (s->phase == EXEC_PHASE_WAITING) {
        s->partial_count = (uint8_t)e->parser.have;
        memcpy(s->partial, e->parser.bytes, e->parser.have);
    }
}

static bool exec_refuse(GError **error, const char *why)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-exec: %s", why);
    return false;
}

bool exec_check_load(const Exec *e, const ExecSaved *s, GError **error)
{
    if (e->config.command == NULL) {
        return true;
    }
    if (e->state != EXEC_STATE_WAITING) {
        return exec_refuse(error, "the command is running, and cannot go back");
    }
    if (s == NULL) {
        return exec_refuse(error, "the state does not say what the guest's agent does");
    }
    return s->phase != EXEC_PHASE_BUSY ||
           exec_refuse(error, "the guest's agent was running a command when the machine was saved; "
                              "it takes one only "
                              "before: save the machine with -exec-port in place of -exec");
}

void exec_load(Exec *e, const ExecSaved *s)
{
    static const ExecSaved unknown = {.phase = EXEC_PHASE_BUSY};

    s = s != NULL ? s : &unknown;
    e->open = s->open;
    e->state = EXEC_STATE_WAITING;
    e->has_agent = false;
    exec_parser_reset(&e->parser);
    memcpy(e->parser.bytes, s->partial, s->partial_count);
    e->parser.have = s->partial_count;
    exec_port_hang_up(e, s->phase == EXEC_PHASE_BUSY && s->open);
    if (s->phase == EXEC_PHASE_READY) {
        e->powers_off = s->powers_off;
        exec_serve(e);
    } else if (s->phase == EXEC_PHASE_BUSY) {
        e->state = EXEC_STATE_LOST;
    }
}
