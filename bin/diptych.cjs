#!/usr/bin/env node
// libuv reads UV_THREADPOOL_SIZE once, when its pool starts: image decoding and the training step share it.
process.env.UV_THREADPOOL_SIZE ??= String(Math.max(8, 2 * require("node:os").availableParallelism()));
const door = process.argv[2] === "coco-eval" ? "../dist/cli/quick.js" : "@oclif/core";
require(door).execute({ dir: require("node:path").join(__dirname, "..") });
