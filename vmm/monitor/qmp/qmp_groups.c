/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups in the groups that qmp_setup() registered. */
#include <assert.h>
#include <string.h>
#include "vmm/monitor/qmp/qmp_schema.h"

static const QmpGroup *const *qmp_groups_set;

void qmp_setup(const QmpGroup *const groups[])
{
    qmp_groups_set = groups;
}

void qmp_command_foreach(void (*fn)(const QmpCommand *c, void *opaque), void *opaque)
{
    assert(qmp_groups_set != NULL);
    for (const QmpGroup *const *group = qmp_groups_set; *group != NULL; group++) {
        for (const QmpCommand *c = (*group)->commands; c->name != NULL; c++) {
            fn(c, opaque);
        }
    }
}

void qmp_event_foreach(void (*fn)(const QmpEvent *e, void *opaque), void *opaque)
{
    assert(qmp_groups_set != NULL);
    for (const QmpGroup *const *group = qmp_groups_set; *group != NULL; group++) {
        for (const QmpEvent *e = (*group)->events; e->name != NULL; e++) {
            fn(e, opaque);
        }
    }
}

const QmpCommand *qmp_command_find(const char *name)
{
    assert(qmp_groups_set != NULL);
    for (const QmpGroup *const *group = qmp_groups_set; *group != NULL; group++) {
        for (const QmpCommand *c = (*group)->commands; c->name != NULL; c++) {
            if (strcmp(c->name, name) == 0) {
                return c;
            }
        }
    }
    return NULL;
}

const QmpEvent *qmp_event_find(const char *name)
{
    assert(qmp_groups_set != NULL);
    for (const QmpGroup *const *group = qmp_groups_set; *group != NULL; group++) {
        for (const QmpEvent *e = (*group)->events; e->name != NULL; e++) {
            if (strcmp(e->name, name) == 0) {
                return e;
            }
        }
    }
    return NULL;
}
