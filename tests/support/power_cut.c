/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/power_cut.h"
#include <string.h>

static const BlockMemRecord *cut_record(const BlockMemJournal *journal, unsigned i)
{
    return &g_array_index(journal->records, BlockMemRecord, i);
}

/* The number of records that the flushes among the first @cut made durable. */
static unsigned cut_durable(const BlockMemJournal *journal, unsigned cut)
{
    unsigned durable = 0;
    for (unsigned i = 0; i < cut; i++) {
        const BlockMemRecord *r = cut_record(journal, i);
        if (r->op == BLOCK_MEM_FLUSH) {
            durable = MAX(durable, r->covers);
        }
    }
    return durable;
}

static void cut_resize(PowerCut *disk, uint64_t size)
{
    disk->bytes = g_realloc(disk->bytes, size);
    if (size > disk->size) {
        memset(disk->bytes + disk->size, 0, size - disk->size);
    }
    disk->size = size;
}

static void cut_write(PowerCut *disk, const BlockMemRecord *r, GRand *rand)
{
    for (uint64_t done = 0; done < r->bytes;) {
        uint64_t at = r->offset + done;
        uint64_t length = MIN(POWER_CUT_SECTOR - at % POWER_CUT_SECTOR, r->bytes - done);
        bool lost = rand != NULL && g_rand_boolean(rand);
        if (!lost && at + length <= disk->size) {
            if (r->data != NULL) {
                memcpy(disk->bytes + at, r->data + done, length);
            } else {
                memset(disk->bytes + at, 0, length);
            }
        }
        done += length;
    }
}

PowerCut power_cut_at(const uint8_t *initial, uint64_t size, const BlockMemJournal *journal,
                      unsigned cut, GRand *rand)
{
    PowerCut disk = {.bytes = g_memdup2(initial, size), .size = size};
    unsigned durable = cut_durable(journal, cut);
    for (unsigned i = 0; i < cut; i++) {
        const BlockMemRecord *r = cut_record(journal, i);
        GRand *doubt = i < durable || r->fua ? NULL : rand;
        if (r->op == BLOCK_MEM_WRITE) {
            cut_write(&disk, r, doubt);
        } else if (r->op == BLOCK_MEM_TRUNCATE && (doubt == NULL || g_rand_boolean(doubt))) {
            cut_resize(&disk, r->bytes);
        }
    }
    return disk;
}

void power_cut_free(PowerCut *disk)
{
    g_clear_pointer(&disk->bytes, g_free);
}
