/** Progress of a run: a bar on a terminal, a line now and then elsewhere. */
import cliProgress from "cli-progress";
import type { Listener } from "./run.js";

/** A listener that draws on stderr. */
export function progressBar(say: (line: string) => void): Required<Listener> & { stop(): void } {
  const tty = process.stderr.isTTY;
  const bar = tty
    ? new cliProgress.SingleBar({
        format: "{bar} {value}/{total} · loss {loss} · {speed} img/s · data wait {wait} % · ETA {eta_formatted}",
        etaBuffer: 50,
        clearOnComplete: true,
      })
    : undefined;
  let drawn = false;
  let last = 0;
  return {
    say(line) {
      if (drawn) process.stderr.write("\r\x1b[K");
      say(line);
    },
    step({ step, total, metrics, imagesPerSecond, waitShare }) {
      const values = {
        loss: metrics.loss!.toFixed(3),
        speed: imagesPerSecond.toFixed(0),
        wait: (100 * waitShare).toFixed(0),
      };
      if (bar) {
        if (!drawn) bar.start(total, step, values);
        drawn = true;
        bar.update(step, values);
      } else if (Date.now() - last > 10_000 || step === total) {
        last = Date.now();
        say(`step ${step}/${total} · loss ${values.loss} · ${values.speed} img/s · data wait ${values.wait} %`);
      }
    },
    stop() {
      if (drawn) bar?.stop();
      drawn = false;
    },
  };
}
