/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/irq.h"

void irq_gate_init(IrqGate *gate, const Machine *machine, unsigned gsi)
{
    rank_mutex_init(&gate->lock, RANK_QUEUE, "irq gate");
    gate->machine = machine;
    gate->gsi = gsi;
    gate->asserted = 0;
}

void irq_line_init(IrqLine *line, IrqGate *gate)
{
    line->gate = gate;
    line->level = false;
}

/* Sets the line's level, and the GSI's when the OR of all lines changes. Under the gate's lock. */
static void irq_line_apply(IrqLine *line, bool level)
{
    IrqGate *gate = line->gate;
    if (level == line->level) {
        return;
    }
    line->level = level;
    if (level) {
        gate->asserted++;
    } else {
        g_assert(gate->asserted > 0);
        gate->asserted--;
    }
    bool changed = gate->asserted == (level ? 1 : 0);
    if (changed) {
        gate->machine->ops->set_gsi(gate->machine->opaque, gate->gsi, level);
    }
}

void irq_line_set(IrqLine *line, bool level)
{
    if (line->gate == NULL) {
        return;
    }
    rank_mutex_lock(&line->gate->lock);
    irq_line_apply(line, level);
    rank_mutex_unlock(&line->gate->lock);
}

void irq_line_update(IrqLine *line, bool (*cause)(void *opaque), void *opaque)
{
    if (line->gate == NULL) {
        return;
    }
    rank_mutex_lock(&line->gate->lock);
    irq_line_apply(line, cause(opaque));
    rank_mutex_unlock(&line->gate->lock);
}
