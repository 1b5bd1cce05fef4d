// Installs what is locked and builds the package and the conformance runner, where something
// is newer than what was built.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const installed = join(root, "node_modules", ".package-lock.json");
const built = join(root, "build", ".prepared");

const run = (command, ...args) =>
  execFileSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
const timeOf = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0);
const newestIn = (folder) =>
  Math.max(
    ...readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.parentPath.includes(join("src", "gen")))
      .map((entry) => timeOf(join(entry.parentPath, entry.name))),
  );

if (timeOf(installed) < timeOf(join(root, "package-lock.json"))) run("npm", "ci");
const sources = ["src", "conformance", "../../protos"].map(newestIn);
const settings = ["package-lock.json", "package.json", "tsconfig.json"].map((name) =>
  timeOf(join(root, name)),
);
if (timeOf(built) < Math.max(...sources, ...settings)) {
  run("npm", "run", "build");
  run("npx", "tsc", "-p", "tsconfig.conformance.json");
  mkdirSync(dirname(built), { recursive: true });
  writeFileSync(built, "");
}
