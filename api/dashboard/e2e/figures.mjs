// `node e2e/figures.mjs [MINUTES]`: what the page costs, as one JSON object. Not part of the tests, because figures of a
// busy machine say nothing; run it alone, with a release build.
//
// - first_live_ms: from the start of loading until the page says that it is live and shows a machine, by the browser's own
//   clock (median of five loads, cold cache)
// - first_js_gzip_kb: JavaScript that came over the wire until then
// - fps_*, heap_mb_*: 1,000 machines that change five times a second each, told as the node tells them: merged to the rate
//   that the page asked for. The socket is played within the page, so its work counts too.
// - browser_cores: what all processes of the browser took meanwhile, which says more than frames on a machine that is busy
// - pages_100_cores: what the node takes with 100 pages open, in cores, its own work for the plant and its devices included;
//   and how many frames a second it tells them
import { readFileSync, readdirSync } from "node:fs";
import { loadavg } from "node:os";
import { played } from "./played.mjs";
import { Demo, launch, live } from "./support.mjs";

const minutes = Number(process.argv[2] ?? 1);
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const figures = {};

/** Seconds of processor time that the browser has taken: all processes below this one but the node. */
const browserCpu = () => {
  const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").pop().split(" ");
      return [{ pid: Number(pid), parent: Number(fields[1]), s: (Number(fields[11]) + Number(fields[12])) / 100 }];
    } catch {
      return []; // It has just ended.
    }
  });
  const below = (parent) => all.filter((one) => one.parent === parent && one.pid !== demo.child.pid).flatMap((one) => [one, ...below(one.pid)]);
  return below(process.pid).reduce((sum, one) => sum + one.s, 0);
};
const demo = await Demo.start();
const browser = await launch();
// The demo plays its last hour first; what a page costs while the plant goes on is another figure.
for (;;) {
  const { items } = await demo.call("/v1/twins?kind=machine&sort=updated_at&fields=updated_at&limit=1");
  if (items[0] && Date.now() - Date.parse(items[0].updated_at) < 5_000) break;
  await new Promise((done) => setTimeout(done, 500));
}
figures.load_before = loadavg()[0];

const loads = [];
for (let round = 0; round < 5; round += 1) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 } });
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  await session.send("Network.enable");
  const scripts = new Set();
  let bytes = 0;
  session.on("Network.responseReceived", ({ requestId, type }) => type === "Script" && scripts.add(requestId));
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => { if (scripts.has(requestId)) bytes += encodedDataLength; });
  await page.addInitScript(() => {
    new MutationObserver(() => {
      const live = document.querySelector('[data-testid="standing"]')?.textContent === "live";
      if (live && document.querySelector(".tile")) window.firstLive ??= performance.now();
    }).observe(document, { childList: true, characterData: true, subtree: true });
  });
  await page.goto(demo.url);
  loads.push(await page.waitForFunction(() => window.firstLive).then((value) => value.jsonValue()));
  figures.first_js_gzip_kb = Math.round(bytes / 102.4) / 10;
  await context.close();
}
figures.first_live_ms = Math.round(median(loads));

// 1,000 machines.
{
  const context = await browser.newContext({ viewport: { width: 1360, height: 860 } });
  const page = await context.newPage();
  await page.addInitScript(played);
  await page.goto(demo.url);
  await page.locator(".tile").nth(999).waitFor({ state: "attached" });
  const session = await context.newCDPSession(page);
  const heap = async () => {
    await session.send("HeapProfiler.collectGarbage");
    const { usedSize } = await session.send("Runtime.getHeapUsage");
    return Math.round(usedSize / 104_857.6) / 10;
  };
  const watch = (ms) =>
    page.evaluate(
      (span) =>
        new Promise((done) => {
          const began = performance.now();
          let [frames, longest, last] = [0, 0, began];
          const tick = (now) => {
            frames += 1;
            longest = Math.max(longest, now - last);
            last = now;
            if (now - began < span) requestAnimationFrame(tick);
            else done({ fps: (frames * 1000) / (now - began), longest });
          };
          requestAnimationFrame(tick);
        }),
      ms,
    );
  await watch(3_000);
  figures.heap_mb_begin = await heap();
  const [seen, cpuBefore, watchedFrom] = [[], browserCpu(), performance.now()];
  for (let minute = 0; minute < minutes; minute += 1) seen.push(await watch(60_000));
  figures.browser_cores = Math.round(((browserCpu() - cpuBefore) / ((performance.now() - watchedFrom) / 1000)) * 100) / 100;
  figures.heap_mb_end = await heap();
  figures.fps_median = Math.round(median(seen.map(({ fps }) => fps)));
  figures.fps_least_of_a_minute = Math.round(Math.min(...seen.map(({ fps }) => fps)));
  figures.longest_frame_ms = Math.round(Math.max(...seen.map(({ longest }) => longest)));
  figures.changes_taken = await page.evaluate(() => window.changes);
  await context.close();
}

// 100 pages, as the node sees them.
{
  // What a page says and asks is learnt from one, and then said by a hundred.
  const said = [];
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => said.push(String(payload))));
  await page.goto(demo.url);
  await live(page);
  await page.waitForTimeout(500);
  await page.evaluate((frames) => {
    window.sockets = Array.from({ length: 99 }, (_, number) => {
      const socket = new WebSocket(`ws://${location.host}/v1/stream`, "gemba.v1");
      socket.onmessage = () => { window.told = (window.told ?? 0) + 1; };
      socket.onopen = () => frames.forEach((frame) => socket.send(frame));
      window.setTimeout(() => {
        window.setInterval(() => void fetch("/v1/alarms/figures"), 5_000);
        window.setInterval(() => void fetch("/v1/rejected?limit=200"), 15_000);
      }, number * 50);
      return socket;
    });
  }, said.filter((frame) => frame.includes('"subscribe"')));
  await page.waitForFunction(() => window.sockets.every((socket) => socket.readyState === 1));
  const cpu = () => {
    const fields = readFileSync(`/proc/${demo.child.pid}/stat`, "utf8").split(") ")[1].split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };
  await page.waitForTimeout(8_000);
  const told = () => page.evaluate(() => window.told);
  const [before, toldBefore, began] = [cpu(), await told(), performance.now()];
  await page.waitForTimeout(20_000);
  const seconds = (performance.now() - began) / 1000;
  figures.pages_100_cores = Math.round(((cpu() - before) / seconds) * 100) / 100;
  figures.pages_100_frames_per_s = Math.round(((await told()) - toldBefore) / seconds);
  await context.close();
}

figures.load_after = loadavg()[0];
await browser.close();
await demo.stop();
console.log(JSON.stringify(figures, null, 1));
