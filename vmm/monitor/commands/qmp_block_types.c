/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/commands/qmp_block.h"

const QmpType qmp_io_operation_type = {
    .name = "IoOperationType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("read", "write"),
    .doc = "Whether data comes from a disk or goes to it.",
};
const QmpType qmp_block_error_action = {
    .name = "BlockErrorAction",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("ignore", "report", "stop"),
    .doc = "What becomes of an I/O error: nothing, the guest is told, the VM stops.",
};
const QmpType qmp_block_device_status = {
    .name = "BlockDeviceIoStatus",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("ok", "failed", "nospace"),
    .doc = "Whether the VM was stopped by an I/O error of a disk.",
};

static const QmpType qmp_uint64 = {
    .name = "uint64", .kind = QMP_KIND_SIZE, .doc = "An integer of 0 and above."};
const QmpType qmp_u64_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_uint64};

/* ---- nodes ---- */

static const QmpType detect_zeroes_type = {
    .name = "BlockdevDetectZeroesOptions",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("off", "on", "unmap"),
};

static const QmpType cache_info_type = {
    .name = "BlockdevCacheInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"writeback", &qmp_bool, .doc = "writes wait in a cache for a flush"},
                           {"direct", &qmp_bool, .doc = "the host's page cache is bypassed"},
                           {"no-flush", &qmp_bool, .doc = "flushes are ignored"}),
};

static const QmpType image_info_type = {
    .name = "ImageInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"filename", &qmp_str, .doc = "where it is stored"},
                           {"format", &qmp_str, .doc = "the node's driver"},
                           {"dirty-flag", &qmp_bool, true, .doc = "the image was not closed well"},
                           {"virtual-size", &qmp_int, .doc = "bytes that a guest sees"}),
    .doc = "An image. Its size on the host is not told: asking could hang with its storage.",
};

static const QmpType block_device_info_type = {
    .name = "BlockDeviceInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"file", &qmp_str, .doc = "where it is stored"},
                           {"node-name", &qmp_str, true, .doc = "the node's name"},
                           {"ro", &qmp_bool, .doc = "whether writes are refused"},
                           {"drv", &qmp_str, .doc = "the node's driver"},
                           {"backing_file_depth", &qmp_int, .doc = "0: there are no backing files"},
                           {"encrypted", &qmp_bool, .doc = "always false"},
                           {"active", &qmp_bool, .doc = "always true"},
                           {"detect_zeroes", &detect_zeroes_type, .doc = "always off"},
                           {"bps", &qmp_int, .doc = "always 0: no limit"},
                           {"bps_rd", &qmp_int, .doc = "always 0: no limit"},
                           {"bps_wr", &qmp_int, .doc = "always 0: no limit"},
                           {"iops", &qmp_int, .doc = "always 0: no limit"},
                           {"iops_rd", &qmp_int, .doc = "always 0: no limit"},
                           {"iops_wr", &qmp_int, .doc = "always 0: no limit"},
                           {"image", &image_info_type, .doc = "the image"},
                           {"cache", &cache_info_type, .doc = "how writes reach the disk"},
                           {"write_threshold", &qmp_int, .doc = "always 0: none"}),
    .doc = "A node.",
};
const QmpType qmp_block_device_info_list = {.kind = QMP_KIND_ARRAY,
                                            .element = &block_device_info_type};

static const QmpType block_info_type = {
    .name = "BlockInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"device", &qmp_str, .doc = "the id of its -drive; empty: it came as -blockdev"},
        {"qdev", &qmp_str, true, .doc = "the path of the guest's device"},
        {"type", &qmp_str, .doc = "always \"unknown\""},
        {"removable", &qmp_bool, .doc = "true only of a drive without a device"},
        {"locked", &qmp_bool, .doc = "always false"},
        {"inserted", &block_device_info_type, true, .doc = "its root node"},
        {"io-status", &qmp_block_device_status, true, .doc = "whether its error stopped the VM"}),
    .doc = "A disk of the guest.",
};
const QmpType qmp_block_info_list = {.kind = QMP_KIND_ARRAY, .element = &block_info_type};

/* ---- statistics ---- */

static const QmpType histogram_type = {
    .name = "BlockLatencyHistogramInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"boundaries", &qmp_u64_list, .doc = "ns, ascending"},
                           {"bins", &qmp_u64_list, .doc = "requests below, between, above them"}),
    .doc = "How long requests took.",
};
static const QmpType timed_stats_type = {
    .name = "BlockDeviceTimedStats", .kind = QMP_KIND_STRUCT, .doc = "There are none."};
