/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net with one queue pair, without offloads. Boot CPU only. Source: virtio 1.2 §5.1.
 *
 * Words: `nic=N` (0) which device, `qsize=N` (256) entries of each queue, `mode=poll|irq`, `indirect=0`, `event_idx=0`.
 */
#ifndef LIB_NET_H
#define LIB_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/virtqueue.h"

#define NET_MAC_SIZE 6
#define NET_FRAME_MIN 60 /* bytes, without the check sequence */
#define NET_FRAME_MAX 1514

typedef struct NetDevice {
    VirtioDevice virtio;
    uint8_t mac[NET_MAC_SIZE];
    bool has_link_status;
    bool irq;
    Virtqueue rx, tx;
    struct NetBuffer *free_tx;     /* for frames to send */
    struct NetBuffer *current;     /* the received frame that the caller reads */
    volatile uint32_t interrupted; /* by the receive queue */
    volatile uint64_t interrupts;
    uint64_t sent, received;
} NetDevice;

/* Starts the device as the command line says; ends the guest if that is not possible. */
NetDevice *net_open(void);

/* Room for a frame of NET_FRAME_MAX bytes, for the next net_send(); NULL: all are with the device. */
uint8_t *net_frame_to_send(NetDevice *net);
/* Queues the frame in net_frame_to_send(), of @size bytes. net_flush() makes it visible. */
void net_send(NetDevice *net, uint32_t size);

/* The next received frame and its size, or NULL. It is valid until the next call. */
const uint8_t *net_receive(NetDevice *net, uint32_t *size);

/* Makes sent frames, and room for received ones, visible to the device. */
void net_flush(NetDevice *net);

/* Waits until a frame may have arrived; in mode=irq at most for half a second. */
void net_wait(NetDevice *net);

bool net_link_up(const NetDevice *net);

#endif
