/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM generation id: a GUID in guest RAM, which changes when a copy of the machine starts.
 * Firmware allocates the page for it and writes back its address; without firmware the board places
 * it.
 */
#ifndef SKIFF_HW_FIRMWARE_VMGENID_H
#define SKIFF_HW_FIRMWARE_VMGENID_H

#include "hw/core/device.h"

#define VMGENID_TYPE "vmgenid"
#define VMGENID_FILE_GUID "etc/vmgenid_guid" /* a page */
#define VMGENID_FILE_ADDR "etc/vmgenid_addr" /* 8 bytes, written by firmware */
#define VMGENID_PAGE_SIZE 4096
#define VMGENID_GPE 5     /* _E05: the GUID has changed */
#define VMGENID_OFFSET 40 /* of the GUID in its page */

/* The GUID as text. Owned by the device. @dev is of this type in all functions. */
const char *vmgenid_guid(const Device *dev) RUNS_IN_MAIN;
/* For direct boot: the page is at @gpa. Writes the GUID there. Not while the guest runs. False: it
 * is not RAM. */
bool vmgenid_place(Device *dev, uint64_t gpa) BQL_HELD;

#endif
