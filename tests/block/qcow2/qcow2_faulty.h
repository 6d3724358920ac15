/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image in memory whose file operations can fail or wait: a mem node "m" below a fault node "f".
 * The tests open "qcow2,file=f".
 */
#ifndef SKIFF_TESTS_BLOCK_QCOW2_QCOW2_FAULTY_H
#define SKIFF_TESTS_BLOCK_QCOW2_QCOW2_FAULTY_H

#include "block/driver/fault.h"
#include "block/driver/mem.h"
#include "tests/block/qcow2/qcow2_test.h"

#define FAULTY_ALL 1000u /* held operations */

typedef struct Qcow2Faulty {
    uint8_t *image; /* owned: the bytes of the file at first */
    uint8_t *saved; /* owned: those of faulty_save(); NULL before */
    uint64_t size;
    BlockNode *mem, *fault;
    BlockFault hit;
} Qcow2Faulty;

static inline void faulty_fill_at_home(void *opaque)
{
    Qcow2Faulty *f = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(block_mem_data(f->mem), f->image, f->size);
}

static inline void faulty_save_at_home(void *opaque)
{
    Qcow2Faulty *f = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    memcpy(f->saved, block_mem_data(f->mem), f->size);
}

static inline void faulty_set_at_home(void *opaque)
{
    Qcow2Faulty *f = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_set(f->fault, &f->hit);
}

static inline void faulty_release_at_home(void *opaque)
{
    Qcow2Faulty *f = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    block_fault_release(f->fault, FAULTY_ALL);
}

/* Takes the image @name of @dir; the file gets @size bytes. */
static inline void faulty_load(Qcow2Faulty *f, const char *dir, const char *name, uint64_t size)
{
    size_t length;
    g_autofree uint8_t *bytes = qcow2_file_bytes(dir, name, &length);
    assert_true(length <= size);
    g_free(f->image);
    f->size = size;
    f->image = g_malloc0(size);
    memcpy(f->image, bytes, length);
}

/* The file gets the bytes of the image; no request is in flight. */
static inline coroutine_fn RUNS_IN_MAIN void faulty_fill(Qcow2Faulty *f)
{
    test_in_home(faulty_fill_at_home, f);
}

/* Adds the nodes, and fills the file. */
static inline coroutine_fn RUNS_IN_MAIN void faulty_add(Qcow2Faulty *f)
{
    g_autofree char *text =
        g_strdup_printf("mem,node-name=m,size=%" PRIu64 ",discard=unmap", f->size);
    f->mem = test_node_add(text);
    faulty_fill(f);
    f->fault = test_node_add("fault,node-name=f,discard=unmap,file=m");
}

/* @saved gets the bytes of the file as they are. */
static inline coroutine_fn RUNS_IN_MAIN void faulty_save(Qcow2Faulty *f)
{
    f->saved = f->saved != NULL ? f->saved : g_malloc(f->size);
    test_in_home(faulty_save_at_home, f);
}

/* The same, and writes them to @name of @dir. */
static inline coroutine_fn RUNS_IN_MAIN void faulty_store(Qcow2Faulty *f, const char *dir,
                                                          const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    faulty_save(f);
    assert_true(g_file_set_contents(path, (char *)f->saved, (gssize)f->size, NULL));
}

static inline void faulty_free(Qcow2Faulty *f)
{
    g_clear_pointer(&f->image, g_free);
    g_clear_pointer(&f->saved, g_free);
}

/* Deletes the nodes. */
static inline coroutine_fn RUNS_IN_MAIN void faulty_del(void)
{
    test_node_del("f");
    test_node_del("m");
}

static inline coroutine_fn RUNS_IN_MAIN void faulty_set(Qcow2Faulty *f, BlockFault hit)
{
    f->hit = hit;
    test_in_home(faulty_set_at_home, f);
}

/* From now on operations @op that touch [offset, offset + length) of the file wait; 0: all. */
static inline coroutine_fn RUNS_IN_MAIN void faulty_hold(Qcow2Faulty *f, BlockFaultOp op,
                                                         uint64_t offset, uint64_t length)
{
    faulty_set(f, (BlockFault){.op = (int)op, .offset = offset, .length = length, .hold = true});
}

/* Releases what is held; later operations pass, or are held again. */
static inline coroutine_fn RUNS_IN_MAIN void faulty_release_held(Qcow2Faulty *f)
{
    test_in_home(faulty_release_at_home, f);
}

/* Releases what is held; later operations pass. */
static inline coroutine_fn RUNS_IN_MAIN void faulty_release(Qcow2Faulty *f)
{
    faulty_set(f, (BlockFault){0});
    faulty_release_held(f);
}

#endif
