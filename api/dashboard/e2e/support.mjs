// A real `gemba demo` and a real Chromium. Everything that the page must never do is watched on every page that a test
// opens: an error in the console, a breach of the policy, a request to another host.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { front } from "./front.mjs";

export const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../../..");

const binary = () => {
  const named = process.env.GEMBA_BIN;
  if (named) return named;
  const found = ["release", "debug"].map((kind) => join(root, "target", kind, "gemba")).filter(existsSync);
  if (found.length === 0) throw new Error("there is no gemba binary (cargo build, or set GEMBA_BIN)");
  return found[0];
};

const freePort = () =>
  new Promise((done, failed) => {
    const server = createServer().once("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

/** A plant that runs, on one port and one folder over all its lives. */
export class Demo {
  static async start(...extra) {
    const demo = new Demo();
    demo.port = await freePort();
    demo.nodePort = demo.port;
    if (process.env.GEMBA_PAGE) {
      demo.nodePort = await freePort();
      demo.front = await front(demo.port, demo.nodePort);
    }
    demo.folder = mkdtempSync(join(tmpdir(), "gemba-e2e-"));
    demo.extra = extra;
    await demo.run();
    return demo;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async run() {
    const child = spawn(binary(), ["demo", "--http", `127.0.0.1:${this.nodePort}`, "--data-dir", this.folder, ...this.extra], { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    let said = "";
    await new Promise((done, failed) => {
      child.stdout.on("data", (text) => {
        said += text;
        if (said.includes("\nready")) done();
      });
      child.stderr.on("data", (text) => (said += text));
      child.once("exit", (code) => failed(new Error(`gemba ended with ${code}; it said:\n${said}`)));
    });
    if (!said.includes(`127.0.0.1:${this.nodePort}`)) throw new Error(`another program uses port ${this.port}`);
  }

  async kill() {
    const ended = new Promise((done) => this.child.once("exit", done));
    this.child.kill("SIGKILL");
    await ended;
  }

  async stop() {
    this.front?.close();
    this.front?.closeAllConnections();
    const ended = new Promise((done) => this.child.once("exit", done));
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill("SIGTERM");
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  async call(path, options) {
    const answer = await fetch(`${this.url}${path}`, options);
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }
}

export const launch = () => {
  const path = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
  if (!path) throw new Error("there is no Chromium (install the package chromium, or set CHROMIUM)");
  return chromium.launch({ executablePath: path, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] });
};

export const DESKTOP = { width: 1360, height: 860 };
export const PHONE = { width: 390, height: 844 };

/** A page, and what it did that it must not. */
export const open = async (browser, demo, path = "/", { viewport = DESKTOP, scheme = "light", expected = [] } = {}) => {
  const context = await browser.newContext({ viewport, colorScheme: scheme, deviceScaleFactor: 1 });
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => {
    // The browser tells a 404 as an error, also where it is the answer: what another part of the product would say, or a
    // job that was not there yet at the moment looked at.
    const missing = message.text().includes("404") && /\/v1\/(quality|alarms|twins\/.*(forecast|\?at=))/.test(message.location().url);
    if (message.type() === "error" && !missing && !expected.some((pattern) => pattern.test(message.text()))) faults.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["blob:", "data:"].includes(url.protocol) && url.host !== `127.0.0.1:${demo.port}`) faults.push(`another host: ${request.url()}`);
  });
  await page.goto(`${demo.url}/#${path}`);
  return { page, context, faults };
};

/** Waits until the page says that it is live. */
export const live = (page) => page.waitForFunction(() => document.querySelector('[data-testid="standing"]')?.textContent === "live");

/** Goes to another view within the page, and waits for what shows that it is there. */
export const go = async (page, path, ready) => {
  await page.evaluate((to) => { window.location.hash = to; }, path);
  await page.waitForFunction((to) => window.location.hash === `#${to}`, path);
  await page.locator(ready).first().waitFor();
};
