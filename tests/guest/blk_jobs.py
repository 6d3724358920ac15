# SPDX-License-Identifier: Apache-2.0
# Read by tests/guest/blk-jobs.sh and linux-jobs.sh: a generated schedule of block jobs. `vm` is the VM of
# verify-qmp.bash. With LINUX set the guest is Linux, which is not reset, and ends by itself.
import hashlib
import random
import subprocess

image, seed, kinds, options, qcow2_options = os.path.realpath(sys.argv[3]), *sys.argv[4:8]
rng = random.Random(int(seed))
other = Qmp(work + "/qmp2")
linux = "LINUX" in os.environ
FAST = 1 << 40  # bytes a second
SIZE = int(os.environ.get("LINUX", 64 << 20))


def qemu_img(*words):
    subprocess.run(["qemu-img", *words], check=True)


def digest(path, file_format):
    """Of the disk that qemu-img reads, also while the VM has the image open."""
    qemu_img("convert", "-U", "-f", file_format, "-O", "raw", path, work + "/digest.raw")
    with open(work + "/digest.raw", "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def writes_go_on():
    last = stats()["wr_operations"]
    wait_until(lambda: stats()["wr_operations"] > last)


class Schedule:
    """The chain of nodes, the active one first, and what is done to it."""

    def __init__(self):
        self.chain = [("node0", image)]  # without the raw image at the bottom
        self.made = 0
        self.done = []

    # ---- nodes ----

    def new_image(self, backing=None, size=SIZE):
        """Creates an image and its node, without a backing node. Returns the node's name and the file's."""
        self.made += 1
        name, path = "node%d" % self.made, "%s.%d" % (image, self.made)
        words = ["-u", "-b", backing, "-F", "qcow2"] if backing else []
        qemu_img("create", "-q", "-f", "qcow2", "-o", qcow2_options, *words, path, str(size))
        file = {"driver": "file", "filename": path, "node-name": "file%d" % self.made, "discard": "unmap"}
        for option in options.strip(",").split(","):
            key, value = option.split("=")
            if key == "cache.direct":
                file["cache"] = {"direct": value == "on"}
            else:
                file[key] = value
        vm.cmd("blockdev-add", driver="qcow2", **{
            "node-name": name, "discard": "unmap", "file": file, "backing": None})
        return name, path

    def delete(self, node):
        vm.cmd("blockdev-del", **{"node-name": node[0]})

    # ---- jobs ----

    def job(self, job_id):
        return next((j for j in vm.cmd("query-jobs") if j["id"] == job_id), None)

    def disturb(self, job_id):
        """Does something to the job or to the VM."""
        kind = rng.choice(["pause", "speed", "stop", "nothing" if linux else "reset", "resize", "nothing", "nothing"])
        if kind == "pause":
            try:
                vm.cmd("job-pause", id=job_id)
                time.sleep(rng.random() / 50)
                vm.cmd("job-resume", id=job_id)
            except QmpError as e:  # it has ended
                assert self.job(job_id) is None or "in state" in e.desc, e
        elif kind == "speed":
            try:
                vm.cmd("block-job-set-speed", device=job_id, speed=rng.choice([0, 1 << 20, 64 << 20]))
                time.sleep(rng.random() / 50)
                vm.cmd("block-job-set-speed", device=job_id, speed=rng.choice([0, FAST]))
            except QmpError as e:
                assert self.job(job_id) is None or "in state" in e.desc, e
        elif kind == "stop":
            other.cmd("stop")
            time.sleep(rng.random() / 50)
            other.cmd("cont")
        elif kind == "reset":
            other.cmd("system_reset")
        elif kind == "resize":
            try:
                other.cmd("block_resize", **{"node-name": self.chain[0][0], "size": SIZE})
            except QmpError:  # the job does not allow it
                pass

    def run(self, command, ready=False, cancel=False, **arguments):
        """A job up to its end. @ready: it has a READY phase, which "complete" or "cancel" ends. Returns
        whether it has taken effect. Most jobs leave the guest no time, since they have a speed: they take
        seconds less."""
        job_id = "job%d" % self.made
        self.made += 1
        speed = rng.choice([0, FAST, FAST, FAST])
        vm.cmd(command, **{"job-id": job_id, "auto-dismiss": False, "speed": speed, **arguments})
        for _ in range(rng.randrange(4)):
            self.disturb(job_id)
        if cancel and rng.random() < 0.5:
            self.try_to(lambda: vm.cmd("block-job-cancel", device=job_id, force=True), job_id)
        elif ready:
            self.wait_ready(job_id)
            self.disturb(job_id)
            if cancel:
                self.try_to(lambda: vm.cmd("block-job-cancel", device=job_id), job_id)
            else:
                self.complete(job_id)
        wait_until(lambda: self.job(job_id)["status"] == "concluded")
        end = self.job(job_id)
        vm.cmd("job-dismiss", id=job_id)
        self.done.append((command, end.get("error")))
        assert "error" not in end or (cancel and "cancel" in end["error"].lower()), end
        return "error" not in end

    def wait_ready(self, job_id):
        """A guest that writes faster than the storage copies is stopped for a moment."""
        slow = time.monotonic() + 20
        wait_until(lambda: self.job(job_id)["status"] in ("ready", "concluded") or time.monotonic() > slow)
        if self.job(job_id)["status"] not in ("ready", "concluded"):
            other.cmd("stop")
            wait_until(lambda: self.job(job_id)["status"] in ("ready", "concluded"))
            other.cmd("cont")

    def complete(self, job_id):
        """The job may be paused for a moment still."""
        while True:
            try:
                vm.cmd("block-job-complete", device=job_id)
                return
            except QmpError as e:
                assert self.job(job_id)["status"] == "standby", e
                time.sleep(0.01)

    def try_to(self, verb, job_id):
        try:
            verb()
        except QmpError as e:  # it has ended meanwhile
            assert self.job(job_id) is None or self.job(job_id)["status"] == "concluded", e

    # ---- operations ----

    def snapshot(self):
        if len(self.chain) > 5:
            return
        node = self.new_image(backing=self.chain[0][1])
        vm.cmd("blockdev-snapshot", node=self.chain[0][0], overlay=node[0])
        self.chain.insert(0, node)

    def commit(self):
        if len(self.chain) < 3:
            return
        top = rng.randrange(1, len(self.chain) - 1)
        base = rng.randrange(top + 1, len(self.chain))
        if self.run("block-commit", cancel=rng.random() < 0.3, device=self.chain[0][0],
                    **{"top-node": self.chain[top][0], "base-node": self.chain[base][0]}):
            self.drop(top, base)

    def stream(self):
        if len(self.chain) < 2:
            return
        base = rng.randrange(1, len(self.chain))
        if self.run("block-stream", cancel=rng.random() < 0.3, device=self.chain[0][0],
                    **{"base-node": self.chain[base][0]}):
            self.drop(1, base)

    def drop(self, first, end):
        """The nodes from @first up to @end are no longer in the chain."""
        for node in self.chain[first:end]:
            self.delete(node)
        del self.chain[first:end]

    def active_commit(self):
        if len(self.chain) < 2:
            return
        base = rng.randrange(1, len(self.chain))
        if self.run("block-commit", ready=True, device=self.chain[0][0],
                    **{"base-node": self.chain[base][0]}):
            self.drop(0, base)

    def mirror(self):
        cancel = rng.random() < 0.5
        node = self.new_image()
        arguments = {"sync": "full", "copy-mode": rng.choice(["background", "write-blocking"])}
        if rng.random() < 0.5:
            arguments["granularity"] = rng.choice([4096, 65536, 1 << 20])
        worked = self.run("blockdev-mirror", ready=True, cancel=cancel, device=self.chain[0][0], target=node[0],
                          **arguments)
        if worked and not cancel:
            self.drop(0, len(self.chain))
            self.chain = [node]
        else:
            self.delete(node)

    def backup(self):
        """The point in time of the backup is while the VM is stopped."""
        node = self.new_image()
        job_id = "backup%d" % self.made
        vm.cmd("stop")
        vm.cmd("blockdev-backup", **{"job-id": job_id, "device": self.chain[0][0], "target": node[0],
                                     "sync": "full", "auto-dismiss": False, "speed": 1 << 20})
        subprocess.run(["cp", "--sparse=always", self.chain[0][1], work + "/point.qcow2"], check=True)
        expected = digest(work + "/point.qcow2", "qcow2")
        vm.cmd("cont")
        writes_go_on()
        self.disturb(job_id)
        cancel = rng.random() < 0.3
        if cancel:
            self.try_to(lambda: vm.cmd("block-job-cancel", device=job_id), job_id)
        else:
            vm.cmd("block-job-set-speed", device=job_id, speed=0)
        wait_until(lambda: self.job(job_id)["status"] == "concluded")
        end = self.job(job_id)
        vm.cmd("job-dismiss", id=job_id)
        self.done.append(("backup", end.get("error")))
        assert cancel or "error" not in end, end
        self.delete(node)
        if "error" not in end:
            assert digest(node[1], "qcow2") == expected, "the backup is not the disk at its point in time"
            qemu_img("check", "-q", "-f", "qcow2", node[1])
        os.unlink(node[1])


def run(times):
    print("seed", seed, flush=True)
    for _ in range(times):
        getattr(schedule, rng.choice(kinds.split(",")))()
        writes_go_on()


def run_until_the_guest_ends():
    wait_until(lambda: b"fio begins" in open(console, "rb").read())
    try:
        run(1 << 30)
    except (EOFError, OSError):
        pass


def run_and_end_the_guest():
    wait_until(guest_works)
    run(rounds(lab=2, check=6, long=100))
    try:
        while True:  # a reset under way drops the event
            vm.cmd("system_powerdown")
            time.sleep(0.05)
    except (EOFError, OSError):
        pass


schedule = Schedule()
if linux:
    run_until_the_guest_ends()
else:
    run_and_end_the_guest()
with open(work + "/chain", "w") as f:
    f.write("".join(path + "\n" for _, path in schedule.chain))
print(*schedule.done, sep="\n")
