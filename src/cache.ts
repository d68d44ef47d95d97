/** Where what was fetched once is kept. */
import { homedir } from "node:os";
import { join } from "node:path";

/** The user's cache folder of this program: XDG_CACHE_HOME, or the platform's. */
export function cacheDir(...parts: string[]): string {
  const base =
    process.env.XDG_CACHE_HOME ||
    (process.platform === "darwin"
      ? join(homedir(), "Library", "Caches")
      : process.platform === "win32"
        ? (process.env.LOCALAPPDATA ?? join(homedir(), "AppData", "Local"))
        : join(homedir(), ".cache"));
  return join(base, "diptych", ...parts);
}
