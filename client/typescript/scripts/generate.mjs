// Makes src/gen from the contract's protos, with generators that npm installs.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const protos = join(root, "build", "protos");
const rpc = join("google", "rpc");
const installed = dirname(
  createRequire(import.meta.url).resolve("google-proto-files/package.json"),
);

rmSync(protos, { recursive: true, force: true });
rmSync(join(root, "src", "gen"), { recursive: true, force: true });
mkdirSync(join(protos, rpc), { recursive: true });
cpSync(join(root, "..", "..", "protos"), protos, { recursive: true });
for (const name of ["status.proto", "error_details.proto"]) {
  cpSync(join(installed, rpc, name), join(protos, rpc, name));
}

const bin = join(root, "node_modules", ".bin");
const { status, error } = spawnSync(join(bin, "buf"), ["generate", protos], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ""}` },
});
if (error) throw error;
process.exitCode = status ?? 1;
