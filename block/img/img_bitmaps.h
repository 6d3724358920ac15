/* SPDX-License-Identifier: Apache-2.0 */
/* The persistent dirty bitmaps of an image that is converted: `convert --bitmaps`. */
#ifndef SKIFF_BLOCK_IMG_IMG_BITMAPS_H
#define SKIFF_BLOCK_IMG_IMG_BITMAPS_H

#include "block/img/img.h"

/* Whether the bitmaps of @source can be copied; with @skip_broken those that are inconsistent need not.
 * False: reported. */
bool img_bitmaps_check_source(BlockBackend *source, bool skip_broken) RUNS_IN_MAIN;
/* Whether @target, NULL for a stream, can have bitmaps. False: reported. */
bool img_bitmaps_check_target(BlockBackend *target, const char *format) RUNS_IN_MAIN;
/* Copies all persistent bitmaps and completes the target. False: reported. */
bool img_bitmaps_co_copy(BlockBackend *source, BlockBackend *target, bool skip_broken)
    coroutine_fn RUNS_IN_MAIN;

#endif
