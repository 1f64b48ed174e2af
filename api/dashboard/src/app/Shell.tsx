// The frame of every view: where one can go, how the page stands with the node, what time it is, and which moment is
// looked at.
import Button from "@mui/material/Button";
import Drawer from "@mui/material/Drawer";
import IconButton from "@mui/material/IconButton";
import Menu from "@mui/material/Menu";
import MenuItem from "@mui/material/MenuItem";
import { useColorScheme } from "@mui/material/styles";
import { type ReactElement, type ReactNode, useEffect, useState } from "react";
import { NavLink, useLocation } from "react-router";
import { isMissing, useAlarmFiguresQuery, usePlantQuery } from "../api/http";
import { setToken, token } from "../api/token";
import { age, clock } from "../model/format";
import { type Word, t } from "../words";
import { Icons } from "./icons";
import { Login } from "./Login";
import { socket, useAppSelector } from "./store";
import { useAt, useKeepAt, useNow } from "./time";
import { TimeTravel } from "./TimeTravel";

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

const Appearance = (): ReactElement => {
  const { mode, setMode } = useColorScheme();
  const [anchor, setAnchor] = useState<HTMLElement | null>(null);
  const choose = (wanted: "light" | "dark" | "system") => () => {
    setMode(wanted);
    setAnchor(null);
  };
  return (
    <>
      <IconButton aria-label={t("theme.toggle")} aria-haspopup="menu" onClick={(event) => setAnchor(event.currentTarget)}><Icons.theme /></IconButton>
      <Menu open={anchor !== null} anchorEl={anchor} onClose={() => setAnchor(null)}>
        {(["light", "dark", "system"] as const).map((wanted) => (
          <MenuItem key={wanted} selected={mode === wanted} onClick={choose(wanted)}>{t(`theme.${wanted}`)}</MenuItem>
        ))}
        {token() !== null && <MenuItem onClick={() => { setToken(null); window.location.reload(); }}>{t("login.forget")}</MenuItem>}
      </Menu>
    </>
  );
};

export const Shell = ({ children }: { children: ReactNode }): ReactElement => {
  const [open, setOpen] = useState(false);
  const [travelling, setTravelling] = useState(false);
  const at = useAt();
  const standing = useAppSelector((state) => state.connection.standing);
  const heardAt = useAppSelector((state) => state.connection.heardAt);
  const now = useNow();
  const { pathname } = useLocation();
  const wall = pathname.startsWith("/wall/");
  const cut = standing === "reconnecting" && at === null;
  useEffect(() => {
    const view = VIEWS.find(({ to }) => (to === "/" ? pathname === "/" : pathname.startsWith(to)));
    document.title = view ? `${t(view.word)} – ${t("app.name")}` : t("app.name");
    document.querySelector("main")?.scrollTo(0, 0);
  }, [pathname]);
  const asks = standing === "key_needed" || standing === "key_refused";
  return (
    <div className={`shell${wall ? " wall" : ""}`}>
      <a className="skip" href="#content" onClick={(event) => { event.preventDefault(); document.getElementById("content")?.focus(); }}>{t("nav.skip")}</a>
      {!wall && (
        <header className="bar">
          <div className="menu-button"><IconButton aria-label={t("nav.open")} onClick={() => setOpen(true)}><Icons.menu /></IconButton></div>
          <p className="brand"><img src="/icon.svg" alt="" width="24" height="24" />{t("app.name")}</p>
          <Standing />
          <div className="bar-end">
            <Clocks />
            <Button variant={at === null ? "text" : "contained"} aria-expanded={travelling || at !== null} onClick={() => setTravelling((was) => !was)} startIcon={<Icons.clock />} aria-label={t("time.travel")}><span className="wide-only">{t("time.travel")}</span></Button>
            <Appearance />
          </div>
        </header>
      )}
      {!wall && <div className="side"><Nav /></div>}
      <Drawer open={open} onClose={() => setOpen(false)}><div className="drawer"><Nav onGo={() => setOpen(false)} /></div></Drawer>
      <div className="work">
        {(travelling || at !== null) && !wall && <TimeTravel onClose={() => setTravelling(false)} />}
        {cut && heardAt !== null && <p className="cut" role="alert">{t("live.stale", { age: age(heardAt, now) })}</p>}
        {asks ? <Login refused={standing === "key_refused"} onDone={() => socket.restart()} /> : (
          <main id="content" tabIndex={-1} className={cut ? "old" : ""}>{children}</main>
        )}
      </div>
    </div>
  );
};
