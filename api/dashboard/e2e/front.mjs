// Stands before a node and answers the page from `dist/page`, as the binary would: for working on the page without
// building the binary anew each time (`GEMBA_PAGE=1 npm run e2e`). Everything else goes through to the node.
import { readFileSync, readdirSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { dirname, extname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const folder = join(here, "../dist/page");
const KINDS = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };

/** The policy stands in one place, which is the binary's. */
const policy = () => /const POLICY: &str = "([^"]+)";/.exec(readFileSync(join(here, "../../src/http/page.rs"), "utf8"))[1];

export const front = async (port, nodePort) => {
  const csp = policy();
  const files = new Map(
    readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => {
      const path = join(entry.parentPath ?? entry.path, entry.name);
      return [`/${relative(folder, path)}`, { kind: KINDS[extname(path)] ?? "application/octet-stream", body: gzipSync(readFileSync(path)) }];
    }),
  );
  const server = createServer((asked, answer) => {
    const path = asked.url.split("?")[0];
    const file = files.get(path === "/" ? "/index.html" : path);
    if (file) {
      answer.writeHead(200, {
        "content-type": file.kind, "content-encoding": "gzip", "content-security-policy": csp,
        "cache-control": path.startsWith("/assets/") ? "public, max-age=31536000, immutable" : "no-cache",
      });
      answer.end(file.body);
      return;
    }
    const through = request({ host: "127.0.0.1", port: nodePort, path: asked.url, method: asked.method, headers: asked.headers }, (said) => {
      answer.writeHead(said.statusCode, said.headers);
      said.pipe(answer);
    });
    // A node that is gone is gone for who asks, too.
    through.on("error", () => answer.socket?.destroy());
    asked.pipe(through);
  });
  server.on("upgrade", (asked, socket, head) => {
    const through = connect(nodePort, "127.0.0.1", () => {
      const headers = Object.entries(asked.headers).flatMap(([name, value]) => [value].flat().map((one) => `${name}: ${one}`));
      through.write(`${asked.method} ${asked.url} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
      through.write(head);
      through.pipe(socket);
      socket.pipe(through);
    });
    through.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    socket.on("error", () => through.destroy()).on("close", () => through.destroy());
  });
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  return server;
};
