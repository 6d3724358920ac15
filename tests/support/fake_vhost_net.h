/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network (fake_net.h) whose pairs of queues vhost-net serves, on the kernel that fake_vhost.h plays: pair
 * n is the fake's instance n. One such network exists at a time.
 *
 *     FakeVhost *kernel = fake_vhost_new("/dev/vhost-net", ram);
 *     fake_vhost_net_open(bench, kernel, pairs);    // then: -netdev fake,id=ID,queues=PAIRS
 *     ...                                           // the netdev and its NIC come and go
 *     fake_vhost_net_close(bench, kernel);
 *     fake_vhost_free(kernel);
 */
#ifndef SKIFF_TESTS_SUPPORT_FAKE_VHOST_NET_H
#define SKIFF_TESTS_SUPPORT_FAKE_VHOST_NET_H

#include "hw/vhost/vhost_net.h"
#include "tests/support/fake_net.h"
#include "tests/support/fake_vhost.h"
#include "tests/support/virtio_guest.h"

#define FAKE_VHOST_NET_PAIRS 4 /* at most */

/* Opens @kernel for each pair, and makes networks of the type fake known, with vhost. */
void fake_vhost_net_open(VirtioBench *b, FakeVhost *kernel, unsigned pairs);
/* Closes what is open; returns when the kernel's descriptors are closed. */
void fake_vhost_net_close(VirtioBench *b, FakeVhost *kernel);
/* The same without waiting for the descriptors: a coroutine in main. */
void fake_vhost_net_leave(void *opaque);
VhostDev *fake_vhost_net_dev(unsigned pair);

#endif
