// `node e2e/pictures.mjs [URL]`: the small pictures of the README, from a node that runs.
import { join } from "node:path";
import { here, launch, live, open } from "./support.mjs";

const at = new URL(process.argv[2] ?? "http://127.0.0.1:8080");
const browser = await launch();
for (const [name, path, ready, viewport, scheme] of [
  ["plant", "/", ".tile", { width: 1360, height: 930 }, "light"],
  ["machine", "/machines/cnc-01", ".kpis", { width: 1200, height: 760 }, "dark"],
  ["phone", "/", ".tile", { width: 390, height: 760 }, "dark"],
]) {
  const { page, context } = await open(browser, { url: at.origin, port: at.port }, path, { viewport, scheme });
  await live(page);
  await page.locator(ready).first().waitFor();
  await page.waitForTimeout(2_000);
  await page.screenshot({ path: join(here, "../pictures", `${name}.jpg`), type: "jpeg", quality: 70 });
  await context.close();
}
await browser.close();