static const QmpType timed_stats_list = {.kind = QMP_KIND_ARRAY, .element = &timed_stats_type};

static const QmpType block_device_stats_type = {
    .name = "BlockDeviceStats",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"rd_bytes", &qmp_int, .doc = "bytes of reads that succeeded"},
        {"wr_bytes", &qmp_int, .doc = "bytes of writes that succeeded"},
        {"zone_append_bytes", &qmp_int, .doc = "bytes of zone appends that succeeded"},
        {"unmap_bytes", &qmp_int, .doc = "bytes of discards that succeeded"},
        {"rd_operations", &qmp_int, .doc = "reads that succeeded"},
        {"wr_operations", &qmp_int, .doc = "writes that succeeded"},
        {"zone_append_operations", &qmp_int, .doc = "zone appends that succeeded"},
        {"flush_operations", &qmp_int, .doc = "flushes that succeeded"},
        {"unmap_operations", &qmp_int, .doc = "discards that succeeded"},
        {"rd_total_time_ns", &qmp_int, .doc = "time that reads took, in all"},
        {"wr_total_time_ns", &qmp_int, .doc = "time that writes took, in all"},
        {"zone_append_total_time_ns", &qmp_int, .doc = "time that zone appends took, in all"},
        {"flush_total_time_ns", &qmp_int, .doc = "time that flushes took, in all"},
        {"unmap_total_time_ns", &qmp_int, .doc = "time that discards took, in all"},
        {"wr_highest_offset", &qmp_int, .doc = "the end of the furthest write"},
        {"rd_merged", &qmp_int, .doc = "always 0: skiff merges none"},
        {"wr_merged", &qmp_int, .doc = "always 0: skiff merges none"},
        {"zone_append_merged", &qmp_int, .doc = "always 0: skiff merges none"},
        {"unmap_merged", &qmp_int, .doc = "always 0: skiff merges none"},
        {"idle_time_ns", &qmp_int, true, .doc = "since the last request; absent: there was none"},
        {"failed_rd_operations", &qmp_int, .doc = "reads that failed"},
        {"failed_wr_operations", &qmp_int, .doc = "writes that failed"},
        {"failed_zone_append_operations", &qmp_int, .doc = "zone appends that failed"},
        {"failed_flush_operations", &qmp_int, .doc = "flushes that failed"},
        {"failed_unmap_operations", &qmp_int, .doc = "discards that failed"},
        {"invalid_rd_operations", &qmp_int, .doc = "that could not be: beyond the end"},
        {"invalid_wr_operations", &qmp_int, .doc = "writes that could not be"},
        {"invalid_zone_append_operations", &qmp_int, .doc = "zone appends that could not be"},
        {"invalid_flush_operations", &qmp_int, .doc = "flushes that could not be"},
        {"invalid_unmap_operations", &qmp_int, .doc = "discards that could not be"},
        {"account_invalid", &qmp_bool, .doc = "always false: they change no times"},
        {"account_failed", &qmp_bool, .doc = "always true: failed ones count in times"},
        {"timed_stats", &timed_stats_list, .doc = "always empty"},
        {"in_flight", &qmp_int, true, .doc = "requests under way now (not in QEMU)"},
        {"rd_latency_histogram", &histogram_type, true, .doc = "of reads, where one was asked for"},
        {"wr_latency_histogram", &histogram_type, true,
         .doc = "of writes, where one was asked for"},
        {"flush_latency_histogram", &histogram_type, true,
         .doc = "of flushes, where one was asked for"}),
    .doc = "What was done with a disk since it was opened.",
};

static const QmpType block_stats_type;
static const QmpMember block_stats_members[] = {
    {"device", &qmp_str, true, .doc = "the id of its -drive; empty: it came as -blockdev"},
    {"qdev", &qmp_str, true, .doc = "the path of the guest's device"},
    {"node-name", &qmp_str, true, .doc = "the root node's name"},
    {"stats", &block_device_stats_type, .doc = "the counts"},
    {"parent", &block_stats_type, true, .doc = "the node below, as QEMU calls it"},
    {0},
};
static const QmpType block_stats_type = {
    .name = "BlockStats",
    .kind = QMP_KIND_STRUCT,
    .members = block_stats_members,
    .doc = "Statistics of a disk. Requests are counted where the guest's devices hand them in.",
};
const QmpType qmp_block_stats_list = {.kind = QMP_KIND_ARRAY, .element = &block_stats_type};
