// Every package of the lock file has a licence that we may use; those that reach the page are permissive.
import { readFileSync } from "node:fs";

const PERMISSIVE = new Set(["MIT", "MIT-0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "0BSD", "(MIT OR CC0-1.0)"]);
// Tools that build or test the page, and no part of it.
const TOOLS_TOO = new Set(["MPL-2.0", "CC-BY-4.0", "Python-2.0", "CC0-1.0", "BlueOak-1.0.0"]);

const lock = JSON.parse(readFileSync(new URL("package-lock.json", import.meta.url), "utf8"));
const wrong = Object.entries(lock.packages)
  .filter(([name]) => name !== "")
  .filter(([, { license, dev, devOptional }]) => !PERMISSIVE.has(license) && !((dev || devOptional) && TOOLS_TOO.has(license)))
  .map(([name, { license }]) => `${name.replace("node_modules/", "")}: ${license ?? "none"}`);
if (wrong.length > 0) {
  console.error(`licences that nobody allowed (see licences.mjs):\n  ${wrong.join("\n  ")}`);
  process.exit(1);
}
