// The page of a running demo in a real browser: each view opened and used, the connection lost and regained.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { VIEWS } from "./views.mjs";
import { Demo, PHONE, go, launch, live, open } from "./support.mjs";

let demo;
let browser;
before(async () => {
  demo = await Demo.start("--machines", "12");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** Opens a view, uses it, and asserts that the page did nothing that it must not. */
const use = async (path, steps, options) => {
  const { page, context, faults } = await open(browser, demo, path, options);
  page.setDefaultTimeout(45_000);
  await steps(page);
  await context.close();
  assert.deepEqual(faults, []);
};

describe("the plant", () => {
  it("shows every machine by state with words, and goes on by itself", () =>
    use("/", async (page) => {
      await live(page);
      await page.locator(".tile").nth(11).waitFor();
      assert.equal(await page.locator(".tile").count(), 12);
      for (const text of await page.locator(".tile-state").allTextContents()) assert.match(text, /producing|setup|idle|stopped|down|planned stop|unknown/);
      assert.equal(await page.locator("main h1").textContent(), "Demo plant");
      // Time in a state grows from one second to the next.
      const first = await page.locator(".tile-state").allTextContents();
      await page.waitForFunction((was) => [...document.querySelectorAll(".tile-state")].some((tile, index) => tile.textContent !== was[index]), first);
    }));

  it("fades all but the machines of one state, and leads to one", () =>
    use("/", async (page) => {
      await live(page);
      await page.locator(".figure.states button").first().click();
      await page.locator('.figure.states button[aria-pressed="true"]').waitFor();
      await page.locator(".tile").first().click();
      await page.getByRole("heading", { name: "OEE and its losses" }).waitFor();
    }));

  it("is whole on a phone: nothing is wider than the screen, and the menu opens", () =>
    use("/", async (page) => {
      await live(page);
      await page.locator(".tile").first().waitFor();
      assert.ok(await page.evaluate(() => document.querySelector("main").scrollWidth <= window.innerWidth), "the plant is wider than a phone");
      await page.getByRole("button", { name: "Open the menu" }).click();
      await page.getByRole("link", { name: "Jobs" }).click();
      await page.getByRole("heading", { name: "Flow between locations" }).waitFor();
    }, { viewport: PHONE }));
});

describe("the other views", () => {
  it("each open, fit the window, and say nothing wrong in the console", async () => {
    await use("/", async (page) => {
      for (const [name, path, ready] of await VIEWS(demo)) {
        await go(page, path, ready);
        assert.ok(await page.evaluate(() => document.querySelector("main").scrollWidth <= document.querySelector("main").clientWidth + 1), `${name} is wider than its window`);
      }
    });
  });

  it("machines can be found and sorted", () =>
    use("/machines", async (page) => {
      await page.locator("tbody tr").nth(11).waitFor();
      await page.getByLabel("Find a machine").fill("press");
      await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 3);
      await page.getByRole("button", { name: "OEE" }).click();
      const shares = (await page.locator("tbody tr td:nth-child(5)").allTextContents()).map(Number.parseFloat);
      assert.deepEqual(shares, [...shares].sort((a, b) => a - b));
    }));

  it("a machine's metric is drawn, zoomed by another window, and saved as CSV and as a picture", () =>
    use("/machines/cnc-01", async (page) => {
      await page.locator(".series canvas").waitFor();
      await page.getByRole("button", { name: "Current", exact: true }).click();
      await page.waitForFunction(() => location.hash.includes("metric=current_a"));
      await page.getByRole("button", { name: "15 min" }).click();
      await page.getByText("raw values").waitFor();
      for (const [entry, suffix] of [["Save as CSV", ".csv"], ["Save as PNG", ".png"]]) {
        await page.getByRole("button", { name: "More about Over time" }).click();
        const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name: entry }).click()]);
        assert.ok(file.suggestedFilename().endsWith(suffix));
      }
    }));

  it("a job is found by its product, and its path is drawn", () =>
    use("/jobs", async (page) => {
      await page.locator(".flow .node").first().waitFor();
      await page.getByRole("button", { name: "done" }).click();
      await page.getByLabel("Find a job").fill("shaft");
      await page.waitForFunction(() => { const rows = [...document.querySelectorAll("tbody tr")]; return rows.length > 0 && rows.every((row) => row.textContent.includes("shaft")); });
      await page.locator("tbody a").first().click();
      await page.getByRole("heading", { name: "Path" }).waitFor();
      await page.locator(".drawing .bar").first().waitFor();
    }));

  it("air can be looked at by another metric", () =>
    use("/air", async (page) => {
      await page.locator(".heat").first().waitFor();
      await page.locator(".air-card button").nth(1).click();
      await page.getByRole("heading", { name: /Cell 2: / }).waitFor();
    }));
});

