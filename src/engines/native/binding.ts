/** What a session reads and writes, told once and not at each run (OrtIoBinding). */
import { pointersAt, type Api, type Pointer } from "./api.js";
import type { Value } from "./value.js";

export class Binding {
  readonly pointer: Pointer;

  constructor(
    private readonly api: Api,
    session: Pointer,
  ) {
    this.pointer = api.make(api.ort.CreateIoBinding, session);
  }

  /** Where the session reads an input elsewhere, the value is copied there now, and by no later run. */
  input(name: string, value: Value): void {
    this.api.check(this.api.ort.BindInput(this.pointer, name, value.pointer));
  }
  output(name: string, value: Value): void {
    this.api.check(this.api.ort.BindOutput(this.pointer, name, value.pointer));
  }
  /** An output that each run makes anew in this memory. */
  outputIn(name: string, info: Pointer): void {
    this.api.check(this.api.ort.BindOutputToDevice(this.pointer, name, info));
  }
  /** The outputs of the last run, in the order of their binding; they are the caller's. */
  outputs(): Pointer[] {
    const { api } = this;
    const [list, count]: [[Pointer | null], [number]] = [[null], [0]];
    api.check(api.ort.GetBoundOutputValues(this.pointer, api.allocator, list, count));
    const values = pointersAt(list[0]!, Number(count[0]));
    api.check(api.ort.AllocatorFree(api.allocator, list[0]));
    return values;
  }
  release(): void {
    this.api.ort.ReleaseIoBinding(this.pointer);
  }
}
