/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/ip.h"
#include "lib/bootinfo.h"
#include "lib/exit.h"
#include "lib/text.h"

#define AT_TYPE 12
#define AT_IP 14
#define AT_ARP 14
#define AT_ICMP (AT_IP + 20)
#define ARP_END (AT_ARP + 28)

#define TYPE_IPV4 0x0800
#define TYPE_ARP 0x0806
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define PROTOCOL_ICMP 1
#define PROTOCOL_UDP 17
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO 8
#define ECHO_ID 0x736b
#define UDP_PORT_ECHO 7

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, (uint16_t)(value >> 16));
    put16(p + 2, (uint16_t)value);
}

/* The checksum of @size bytes: 0 if they contain their own. */
static uint16_t checksum(const uint8_t *data, uint32_t size)
{
    uint64_t sum = 0;
    uint32_t i = 0;
    for (; i + 1 < size; i += 2) {
        sum += get16(data + i);
    }
    if (i < size) {
        sum += (uint32_t)data[i] << 8;
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static const char *parse_byte(const char *at, uint32_t *address)
{
    const char *end = at;
    uint64_t value;
    while (*end >= '0' && *end <= '9') {
        end++;
    }
    if (!text_parse_number(at, (size_t)(end - at), &value) || value > 255) {
        return NULL;
    }
    *address = *address << 8 | (uint32_t)value;
    return end;
}

uint32_t ip_get_address(const char *key, uint32_t fallback)
{
    const char *at = bootinfo_get_text(key);
    uint32_t address = 0;
    if (at == NULL) {
        return fallback;
    }
    for (unsigned i = 0; i < 4 && at != NULL; i++) {
        at = parse_byte(at, &address);
        if (at != NULL && i < 3) {
            at = *at == '.' ? at + 1 : NULL;
        }
    }
    if (at == NULL || (*at != 0 && *at != ' ')) {
        guest_refuse(EXIT_USAGE, "%s= is an address like 10.0.2.15", key);
    }
    return address;
}

static void put_ethernet(uint8_t *frame, const uint8_t *to, const uint8_t *from, uint16_t type)
{
    memcpy(frame, to, NET_MAC_SIZE);
    memcpy(frame + NET_MAC_SIZE, from, NET_MAC_SIZE);
    put16(frame + AT_TYPE, type);
}

/* Hardware and protocol types of Ethernet and IPv4; then addresses of both sides. */
static uint32_t make_arp(uint8_t *frame, uint16_t operation, const uint8_t *mac, uint32_t own,
                         const uint8_t *peer_mac, uint32_t peer)
{
    static const uint8_t types[] = {0, 1, 8, 0, 6, 4};
    memset(frame + AT_ARP, 0, NET_FRAME_MIN - AT_ARP);
    memcpy(frame + AT_ARP, types, sizeof(types));
    put16(frame + AT_ARP + 6, operation);
    memcpy(frame + AT_ARP + 8, mac, NET_MAC_SIZE);
    put32(frame + AT_ARP + 14, own);
    memcpy(frame + AT_ARP + 18, peer_mac, NET_MAC_SIZE);
    put32(frame + AT_ARP + 24, peer);
    return NET_FRAME_MIN;
}

static bool is_arp(const uint8_t *frame, uint32_t size, uint16_t operation)
{
    return size >= ARP_END && get16(frame + AT_TYPE) == TYPE_ARP &&
           get16(frame + AT_ARP + 6) == operation;
}

uint32_t ip_ask_address(uint8_t *frame, const uint8_t *mac, uint32_t own, uint32_t peer)
{
    static const uint8_t all[NET_MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t unknown[NET_MAC_SIZE];
    put_ethernet(frame, all, mac, TYPE_ARP);
    return make_arp(frame, ARP_REQUEST, mac, own, unknown, peer);
}

bool ip_told_address(const uint8_t *frame, uint32_t size, uint32_t peer, uint8_t *mac)
{
    if (!is_arp(frame, size, ARP_REPLY) || get32(frame + AT_ARP + 14) != peer) {
        return false;
    }
    memcpy(mac, frame + AT_ARP + 8, NET_MAC_SIZE);
    return true;
}

/* The end of an intact IPv4 packet without options, not a fragment, to @address; else 0. */
static uint32_t ip_end(const uint8_t *frame, uint32_t size, uint32_t address)
{
    const uint8_t *ip = frame + AT_IP;
    if (size < AT_ICMP || get16(frame + AT_TYPE) != TYPE_IPV4 || ip[0] != 0x45 ||
        (get16(ip + 6) & 0x3fff) != 0 || checksum(ip, 20) != 0 || get32(ip + 16) != address) {
        return 0;
    }
    uint32_t end = AT_IP + get16(ip + 2);
    return end >= AT_ICMP && end <= size ? end : 0;
}

static void put_ip(uint8_t *frame, uint32_t end, uint8_t protocol, uint32_t from, uint32_t to)
{
    uint8_t *ip = frame + AT_IP;
    memset(ip, 0, 20);
    ip[0] = 0x45;
    put16(ip + 2, (uint16_t)(end - AT_IP));
    ip[8] = 64;
    ip[9] = protocol;
    put32(ip + 12, from);
    put32(ip + 16, to);
    put16(ip + 10, checksum(ip, 20));
}

static uint32_t answer_arp(uint8_t *frame, const uint8_t *asked, const uint8_t *mac,
                           uint32_t address)
{
    if (get32(asked + AT_ARP + 24) != address) {
        return 0;
    }
    put_ethernet(frame, asked + NET_MAC_SIZE, mac, TYPE_ARP);
    return make_arp(frame, ARP_REPLY, mac, address, asked + AT_ARP + 8, get32(asked + AT_ARP + 14));
}

/* Turns a copy of the request into the answer; false: it asks for nothing that is answered here. */
static bool answer_ip(uint8_t *frame, uint32_t end)
{
    uint8_t *data = frame + AT_ICMP;
    if (end < AT_ICMP + 8) {
        return false;
    }
    if (frame[AT_IP + 9] == PROTOCOL_ICMP && data[0] == ICMP_ECHO) {
        if (checksum(data, end - AT_ICMP) != 0) {
            return false;
        }
        data[0] = ICMP_ECHO_REPLY;
        put16(data + 2, 0);
        put16(data + 2, checksum(data, end - AT_ICMP));
        return true;
    }
    if (frame[AT_IP + 9] == PROTOCOL_UDP && get16(data + 2) == UDP_PORT_ECHO) {
        uint16_t from = get16(data);
        put16(data, UDP_PORT_ECHO);
        put16(data + 2, from);
        put16(data + 6, 0); /* without a checksum */
        return true;
    }
    return false;
}

uint32_t ip_answer(uint8_t *frame, const uint8_t *asked, uint32_t size, const uint8_t *mac,
                   uint32_t address)
{
    if (is_arp(asked, size, ARP_REQUEST)) {
        return answer_arp(frame, asked, mac, address);
    }
    uint32_t end = ip_end(asked, size, address);
    if (end == 0) {
        return 0;
    }
    memcpy(frame, asked, end);
    if (!answer_ip(frame, end)) {
        return 0;
    }
    put_ethernet(frame, asked + NET_MAC_SIZE, mac, TYPE_IPV4);
    put_ip(frame, end, asked[AT_IP + 9], address, get32(asked + AT_IP + 12));
    for (; end < NET_FRAME_MIN; end++) {
        frame[end] = 0;
    }
    return end;
}

void ip_make_echo(uint8_t *frame, uint32_t size, const uint8_t *from_mac, const uint8_t *to_mac,
                  uint32_t from, uint32_t to, uint16_t sequence)
{
    uint8_t *icmp = frame + AT_ICMP;
    put_ethernet(frame, to_mac, from_mac, TYPE_IPV4);
    put_ip(frame, size, PROTOCOL_ICMP, from, to);
    icmp[0] = ICMP_ECHO;
    icmp[1] = 0;
    put16(icmp + 2, 0);
    put16(icmp + 4, ECHO_ID);
    put16(icmp + 6, sequence);
    for (uint32_t i = IP_ECHO_HEADERS; i < size; i++) {
        frame[i] = (uint8_t)(i + sequence);
    }
    put16(icmp + 2, checksum(icmp, size - AT_ICMP));
}

bool ip_is_echo_reply(const uint8_t *frame, uint32_t size, uint32_t own, uint16_t *sequence)
{
    const uint8_t *icmp = frame + AT_ICMP;
    uint32_t end = ip_end(frame, size, own);
    if (end < IP_ECHO_HEADERS || frame[AT_IP + 9] != PROTOCOL_ICMP || icmp[0] != ICMP_ECHO_REPLY ||
        get16(icmp + 4) != ECHO_ID || checksum(icmp, end - AT_ICMP) != 0) {
        return false;
    }
    *sequence = get16(icmp + 6);
    return true;
}
