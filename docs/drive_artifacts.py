"""Drives a folder of training artifacts with nothing but Python's standard library: no code of diptych takes part.

  diptych build sample --out artifacts
  python3 docs/drive_artifacts.py LIBRARY artifacts [STEPS]      (LIBRARY: diptych runtime doctor names it)
"""
import ctypes as C, json, os, random, struct, sys

library, folder, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 5
manifest = json.load(open(os.path.join(folder, "manifest.json")))
assert "accumulation" not in manifest, "this driver makes an update of each batch: build the recipe without accumulate"
P = C.c_void_p

# OrtApi and OrtTrainingApi are tables of function pointers
lib = C.CDLL(library)
lib.OrtGetApiBase.restype = C.POINTER(P)
def entry(table, index, result, *args):
    pointer = C.cast(table, C.POINTER(P))[index]
    return C.CFUNCTYPE(result, *args)(pointer)
api = entry(lib.OrtGetApiBase(), 0, P, C.c_uint32)(20)
training = entry(api, 219, P, C.c_uint32)(20)
assert training, "this library was built without the training API"
message, release_status = entry(api, 2, C.c_char_p, P), entry(api, 93, None, P)
def check(status):
    if status:
        text = message(status).decode()
        release_status(status)
        raise SystemExit(text)
def make(function, *args):
    out = P()
    check(function(*args, C.byref(out)))
    return out
O = C.POINTER(P)

env = make(entry(api, 3, P, C.c_int, C.c_char_p, O), 2, b"drive")
options = make(entry(api, 10, P, O))
cpu = make(entry(api, 69, P, C.c_int, C.c_int, O), 0, 0)
path = lambda name: os.path.join(folder, name).encode()
checkpoint = make(entry(training, 0, P, C.c_char_p, O), path("checkpoint"))
session = make(entry(training, 2, P, P, P, P, C.c_char_p, C.c_char_p, C.c_char_p, O), env, options, checkpoint,
               path("training_model.onnx"), path("eval_model.onnx"), path("optimizer_model.onnx"))

# tensors in memory of our own: OrtValues over ctypes buffers
kinds = {"float32": (1, 4), "int64": (7, 8), "bool": (9, 1)}
wrap = entry(api, 49, P, P, P, C.c_size_t, C.POINTER(C.c_int64), C.c_size_t, C.c_int, O)
def tensor(dtype, shape, data=None):
    code, width = kinds[dtype]
    size = width
    for d in shape: size *= d
    buffer = (C.c_char * size)() if data is None else (C.c_char * size).from_buffer_copy(data)
    return buffer, make(wrap, cpu, buffer, size, (C.c_int64 * len(shape))(*shape), len(shape), code)

# the state that enters a step and leaves it: two sets of buffers that change places
raw = open(os.path.join(folder, "state.safetensors"), "rb").read()
length = struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8:8 + length])
def saved(name):
    a, b = header[name]["data_offsets"]
    return raw[8 + length + a:8 + length + b]
def start(state):  # a state of several tensors holds them one after the other
    return b"".join(saved(part["name"]) for part in state.get("parts", [state]))
states = []
for s in manifest["state"]:
    shape = s["shape"] if s["at"] == "next" else [s["rows"]] + s["shape"][1:]
    states.append([tensor(s["dtype"], s["shape"], start(s)), tensor(s["dtype"], shape)])
readings = [tensor("float32", []) for _ in [manifest["loss"]] + manifest["metrics"]] + [tensor("bool", [])]

def some_input(i):
    count = 1
    for d in i["shape"]: count *= d
    if i["dtype"] == "int64": return struct.pack(f"<{count}q", *range(count))  # an order: the identity
    return struct.pack(f"<{count}f", *(random.gauss(0, 1) for _ in range(count)))
scalars = {"lr": 0.05, "momentum": 0.99, "lossLambda": 0.5}

train_step = entry(training, 9, P, P, P, C.c_size_t, O, C.c_size_t, O)
optimizer_step, lazy_reset = entry(training, 13, P, P, P), entry(training, 8, P, P)
check(lazy_reset(session))
random.seed(0)
data = [tensor(i["dtype"], i["shape"], some_input(i)) for i in manifest["inputs"]]
numbers = [tensor("float32", [], struct.pack("<f", scalars[name])) for name in manifest["scalars"]]
for step in range(steps):
    feeds = data + numbers + [s[0] for s in states]
    fetches = readings + [s[1] for s in states]
    check(train_step(session, None, len(feeds), (P * len(feeds))(*[v for _, v in feeds]),
                     len(fetches), (P * len(fetches))(*[v for _, v in fetches])))
    applied = readings[-1][0].raw == b"\x01"  # every gradient was finite
    if applied: check(optimizer_step(session, None))
    for s, own in zip(states, manifest["state"]):
        if not applied and own["every"] != "attempt": continue  # a loss scale moves in any case
        if own["at"] == "next":
            s[0], s[1] = s[1], s[0]
        else:  # a ring: new rows enter the queue at (step * rows) mod length
            size, total = len(s[1][0]), len(s[0][0])
            C.memmove(C.addressof(s[0][0]) + step * size % total, s[1][0], size)
    check(lazy_reset(session))
    print(f"step {step + 1}: loss {struct.unpack('<f', readings[0][0].raw)[0]:.6f}")
