/** Where the time of a step goes: shares of ONNX Runtime's own profile, or of nsys' where that holds no kernels. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Share {
  name: string;
  calls: number;
  ms: number;
  share: number;
}
export interface Profile {
  /** kernels: what the card did; nodes: what the host spent on each, which on the CPU is the work and on a card handing it over. */
  of: "kernels" | "nodes";
  ms: number;
  shares: Share[];
}

/** An event of a Chrome trace; dur in µs. */
interface Event {
  cat: string;
  name: string;
  dur: number;
  args?: { op_name?: string };
}

/** The largest shares, descending; what follows them is one more. */
function sharesOf(parts: Iterable<{ name: string; calls: number; ms: number }>, most = 20): Omit<Profile, "of"> {
  const sums = new Map<string, { calls: number; ms: number }>();
  for (const { name, calls, ms } of parts) {
    const before = sums.get(name) ?? { calls: 0, ms: 0 };
    sums.set(name, { calls: before.calls + calls, ms: before.ms + ms });
  }
  const total = [...sums.values()].reduce((sum, v) => sum + v.ms, 0);
  const all = [...sums].map(([name, v]): Share => ({ name, ...v, share: v.ms / total })).sort((a, b) => b.ms - a.ms);
  const rest = all.slice(most).reduce((r, s) => ({ calls: r.calls + s.calls, ms: r.ms + s.ms }), { calls: 0, ms: 0 });
  const others = rest.calls ? [{ name: "others", ...rest, share: rest.ms / total }] : [];
  return { ms: total, shares: [...all.slice(0, most), ...others] };
}

/** ONNX Runtime's profile by op type: its kernels where the library records them (a build with CUPTI), else its nodes. */
export function traceShares(trace: string): Profile {
  const events = JSON.parse(trace) as Event[];
  const kernels = events.filter((e) => e.cat === "Kernel");
  const nodes = events.filter((e) => e.cat === "Node" && e.name.endsWith("_kernel_time"));
  const chosen = kernels.length ? kernels : nodes;
  const parts = chosen.map(({ name, dur, args }) => ({ name: args?.op_name ?? name, calls: 1, ms: dur / 1000 }));
  return { of: kernels.length ? "kernels" : "nodes", ...sharesOf(parts) };
}

/** `nsys stats --report cuda_gpu_kern_sum --format csv` by kernel: columns "Total Time (ns)", "Instances" and, last, "Name". */
export function nsysShares(csv: string): Profile {
  const lines = csv.split("\n").filter(Boolean);
  const head = lines.findIndex((l) => l.includes("Total Time (ns)"));
  const columns = lines[head]!.split(",");
  const [time, calls] = [columns.indexOf("Total Time (ns)"), columns.indexOf("Instances")];
  const parts = lines.slice(head + 1).map((line) => {
    const cells = line.split(",");
    const name = cells
      .slice(columns.length - 1)
      .join(",")
      .replace(/^"|"$/g, "");
    return { name, calls: Number(cells[calls]), ms: Number(cells[time]) / 1e6 };
  });
  return { of: "kernels", ...sharesOf(parts) };
}

/** The program's profile under nsys and under ONNX Runtime's own; a sentence where neither holds what was asked for. */
export function profiled(program: string, args: readonly string[], onCard: boolean): Profile | string {
  const dir = mkdtempSync(join(tmpdir(), "diptych-profile-"));
  try {
    if (onCard && found("nsys")) {
      const report = join(dir, "steps");
      const trace = ["profile", "--trace=cuda", "--output", report, program, ...args];
      execFileSync("nsys", trace, { stdio: "ignore" });
      const stats = ["stats", "--report", "cuda_gpu_kern_sum", "--format", "csv", `${report}.nsys-rep`];
      return nsysShares(execFileSync("nsys", stats, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
    }
    const env = { ...process.env, DIPTYCH_PROFILE: join(dir, "session") };
    execFileSync(program, args, { env, stdio: "ignore" });
    const largest = readdirSync(dir)
      .map((file) => readFileSync(join(dir, file), "utf8"))
      .reduce((a, b) => (a.length >= b.length ? a : b)); // the others are of the optimizer and of evaluation
    const profile = traceShares(largest);
    return onCard && profile.of === "nodes"
      ? "The library records no kernels: put nsys (NVIDIA Nsight Systems) on PATH."
      : profile;
  } catch (error) {
    return (error as Error).message.slice(0, 300);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function found(program: string): boolean {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
