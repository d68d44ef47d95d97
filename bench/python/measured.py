"""Runs a command and prints, as the last line, {"wall", "cpu", "rss"} of the whole process: seconds, seconds, MB."""
import json, os, subprocess, sys, time

began = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
wall = time.perf_counter() - began
print(json.dumps({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)}))
sys.exit(os.waitstatus_to_exitcode(status))
