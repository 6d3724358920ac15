/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/commands/qmp_block.h"

const QmpType qmp_io_operation_type = {
    .name = "IoOperationType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("read", "write"),
    .doc = "The direction of an I/O operation.",
};
const QmpType qmp_block_error_action = {
    .name = "BlockErrorAction",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("ignore", "report", "stop"),
    .doc = "The reaction to an I/O error: ignore it, report it to the guest, stop the VM.",
};
const QmpType qmp_block_device_status = {
    .name = "BlockDeviceIoStatus",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("ok", "failed", "nospace"),
    .doc = "Whether the VM was stopped by an I/O error of a disk.",
};

static const QmpType qmp_uint64 = {
    .name = "uint64", .kind = QMP_KIND_SIZE, .doc = "An integer of at least 0."};
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
    .members = QMP_MEMBERS({"writeback", &qmp_bool, .doc = "writes are cached until a flush"},
                           {"direct", &qmp_bool, .doc = "the host's page cache is bypassed"},
                           {"no-flush", &qmp_bool, .doc = "flushes are ignored"}),
};

/* ---- images ---- */

const QmpType qmp_snapshot_info = {
    .name = "SnapshotInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "a number, if skiff or QEMU has chosen it"},
                           {"name", &qmp_str, .doc = "as the user has chosen it"},
                           {"vm-state-size", &qmp_int, .doc = "bytes"},
                           {"date-sec", &qmp_int, .doc = "since 1970"},
                           {"date-nsec", &qmp_int, .doc = "ns of that second"},
                           {"vm-clock-sec", &qmp_int, .doc = "of the guest's clock"},
                           {"vm-clock-nsec", &qmp_int, .doc = "ns of that second"},
                           {"icount", &qmp_int, true, .doc = "only if QEMU has recorded it"}),
};
static const QmpType snapshot_info_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_snapshot_info};

static const QmpType image_bitmap_flag_type = {
    .name = "Qcow2BitmapInfoFlags",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("in-use", "auto"),
};
static const QmpType image_bitmap_flags = {.kind = QMP_KIND_ARRAY,
                                           .element = &image_bitmap_flag_type};
static const QmpType image_bitmap_type = {
    .name = "Qcow2BitmapInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "the bitmap's name"},
                           {"granularity", &qmp_u32, .doc = "bytes for each bit"},
                           {"flags", &image_bitmap_flags, .doc = "as in the image"}),
};
static const QmpType image_bitmap_list = {.kind = QMP_KIND_ARRAY, .element = &image_bitmap_type};

static const QmpType image_compression_type = {
    .name = "Qcow2CompressionType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("zlib", "zstd"),
};
static const QmpType image_specific_kind = {
    .name = "ImageInfoSpecificKind",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("qcow2", "file"),
};
static const QmpType image_qcow2_type = {
    .name = "ImageInfoSpecificQCow2",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"compat", &qmp_str, true, .doc = "\"0.10\": version 2; \"1.1\": version 3"},
        {"compression-type", &image_compression_type, true, .doc = "of compressed clusters"},
        {"lazy-refcounts", &qmp_bool, true, .doc = "refcounts are written late"},
        {"bitmaps", &image_bitmap_list, true, .doc = "the dirty bitmaps that the image keeps"},
        {"refcount-bits", &qmp_int, true, .doc = "the width of a refcount"},
        {"data-file", &qmp_str, true, .doc = "the file of the data, as the image names it"},
        {"data-file-raw", &qmp_bool, true, .doc = "the data file is also a raw image"},
        {"corrupt", &qmp_bool, true, .doc = "the image is marked as corrupt"},
        {"extended-l2", &qmp_bool, true, .doc = "clusters have subclusters"}),
    .doc = "What a qcow2 image says about itself. All members are absent for other formats.",
};
static const QmpType image_specific_type = {
    .name = "ImageInfoSpecific",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"type", &image_specific_kind, .doc = "the format"},
                           {"data", &image_qcow2_type, .doc = "empty for a file"}),
};

