/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images for programs that make and check them.
 *
 * The functions are coroutines in the home of the nodes given; they count as activity of a request
 * or job of the caller. Errors are one line that names the image.
 */
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

#endif
