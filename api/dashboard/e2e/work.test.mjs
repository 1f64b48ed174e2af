// What people do with the page: look back in time, change the plant model, arrange a dashboard, deal with alarms; and
// what everybody is owed: no serious fault that axe finds, in light and dark.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { VIEWS } from "./views.mjs";
import { Demo, go, launch, live, open } from "./support.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let demo;
let browser;
before(async () => {
  demo = await Demo.start("--machines", "8");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

const use = async (path, steps, options) => {
  const { page, context, faults } = await open(browser, demo, path, options);
  page.setDefaultTimeout(45_000);
  await steps(page, context);
  await context.close();
  assert.deepEqual(faults, []);
};

describe("time travel", () => {
  it("shows the whole plant as it was, and the link keeps the moment", () =>
    use("/", async (page, context) => {
      await live(page);
      const before = await demo.call("/v1/twins/machine/cnc-01");
      const at = new Date(Date.now() - 1_000).toISOString();
      const then = await demo.call(`/v1/twins/machine/cnc-01?at=${at}`);
      await page.getByRole("button", { name: "Time travel" }).click();
      await page.getByLabel("Date and time").waitFor();
      await page.evaluate((moment) => { window.location.hash = `/machines/cnc-01?at=${moment}`; }, at);
      await page.getByText("The plant as it was").waitFor();
      const parts = page.locator(".kpis > div", { hasText: /^Parts/ }).locator("dd");
      await parts.waitFor();
      assert.equal(Number((await parts.textContent()).replace(/\D/g, "")), then.kpis.parts);
      assert.ok(then.rev <= (await demo.call("/v1/twins/machine/cnc-01")).rev && before.rev > 0);
      // Somebody else opens the link and sees the same.
      const other = await context.newPage();
      await other.goto(page.url());
      await other.getByText("The plant as it was").waitFor();
      await other.locator(".kpis > div", { hasText: /^Parts/ }).waitFor();
      // Views keep the moment, and one comes back to now.
      await page.getByRole("link", { name: "Plant", exact: true }).click();
      await page.waitForFunction(() => window.location.hash.includes("at="));
      await page.locator(".tile").nth(7).waitFor();
      await page.getByRole("button", { name: "Back to now" }).click();
      await page.waitForFunction(() => !window.location.hash.includes("at="));
      await page.locator(".tile").nth(7).waitFor();
    }));

  it("goes back by the slider, from the keyboard too", () =>
    use("/", async (page) => {
      await live(page);
      await page.getByRole("button", { name: "Time travel" }).click();
      const slider = page.getByRole("slider", { name: "How long ago" });
      await slider.focus();
      await page.keyboard.press("ArrowLeft");
      await page.waitForFunction(() => window.location.hash.includes("at="));
      await page.getByText("The plant as it was").waitFor();
    }));
});

describe("the plant model", () => {
  it("is checked before it is applied: an error names itself, a plan says what changes", () =>
    use("/model", async (page) => {
      const text = page.getByRole("textbox", { name: "The model" });
      await text.waitFor();
      const before = await text.inputValue();
      await text.fill(`${before}\nnonsense: 1\n`);
      await page.getByRole("button", { name: "Check and plan" }).click();
      await page.getByRole("alert").getByText(/nonsense/).waitFor();
      assert.equal(await page.getByRole("button", { name: "Apply" }).isDisabled(), true);
      await text.fill(before.replace("CNC 01", "Mazak 01"));
      await page.getByRole("button", { name: "Check and plan" }).click();
      await page.locator(".plan").getByText("machine/cnc-01").waitFor();
      await page.getByRole("button", { name: "Apply" }).click();
      await page.getByText(/Version \d+ is in force/).waitFor();
      await page.getByRole("link", { name: "Plant", exact: true }).click();
      await page.locator(".tile-name", { hasText: "Mazak 01" }).waitFor();
    }, { expected: [/400 \(Bad Request\)/] }));

  it("shows which twins a filter matches while it is written", () =>
    use("/model", async (page) => {
      await page.getByLabel("Filter").fill("kind == 'machine' && id.startsWith('press')");
      await page.getByText("2 twins match.").waitFor();
      await page.getByLabel("Filter").fill("kind == ");
      await page.locator(".panel .bad").waitFor();
    }, { expected: [/400 \(Bad Request\)/] }));
});

describe("a dashboard of one's own", () => {
  it("is made, arranged, saved on the server, found by its link, and hung on a wall", () =>
    use("/boards", async (page, context) => {
      await page.getByLabel("Title").fill("Hall 1");
      await page.getByRole("button", { name: "Make it" }).click();
      await page.getByRole("button", { name: "Add a panel" }).click();
      await page.getByLabel("What it shows").click();
      await page.getByRole("option", { name: "A figure" }).click();
      await page.getByLabel("Of").click();
      await page.getByRole("option", { name: "machine/cnc-01" }).click();
      await page.getByRole("dialog").getByLabel("Figure").click();
      await page.getByRole("option", { name: "OEE", exact: true }).click();
      await page.getByRole("button", { name: "Take it" }).click();
      await page.getByRole("button", { name: "Move A figure up" }).click();
      await page.getByRole("button", { name: "Save", exact: true }).click();
      await page.getByRole("button", { name: "Arrange" }).waitFor();
      const saved = await demo.call("/v1/dashboards/hall-1");
      assert.deepEqual(saved.content.panels.map((panel) => panel.kind), ["needs", "kpi", "states"]);
      const other = await context.newPage();
      await other.goto(`${demo.url}/#/boards/hall-1`);
      await other.locator(".huge").getByText(/%/).waitFor();
      await other.getByRole("button", { name: "Wall" }).click();
      await other.locator(".wall-clock").waitFor();
      assert.equal(await other.locator(".side").count(), 0);
      await other.getByRole("button", { name: "Leave the wall" }).click();
      await other.getByRole("button", { name: "Arrange" }).waitFor();
    }));

  it("says that somebody saved it meanwhile, instead of overwriting", async () => {
    const put = (content, headers = {}) => demo.call("/v1/dashboards/shared", { method: "PUT", body: JSON.stringify(content), headers });
    await put({ title: "Shared", panels: [] });
    await use("/boards/shared?edit=1", async (page) => {
      await page.getByLabel("Title").fill("Mine");
      await put({ title: "Theirs", panels: [] });
      await page.getByRole("button", { name: "Save", exact: true }).click();
      await page.getByText("It was saved from another place meanwhile").waitFor();
    }, { expected: [/412/] });
    assert.equal((await demo.call("/v1/dashboards/shared")).content.title, "Theirs");
  });
});

/** Machines that nobody simulates, so that they stay as they are told. */
const nameOvens = async () => {
  const { model } = await demo.call("/v1/plant");
  const ovens = ["oven-01", "oven-02"].filter((id) => !model.machines.some((machine) => machine.id === id));
  const machines = [...model.machines, ...ovens.map((id) => ({ id, location: "cell-1", stale_after: "20m" }))];
  const unusual = { metric: "temperature_c", deviation: 20, for: 'id == "oven-02"' };
  const forecast = [...model.forecast.filter((one) => one.metric !== unusual.metric), unusual];
  await demo.call("/v1/plant", { method: "PUT", headers: { "content-type": "application/yaml" }, body: JSON.stringify({ ...model, machines, forecast }) });
};
const tell = async (readings) => {
  const answer = await demo.call("/v1/readings", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(readings) });
  assert.equal(answer.rejected.length, 0, JSON.stringify(answer));
};
const ago = (ms) => new Date(Date.now() - ms).toISOString();

describe("alarms", () => {
  it("are found, acknowledged, commented, shelved and taken back, by the keyboard and the mouse", async () => {
    const hot = (ms) => ({ sensor_id: "oven-01", sensor_type: "MACHINE", timestamp: ago(ms), metrics: { execution: "producing", spindle_temp_c: 96 } });
    await nameOvens();
    // Longer than the rule's delay.
    await tell([hot(20_000), hot(1_000)]);
    const id = "machine:oven-01:spindle_hot";
    const state = async () => (await demo.call(`/v1/alarms/${id}`)).state;
    await use("/", async (page) => {
      const need = page.locator(".needs li", { hasText: "oven-01" });
      const more = page.locator(".needs button");
      await need.or(more).first().waitFor();
      if ((await need.count()) === 0) await more.click();
      await need.getByText("unacknowledged").click();
      const row = page.locator(`tr[data-id="${id}"]`);
      await row.waitFor();
      assert.equal(await page.getByLabel("Twin").inputValue(), "machine/oven-01");
      // By priority it is found, and by another it is not.
      await page.getByRole("combobox", { name: "Priority" }).click();
      await page.getByRole("option", { name: "low" }).click();
      await row.waitFor({ state: "detached" });
      await page.getByRole("combobox", { name: "Priority" }).click();
      await page.getByRole("option", { name: "high" }).click();
      await row.focus();
      await page.keyboard.press("a");
      await page.getByRole("dialog").getByLabel("Comment").fill("on my way");
      await page.keyboard.press("Tab");
      await page.getByRole("dialog").getByRole("button", { name: "Acknowledge" }).click();
      await row.getByText("active, acknowledged").waitFor();
      assert.equal(await state(), "acknowledged_active");
      await row.focus();
      await page.keyboard.press("c");
      await page.getByRole("dialog").getByLabel("Comment").fill("coolant is low");
      await page.getByRole("dialog").getByRole("button", { name: "Comment" }).click();
      await page.locator(".entries").getByText("coolant is low").waitFor();
      await page.locator(".entries").getByText("on my way").waitFor();
      await row.getByRole("button", { name: "Shelve" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Shelve" }).click();
      // What is shelved leaves the open ones and is found aside, with its end.
      await row.waitFor({ state: "detached" });
      await page.getByRole("button", { name: /^Set aside/ }).click();
      await row.getByText(/shelved, until/).waitFor();
      assert.equal(await state(), "shelved");
      await row.getByRole("button", { name: "Unshelve" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Unshelve" }).click();
      await page.getByRole("button", { name: /^Open/ }).click();
      await row.waitFor();
      assert.equal(await state(), "acknowledged_active");
    });
  });
});

describe("what is foreseen and what is agreed", () => {
  it("is drawn behind what was, as a band", async () => {
    await nameOvens();
    // Thirty hours by quarters of an hour: a day that repeats.
    const quarters = Array.from({ length: 120 }, (_, at) => 120 - at);
    await tell(quarters.map((quarter) => ({
      sensor_id: "oven-02", sensor_type: "MACHINE", timestamp: ago(quarter * 900_000), metrics: { execution: "producing", power_kw: 20 + 8 * Math.sin((quarter * 2 * Math.PI) / 96), temperature_c: quarter < 4 ? 290 : 200 },
    })));
    const forecast = await demo.call("/v1/twins/machine/oven-02/forecast?metric=power_kw&horizon=4h");
    assert.equal(forecast.reason, null);
    await use("/machines/oven-02?metric=power_kw", async (page) => {
      await page.getByRole("region", { name: "Over time", exact: true }).getByRole("button", { name: "24 h" }).click();
      await page.locator(".series:not(.no-ahead) canvas").waitFor();
      await page.locator(".u-legend").getByText("Forecast", { exact: true }).waitFor();
      await page.getByText(/^Temperature is unusual, for/).waitFor();
      await page.getByRole("heading", { name: "Shifts" }).waitFor();
    });
  });

  it("is said of each sensor: its score, its contract and what it sends", async () => {
    await tell([{ sensor_id: "air-1", sensor_type: "AIR_QUALITY", metrics: { co2_ppm: 99_000 } }]);
    await use("/health", async (page) => {
      const row = page.locator("tr", { hasText: "air-1" });
      await row.getByText(/out of range 1×/).waitFor();
      await row.getByText(/CO₂ ppm/).waitFor();
    });
    await use("/machines/cnc-01", async (page) => {
      await page.locator("tr", { hasText: "meter-cnc-01" }).getByText("kept").waitFor();
    });
  });
});

describe("everybody", () => {
  const faults = async (page) => {
    // By the protocol, not by a script element, which the policy would refuse.
    if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"] }));
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} [${node.failureSummary?.split("\n").slice(1, 2).join(" ").trim().slice(0, 160)}]`).join("; ")}`);
  };

  it("finds each view without a serious fault, in light and in dark", async () => {
    const found = [];
    for (const scheme of ["light", "dark"]) {
      await use("/", async (page) => {
        for (const [name, path, ready] of await VIEWS(demo)) {
          await go(page, path, ready);
          found.push(...(await faults(page)).map((fault) => `${name} (${scheme}): ${fault}`));
        }
      }, { scheme });
    }
    assert.deepEqual(found, []);
  });

  it("gets through by the keyboard: the first key leads past the menu", () =>
    use("/", async (page) => {
      await page.locator(".tile").first().waitFor();
      await page.keyboard.press("Tab");
      assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
      await page.keyboard.press("Enter");
      assert.equal(await page.evaluate(() => document.activeElement.id), "content");
    }));
});
