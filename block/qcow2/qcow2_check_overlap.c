/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata that something else refers to: a write to the one would destroy the other. QEMU finds it by
 * the refcounts, if they are those of an image without the overlap. Here it is found, too, if they
 * count all references.
 */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"

int qcow2_check_mark_metadata(Qcow2Check *c, uint64_t offset, uint64_t bytes)
{
    unsigned bits = c->header.cluster_bits;
    if (bytes == 0 || offset >= c->file_size || bytes > c->file_size) {
        return 0; /* reported where it is counted */
    }
    uint64_t end = MIN(((offset + bytes - 1) >> bits) + 1, c->metadata.size);
    for (uint64_t i = offset >> bits; i < end; i++) {
        if (!qcow2_counts_set(c, &c->metadata, i, 1)) {
            return -ENOMEM;
        }
    }
    return 0;
}

void qcow2_check_report_overlap(Qcow2Check *c, uint64_t cluster)
{
    uint32_t references = qcow2_counts_get(&c->counts, cluster);
    uint32_t tables = qcow2_counts_get(&c->l2_tables, cluster);
    bool is_l2 = tables != 0 && references < c->counts.max;
    if (references > 1 &&
        (qcow2_counts_get(&c->metadata, cluster) != 0 || (is_l2 && tables != references))) {
        qcow2_check_report(c,
                           "ERROR cluster %" PRIu64 " has metadata and is used for something else, "
                           "reference=%" PRIu32,
                           cluster, references);
        c->overlaps++;
    }
}

void qcow2_check_overlaps(Qcow2Check *c)
{
    for (uint64_t i = qcow2_counts_next(&c->counts, 0); i < c->clusters;
         i = qcow2_counts_next(&c->counts, i + 1)) {
        qcow2_check_report_overlap(c, i);
    }
}
