/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mem driver: a disk in memory. In tests it completes requests on command.
 *
 * With manual=on each request waits, in order of arrival, for block_mem_complete(); its data is
 * moved only then. Like every driver it is called in the home context only.
 */
#ifndef SKIFF_BLOCK_DRIVER_MEM_H
#define SKIFF_BLOCK_DRIVER_MEM_H

#include "block/block.h"

/* All functions require a node with the driver "mem". */
void block_mem_set_manual(BlockNode *n, bool manual) RUNS_IN_IOTHREAD;
/* The number of requests that wait to be completed. */
unsigned block_mem_waiting(const BlockNode *n) ANY_THREAD;
/* Completes the oldest request: with @ret 0 it is carried out, with -errno it fails and changes
 * nothing. False: no request waits. */
bool block_mem_complete(BlockNode *n, int ret) RUNS_IN_IOTHREAD;
/* The disk's bytes. */
uint8_t *block_mem_data(BlockNode *n) RUNS_IN_IOTHREAD;

#endif
