/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A named port of a virtio-serial device, one at a time, polled. Boot CPU only.
 * Source: virtio 1.2 §5.3.
 */
#ifndef LIB_VPORT_H
#define LIB_VPORT_H

#include <stddef.h>
#include <stdint.h>

/* Opens port @name of the last virtio-serial device; waits until the device reports it. Ends the
 * guest when there is no such device. */
void vport_open(const char *name);
void vport_close(void);

/* Returns when the device has taken all bytes. */
void vport_send(const void *data, size_t size);

/* Up to @size received bytes; 0: none. */
size_t vport_receive(void *data, size_t size);

#endif
