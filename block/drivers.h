/* SPDX-License-Identifier: Apache-2.0 */
/* The table of all drivers. */
#ifndef SKIFF_BLOCK_DRIVERS_H
#define SKIFF_BLOCK_DRIVERS_H

#include "block/node.h"

extern const BlockDriver *const block_drivers[]; /* all of them, NULL-terminated */

extern const BlockDriver block_driver_copy_on_read;
extern const BlockDriver block_driver_fault;
extern const BlockDriver block_driver_file;
extern const BlockDriver block_driver_host_device;
extern const BlockDriver block_driver_mem;
extern const BlockDriver block_driver_nbd;
extern const BlockDriver block_driver_null_aio;
extern const BlockDriver block_driver_null_co;
extern const BlockDriver block_driver_qcow2;
extern const BlockDriver block_driver_raw;
extern const BlockDriver block_driver_throttle;

#endif
