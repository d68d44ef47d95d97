#!/usr/bin/env node
// libuv reads UV_THREADPOOL_SIZE once, when its pool starts: image decoding and the training step share it.
process.env.UV_THREADPOOL_SIZE ??= String(Math.max(8, 2 * require("node:os").availableParallelism()));
import("@oclif/core").then(({ execute }) => execute({ dir: require("node:path").join(__dirname, "..") }));
