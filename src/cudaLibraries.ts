/** Where the CUDA and cuDNN libraries of the CUDA provider lie, or which package brings the one that is missing. */
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";

export interface CudaLibrary {
  /** Its file on Linux and on Windows. */
  readonly linux: string;
  readonly windows: string;
  /** The packages that bring it: PyPI's, and those of NVIDIA's Debian repository. */
  readonly pip: string;
  readonly debian: string;
}

/** What libonnxruntime_providers_cuda of the pinned build needs (its NEEDED entries), in the order in which they load. */
export const cudaLibraries: readonly CudaLibrary[] = [
  { linux: "libcudart.so.13", windows: "cudart64_13.dll", pip: "nvidia-cuda-runtime", debian: "cuda-cudart-13-0" },
  { linux: "libcublasLt.so.13", windows: "cublasLt64_13.dll", pip: "nvidia-cublas", debian: "libcublas-13-0" },
  { linux: "libcublas.so.13", windows: "cublas64_13.dll", pip: "nvidia-cublas", debian: "libcublas-13-0" },
  { linux: "libcudnn.so.9", windows: "cudnn64_9.dll", pip: "nvidia-cudnn-cu13", debian: "libcudnn9-cuda-13" },
];

/** What the search looks at; the defaults are this process's own. */
export interface Surroundings {
  platform?: NodeJS.Platform;
  env?: NodeJS.ProcessEnv;
  /** The user's home, for packages installed with pip --user. */
  home?: string;
  /** What stands for "/": where toolkits and the system's libraries lie. */
  root?: string;
}

export interface FoundLibraries {
  /** Full paths, in the order in which they load. */
  paths: string[];
  missing: { library: CudaLibrary; file: string; /** The same library of another major version. */ other?: string }[];
  /** Folders that were looked at, in order. */
  folders: string[];
}

/**
 * Finds each library in the first folder that has it. `byHand`: folders to look at before all others, separated as in PATH; default
 * DIPTYCH_CUDA_LIBRARIES.
 */
export function findCudaLibraries(byHand?: string, surroundings: Surroundings = {}): FoundLibraries {
  const { platform = process.platform, env = process.env } = surroundings;
  const given = listed(byHand ?? env.DIPTYCH_CUDA_LIBRARIES);
  const folders = [...new Set([...given, ...usualFolders(platform, env, surroundings)])].filter((f) => existsSync(f));
  const files = cudaLibraries.map((library) => (platform === "win32" ? library.windows : library.linux));
  const at = (file: string): string | undefined => folders.map((f) => join(f, file)).find((path) => existsSync(path));
  return {
    folders,
    paths: files.flatMap((file) => at(file) ?? []),
    missing: cudaLibraries.flatMap((library, i) => {
      const file = files[i]!;
      return at(file) ? [] : [{ library, file, other: otherVersion(file, folders) }];
    }),
  };
}

/** What is missing and from which package it comes, as one sentence; undefined where nothing is. */
export function missingSentence({ missing }: FoundLibraries): string | undefined {
  if (missing.length === 0) return undefined;
  const files = missing.map(({ file, library, other }) => {
    const there = other ? `only ${other} is there; ` : "";
    return `${file} (${there}pip: ${library.pip}, apt: ${library.debian})`;
  });
  return `The CUDA provider needs CUDA 13 and cuDNN 9, and cannot find ${files.join(", ")}: install what is missing, or name its folder with --cuda-libraries.`;
}

const listed = (paths: string | undefined): string[] => (paths ?? "").split(delimiter).filter(Boolean);

/** libcudart.so.12 where libcudart.so.13 is asked for: the first such file. */
function otherVersion(file: string, folders: readonly string[]): string | undefined {
  const shape = new RegExp(
    `^${file
      .replace(/\d+(?=(\.dll)?$)/, "#")
      .replaceAll(".", "\\.")
      .replace("#", "\\d+")}$`,
  );
  for (const folder of folders) {
    const found = entries(folder).find((f) => shape.test(f));
    if (found) return join(folder, found);
  }
  return undefined;
}

/** The loader's own path, toolkits, the system's folders, then the packages of every Python on PATH. */
function usualFolders(
  platform: NodeJS.Platform,
  env: NodeJS.ProcessEnv,
  { home = homedir(), root = "/" }: Surroundings,
): string[] {
  const windows = platform === "win32";
  const toolkits = [env.CUDA_HOME, env.CUDA_PATH, ...(windows ? [] : matching(root, "usr", "local", /^cuda(-13.*)?$/))];
  const inToolkit = windows ? ["bin", "bin/x64"] : ["lib64", "lib", "targets/x86_64-linux/lib"];
  const system = windows ? [] : ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"].map((f) => join(root, f));
  return [
    ...listed(windows ? env.PATH : env.LD_LIBRARY_PATH),
    ...toolkits.flatMap((t) => (t ? inToolkit.map((f) => join(t, f)) : [])),
    ...system,
    ...sitePackages(windows, env, home).flatMap((site) => [
      ...matching(site, "nvidia", /./, windows ? "bin" : "lib"),
      ...(windows ? matching(site, "nvidia", /./, "bin", "x86_64") : []),
      join(site, "torch", "lib"),
    ]),
  ];
}

/** Package folders of the Pythons on PATH (a link's own place and the place it leads to), of pyenv's versions, and of the user. */
function sitePackages(windows: boolean, env: NodeJS.ProcessEnv, home: string): string[] {
  const programs = windows ? ["python.exe"] : ["python3", "python"];
  const places = listed(env.PATH).flatMap((folder) => {
    const program = programs.map((p) => join(folder, p)).find((p) => existsSync(p));
    return program ? [folder, dirname(realpathSync(program))] : [];
  });
  if (windows) return [...places, ...places.map((p) => dirname(p))].map((p) => join(p, "Lib", "site-packages"));
  const prefixes = places.map((p) => dirname(p));
  const all = [
    ...prefixes,
    ...prefixes.map((p) => join(p, "local")),
    ...prefixes.flatMap((p) => matching(p, "versions", /./)),
  ];
  return [...all, join(home, ".local")].flatMap((p) => matching(p, "lib", /^python3/, /^(site|dist)-packages$/));
}

/** Paths below `start`: a text names one entry, a pattern every entry that fits. */
function matching(start: string, ...parts: (string | RegExp)[]): string[] {
  return parts.reduce<string[]>(
    (paths, part) =>
      paths.flatMap((p) =>
        typeof part === "string"
          ? [join(p, part)]
          : entries(p)
              .filter((f) => part.test(f))
              .map((f) => join(p, f)),
      ),
    [start],
  );
}

/** Names in a folder; none where it cannot be read. */
function entries(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
