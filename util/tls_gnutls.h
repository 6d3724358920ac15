/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of GnuTLS that skiff calls, loaded by tls_load_library(). Included by util/tls.c. */
#ifndef SKIFF_UTIL_TLS_GNUTLS_H
#define SKIFF_UTIL_TLS_GNUTLS_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include "util/library.h"

/* clang-format off */
#define GNUTLS_FUNCTIONS(F) \
    F(gnutls_anon_allocate_client_credentials) \
    F(gnutls_anon_allocate_server_credentials) \
    F(gnutls_anon_free_client_credentials) \
    F(gnutls_anon_free_server_credentials) \
    F(gnutls_anon_set_server_known_dh_params) \
    F(gnutls_certificate_allocate_credentials) \
    F(gnutls_certificate_free_credentials) \
    F(gnutls_certificate_server_set_request) \
    F(gnutls_certificate_set_known_dh_params) \
    F(gnutls_certificate_set_x509_crl_file) \
    F(gnutls_certificate_set_x509_key_file) \
    F(gnutls_certificate_set_x509_trust_file) \
    F(gnutls_certificate_verify_peers2) \
    F(gnutls_credentials_set) \
    F(gnutls_deinit) \
    F(gnutls_error_is_fatal) \
    F(gnutls_handshake) \
    F(gnutls_init) \
    F(gnutls_priority_set_direct) \
    F(gnutls_psk_allocate_client_credentials) \
    F(gnutls_psk_allocate_server_credentials) \
    F(gnutls_psk_free_client_credentials) \
    F(gnutls_psk_free_server_credentials) \
    F(gnutls_psk_set_client_credentials) \
    F(gnutls_psk_set_server_credentials_file) \
    F(gnutls_psk_set_server_known_dh_params) \
    F(gnutls_record_get_direction) \
    F(gnutls_record_recv) \
    F(gnutls_record_send) \
    F(gnutls_strerror) \
    F(gnutls_transport_set_int2)
/* clang-format on */

typedef struct GnutlsLibrary {
    GNUTLS_FUNCTIONS(LIBRARY_SLOT)
} GnutlsLibrary;
extern GnutlsLibrary gnutls_library;

#define gnutls_anon_allocate_client_credentials                                                    \
    gnutls_library.gnutls_anon_allocate_client_credentials
#define gnutls_anon_allocate_server_credentials                                                    \
    gnutls_library.gnutls_anon_allocate_server_credentials
#define gnutls_anon_free_client_credentials gnutls_library.gnutls_anon_free_client_credentials
#define gnutls_anon_free_server_credentials gnutls_library.gnutls_anon_free_server_credentials
#define gnutls_anon_set_server_known_dh_params gnutls_library.gnutls_anon_set_server_known_dh_params
#define gnutls_certificate_allocate_credentials                                                    \
    gnutls_library.gnutls_certificate_allocate_credentials
#define gnutls_certificate_free_credentials gnutls_library.gnutls_certificate_free_credentials
#define gnutls_certificate_server_set_request gnutls_library.gnutls_certificate_server_set_request
#define gnutls_certificate_set_known_dh_params gnutls_library.gnutls_certificate_set_known_dh_params
#define gnutls_certificate_set_x509_crl_file gnutls_library.gnutls_certificate_set_x509_crl_file
#define gnutls_certificate_set_x509_key_file gnutls_library.gnutls_certificate_set_x509_key_file
#define gnutls_certificate_set_x509_trust_file gnutls_library.gnutls_certificate_set_x509_trust_file
#define gnutls_certificate_verify_peers2 gnutls_library.gnutls_certificate_verify_peers2
#define gnutls_credentials_set gnutls_library.gnutls_credentials_set
#define gnutls_deinit gnutls_library.gnutls_deinit
#define gnutls_error_is_fatal gnutls_library.gnutls_error_is_fatal
#define gnutls_handshake gnutls_library.gnutls_handshake
#define gnutls_init gnutls_library.gnutls_init
#define gnutls_priority_set_direct gnutls_library.gnutls_priority_set_direct
#define gnutls_psk_allocate_client_credentials gnutls_library.gnutls_psk_allocate_client_credentials
#define gnutls_psk_allocate_server_credentials gnutls_library.gnutls_psk_allocate_server_credentials
#define gnutls_psk_free_client_credentials gnutls_library.gnutls_psk_free_client_credentials
#define gnutls_psk_free_server_credentials gnutls_library.gnutls_psk_free_server_credentials
#define gnutls_psk_set_client_credentials gnutls_library.gnutls_psk_set_client_credentials
#define gnutls_psk_set_server_credentials_file gnutls_library.gnutls_psk_set_server_credentials_file
#define gnutls_psk_set_server_known_dh_params gnutls_library.gnutls_psk_set_server_known_dh_params
#define gnutls_record_get_direction gnutls_library.gnutls_record_get_direction
#define gnutls_record_recv gnutls_library.gnutls_record_recv
#define gnutls_record_send gnutls_library.gnutls_record_send
#define gnutls_strerror gnutls_library.gnutls_strerror
#define gnutls_transport_set_int2 gnutls_library.gnutls_transport_set_int2

#endif
