/* SPDX-License-Identifier: Apache-2.0 */
/* A virtqueue of 8 entries with RAM, ROM and a driver, without a device: for the virtqueue tests.
 */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTQUEUE_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTQUEUE_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glib.h>
#include <string.h>
#include "tests/support/vring_driver.h"

#define RAM_SIZE (1u << 20)
#define ROM_GPA 0x800000u
#define RINGS_GPA 0x10000u
#define TABLE_GPA 0x20000u
#define DATA_GPA 0x40000u
#define QUEUE_SIZE 8

typedef struct Bench {
    GuestRam ram;
    VirtQueue *vq;
    VringDriver driver;
} Bench;

NO_THREAD_SAFETY_ANALYSIS static void bench_start(Bench *b, bool event_idx, bool indirect)
{
    VirtQueueSetup setup = vring_driver_setup(&b->driver, event_idx, indirect);
    VirtQueuePosition position = {0};
    assert_true(virtqueue_start(b->vq, &b->ram, &setup, &position));
}

static int set_up(void **state)
{
    Bench *b = g_new0(Bench, 1);
    RamBlock ram = {.size = RAM_SIZE, .host = g_malloc0(RAM_SIZE), .fd = -1, .name = "ram"};
    RamBlock rom = {.gpa = ROM_GPA,
                    .size = 0x1000,
                    .host = g_malloc0(0x1000),
                    .read_only = true,
                    .fd = -1,
                    .name = "rom"};
    guest_ram_add(&b->ram, &ram);
    guest_ram_add(&b->ram, &rom);
    b->vq = virtqueue_new(QUEUE_SIZE, sizeof(VirtQueueElement));
    vring_driver_init(&b->driver, &b->ram, RINGS_GPA, QUEUE_SIZE);
    *state = b;
    return 0;
}

NO_THREAD_SAFETY_ANALYSIS static int tear_down(void **state)
{
    Bench *b = *state;
    VirtQueuePosition position;
    if (virtqueue_started(b->vq)) {
        virtqueue_stop(b->vq, &position);
    }
    virtqueue_free(b->vq);
    g_free(b->ram.blocks[0].host);
    g_free(b->ram.blocks[1].host);
    g_free(b);
    return 0;
}

/* Adds any buffer. */
static uint16_t offer_one(Bench *b)
{
    VringBuffer buffer = {.gpa = DATA_GPA, .len = 16, .write = true};
    uint16_t head = vring_driver_chain(&b->driver, &buffer, 1);
    vring_driver_offer(&b->driver, head);
    return head;
}

#endif
