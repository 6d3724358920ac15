/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mem driver: a disk in memory, which for tests completes its requests when told.
 *
 * With manual=on each request waits, first come first served, for block_mem_complete(); only then
 * is its data moved. Like every driver it is reached in the home context only.
 */
#ifndef SKIFF_BLOCK_DRIVER_MEM_H
#define SKIFF_BLOCK_DRIVER_MEM_H

#include "block/block.h"

/* The node must have the driver "mem", for all of these. */
void block_mem_set_manual(BlockNode *n, bool manual) RUNS_IN_IOTHREAD;
/* Requests that wait to be completed. */
unsigned block_mem_waiting(const BlockNode *n) ANY_THREAD;
/* Completes the oldest: with 0 it is carried out, with -errno it fails and changes nothing. False:
 * none waits. */
bool block_mem_complete(BlockNode *n, int ret) RUNS_IN_IOTHREAD;
/* The disk's bytes. */
uint8_t *block_mem_data(BlockNode *n) RUNS_IN_IOTHREAD;

#endif
