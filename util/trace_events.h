/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SKIFF_UTIL_TRACE_EVENTS_H
#define SKIFF_UTIL_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(job_status, (const char *id, const char *from, const char *to), "id=%s from=%s to=%s",
            id, from, to)
TRACE_EVENT(job_verb, (const char *id, const char *verb, bool legal), "id=%s verb=%s legal=%d", id,
            verb, legal)
TRACE_EVENT(job_data_step, (const char *id, int ret), "id=%s ret=%d", id, ret)

#endif
