/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a request that run at the same time: (de)compression of its clusters. */
#include "block/qcow2/qcow2_int.h"

void qcow2_parts_co_begin(Qcow2Parts *p)
{
    if (p->running == 0) {
        co_queue_init(&p->waiters);
    }
    while (p->running >= QCOW2_PARTS_MAX) {
        co_queue_wait(&p->waiters, "other parts of a request to a qcow2 image");
    }
    p->running++;
}

void qcow2_part_end(Qcow2Parts *p, int ret)
{
    p->running--;
    p->ret = p->ret < 0 ? p->ret : ret;
    co_queue_wake_one(&p->waiters);
}

int qcow2_parts_co_wait(Qcow2Parts *p, int ret)
{
    while (p->running > 0) {
        co_queue_wait(&p->waiters, "all parts of a request to a qcow2 image");
    }
    return ret < 0 ? ret : p->ret;
}
