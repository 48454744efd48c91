"""``cpxt-fit`` with the real fitter, slowed down, that tells what it has acknowledged and kills itself where told to.

SLOW_S: pause after each fit. ACKNOWLEDGED: file that gets a line for each row once `Checkpoint.append` has returned:
region number and CRC of the row without its time. KILL_AT_CALL: SIGKILL of the rank that writes, at this call that
changes files, counted from its first new row on. Compactions come five times a second, so that kills meet some.
"""

import os
import signal
import sys
import time
import zlib

from cpxt_hpc.parallel.transport import _remove_shared_memory

WRITE_CALLS = ("pwrite", "ftruncate", "fsync", "fdatasync", "replace", "rename", "unlink", "utime", "link")


def slowed(fit, pause_s):
    """The fit, and a pause after it."""

    def slow(self, index):
        row = fit(self, index)
        time.sleep(pause_s)
        return row

    return slow


def row_crc(row):
    """What tells a fit from another one of the same region."""
    from cpxt_hpc.io.result_rows import bytes_without_seconds

    return zlib.crc32(bytes_without_seconds(row.reshape(1)))


def acknowledging(append, path, on_first):
    """The append, and a line for each row behind it."""

    def acknowledged(self, rows):
        kept = append(self, rows)
        if len(kept):
            lines = "".join(f"{row['region']} {row_crc(row)}\n" for row in kept)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.write(descriptor, lines.encode())
            os.close(descriptor)
            on_first()
        return kept

    return acknowledged


class WriteCalls:
    """Counts the calls that change files once it is started, and kills this process at one of them."""

    def __init__(self, kill_at):
        self.kill_at = kill_at
        self.counting = False
        self.number = 0
        for name in WRITE_CALLS:
            setattr(os, name, self._counted(getattr(os, name)))

    def start(self):
        self.counting = True

    def _counted(self, call):
        def counted(*arguments, **more):
            self.number += self.counting
            if self.number == self.kill_at:
                self.kill_at = 0
                _remove_shared_memory()
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **more)

        return counted


def main():
    from cpxt_hpc.cli.fit import main as fit
    from cpxt_hpc.io import checkpoint
    from cpxt_hpc.parallel import compile_cache

    checkpoint.COMPACT_EVERY_S, checkpoint.SYNC_EVERY_S = 0.2, 0.05
    calls = WriteCalls(int(os.environ["KILL_AT_CALL"])) if "KILL_AT_CALL" in os.environ else None
    checkpoint.Checkpoint.append = acknowledging(
        checkpoint.Checkpoint.append, os.environ["ACKNOWLEDGED"], calls.start if calls else lambda: None
    )
    choose = compile_cache.use_node_cache

    def slow_down(link):
        """Loads numba, so not before its cache is chosen."""
        choose(link)
        from cpxt_hpc.fitting.regions import RegionFitter

        RegionFitter.fit = slowed(RegionFitter.fit, float(os.environ.get("SLOW_S", "0")))

    compile_cache.use_node_cache = slow_down
    return fit()


if __name__ == "__main__":
    sys.exit(main())
