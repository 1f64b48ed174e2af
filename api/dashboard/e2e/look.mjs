// `node e2e/look.mjs [URL] [VIEW…]`: screenshots of a node that runs already, for looking at while working.
import { launch } from "./support.mjs";
import { shoot } from "./shots.mjs";
import { VIEWS } from "./views.mjs";

const [url = "http://127.0.0.1:8080", looks = "", ...names] = process.argv.slice(2);
const browser = await launch();
const at = new URL(url);
const demo = { url: at.origin, port: at.port, call: (path, options) => fetch(`${at.origin}${path}`, options).then((answer) => answer.json()) };
const views = (await VIEWS(demo)).filter(([name]) => names.length === 0 || names.includes(name));
await shoot(browser, demo, views, looks === "" ? undefined : looks.split(","));
await browser.close();
