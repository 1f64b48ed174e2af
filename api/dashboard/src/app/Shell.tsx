// The frame of every view: where one can go, how the page stands with the node, what time it is, and which moment is
// looked at.
import Button from "@mui/material/Button";
import IconButton from "@mui/material/IconButton";
import { type ReactElement, type ReactNode, Suspense, lazy, useEffect, useState } from "react";
import { NavLink, useLocation } from "react-router";
import { isMissing, useAlarmFiguresQuery, usePlantQuery } from "../api/http";
import { age, clock } from "../model/format";
import { type Word, t } from "../words";
import { Icons } from "./icons";
import { leftPast, readPast } from "../live/past";
import { Guard } from "../parts/Guard";
import { socket, useAppDispatch, useAppSelector } from "./store";
import { useAt, useKeepAt, useNow } from "./time";

// Not of the first view: what is opened by a click comes with the click.
const Login = lazy(() => import("./Login").then(({ Login }) => ({ default: Login })));
const TimeTravel = lazy(() => import("./TimeTravel").then(({ TimeTravel }) => ({ default: TimeTravel })));
const Appearance = lazy(() => import("./Appearance").then(({ Appearance }) => ({ default: Appearance })));
const Drawer = lazy(() => import("@mui/material/Drawer"));

const VIEWS: readonly { to: string; word: Word; icon: keyof typeof Icons }[] = [
  { to: "/", word: "nav.plant", icon: "plant" },
  { to: "/machines", word: "nav.machines", icon: "machine" },
  { to: "/air", word: "nav.air", icon: "air" },
  { to: "/jobs", word: "nav.jobs", icon: "job" },
  { to: "/alarms", word: "nav.alarms", icon: "alarm" },
  { to: "/boards", word: "nav.boards", icon: "boards" },
  { to: "/model", word: "nav.model", icon: "model" },
  { to: "/health", word: "nav.health", icon: "health" },
];

export const useZone = (): string | undefined => usePlantQuery().data?.model.site?.timezone;

const useUnacknowledged = (): number => {
  // A node that has no alarms is not asked again and again.
  const [asks, setAsks] = useState(true);
  const { data, error } = useAlarmFiguresQuery(undefined, { pollingInterval: asks ? 5_000 : 0, skipPollingIfUnfocused: true });
  useEffect(() => setAsks(!isMissing(error)), [error]);
  return data?.unacknowledged ?? 0;
};

const Nav = ({ onGo }: { onGo?: () => void }): ReactElement => {
  const keep = useKeepAt();
  const unacknowledged = useUnacknowledged();
  return (
    <nav aria-label={t("nav.label")}>
      <ul className="nav">
        {VIEWS.map(({ to, word, icon }) => {
          const Icon = Icons[icon];
          return (
            <li key={to}>
              <NavLink to={keep(to)} end={to === "/"} {...(onGo ? { onClick: onGo } : {})}><Icon />{t(word)}{to === "/alarms" && unacknowledged > 0 && <span className="badge" aria-label={t("alarms.badge", { count: unacknowledged })}>{unacknowledged}</span>}</NavLink>
            </li>
          );
        })}
      </ul>
      <p className="nav-more"><a href="/docs">{t("nav.calls")}</a></p>
    </nav>
  );
};

const Standing = (): ReactElement => {
  const { standing, heardAt } = useAppSelector((state) => state.connection);
  const now = useNow();
  const words = (): string => {
    switch (standing) {
      case "live": return t("live.live");
      case "connecting": return t("live.connecting");
      case "key_needed": return t("live.key");
      case "key_refused": return t("live.key_refused");
      default: return heardAt === null ? t("live.never") : t("live.reconnecting", { age: age(heardAt, now) });
    }
  };
  return <p className={`standing ${standing}`} role="status" data-testid="standing"><span className="lamp" aria-hidden="true" />{words()}</p>;
};

