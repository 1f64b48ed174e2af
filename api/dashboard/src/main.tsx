// Where the page begins: the frame at once, each view when it is first opened.
import CssBaseline from "@mui/material/CssBaseline";
import { ThemeProvider } from "@mui/material/styles";
import { StrictMode, Suspense, lazy } from "react";
import { createRoot } from "react-dom/client";
import { Provider } from "react-redux";
import { HashRouter, Route, Routes } from "react-router";
import { Shell } from "./app/Shell";
import { socket, store } from "./app/store";
import { theme } from "./app/theme";
import { Empty } from "./parts/Panel";
import { Plant } from "./views/Plant";
import { t } from "./words";
import "./page.css";

const Machines = lazy(() => import("./views/Machines").then(({ Machines }) => ({ default: Machines })));
const Machine = lazy(() => import("./views/Machine").then(({ Machine }) => ({ default: Machine })));
const AirView = lazy(() => import("./views/Air").then(({ AirView }) => ({ default: AirView })));
const Jobs = lazy(() => import("./views/Jobs").then(({ Jobs }) => ({ default: Jobs })));
const Job = lazy(() => import("./views/Job").then(({ Job }) => ({ default: Job })));
const Alarms = lazy(() => import("./views/Alarms").then(({ Alarms }) => ({ default: Alarms })));
const Model = lazy(() => import("./views/Model").then(({ Model }) => ({ default: Model })));
const Boards = lazy(() => import("./views/Boards").then(({ Boards }) => ({ default: Boards })));
const BoardView = lazy(() => import("./views/Board").then(({ BoardView }) => ({ default: BoardView })));
const Health = lazy(() => import("./views/Health").then(({ Health }) => ({ default: Health })));

socket.start();
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Provider store={store}>
        <ThemeProvider theme={theme} defaultMode="system">
          <CssBaseline />
          <HashRouter>
            <Shell>
              <Suspense fallback={<Empty>{t("common.loading")}</Empty>}>
                <Routes>
                  <Route path="/" element={<Plant />} />
                  <Route path="/machines" element={<Machines />} />
                  <Route path="/machines/:id" element={<Machine />} />
                  <Route path="/air" element={<AirView />} />
                  <Route path="/jobs" element={<Jobs />} />
                  <Route path="/jobs/:id" element={<Job />} />
                  <Route path="/alarms" element={<Alarms />} />
                  <Route path="/model" element={<Model />} />
                  <Route path="/boards" element={<Boards />} />
                  <Route path="/boards/:id" element={<BoardView />} />
                  <Route path="/wall/:id" element={<BoardView />} />
                  <Route path="/health" element={<Health />} />
                  <Route path="*" element={<Empty>{t("app.nothing_here")}</Empty>} />
                </Routes>
              </Suspense>
            </Shell>
          </HashRouter>
        </ThemeProvider>
      </Provider>
    </StrictMode>,
  );
}
