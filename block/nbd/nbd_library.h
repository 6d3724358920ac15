/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of libnbd that the client calls, loaded by nbd_client_load_library(). */
#ifndef SKIFF_BLOCK_NBD_NBD_LIBRARY_H
#define SKIFF_BLOCK_NBD_NBD_LIBRARY_H

#include <libnbd.h>
#include "util/library.h"

#ifdef LIBNBD_HAVE_NBD_SET_TLS_HOSTNAME
#define LIBNBD_FUNCTIONS_1_22(F) F(nbd_set_tls_hostname)
#else
#define LIBNBD_FUNCTIONS_1_22(F)
#endif

/* clang-format off */
#define LIBNBD_FUNCTIONS(F) \
    F(nbd_add_meta_context) \
    F(nbd_aio_block_status) \
    F(nbd_aio_connect_socket) \
    F(nbd_aio_connect_tcp) \
    F(nbd_aio_disconnect) \
    F(nbd_aio_flush) \
    F(nbd_aio_get_direction) \
    F(nbd_aio_get_fd) \
    F(nbd_aio_is_closed) \
    F(nbd_aio_is_dead) \
    F(nbd_aio_is_ready) \
    F(nbd_aio_notify_read) \
    F(nbd_aio_notify_write) \
    F(nbd_aio_pread) \
    F(nbd_aio_pwrite) \
    F(nbd_aio_trim) \
    F(nbd_aio_zero) \
    F(nbd_can_flush) \
    F(nbd_can_fua) \
    F(nbd_can_meta_context) \
    F(nbd_can_multi_conn) \
    F(nbd_can_trim) \
    F(nbd_can_zero) \
    F(nbd_close) \
    F(nbd_create) \
    F(nbd_get_block_size) \
    F(nbd_get_errno) \
    F(nbd_get_error) \
    F(nbd_get_size) \
    F(nbd_is_read_only) \
    F(nbd_set_export_name) \
    F(nbd_set_tls) \
    F(nbd_set_tls_certificates) \
    F(nbd_set_tls_psk_file) \
    F(nbd_set_tls_username) \
    F(nbd_set_tls_verify_peer) \
    LIBNBD_FUNCTIONS_1_22(F)
/* clang-format on */

typedef struct LibnbdLibrary {
    LIBNBD_FUNCTIONS(LIBRARY_SLOT)
} LibnbdLibrary;
extern LibnbdLibrary libnbd_library;

#define nbd_add_meta_context libnbd_library.nbd_add_meta_context
#define nbd_aio_block_status libnbd_library.nbd_aio_block_status
#define nbd_aio_connect_socket libnbd_library.nbd_aio_connect_socket
#define nbd_aio_connect_tcp libnbd_library.nbd_aio_connect_tcp
#define nbd_aio_disconnect libnbd_library.nbd_aio_disconnect
#define nbd_aio_flush libnbd_library.nbd_aio_flush
#define nbd_aio_get_direction libnbd_library.nbd_aio_get_direction
#define nbd_aio_get_fd libnbd_library.nbd_aio_get_fd
#define nbd_aio_is_closed libnbd_library.nbd_aio_is_closed
#define nbd_aio_is_dead libnbd_library.nbd_aio_is_dead
#define nbd_aio_is_ready libnbd_library.nbd_aio_is_ready
#define nbd_aio_notify_read libnbd_library.nbd_aio_notify_read
#define nbd_aio_notify_write libnbd_library.nbd_aio_notify_write
#define nbd_aio_pread libnbd_library.nbd_aio_pread
#define nbd_aio_pwrite libnbd_library.nbd_aio_pwrite
#define nbd_aio_trim libnbd_library.nbd_aio_trim
#define nbd_aio_zero libnbd_library.nbd_aio_zero
#define nbd_can_flush libnbd_library.nbd_can_flush
#define nbd_can_fua libnbd_library.nbd_can_fua
#define nbd_can_meta_context libnbd_library.nbd_can_meta_context
#define nbd_can_multi_conn libnbd_library.nbd_can_multi_conn
#define nbd_can_trim libnbd_library.nbd_can_trim
#define nbd_can_zero libnbd_library.nbd_can_zero
#define nbd_close libnbd_library.nbd_close
#define nbd_create libnbd_library.nbd_create
#define nbd_get_block_size libnbd_library.nbd_get_block_size
#define nbd_get_errno libnbd_library.nbd_get_errno
#define nbd_get_error libnbd_library.nbd_get_error
#define nbd_get_size libnbd_library.nbd_get_size
#define nbd_is_read_only libnbd_library.nbd_is_read_only
#define nbd_set_export_name libnbd_library.nbd_set_export_name
#define nbd_set_tls libnbd_library.nbd_set_tls
#define nbd_set_tls_certificates libnbd_library.nbd_set_tls_certificates
#define nbd_set_tls_psk_file libnbd_library.nbd_set_tls_psk_file
#define nbd_set_tls_username libnbd_library.nbd_set_tls_username
#define nbd_set_tls_verify_peer libnbd_library.nbd_set_tls_verify_peer
#ifdef LIBNBD_HAVE_NBD_SET_TLS_HOSTNAME
#define nbd_set_tls_hostname libnbd_library.nbd_set_tls_hostname
#endif

#endif
