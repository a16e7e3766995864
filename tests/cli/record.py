# SPDX-License-Identifier: MIT
# A recording for the command-line tests: python3 -c "$(cat record.py); …" or PYTHONPATH. Samples as a list of
# (t_ns, weight_ns, thread, stack), the stack as a list of (function, module) from the leaf on.
import collections
import json


class Recording:
    def __init__(self, path="bnprof.data/latest/profile.json"):
        with open(path) as f:
            self.json = json.load(f)
        self.quality = self.json["quality"]
        self.threads = self.json["threads"]
        self.strings = self.json["strings"]
        self.samples = list(self._samples())

    def _column(self, table, name, n):
        # A column whose values are all the same is stored as that value.
        values = self.json[table][name]
        return values if isinstance(values, list) else [values] * n

    def _text(self, index):
        return self.strings[index] if isinstance(index, int) and 0 <= index < len(self.strings) else None

    def _samples(self):
        n = self.quality["n_samples"]
        n_frames = max(len(v) for v in self.json["frames"].values() if isinstance(v, list))
        n_stacks = max(len(v) for v in self.json["stacks"].values() if isinstance(v, list))
        functions = [self._text(i) for i in self._column("frames", "function", n_frames)]
        modules = [self._text(i) for i in self._column("frames", "module", n_frames)]
        parents = self._column("stacks", "parent", n_stacks)
        frames = self._column("stacks", "frame", n_stacks)
        t = 0
        for dt, weight, thread, stack in zip(*(self._column("samples", c, n) for c in ("dt_ns", "weight_ns", "thread", "stack"))):
            t += dt
            calls = []
            while stack:
                calls.append((functions[frames[stack]], modules[frames[stack]]))
                stack = parents[stack]
            yield t, weight, self.threads[thread], calls

    def with_function(self, name):
        return [s for s in self.samples if any(f == name for f, _ in s[3])]

    def sampled_ns(self):
        return sum(s[1] for s in self.samples)

    def count(self):
        # Samples by every function on their stacks.
        counts = collections.Counter()
        for s in self.samples:
            counts.update({f for f, _ in s[3]})
        return counts

    def flag(self, name):
        return next(f for f in self.json["flags"] if f["id"] == name)
