/* SPDX-License-Identifier: Apache-2.0 */
/* The board's interface to the serial ports ("isa-serial"). */
#ifndef SKIFF_HW_PLATFORM_SERIAL_H
#define SKIFF_HW_PLATFORM_SERIAL_H

#include "hw/core/device.h"

/* Whether @dev is a serial port with the ports and the interrupt of COM@index + 1. */
bool serial_is_com(const Device *dev, unsigned index) ANY_THREAD;

#endif
