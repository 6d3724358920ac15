/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol between skiff and its agent in the guest (-exec), version 1: docs/exec.md. The two
 * programs share only this header; it needs only <stdint.h>.
 *
 * Bytes of a virtio-serial port form a sequence of frames in each direction:
 *
 *     0      1      2          4
 *     | type | 0    | size, LE | payload: `size` bytes |
 *
 * Numbers are little-endian. Neither side sends more data than the other has granted room for
 * (EXEC_STDIN_WINDOW, EXEC_WINDOW). So both always read, and no stream blocks another.
 */
#ifndef SKIFF_UTIL_EXEC_PROTOCOL_H
#define SKIFF_UTIL_EXEC_PROTOCOL_H

#include <stdint.h>

#define EXEC_PORT_NAME "org.skiff.exec.0"
#define EXEC_PROTOCOL_VERSION 1
#define EXEC_MAGIC "SKIFFEXE" /* without its NUL */
#define EXEC_MAGIC_BYTES 8

#define EXEC_HEADER_BYTES 4
#define EXEC_DATA_MAX 4096            /* payload of a data frame */
#define EXEC_COMMAND_MAX 32000        /* bytes of the command */
#define EXEC_RUN_BYTES 12             /* payload of EXEC_RUN before the command */
#define EXEC_WINDOW_BYTES (64 * 1024) /* room for each stream at the start */
#define EXEC_WINDOW_MAX (1024 * 1024) /* upper limit of the granted room */

enum ExecFrameType {
    /* agent to skiff */
    EXEC_HELLO = 1,        /* magic[8], u16 version, u16 EXEC_HELLO_* */
    EXEC_STDOUT = 2,       /* 1 to EXEC_DATA_MAX bytes */
    EXEC_STDERR = 3,       /* the same */
    EXEC_STDIN_WINDOW = 4, /* u32: additional room for standard input, in bytes */
    EXEC_EXIT = 5,         /* u8 EXEC_EXIT_*, u8 status or signal, u16 0: the last frame */
    /* skiff to agent */
    EXEC_RUN = 16,       /* u16 version, u16 0, u32 room for stdout, u32 for stderr, command */
    EXEC_STDIN = 17,     /* 1 to EXEC_DATA_MAX bytes */
    EXEC_STDIN_END = 18, /* nothing: standard input has ended */
    EXEC_WINDOW = 19,    /* u8 EXEC_STDOUT or _STDERR, u8[3] 0, u32: additional room in bytes */
    EXEC_CLOSE = 20,     /* u8 EXEC_STDOUT or _STDERR, u8[3] 0: the stream is no longer read */
    EXEC_BYE = 21,       /* nothing: EXEC_EXIT has arrived */
};

#define EXEC_HELLO_POWERS_OFF 1 /* the agent switches the guest off after EXEC_BYE */

enum {
    EXEC_EXIT_STATUS = 0, /* the command ended with this status */
    EXEC_EXIT_SIGNAL = 1, /* this signal ended it */
};

#endif
