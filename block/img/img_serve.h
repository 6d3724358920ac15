/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img serve in the background. */
#ifndef SKIFF_BLOCK_IMG_IMG_SERVE_H
#define SKIFF_BLOCK_IMG_IMG_SERVE_H

#include "block/img/img.h"

/* Before any thread exists: with --fork, makes a child process that goes on, and waits until it listens.
 * False: this process ends with *@status. */
bool img_serve_fork(int argc, char **argv, int *status) ANY_THREAD;

#endif
