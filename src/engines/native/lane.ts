/** A thread of its own for calls that have to come from always the same one, as those do that capture and replay a CUDA graph. */
import { Worker } from "node:worker_threads";
import type { Api, Pointer } from "./api.js";

export class Lane {
  private readonly worker: Worker;

  /** `call`: a function of the library that takes three pointers and gives a status. */
  constructor(
    private readonly api: Api,
    call: { readonly address: Pointer },
  ) {
    const workerData = { library: api.library, address: call.address };
    this.worker = new Worker(new URL("./laneThread.js", import.meta.url), { workerData });
    this.worker.unref();
  }

  /** One call; the next begins after it. */
  call(...pointers: [Pointer, Pointer, Pointer]): Promise<void> {
    const { worker, api } = this;
    worker.ref();
    return new Promise<void>((resolve, reject) => {
      worker.once("error", reject);
      worker.once("message", (status: Pointer | null) => {
        worker.off("error", reject);
        try {
          resolve(api.check(status));
        } catch (error) {
          reject(error as Error);
        }
      });
      worker.postMessage(pointers);
    }).finally(() => worker.unref());
  }

  release(): void {
    void this.worker.terminate();
  }
}
