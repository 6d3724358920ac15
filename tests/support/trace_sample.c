/* SPDX-License-Identifier: Apache-2.0 */
#define TRACE_EVENTS_DEFINE
#include "tests/support/trace_sample.h"

void trace_sample_complete_elsewhere(int ret)
{
    trace_sample_complete(ret);
}
