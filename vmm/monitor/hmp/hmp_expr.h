/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions of the human monitor: integers of 64 bits that wrap around.
 *
 *   number       decimal, 0x hex, 0 octal; 'c' is a character's code
 *   $name        a register of the vCPU that commands look at: $rip, $pc, $rsp, $rax, $cr3, ...
 *   ( ) - + ~ !  * / %  + -  & | ^    with this binding, tightest first; the operators of one level
 *                                     from left to right
 */
#ifndef SKIFF_VMM_MONITOR_HMP_HMP_EXPR_H
#define SKIFF_VMM_MONITOR_HMP_HMP_EXPR_H

#include "vmm/monitor/hmp/hmp_int.h"

/* Reads the longest expression at *@at, which it advances. With @more words to come, an operator
 * that has a blank before and none behind is the beginning of the next: in `memsave 0 16 /tmp/file`
 * there is no division. False + error. */
bool hmp_co_expr(HmpCall *call, const char **at, bool more, uint64_t *value, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
