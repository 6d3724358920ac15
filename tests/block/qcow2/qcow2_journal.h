/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests that cut the power: how much a mem node in the home has recorded. */
#ifndef SKIFF_TESTS_BLOCK_QCOW2_QCOW2_JOURNAL_H
#define SKIFF_TESTS_BLOCK_QCOW2_QCOW2_JOURNAL_H

#include "block/driver/mem.h"
#include "tests/block/block_test.h"

typedef struct JournalCount {
    const BlockMemJournal *journal;
    unsigned records;
} JournalCount;

static inline void journal_count_at_home(void *opaque)
{
    JournalCount *c = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    c->records = c->journal->records->len;
}

static inline coroutine_fn RUNS_IN_MAIN unsigned journal_records(const BlockMemJournal *journal)
{
    JournalCount c = {.journal = journal};
    test_in_home(journal_count_at_home, &c);
    return c.records;
}

#endif
