/* SPDX-License-Identifier: Apache-2.0 */
/* The guests' model of flash, for unit tests. */
#include "guest-images/lib/flash_model.c"
