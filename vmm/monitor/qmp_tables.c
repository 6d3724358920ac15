/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/qmp_tables.h"

#include <string.h>

#define QMP_GROUP_COMMANDS(group) qmp_##group##_commands,
#define QMP_GROUP_EVENTS(group) qmp_##group##_events,

const QmpCommand *const qmp_command_tables[] = {QMP_GROUPS(QMP_GROUP_COMMANDS) NULL};
const QmpEvent *const qmp_event_tables[] = {QMP_GROUPS(QMP_GROUP_EVENTS) NULL};

void qmp_command_foreach(void (*fn)(const QmpCommand *c, void *opaque), void *opaque)
{
    for (const QmpCommand *const *table = qmp_command_tables; *table != NULL; table++) {
        for (const QmpCommand *c = *table; c->name != NULL; c++) {
            fn(c, opaque);
        }
    }
}

void qmp_event_foreach(void (*fn)(const QmpEvent *e, void *opaque), void *opaque)
{
    for (const QmpEvent *const *table = qmp_event_tables; *table != NULL; table++) {
        for (const QmpEvent *e = *table; e->name != NULL; e++) {
            fn(e, opaque);
        }
    }
}

const QmpCommand *qmp_command_find(const char *name)
{
    for (const QmpCommand *const *table = qmp_command_tables; *table != NULL; table++) {
        for (const QmpCommand *c = *table; c->name != NULL; c++) {
            if (strcmp(c->name, name) == 0) {
                return c;
            }
        }
    }
    return NULL;
}

const QmpEvent *qmp_event_find(const char *name)
{
    for (const QmpEvent *const *table = qmp_event_tables; *table != NULL; table++) {
        for (const QmpEvent *e = *table; e->name != NULL; e++) {
            if (strcmp(e->name, name) == 0) {
                return e;
            }
        }
    }
    return NULL;
}
