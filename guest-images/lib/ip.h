/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of ARP, IPv4, ICMP echo and UDP as the guests about networks need: no fragments, no options.
 * Sources: RFC 826, 791, 792, 768, 1071.
 */
#ifndef LIB_IP_H
#define LIB_IP_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/net.h"

#define IP_ECHO_HEADERS (14 + 20 + 8) /* Ethernet, IPv4, ICMP echo */

/* An address of the command line, `key=A.B.C.D`, or @fallback; the first number is in the highest byte. */
uint32_t ip_get_address(const char *key, uint32_t fallback);

/* Writes into @frame the answer of @address at @mac to the received @asked: to an ARP request, an ICMP
 * echo request, or UDP to port 7, whose data go back. Returns the answer's size; 0: there is none. */
uint32_t ip_answer(uint8_t *frame, const uint8_t *asked, uint32_t size, const uint8_t *mac,
                   uint32_t address);

/* Writes a request for the hardware address of @peer; returns its size. */
uint32_t ip_ask_address(uint8_t *frame, const uint8_t *mac, uint32_t own, uint32_t peer);
/* Whether @frame tells the hardware address of @peer, which goes to @mac. */
bool ip_told_address(const uint8_t *frame, uint32_t size, uint32_t peer, uint8_t *mac);

/* Writes an echo request of @size bytes, at least IP_ECHO_HEADERS, with the number @sequence. */
void ip_make_echo(uint8_t *frame, uint32_t size, const uint8_t *from_mac, const uint8_t *to_mac,
                  uint32_t from, uint32_t to, uint16_t sequence);
/* Whether @frame is an intact reply to such a request of this guest; gives its number. */
bool ip_is_echo_reply(const uint8_t *frame, uint32_t size, uint32_t own, uint16_t *sequence);

#endif
