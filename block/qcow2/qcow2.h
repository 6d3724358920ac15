/* SPDX-License-Identifier: Apache-2.0 */
/* What a file contains, from its first bytes. The functions keep no state. */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_H
#define SKIFF_BLOCK_QCOW2_QCOW2_H

#include "block/block.h"

/* The format of the first @length bytes of a file, as far as skiff recognizes it: "qcow2", the name
 * of a format that skiff does not support ("vmdk", "luks", ...), or "raw" for everything else.
 * @length of QCOW2_PROBE_LENGTH is enough. */
#define QCOW2_PROBE_LENGTH 512u
const char *qcow2_probe(const uint8_t *bytes, size_t length) ANY_THREAD;
/* Whether qcow2_probe() returned a format that skiff can open. */
bool qcow2_probe_supported(const char *format) ANY_THREAD;
/* Reads the first bytes of @n and stores their format, a string constant, in *@format. 0 or -errno;
 * then *@format means nothing. */
int qcow2_co_probe_node(BlockNode *n, const char **format) coroutine_fn RUNS_IN_MAIN;

#endif
