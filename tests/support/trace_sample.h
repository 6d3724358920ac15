/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events for tests/util/test_trace.c, declared the way a folder declares its own. */
#ifndef SKIFF_TESTS_SUPPORT_TRACE_SAMPLE_H
#define SKIFF_TESTS_SUPPORT_TRACE_SAMPLE_H

#include "util/trace.h"

TRACE_EVENT(sample_submit, (const char *dev, uint64_t sector), "dev=%s sector=%" PRIu64, dev,
            sector)
TRACE_EVENT(sample_complete, (int ret), "ret=%d", ret)
TRACE_EVENT(other_idle, (void), "nothing to do")

/* Emits sample_complete from a file other than the test's. */
void trace_sample_complete_elsewhere(int ret);

#endif