const Clocks = (): ReactElement => {
  const zone = useZone();
  const now = useNow();
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return (
    <p className="clocks">
      {zone && zone !== own && <span title={zone}>{clock(now, zone, false)} <small>{t("time.plant")}</small></span>}
      <span title={own}>{clock(now, undefined, false)} <small>{t("time.here")}</small></span>
    </p>
  );
};

/** The button stands at once; its menu comes with the first click. */
const AppearanceButton = (): ReactElement => {
  const [anchor, setAnchor] = useState<HTMLElement | null>(null);
  const [asked, setAsked] = useState(false);
  return (
    <>
      <IconButton aria-label={t("theme.toggle")} aria-haspopup="menu" onClick={(event) => { setAsked(true); setAnchor(event.currentTarget); }}><Icons.theme /></IconButton>
      {asked && <Suspense><Appearance anchor={anchor} onClose={() => setAnchor(null)} /></Suspense>}
    </>
  );
};

/** Said where the connection is cut; only this is drawn again each second. */
const Cut = (): ReactElement | null => {
  const heardAt = useAppSelector((state) => state.connection.heardAt);
  const now = useNow();
  return heardAt === null ? null : <p className="cut" role="alert">{t("live.stale", { age: age(heardAt, now) })}</p>;
};

export const Shell = ({ children }: { children: ReactNode }): ReactElement => {
  const dispatch = useAppDispatch();
  const [open, setOpen] = useState(false);
  const [opened, setOpened] = useState(false);
  const [travelling, setTravelling] = useState(false);
  const at = useAt();
  const standing = useAppSelector((state) => state.connection.standing);
  const { pathname } = useLocation();
  const wall = pathname.startsWith("/wall/");
  const cut = standing === "reconnecting" && at === null;
  useEffect(() => {
    const view = VIEWS.find(({ to }) => (to === "/" ? pathname === "/" : pathname.startsWith(to)));
    document.title = view ? `${t(view.word)} – ${t("app.name")}` : t("app.name");
    document.querySelector("main")?.scrollTo(0, 0);
  }, [pathname]);
  // The past is read for every view, also where the tools that lead there are not shown.
  useEffect(() => {
    if (at === null) {
      dispatch(leftPast());
      return undefined;
    }
    const reading = dispatch(readPast(at));
    return () => reading.abort();
  }, [at, dispatch]);
  const asks = standing === "key_needed" || standing === "key_refused";
  return (
    <div className={`shell${wall ? " wall" : ""}`}>
      <a className="skip" href="#content" onClick={(event) => { event.preventDefault(); document.getElementById("content")?.focus(); }}>{t("nav.skip")}</a>
      {!wall && (
        <header className="bar">
          <div className="menu-button"><IconButton aria-label={t("nav.open")} onClick={() => { setOpened(true); setOpen(true); }}><Icons.menu /></IconButton></div>
          <p className="brand"><img src="/icon.svg" alt="" width="24" height="24" />{t("app.name")}</p>
          <Standing />
          <div className="bar-end">
            <Clocks />
            <Button variant={at === null ? "text" : "contained"} aria-expanded={travelling || at !== null} onClick={() => setTravelling((was) => !was)} startIcon={<Icons.clock />} aria-label={t("time.travel")}><span className="wide-only">{t("time.travel")}</span></Button>
            <AppearanceButton />
          </div>
        </header>
      )}
      {!wall && <div className="side"><Nav /></div>}
      {opened && <Suspense><Drawer open={open} onClose={() => setOpen(false)}><div className="drawer"><Nav onGo={() => setOpen(false)} /></div></Drawer></Suspense>}
      <div className="work">
        {(travelling || at !== null) && !wall && <Suspense fallback={<section className="travel" />}><TimeTravel onClose={() => setTravelling(false)} /></Suspense>}
        {cut && <Cut />}
        {asks ? <Suspense><Login refused={standing === "key_refused"} onDone={() => socket.restart()} /></Suspense> : (
          <main id="content" tabIndex={-1} className={cut ? "old" : ""}><Guard place={pathname}>{children}</Guard></main>
        )}
      </div>
    </div>
  );
};
