/* SPDX-License-Identifier: Apache-2.0 */
/* The list of drivers, passed to block_setup(). */
#include "block/drivers.h"

const BlockDriver *const block_drivers[] = {
    &block_driver_copy_on_read, &block_driver_fault,    &block_driver_file,
    &block_driver_host_device,  &block_driver_mem,      &block_driver_nbd,
    &block_driver_null_aio,     &block_driver_null_co,  &block_driver_qcow2,
    &block_driver_raw,          &block_driver_throttle, NULL,
};