describe("ingest", () => {
  it("shows a message that was kept aside, with its reason, and binds the device that sent it", async () => {
    const before = await demo.call("/v1/plant");
    const strict = JSON.stringify({ ...before.model, unknown_sensors: "keep_aside" });
    await demo.call("/v1/plant", { method: "PUT", body: strict, headers: { "content-type": "application/yaml" } });
    const sent = await fetch(`${demo.url}/v1/readings`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ sensor_id: "stray-1", sensor_type: "ENERGY", metrics: { energy_kwh: 5 } }) });
    assert.equal(sent.status, 400);
    await use("/health", async (page) => {
      await page.getByText("Every message is accounted for").waitFor();
      const device = page.locator(".devices li", { hasText: "stray-1" });
      await device.getByRole("button", { name: "Bind…" }).click();
      await page.getByLabel("Feeds").fill("machine/cnc-01");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "What will change" }).click();
      await page.getByText("sensor/stray-1").waitFor();
      await page.getByRole("button", { name: "Apply" }).click();
      await page.getByText("stray-1 feeds machine/cnc-01 now.").waitFor();
      await page.locator(".message").first().getByRole("button", { name: "Retry" }).click();
      await page.getByText("No message is kept aside.").waitFor();
    });
    await demo.call("/v1/plant", { method: "PUT", body: JSON.stringify(before.model), headers: { "content-type": "application/yaml" } });
  });
});

describe("the connection", () => {
  it("says honestly that it is lost, keeps what it last knew visibly old, and comes back by itself", () =>
    use("/", async (page) => {
      await live(page);
      await page.locator(".tile").nth(11).waitFor();
      await demo.kill();
      await page.getByText(/reconnecting, last seen \d+ s ago/).waitFor();
      await page.locator("main.old").waitFor();
      assert.match(await page.getByRole("alert").textContent(), /The node cannot be reached/);
      assert.equal(await page.locator(".tile").count(), 12);
      await demo.run();
      await live(page);
      await page.locator("main:not(.old)").waitFor();
      assert.equal(await page.locator(".tile").count(), 12);
      // And it is told of changes again.
      const first = await page.locator(".tile").allTextContents();
      await page.waitForFunction((was) => [...document.querySelectorAll(".tile")].some((tile, index) => tile.textContent !== was[index]), first);
    }, { expected: [/ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE|WebSocket connection/] }));
});

describe("the frame", () => {
  it("goes from light to dark and keeps it", () =>
    use("/", async (page) => {
      await page.getByRole("button", { name: "Light or dark" }).click();
      await page.getByRole("menuitem", { name: "Dark" }).click();
      await page.waitForFunction(() => document.documentElement.dataset.scheme === "dark" || document.documentElement.getAttribute("data-scheme") === "dark");
      await page.reload();
      await page.waitForFunction(() => document.documentElement.getAttribute("data-scheme") === "dark");
    }));

  it("is refused a style element with text and a script from elsewhere by the policy", () =>
    use("/", async (page) => {
      const refused = await page.evaluate(() => new Promise((done) => {
        const seen = [];
        document.addEventListener("securitypolicyviolation", (event) => { seen.push(event.effectiveDirective); if (seen.length === 2) done(seen.sort()); });
        const style = document.createElement("style");
        style.textContent = "body{color:red}";
        document.head.append(style);
        const script = document.createElement("script");
        script.textContent = "window.evil = 1";
        document.head.append(script);
      }));
      assert.deepEqual(refused, ["script-src-elem", "style-src-elem"]);
    }, { expected: [/Content Security Policy/] }));
});
