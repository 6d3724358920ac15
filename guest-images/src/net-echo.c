/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers ARP, ICMP echo requests, and UDP datagrams to port 7, whose data go back.
 *
 * Words: `ip=` (10.0.2.15) its address, `frames=N` (0: no end) passes after so many answers, `until=button` passes
 * when the power button is pressed, and those of lib/net.h. A change of the link is printed.
 */
#include "lib/guest.h"
#include "lib/clock.h"
#include "lib/ip.h"
#include "lib/net.h"
#include "lib/power.h"

#define OWN_ADDRESS 0x0a00020fu
#define LOOK_NS (100 * CLOCK_NS_PER_MS) /* between two looks at what costs an exit */

static NetDevice *net;
static uint32_t own;
static uint64_t answered;

static void answer(const uint8_t *asked, uint32_t size)
{
    uint8_t *frame = net_frame_to_send(net);
    if (frame == NULL) {
        return; /* dropped, as a full network does */
    }
    uint32_t answer_size = ip_answer(frame, asked, size, net->mac, own);
    if (answer_size != 0) {
        net_send(net, answer_size);
        answered++;
    }
}

static void look_at_link(void)
{
    static bool shown;
    bool up = net_link_up(net);
    if (up != shown) {
        printf("net-echo: link %s\n", up ? "up" : "down");
        shown = up;
    }
}

void guest_main(void)
{
    own = ip_get_address("ip", OWN_ADDRESS);
    uint64_t wanted = bootinfo_get_number("frames", 0);
    bool until_button = bootinfo_is_value("until", "button");
    net = net_open();
    look_at_link();
    printf("net-echo: ready\n");
    uint64_t looked_ns = clock_now_ns();
    while (wanted == 0 || answered < wanted) {
        uint32_t size;
        const uint8_t *asked;
        bool any = false;
        while ((asked = net_receive(net, &size)) != NULL) {
            answer(asked, size);
            any = true;
        }
        net_flush(net);
        if (clock_now_ns() - looked_ns >= LOOK_NS) {
            looked_ns = clock_now_ns();
            look_at_link();
            if (until_button && power_button_pressed()) {
                break;
            }
        }
        if (!any) {
            net_wait(net);
        }
    }
    printf("net-echo: PASS answered=%lu received=%lu interrupts=%lu\n", answered, net->received,
           net->interrupts);
}
