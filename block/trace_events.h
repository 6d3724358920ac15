/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SKIFF_BLOCK_TRACE_EVENTS_H
#define SKIFF_BLOCK_TRACE_EVENTS_H

#include "util/trace.h"

TRACE_EVENT(block_request_begin,
            (const char *blk, const char *op, uint64_t offset, uint64_t bytes, unsigned in_flight),
            "blk=%s op=%s offset=%" PRIu64 " bytes=%" PRIu64 " in_flight=%u", blk, op, offset,
            bytes, in_flight)
TRACE_EVENT(block_request_throttle,
            (const char *blk, const char *op, uint64_t offset, uint64_t bytes),
            "blk=%s op=%s offset=%" PRIu64 " bytes=%" PRIu64, blk, op, offset, bytes)
TRACE_EVENT(block_request_queue, (const char *blk, const char *op), "blk=%s op=%s", blk, op)
TRACE_EVENT(block_request_end, (const char *blk, const char *op, uint64_t offset, int ret),
            "blk=%s op=%s offset=%" PRIu64 " ret=%d", blk, op, offset, ret)
TRACE_EVENT(block_lane_gate, (const char *blk, unsigned from, unsigned to), "blk=%s from=%u to=%u",
            blk, from, to)
TRACE_EVENT(block_drain_begin, (const char *blk, unsigned depth, unsigned in_flight),
            "blk=%s depth=%u in_flight=%u", blk, depth, in_flight)
TRACE_EVENT(block_drain_done, (const char *blk), "blk=%s", blk)
TRACE_EVENT(block_drain_end, (const char *blk, unsigned depth), "blk=%s depth=%u", blk, depth)
TRACE_EVENT(block_node_open, (const char *node, const char *driver, uint64_t size),
            "node=%s driver=%s size=%" PRIu64, node, driver, size)
TRACE_EVENT(block_node_close, (const char *node), "node=%s", node)
TRACE_EVENT(block_node_reopen, (const char *node, bool read_only, bool direct),
            "node=%s read_only=%d direct=%d", node, read_only, direct)
TRACE_EVENT(block_graph_begin, (unsigned nodes, unsigned backends), "nodes=%u backends=%u", nodes,
            backends)
TRACE_EVENT(block_graph_end, (unsigned steps, bool committed), "steps=%u committed=%d", steps,
            committed)
TRACE_EVENT(block_node_truncate, (const char *node, uint64_t size, int ret),
            "node=%s size=%" PRIu64 " ret=%d", node, size, ret)
TRACE_EVENT(block_snapshot_freeze, (const char *node, int64_t held_ns), "node=%s held_ns=%" PRId64,
            node, held_ns)
TRACE_EVENT(block_copy_read, (const char *node, uint64_t offset, uint64_t bytes, bool zero),
            "node=%s offset=%" PRIu64 " bytes=%" PRIu64 " zero=%d", node, offset, bytes, zero)
TRACE_EVENT(block_copy_end, (const char *node, uint64_t offset, uint64_t bytes, int ret),
            "node=%s offset=%" PRIu64 " bytes=%" PRIu64 " ret=%d", node, offset, bytes, ret)
TRACE_EVENT(block_engine_submit, (const char *engine, unsigned count, int ret),
            "engine=%s count=%u ret=%d", engine, count, ret)
TRACE_EVENT(block_engine_reap, (const char *engine, unsigned count, unsigned in_flight),
            "engine=%s count=%u in_flight=%u", engine, count, in_flight)
TRACE_EVENT(block_file_io_error, (const char *node, const char *op, uint64_t offset, int ret),
            "node=%s op=%s offset=%" PRIu64 " ret=%d", node, op, offset, ret)
TRACE_EVENT(block_file_lane_refused, (const char *node, const char *reason), "node=%s %s", node,
            reason)
TRACE_EVENT(block_nbd_up, (const char *node, unsigned link), "node=%s link=%u", node, link)
TRACE_EVENT(block_nbd_lost, (const char *node, unsigned link, unsigned in_flight, uint64_t replies),
            "node=%s link=%u in_flight=%u replies=%" PRIu64, node, link, in_flight, replies)
TRACE_EVENT(block_fault_inject, (const char *node, const char *op, uint64_t offset, int ret),
            "node=%s op=%s offset=%" PRIu64 " ret=%d", node, op, offset, ret)
TRACE_EVENT(nbd_session_begin, (int fd), "fd=%d", fd)
TRACE_EVENT(nbd_session_overdue, (int fd), "fd=%d", fd)
TRACE_EVENT(nbd_session_ending, (int fd, int ret, unsigned requests), "fd=%d ret=%d requests=%u",
            fd, ret, requests)
TRACE_EVENT(nbd_session_end, (int fd), "fd=%d", fd)
TRACE_EVENT(nbd_negotiated, (int fd, int ret), "fd=%d ret=%d", fd, ret)
TRACE_EVENT(nbd_option, (int fd, uint32_t option, uint32_t length), "fd=%d option=%u length=%u", fd,
            option, length)
TRACE_EVENT(nbd_option_error, (int fd, uint32_t option, uint32_t error, const char *text),
            "fd=%d option=%u error=%u %s", fd, option, error, text)
TRACE_EVENT(nbd_request,
            (int fd, unsigned type, unsigned flags, uint64_t cookie, uint64_t offset,
             uint64_t length),
            "fd=%d type=%u flags=%#x cookie=%#" PRIx64 " offset=%" PRIu64 " length=%" PRIu64, fd,
            type, flags, cookie, offset, length)
TRACE_EVENT(nbd_request_refused, (int fd, unsigned type, uint32_t error, const char *why),
            "fd=%d type=%u error=%u %s", fd, type, error, why)

#endif
