/** Remarks on what was accepted though it looks wrong: each kind once, with how often and where first. */
export class Notes {
  private readonly kinds = new Map<string, { count: number; first: string }>();

  constructor(private readonly file: string) {}

  /** `remark` follows the number of its cases: "boxes of detections have no area". */
  add(remark: string, first: string): void {
    const kind = this.kinds.get(remark);
    if (kind) kind.count++;
    else this.kinds.set(remark, { count: 1, first });
  }
  lines(): string[] {
    return [...this.kinds].map(([remark, { count, first }]) => `${this.file}: ${count} ${remark} (first: ${first}).`);
  }
}