static const QmpType image_info_type;
static const QmpMember image_info_members[] = {
    {"filename", &qmp_str, .doc = "its file"},
    {"format", &qmp_str, .doc = "the node's driver"},
    {"dirty-flag", &qmp_bool, true, .doc = "the image was not closed cleanly"},
    {"actual-size", &qmp_int, true, .doc = "bytes on the host, as its kernel knows them"},
    {"virtual-size", &qmp_int, .doc = "the guest's size in bytes"},
    {"cluster-size", &qmp_int, true, .doc = "bytes of a cluster, if the format has clusters"},
    {"backing-filename", &qmp_str, true, .doc = "the backing file as the image names it"},
    {"full-backing-filename", &qmp_str, true, .doc = "the file that the name means"},
    {"backing-filename-format", &qmp_str, true, .doc = "its format as the image names it"},
    {"snapshots", &snapshot_info_list, true, .doc = "the internal snapshots, if there are any"},
    {"backing-image", &image_info_type, true, .doc = "the image below"},
    {"format-specific", &image_specific_type, true, .doc = "what depends on the format"},
    {0},
};
static const QmpType image_info_type = {
    .name = "ImageInfo",
    .kind = QMP_KIND_STRUCT,
    .members = image_info_members,
    .doc = "An image, as skiff has it in memory: the query does not read the image, so it answers "
           "while storage hangs.",
};

static const QmpType bitmap_info_type = {
    .name = "BlockDirtyInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, true, .doc = "the bitmap's name"},
                           {"count", &qmp_int, .doc = "bytes that its set bits stand for"},
                           {"granularity", &qmp_u32, .doc = "bytes for each bit"},
                           {"recording", &qmp_bool, .doc = "whether changes are recorded"},
                           {"busy", &qmp_bool, .doc = "it is exported, or an operation uses it"},
                           {"persistent", &qmp_bool, .doc = "whether the image keeps it"},
                           {"inconsistent", &qmp_bool, true,
                            .doc = "true: its bits are lost; it can only be removed"}),
    .doc = "A dirty bitmap.",
};
static const QmpType bitmap_info_list = {.kind = QMP_KIND_ARRAY, .element = &bitmap_info_type};

static const QmpType block_device_info_type = {
    .name = "BlockDeviceInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"file", &qmp_str, .doc = "its file"},
        {"node-name", &qmp_str, true, .doc = "the node's name"},
        {"ro", &qmp_bool, .doc = "whether writes are refused"},
        {"drv", &qmp_str, .doc = "the node's driver"},
        {"backing_file", &qmp_str, true, .doc = "the file of the image below"},
        {"backing_file_depth", &qmp_int, .doc = "the number of images below"},
        {"encrypted", &qmp_bool, .doc = "always false"},
        {"active", &qmp_bool, .doc = "always true"},
        {"detect_zeroes", &detect_zeroes_type, .doc = "always off"},
        {"bps", &qmp_int, .doc = "limit of bytes a second; 0: none"},
        {"bps_rd", &qmp_int, .doc = "of reads"}, {"bps_wr", &qmp_int, .doc = "of writes"},
        {"iops", &qmp_int, .doc = "limit of requests a second; 0: none"},
        {"iops_rd", &qmp_int, .doc = "of reads"}, {"iops_wr", &qmp_int, .doc = "of writes"},
        {"image", &image_info_type, .doc = "the image"},
        {"bps_max", &qmp_int, true, .doc = "the same in a burst"},
        {"bps_rd_max", &qmp_int, true, .doc = "the same in a burst"},
        {"bps_wr_max", &qmp_int, true, .doc = "the same in a burst"},
        {"iops_max", &qmp_int, true, .doc = "the same in a burst"},
        {"iops_rd_max", &qmp_int, true, .doc = "the same in a burst"},
        {"iops_wr_max", &qmp_int, true, .doc = "the same in a burst"},
        {"bps_max_length", &qmp_int, true, .doc = "seconds of a burst"},
        {"bps_rd_max_length", &qmp_int, true, .doc = "seconds of a burst"},
        {"bps_wr_max_length", &qmp_int, true, .doc = "seconds of a burst"},
        {"iops_max_length", &qmp_int, true, .doc = "seconds of a burst"},
        {"iops_rd_max_length", &qmp_int, true, .doc = "seconds of a burst"},
        {"iops_wr_max_length", &qmp_int, true, .doc = "seconds of a burst"},
        {"iops_size", &qmp_int, true, .doc = "bytes that count as one request"},
        {"group", &qmp_str, true, .doc = "the throttle group"},
        {"cache", &cache_info_type, .doc = "its cache mode"},
        {"dirty-bitmaps", &bitmap_info_list, true, .doc = "if it has some"},
        {"write_threshold", &qmp_int, .doc = "always 0: none"}),
    .doc = "A node.",
};
const QmpType qmp_block_device_info_list = {.kind = QMP_KIND_ARRAY,
                                            .element = &block_device_info_type};

