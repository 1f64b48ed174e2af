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
import { http } from "./api/http";
import { Empty } from "./parts/Empty";
import { Plant } from "./views/Plant";
import { t } from "./words";
import "./page.css";

const machine = () => import("./views/Machine");
const Machines = lazy(() => import("./views/Machines").then(({ Machines }) => ({ default: Machines })));
const Machine = lazy(() => machine().then(({ Machine }) => ({ default: Machine })));
const AirView = lazy(() => import("./views/Air").then(({ AirView }) => ({ default: AirView })));
const Jobs = lazy(() => import("./views/Jobs").then(({ Jobs }) => ({ default: Jobs })));
const Job = lazy(() => import("./views/Job").then(({ Job }) => ({ default: Job })));
const Alarms = lazy(() => import("./views/Alarms").then(({ Alarms }) => ({ default: Alarms })));
const Model = lazy(() => import("./views/Model").then(({ Model }) => ({ default: Model })));
const Boards = lazy(() => import("./views/Boards").then(({ Boards }) => ({ default: Boards })));
const BoardView = lazy(() => import("./views/Board").then(({ BoardView }) => ({ default: BoardView })));
const Health = lazy(() => import("./views/Health").then(({ Health }) => ({ default: Health })));

// What the first view needs is asked for before it is drawn.
socket.start();
void store.dispatch(http.endpoints.plant.initiate());
// A machine is what people open next; its drawings are fetched while they look.
window.setTimeout(() => void machine().catch(() => undefined), 4_000);
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
