/* SPDX-License-Identifier: Apache-2.0 */
/* The disks that a power cut can leave, from what a mem node recorded. */
#ifndef SKIFF_TESTS_SUPPORT_POWER_CUT_H
#define SKIFF_TESTS_SUPPORT_POWER_CUT_H

#include "block/driver/mem.h"

#define POWER_CUT_SECTOR 512u /* written as a whole or not at all */

typedef struct PowerCut {
    uint8_t *bytes; /* owned */
    uint64_t size;
} PowerCut;

/*
 * The disk after a cut behind the first @cut records of @journal. It began with the @size bytes of
 * @initial. Without @rand all @cut records took effect. With it, of those that no flush among them
 * covers, each sector of a write, and each truncation, took effect or not, as @rand says; what did
 * is in the recorded order. Free with power_cut_free().
 */
PowerCut power_cut_at(const uint8_t *initial, uint64_t size, const BlockMemJournal *journal,
                      unsigned cut, GRand *rand) ANY_THREAD;
void power_cut_free(PowerCut *disk) ANY_THREAD;

#endif
