import { Flags } from "@oclif/core";
import { Base } from "../../base.js";

export default class Install extends Base {
  static override description =
    "Fetches the training library for this platform, or installs it from a jar. DIPTYCH_MAVEN names a mirror of Maven Central; HTTPS_PROXY counts on Node 22.21 and later.";
  static override examples = [
    "<%= config.bin %> runtime install",
    "<%= config.bin %> runtime install --library onnxruntime-1.28.0-1.5.14-linux-x86_64.jar",
  ];
  static override flags = {
    library: Flags.string({ description: "a jar fetched by hand" }),
    force: Flags.boolean({ description: "fetch it again even if it is there" }),
  };

  async run() {
    const { flags } = await this.parse(Install);
    const { install, trainingLibrary } = await import("../../../src/runtimes.js");
    const options = { library: flags.library, announce: this.say };
    const library = flags.force ? await install(options) : await trainingLibrary(options);
    this.log(library);
    return { library };
  }
}
