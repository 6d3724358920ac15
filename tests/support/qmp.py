# SPDX-License-Identifier: Apache-2.0
"""A QMP client for tests.

    with Qmp("/tmp/qmp.sock") as vm:     # UNIX socket; ("localhost", 4444) for TCP
        vm.cmd("query-status")           # its "return"; QmpError for an error reply
        vm.cmd("device_del", id="x")     # arguments; write id_ for a name Python has taken
        vm.wait_event("DEVICE_DELETED", device="x")

Every wait ends by itself: after `timeout` seconds (TEST_SLOW times that under a sanitizer), with
TimeoutError.
"""
import json
import os
import socket
import time


class QmpError(Exception):
    """An error reply; error_class and desc are those of the reply."""

    def __init__(self, error):
        super().__init__("%s: %s" % (error["class"], error["desc"]))
        self.error_class = error["class"]
        self.desc = error["desc"]


class Qmp:
    """A connection. `greeting` and `events` (not yet waited for) may be inspected."""

    def __init__(self, address, timeout=200.0, capabilities=(), negotiate=True):
        self.timeout = timeout * float(os.environ.get("TEST_SLOW", "1"))
        self.events = []
        self.replies = {}
        self.unasked = []  # replies without an id: to input that could not be parsed
        self.buffer = b""
        self.next_id = 0
        self.socket = self._connect(address)
        self.greeting = self._receive(self._deadline())
        if negotiate:
            self.cmd("qmp_capabilities", **({"enable": list(capabilities)} if capabilities else {}))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.socket.close()

    def _deadline(self, timeout=None):
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _connect(self, address):
        """Tries until the VM listens."""
        deadline = self._deadline()
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        while True:
            s = socket.socket(family, socket.SOCK_STREAM)
            try:
                s.connect(address)
                return s
            except (FileNotFoundError, ConnectionRefusedError):
                s.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    # ---- transport ----

    def send_bytes(self, data):
        """Sends raw bytes, also invalid ones."""
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def _receive(self, deadline):
        """The next message of any kind. EOFError at the end of the connection."""
        while b"\n" not in self.buffer:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("no message from the VM in time")
            self.socket.settimeout(remaining)
            try:
                data = self.socket.recv(65536)
            except socket.timeout as e:
                raise TimeoutError("no message from the VM in time") from e
            if not data:
                raise EOFError("the VM has closed the connection")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def _take(self, deadline):
        """Sorts the next message into replies, events or unasked."""
        message = self._receive(deadline)
        if "event" in message:
            self.events.append(message)
        elif "id" in message:
            self.replies[message["id"]] = message
        else:
            self.unasked.append(message)

    # ---- commands ----

    def start(self, name, arguments=None, execute="execute", fds=()):
        """Sends a command and returns its id for finish()."""
        self.next_id += 1
        request = {execute: name, "id": self.next_id}
        if arguments:
            request["arguments"] = arguments
        data = json.dumps(request).encode() + b"\n"
        self.socket.settimeout(self.timeout)
        if fds:
            socket.send_fds(self.socket, [data], list(fds))
        else:
            self.socket.sendall(data)
        return self.next_id

    def finish(self, request_id, timeout=None):
        """The "return" of a command that start() has sent."""
        deadline = self._deadline(timeout)
        while request_id not in self.replies:
            self._take(deadline)
        reply = self.replies.pop(request_id)
        if "error" in reply:
            raise QmpError(reply["error"])
        return reply["return"]

    def cmd(self, qmp_name, arguments=None, fds=(), **named):
        """Runs a command. Arguments are a dict, or keywords: there "_" stands for "-", and a final
        "_" is dropped."""
        both = dict(arguments or {})
        both.update((k.rstrip("_").replace("_", "-"), v) for k, v in named.items())
        return self.finish(self.start(qmp_name, both, fds=fds))

    def refusal(self, qmp_name, arguments=None, **named):
        """Runs a command that must fail; returns the QmpError."""
        try:
            result = self.cmd(qmp_name, arguments, **named)
        except QmpError as e:
            return e
        raise AssertionError("%s should have failed, but returned %r" % (qmp_name, result))

    def unasked_reply(self, timeout=None):
        """The next reply without an id."""
        deadline = self._deadline(timeout)
        while not self.unasked:
            self._take(deadline)
        return self.unasked.pop(0)

    # ---- events ----

    def wait_event(self, *names, timeout=None, **data):
        """The next event with one of these names whose data has these members. It and all earlier
        events are removed from `events`."""
        deadline = self._deadline(timeout)
        wanted = {k.rstrip("_").replace("_", "-"): v for k, v in data.items()}
        seen = 0
        while True:
            for i, event in enumerate(self.events[seen:], seen):
                told = event.get("data", {})
                if event["event"] in names and all(told.get(k) == v for k, v in wanted.items()):
                    del self.events[:i + 1]
                    return event
            seen = len(self.events)
            self._take(deadline)

    def wait_closed(self, timeout=None):
        """Waits until the VM closes the connection."""
        deadline = self._deadline(timeout)
        try:
            while True:
                self._take(deadline)
        except (EOFError, ConnectionResetError):
            return
