/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions of the human monitor: integers of 64 bits that wrap around.
 *
 *   number       decimal, 0x hex, 0 octal; 'c' is a character's code
 *   $name        a register of the selected vCPU: $rip, $pc, $rsp, $rax, $cr3, ...
 *   ( ) - + ~ !  * / %  + -  & | ^    in order of precedence, highest first; operators of one level
 *                                     bind from left to right
 */
#ifndef SKIFF_VMM_MONITOR_HMP_HMP_EXPR_H
#define SKIFF_VMM_MONITOR_HMP_HMP_EXPR_H

#include "vmm/monitor/hmp/hmp_int.h"

/* Evaluates the longest expression at *@at and advances *@at past it. If @more words may follow, an
 * operator with a blank before it and none after it begins the next word: `memsave 0 16 /tmp/file`
 * has no division. Returns false and sets @error on failure. */
bool hmp_co_expr(HmpCall *call, const char **at, bool more, uint64_t *value, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
