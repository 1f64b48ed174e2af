import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` shows the page with a running node behind it: GEMBA_URL says where, else the demo's address.
const node = process.env.GEMBA_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist/page",
    target: "es2022",
    modulePreload: { polyfill: false },
    // Everything is a file of its own, as the policy of the page wants it.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: {
      "/v1": { target: node, ws: true, changeOrigin: false },
      "/readyz": node,
      "/openapi.json": node,
      "/docs": node,
      "/metrics": node,
    },
  },
  test: { environment: "node", include: ["src/**/*.test.{ts,tsx}"], globals: false },
});