static const QmpType block_info_type = {
    .name = "BlockInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"device", &qmp_str, .doc = "the id of its -drive; empty for a -blockdev"},
        {"qdev", &qmp_str, true, .doc = "the path of the guest's device"},
        {"type", &qmp_str, .doc = "always \"unknown\""},
        {"removable", &qmp_bool, .doc = "a CD drive, or a drive without a device"},
        {"locked", &qmp_bool, .doc = "whether the guest keeps the tray closed"},
        {"tray_open", &qmp_bool, true, .doc = "of a CD drive: whether its tray is open"},
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
    .doc = "A histogram of request latency.",
};
static const QmpType timed_stats_type = {
    .name = "BlockDeviceTimedStats", .kind = QMP_KIND_STRUCT, .doc = "Never returned."};
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
        {"rd_total_time_ns", &qmp_int, .doc = "total time of reads"},
        {"wr_total_time_ns", &qmp_int, .doc = "total time of writes"},
        {"zone_append_total_time_ns", &qmp_int, .doc = "total time of zone appends"},
        {"flush_total_time_ns", &qmp_int, .doc = "total time of flushes"},
        {"unmap_total_time_ns", &qmp_int, .doc = "total time of discards"},
        {"wr_highest_offset", &qmp_int, .doc = "the highest end of a write, in bytes"},
        {"rd_merged", &qmp_int, .doc = "always 0: skiff merges none"},
        {"wr_merged", &qmp_int, .doc = "always 0: skiff merges none"},
        {"zone_append_merged", &qmp_int, .doc = "always 0: skiff merges none"},
        {"unmap_merged", &qmp_int, .doc = "always 0: skiff merges none"},
        {"idle_time_ns", &qmp_int, true, .doc = "since the last request; absent if there was none"},
        {"failed_rd_operations", &qmp_int, .doc = "reads that failed"},
        {"failed_wr_operations", &qmp_int, .doc = "writes that failed"},
        {"failed_zone_append_operations", &qmp_int, .doc = "zone appends that failed"},
        {"failed_flush_operations", &qmp_int, .doc = "flushes that failed"},
        {"failed_unmap_operations", &qmp_int, .doc = "discards that failed"},
        {"invalid_rd_operations", &qmp_int, .doc = "invalid reads, for example beyond the end"},
        {"invalid_wr_operations", &qmp_int, .doc = "invalid writes"},
        {"invalid_zone_append_operations", &qmp_int, .doc = "invalid zone appends"},
        {"invalid_flush_operations", &qmp_int, .doc = "invalid flushes"},
        {"invalid_unmap_operations", &qmp_int, .doc = "invalid discards"},
        {"account_invalid", &qmp_bool, .doc = "always false: times exclude invalid operations"},
        {"account_failed", &qmp_bool, .doc = "always true: times include failed operations"},
        {"timed_stats", &timed_stats_list, .doc = "always empty"},
        {"in_flight", &qmp_int, true, .doc = "requests in flight (not in QEMU)"},
        {"rd_latency_histogram", &histogram_type, true, .doc = "of reads, if enabled"},
        {"wr_latency_histogram", &histogram_type, true, .doc = "of writes, if enabled"},
        {"flush_latency_histogram", &histogram_type, true, .doc = "of flushes, if enabled"}),
    .doc = "I/O statistics of a disk since it was opened.",
};

static const QmpType block_stats_type;
static const QmpMember block_stats_members[] = {
    {"device", &qmp_str, true, .doc = "the id of its -drive; empty for a -blockdev"},
    {"qdev", &qmp_str, true, .doc = "the path of the guest's device"},
    {"node-name", &qmp_str, true, .doc = "the root node's name"},
    {"stats", &block_device_stats_type, .doc = "the counts"},
    {"parent", &block_stats_type, true, .doc = "the file's node below (QEMU's name)"},
    {"backing", &block_stats_type, true, .doc = "the backing node below"},
    {0},
};
static const QmpType block_stats_type = {
    .name = "BlockStats",
    .kind = QMP_KIND_STRUCT,
    .members = block_stats_members,
    .doc = "Statistics of a disk. Requests are counted when devices submit them.",
};
const QmpType qmp_block_stats_list = {.kind = QMP_KIND_ARRAY, .element = &block_stats_type};
