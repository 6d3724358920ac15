/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM of two blocks, of which the second is not a whole number of pieces, and images of it. All pages are there
 * (blank_rig.h has RAM with pages that are not). */
#ifndef SKIFF_TESTS_MIGRATION_RAM_RAM_TEST_H
#define SKIFF_TESTS_MIGRATION_RAM_RAM_TEST_H

#include <sys/mman.h>
#include <unistd.h>
#include "block/driver/fault.h"
#include "block/driver/mem.h"
#include "migration/ram/ram_image.h"
#include "tests/block/block_test.h"

#define RAM_TEST_LOW (UINT64_C(2) << 20)
#define RAM_TEST_HIGH (UINT64_C(67) * 4096 + (1 << 20))

typedef struct RamTest {
    GuestRam ram;
    uint8_t *host;
} RamTest;

static inline void ram_test_init(RamTest *t)
{
    *t = (RamTest){.host = mmap(NULL, RAM_TEST_LOW + RAM_TEST_HIGH, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)};
    assert_true(t->host != MAP_FAILED);
    guest_ram_add(&t->ram,
                  &(RamBlock){.size = RAM_TEST_LOW, .host = t->host, .fd = -1, .name = "low"});
    guest_ram_add(&t->ram, &(RamBlock){.gpa = UINT64_C(4) << 30,
                                       .size = RAM_TEST_HIGH,
                                       .host = t->host + RAM_TEST_LOW,
                                       .fd = -1,
                                       .name = "high"});
}

/* Puts a memfd in place of the memory, whose contents are lost. */
static inline void ram_test_share(RamTest *t)
{
    int fd = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, RAM_TEST_LOW + RAM_TEST_HIGH), 0);
    assert_ptr_equal(mmap(t->host, RAM_TEST_LOW + RAM_TEST_HIGH, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED, fd, 0),
                     t->host);
    t->ram.blocks[0].fd = t->ram.blocks[1].fd = fd;
    t->ram.blocks[1].fd_offset = RAM_TEST_LOW;
}

static inline void ram_test_clear(RamTest *t)
{
    if (t->ram.blocks[0].fd >= 0) {
        close(t->ram.blocks[0].fd);
    }
    munmap(t->host, RAM_TEST_LOW + RAM_TEST_HIGH);
}

/* Every third page has data; others are zero. */
static inline void ram_test_fill(RamTest *t, unsigned seed)
{
    for (uint64_t page = seed % 3; page < (RAM_TEST_LOW + RAM_TEST_HIGH) / 4096; page += 3) {
        test_fill(t->host + page * 4096, 4096, seed + (unsigned)page);
    }
}

static inline bool ram_test_equal(const RamTest *a, const RamTest *b)
{
    return memcmp(a->host, b->host, RAM_TEST_LOW + RAM_TEST_HIGH) == 0;
}

static inline int ram_test_read(void *opaque, unsigned block, uint64_t offset, void *buf,
                                size_t len)
{
    const RamTest *t = opaque;
    memcpy(buf, t->ram.blocks[block].host + offset, len);
    return 0;
}

/* Runs in the home of a backend. */
typedef struct RamTestCall {
    RamImageSave save;
    RamImage *image; /* NULL: a load */
    const GuestRam *ram;
    GError *error;
    int ret; /* of a save; of a load 0 or -1 */
    TestEvent done;
} RamTestCall;

static inline void ram_test_run(void *opaque)
{
    RamTestCall *c = opaque;
    enter_coroutine();
    enter_iothread(test_home);
    if (c->image != NULL) {
        c->ret = ram_image_co_save(&c->save, c->image);
    } else {
        c->ret = ram_image_co_load(c->save.blk, c->save.offset, c->ram, &c->error) ? 0 : -1;
    }
    test_event_set(&c->done);
}

#define RAM_TEST_OFFSET 8192u

static inline coroutine_fn RUNS_IN_MAIN int ram_test_save(BlockBackend *blk, RamTest *t)
{
    RamImage image;
    assert_true(ram_image_plan(&image, &t->ram, NULL));
    RamTestCall c = {
        .save = {.blk = blk, .offset = RAM_TEST_OFFSET, .read = ram_test_read, .opaque = t},
        .image = &image};
    co_call_in(test_home, ram_test_run, &c);
    test_event_wait(&c.done);
    return c.ret;
}

/* The error's text; NULL: none. */
static inline coroutine_fn RUNS_IN_MAIN char *ram_test_load(BlockBackend *blk, RamTest *t)
{
    RamTestCall c = {.save = {.blk = blk, .offset = RAM_TEST_OFFSET}, .ram = &t->ram};
    co_call_in(test_home, ram_test_run, &c);
    test_event_wait(&c.done);
    assert_int_equal(c.ret == 0, c.error == NULL);
    char *text = c.error != NULL ? g_strdup(c.error->message) : NULL;
    g_clear_error(&c.error);
    return text;
}

#endif
