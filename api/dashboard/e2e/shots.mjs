// Screenshots of each view, light and dark, desktop and phone, into a folder that is not committed.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DESKTOP, PHONE, here, live, open } from "./support.mjs";

export const folder = join(here, "../screenshots");

export const shoot = async (browser, demo, views, looks = ["light-desktop", "dark-desktop", "light-phone", "dark-phone"]) => {
  mkdirSync(folder, { recursive: true });
  for (const look of looks) {
    const [scheme, device] = look.split("-");
    const { page, context } = await open(browser, demo, "/", { scheme, viewport: device === "phone" ? PHONE : DESKTOP });
    await live(page);
    for (const [name, path, ready] of views) {
      await page.evaluate((to) => { window.location.hash = to; }, path);
      await page.locator(ready ?? "main h1").first().waitFor({ timeout: 20_000 }).catch((error) => console.error(`${name}: ${error.message.split("\n")[0]}`));
      await page.waitForTimeout(900);
      // The whole of a view, not only what fits the window.
      const height = await page.evaluate(() => { const main = document.querySelector("main"); return main ? main.scrollHeight + 120 : 0; });
      const { width } = page.viewportSize();
      await page.setViewportSize({ width, height: Math.min(3200, Math.max(height, 700)) });
      await page.waitForTimeout(350);
      await page.screenshot({ path: join(folder, `${name}-${look}.png`) });
      await page.setViewportSize(device === "phone" ? PHONE : DESKTOP);
    }
    await context.close();
  }
};
