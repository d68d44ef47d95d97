/** The thread of a lane: calls its function with what it is sent, and answers with the status. */
import { parentPort, workerData } from "node:worker_threads";
import koffi from "koffi";

const { library, address } = workerData as { library: string; address: bigint };
koffi.load(library); // a thread of koffi's calls nothing before it has loaded something
const call = koffi.decode(address, koffi.proto("call", "void *", ["void *", "void *", "void *"])) as (
  ...pointers: bigint[]
) => bigint | null;
parentPort!.on("message", (pointers: bigint[]) => parentPort!.postMessage(call(...pointers)));
