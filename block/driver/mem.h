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

/*
 * The order of what changes the disk, from which a test builds the disks that a power cut can leave.
 * A flush is recorded when it ends. It makes durable what was recorded when it began: the first
 * @covers records. A write with BLOCK_REQ_FUA is recorded with @fua.
 */
typedef enum BlockMemOp { BLOCK_MEM_WRITE, BLOCK_MEM_TRUNCATE, BLOCK_MEM_FLUSH } BlockMemOp;
typedef struct BlockMemRecord {
    BlockMemOp op;
    uint64_t offset; /* WRITE */
    uint64_t bytes;  /* WRITE; TRUNCATE: the new size */
    uint8_t *data;   /* WRITE: owned; NULL: zeroes */
    bool fua;        /* WRITE: durable at once */
    unsigned covers; /* FLUSH */
} BlockMemRecord;
typedef struct BlockMemJournal {
    GArray *records; /* BlockMemRecord */
} BlockMemJournal;
/* @journal belongs to the caller and is used until the next call; NULL: nothing is recorded. */
void block_mem_set_journal(BlockNode *n, BlockMemJournal *journal) RUNS_IN_IOTHREAD;
void block_mem_journal_init(BlockMemJournal *journal) ANY_THREAD;
void block_mem_journal_clear(BlockMemJournal *journal) ANY_THREAD;

/* The disk's bytes. */
uint8_t *block_mem_data(BlockNode *n) RUNS_IN_IOTHREAD;

#endif
