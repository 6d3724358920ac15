/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/scsi_guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 51
#define RESPONSE 108

/* ---- devices ---- */

void scsi_guest_bring_up(ScsiGuest *g, uint64_t features)
{
    g_assert_true(virtio_guest_negotiate(&g->guest, features));
    virtio_guest_common_write(&g->guest, VIRTIO_COMMON_CONFIG_VECTOR, 0, 2);
    virtio_guest_queue(&g->guest, &g->control, 0, 0, 1);
    virtio_guest_queue(&g->guest, &g->events, 1, 0, 2);
    for (unsigned i = 0; i < g->request_queues; i++) {
        virtio_guest_queue(&g->guest, &g->requests[i], 2 + i, 0, 3 + i);
    }
    virtio_guest_driver_ok(&g->guest);
    virtio_bench_settle(g->bench);
}

void scsi_guest_open(ScsiGuest *g, const char *disk, const char *controller, uint64_t features)
{
    *g = (ScsiGuest){.bench = virtio_bench_new()};
    blk_disk_open(&g->disk, g->bench, disk);
    g->controller = virtio_bench_device(g->bench, "virtio-scsi-pci", controller);
    g->request_queues = ((VirtioScsi *)(void *)g->controller)->num_queues;
    g_assert_cmpuint(g->request_queues, <=, G_N_ELEMENTS(g->requests));
    virtio_bench_start(g->bench, g->controller);
    virtio_guest_init(&g->guest, g->bench, g->controller);
    virtio_guest_enable_msix(&g->guest);
    if (features) {
        scsi_guest_bring_up(g, features);
    }
}

char *scsi_guest_try_add(ScsiGuest *g, const char *type, const char *properties)
{
    Device *dev;
    char *text = virtio_bench_try_device(g->bench, type, properties, g->controller, &dev);
    if (!text) {
        g_assert_cmpuint(g->lun_count, <, SCSI_CALL_LUNS);
        g->luns[g->lun_count++] = dev;
    }
    return text;
}

Device *scsi_guest_add(ScsiGuest *g, const char *type, const char *properties)
{
    char *text = scsi_guest_try_add(g, type, properties);
    if (text) {
        fprintf(stderr, "%s\n", text);
        abort();
    }
    return g->luns[g->lun_count - 1];
}

void scsi_guest_remove(ScsiGuest *g, Device *dev)
{
    for (unsigned i = 0; i < g->lun_count; i++) {
        if (g->luns[i] == dev) {
            g->luns[i] = g->luns[--g->lun_count];
            break;
        }
    }
    virtio_bench_unplug(g->bench, dev);
}

void scsi_guest_close(ScsiGuest *g)
{
    while (g->lun_count) {
        scsi_guest_remove(g, g->luns[0]);
    }
    virtio_bench_unplug(g->bench, g->controller);
    blk_disk_close(&g->disk);
    virtio_bench_free(g->bench);
}

/* ---- requests ---- */

static void *call_ram(VirtioGuestQueue *q, uint64_t gpa, uint64_t bytes)
{
    return virtio_bench_ram(q->guest->bench, gpa, bytes);
}

void scsi_call_init(ScsiCall *c, VirtioGuestQueue *q, uint32_t bytes)
{
    uint64_t gpa = virtio_bench_alloc(q->guest->bench, 4096 + (uint64_t)bytes);
    *c = (ScsiCall){.queue = q,
                    .header = gpa,
                    .response = gpa + 512,
                    .data = gpa + 4096,
                    .bytes = bytes,
                    .tag = gpa};
}

static void put_lun(uint8_t *lun, uint8_t target, uint16_t number)
{
    memset(lun, 0, 8);
    lun[0] = 1;
    lun[1] = target;
    lun[2] = (uint8_t)(0x40 | number >> 8);
    lun[3] = (uint8_t)number;
}

