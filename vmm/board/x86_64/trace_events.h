/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events of the board. */
#ifndef SKIFF_VMM_BOARD_X86_64_TRACE_EVENTS_H
#define SKIFF_VMM_BOARD_X86_64_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(pit_created, (bool ok), "ok=%d", ok)

#endif
