# SPDX-License-Identifier: Apache-2.0
"""Compares two results of query-qmp-schema: commands, events, members and values of only one side.

Names of types are ignored, because QEMU's are numbers. Types are compared by their members, values
and elements. A difference is a line of text that begins with its place:

    command stop: only in QEMU
    command query-status, result, stopping: only in skiff
    event RESET, data, reason, value 'host-error': only in QEMU
"""

class Schema:
    def __init__(self, entities):
        self.by_name = {(e["meta-type"] in ("command", "event"), e["name"]): e for e in entities}

    def names(self, meta_type):
        return {e["name"] for e in self.by_name.values() if e["meta-type"] == meta_type}

    def top(self, name):
        return self.by_name[(True, name)]

    def type(self, name):
        return self.by_name[(False, name)]

    def kind(self, name):
        """Returns the JSON type of a value of the type."""
        e = self.type(name)
        if e["meta-type"] == "builtin":
            return "int" if e["json-type"] == "number" and e["name"] != "number" else e["json-type"]
        return {"enum": "string", "array": "array", "object": "object"}.get(e["meta-type"], "alternate")

    def members(self, name):
        """Returns {member: (type, optional)} of an object, including all its variants."""
        e = self.type(name)
        found = {m["name"]: (m["type"], "default" in m) for m in e.get("members", [])}
        variants = [self.members(v["type"]) for v in e.get("variants", [])]
        for members in variants:
            for key, (kind, _) in members.items():
                always = all(key in v and not v[key][1] for v in variants)
                found.setdefault(key, (kind, not always))
        return found

    def values(self, name):
        e = self.type(name)
        return {m["name"] for m in e.get("members", [])} or set(e.get("values", []))


class Comparison:
    def __init__(self, qemu, skiff):
        self.qemu, self.skiff = qemu, skiff
        self.found = []
        self.path = []  # types whose comparison has begun: QEMU's schema is recursive

    def note(self, where, what):
        line = ", ".join(where) + ": " + what
        if line not in self.found:
            self.found.append(line)

    def one_sided(self, where, ours, theirs, word):
        for name in sorted(theirs - ours):
            self.note(where + [word % name], "only in QEMU")
        for name in sorted(ours - theirs):
            self.note(where + [word % name], "only in skiff")

    def compare_types(self, where, qemu, skiff, is_argument):
        if (qemu, skiff) in self.path:
            return
        self.path.append((qemu, skiff))
        self.compare_values(where, qemu, skiff, is_argument)
        self.path.pop()

    def compare_values(self, where, qemu, skiff, is_argument):
        theirs, ours = self.qemu.kind(qemu), self.skiff.kind(skiff)
        if theirs != ours:
            if not {theirs, ours} & {"alternate", "value"}:
                self.note(where, "%s in QEMU, %s in skiff" % (theirs, ours))
            return
        meta = self.qemu.type(qemu)["meta-type"], self.skiff.type(skiff)["meta-type"]
        if meta == ("enum", "enum"):
            self.one_sided(where, self.skiff.values(skiff), self.qemu.values(qemu), "value '%s'")
        elif meta == ("array", "array"):
            self.compare_types(where, self.qemu.type(qemu)["element-type"],
                               self.skiff.type(skiff)["element-type"], is_argument)
        elif meta == ("object", "object"):
            self.compare_members(where, qemu, skiff, is_argument)

    def compare_members(self, where, qemu, skiff, is_argument):
        theirs, ours = self.qemu.members(qemu), self.skiff.members(skiff)
        self.one_sided(where, set(ours), set(theirs), "%s")
        for name in sorted(set(theirs) & set(ours)):
            (their_type, may_lack), (our_type, we_may_lack) = theirs[name], ours[name]
            if is_argument and may_lack and not we_may_lack:
                self.note(where + [name], "may be left out in QEMU only")
            if not is_argument and we_may_lack and not may_lack:
                self.note(where + [name], "always there in QEMU only")
            self.compare_types(where + [name], their_type, our_type, is_argument)

    def run(self):
        for meta, parts in (("command", (("argument", "arg-type"), ("result", "ret-type"))),
                            ("event", (("data", "arg-type"),))):
            ours, theirs = self.skiff.names(meta), self.qemu.names(meta)
            self.one_sided([], ours, theirs, meta + " %s")
            for name in sorted(ours & theirs):
                for word, key in parts:
                    self.compare_types(["%s %s" % (meta, name), word], self.qemu.top(name)[key],
                                       self.skiff.top(name)[key], word == "argument")
        return self.found


def compare(qemu_entities, skiff_entities):
    return Comparison(Schema(qemu_entities), Schema(skiff_entities)).run()