unsigned scsi_call_build(ScsiCall *c, const uint8_t *cdb, int direction, uint32_t bytes,
                         VringBuffer chain[3])
{
    unsigned count = 1;
    chain[0] = (VringBuffer){c->header, HEADER, false};
    uint8_t *h = call_ram(c->queue, c->header, HEADER);
    memset(h, 0, HEADER);
    put_lun(h, c->target, c->lun);
    memcpy(h + 8, &c->tag, 8);
    memcpy(h + 19, cdb, scsi_cdb_length(cdb) ? scsi_cdb_length(cdb) : 6);
    memset(call_ram(c->queue, c->response, RESPONSE), 0xff, RESPONSE);
    if (direction == SCSI_DIR_OUT && bytes) {
        chain[count++] = (VringBuffer){c->data, bytes, false};
    }
    chain[count++] = (VringBuffer){c->response, RESPONSE, true};
    if (direction == SCSI_DIR_IN && bytes) {
        chain[count++] = (VringBuffer){c->data, bytes, true};
    }
    return count;
}

void scsi_call_send(ScsiCall *c, const uint8_t *cdb, int direction, uint32_t bytes)
{
    VringBuffer chain[3];
    c->head = virtio_guest_add(c->queue, chain, scsi_call_build(c, cdb, direction, bytes, chain));
}

unsigned scsi_call_result(ScsiCall *c)
{
    const uint8_t *r = call_ram(c->queue, c->response, RESPONSE);
    return r[11] == 0xff ? SCSI_CALL_PENDING : r[11] ? SCSI_CALL_RESPONSE | r[11] : r[10];
}

unsigned scsi_call_run(ScsiCall *c, const uint8_t *cdb, int direction, uint32_t bytes)
{
    scsi_call_send(c, cdb, direction, bytes);
    return scsi_guest_took(c->queue, c->head) ? scsi_call_result(c) : SCSI_CALL_PENDING;
}

uint8_t *scsi_call_data(ScsiCall *c)
{
    return call_ram(c->queue, c->data, c->bytes);
}

uint32_t scsi_call_resid(ScsiCall *c)
{
    uint32_t resid;
    memcpy(&resid, (uint8_t *)call_ram(c->queue, c->response, RESPONSE) + 4, 4);
    return resid;
}

uint32_t scsi_call_sense(ScsiCall *c)
{
    const uint8_t *r = call_ram(c->queue, c->response, RESPONSE);
    const uint8_t *s = r + 12;
    uint32_t length;
    memcpy(&length, r, 4);
    if (length == 18) {
        g_assert_cmpuint(s[0], ==, 0x70);
        return (uint32_t)s[2] << 16 | (uint32_t)s[12] << 8 | s[13];
    }
    if (length == 8) {
        g_assert_cmpuint(s[0], ==, 0x72);
        return (uint32_t)s[1] << 16 | (uint32_t)s[2] << 8 | s[3];
    }
    g_assert_cmpuint(length, ==, 0);
    return 0;
}

void scsi_call_clear_attentions(ScsiCall *c)
{
    static const uint8_t ready[6] = {SCSI_TEST_UNIT_READY};
    for (unsigned i = 0; i < 8; i++) {
        if (scsi_call_run(c, ready, SCSI_DIR_NONE, 0) == SCSI_STATUS_GOOD) {
            return;
        }
    }
}

/* ---- task management ---- */

void scsi_tmf_init(ScsiTmf *t, VirtioGuestQueue *q)
{
    uint64_t gpa = virtio_bench_alloc(q->guest->bench, 4096);
    *t = (ScsiTmf){.queue = q, .request = gpa, .response = gpa + 512};
}

void scsi_tmf_send(ScsiTmf *t, uint32_t subtype, uint8_t target, uint16_t lun, uint64_t tag)
{
    uint8_t *r = call_ram(t->queue, t->request, 24);
    memset(r, 0, 24);
    memcpy(r + 4, &subtype, 4);
    put_lun(r + 8, target, lun);
    memcpy(r + 16, &tag, 8);
    *(uint8_t *)call_ram(t->queue, t->response, 1) = 0xff;
    VringBuffer chain[] = {{t->request, 24, false}, {t->response, 1, true}};
    t->head = virtio_guest_add(t->queue, chain, 2);
}

uint8_t scsi_tmf_response(ScsiTmf *t)
{
    virtio_bench_settle(t->queue->guest->bench);
    return *(uint8_t *)call_ram(t->queue, t->response, 1);
}

bool scsi_guest_took(VirtioGuestQueue *q, uint16_t head)
{
    uint32_t id, len;
    bool found = false;
    while (virtio_guest_used(q, &id, &len)) {
        found |= id == head;
    }
    return found;
}
