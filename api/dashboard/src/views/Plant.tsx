// The plant as a live floor: what needs a person on top, then every machine by state, every place by air, work and OEE.
//
// The floor is laid out when machines come, go or move; each tile follows its own machine, and only while it is in sight.
import { type ReactElement, memo, useCallback, useMemo, useState } from "react";
import { Link } from "react-router";
import { usePlantQuery, useRejectedQuery } from "../api/http";
import { Shape } from "../app/icons";
import { useAt, useKeepAt, useMoment, useNowIf } from "../app/time";
import { useLayout, useListed, useTwins } from "../live/hooks";
import type { Told } from "../live/twins";
import { air } from "../model/air";
import { type Need, type Place, countStates, floor, needs, sumOf } from "../model/floor";
import { age, isNumber, millis, number, percent } from "../model/format";
import { EXECUTIONS, type Execution, execution, executionSince, nameOf } from "../model/machine";
import { Empty } from "../parts/Empty";
import { useSeen } from "../parts/seen";
import { State } from "../parts/State";
import { said, t } from "../words";

const NEEDS_SHOWN = 6;
/** Of more machines than this, each gets less room, so that a hall is still seen at a glance. */
const ROOMY = 120;
const FRESH_MS = 3_600_000;

const sentence = (need: Need): string => {
  switch (need.what) {
    case "down": return t("plant.need_down");
    case "stopped": return t("plant.need_stopped");
    case "stale": return t("plant.need_stale");
    case "alarm": return need.count === 1 ? t("plant.need_alarm_one") : t("plant.need_alarm", { count: need.count ?? 0 });
    case "air": return t("plant.need_air");
    default: return t("plant.need_rejected", { count: need.count ?? 0 });
  }
};
const SHAPE: Record<Need["what"], string> = { down: "down", stopped: "stopped", stale: "stale", alarm: "high", air: "poor", rejected: "moderate" };

export const Needs = ({ machines, locations, ready }: { machines: Told; locations: Told; ready: boolean }): ReactElement => {
  const moment = useMoment();
  const keep = useKeepAt();
  const [all, setAll] = useState(false);
  const at = useAt();
  const { data } = useRejectedQuery(undefined, { pollingInterval: 15_000, skip: at !== null });
  // What was kept aside lately; what is older was seen and left.
  const rejected = useMemo(() => {
    const fresh = (data?.items ?? []).map((item) => millis(item.at) ?? 0).filter((ms) => ms > moment - FRESH_MS);
    return at === null && fresh.length > 0 ? { count: fresh.length, since: Math.min(...fresh) } : null;
  }, [data, at, Math.floor(moment / 60_000)]);
  const found = useMemo(() => needs(machines, locations, moment, rejected), [machines, locations, moment, rejected]);
  const shown = all ? found : found.slice(0, NEEDS_SHOWN);
  return (
    <section className={`needs${found.length > 0 ? " some" : ""}`} aria-labelledby="needs">
      <h2 id="needs">{t("plant.needs")}{found.length > 0 && <span className="count">{found.length}</span>}</h2>
      {found.length === 0 ? <p className="calm">{ready ? <><Shape of="good" />{t("plant.calm")}</> : t("common.loading")}</p> : (
        <ul>
          {shown.map((need) => (
            <li key={need.key}>
              <Link to={keep(need.link)}>
                <Shape of={SHAPE[need.what]} />
                {need.name !== "" && <strong>{need.name}</strong>} {sentence(need)}
                {need.detail && <span className="faint">, {need.detail}</span>}
                {need.since !== null && <span className="faint"> {t("common.for")} {age(need.since, moment)}</span>}
              </Link>
            </li>
          ))}
          {found.length > NEEDS_SHOWN && <li><button type="button" className="plain" onClick={() => setAll((was) => !was)}>{all ? t("plant.fewer") : t("common.and_more", { count: found.length - NEEDS_SHOWN })}</button></li>}
        </ul>
      )}
    </section>
  );
};

export const Figures = ({ machines, locations, shown, onShow }: { machines: Told; locations: Told; shown: Execution | null; onShow: (state: Execution | null) => void }): ReactElement => {
  const counts = useMemo(() => countStates(machines), [machines]);
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const energy = sumOf(machines, "energy_kwh");
  return (
    <div className="figures">
      <section className="figure states" aria-labelledby="by-state">
        <h2 id="by-state">{t("plant.by_state")}</h2>
        <div className="stack" aria-hidden="true">
          {EXECUTIONS.map((state) => (counts[state] ? <span key={state} className={`b-${state}`} style={{ flexGrow: counts[state] }} /> : null))}
        </div>
        <ul>
          {EXECUTIONS.filter((state) => counts[state]).map((state) => (
            <li key={state}>
              <button type="button" aria-pressed={shown === state} onClick={() => onShow(shown === state ? null : state)}>
                <Shape of={state} /><b>{counts[state]}</b> {said("state", state)}
              </button>
            </li>
          ))}
          {total === 0 && <li>{t("common.none")}</li>}
        </ul>
      </section>
      <Figure name={t("plant.good_parts")} value={number(sumOf(machines, "good_parts"))} />
      <Figure name={t("plant.energy")} value={isNumber(energy) ? number(energy, energy < 100 ? 1 : 0) : t("common.absent")} unit={isNumber(energy) ? "kWh" : ""} />
      <Figure name={t("plant.wip")} value={number(sumOf(locations, "wip"))} />
    </div>
  );
};

const Figure = ({ name, value, unit = "" }: { name: string; value: string; unit?: string }): ReactElement => (
  <section className="figure"><h2>{name}</h2><p className="big">{value}{unit !== "" && <small> {unit}</small>}</p></section>
);

type Keep = (to: string) => string;

const Tile = memo(({ id, place, shown, keep }: { id: string; place: number; shown: Execution | null; keep: Keep }): ReactElement | null => {
  const [element, seen] = useSeen<HTMLAnchorElement>();
  const now = useNowIf(seen, place);
  const twin = useListed("machine", id, seen, now);
  const moment = millis(useAt()) ?? now;
  const state = execution(twin);
  const oee = twin?.kpis?.oee;
  const stale = twin?.state?.quality === "stale";
  const alarms = twin?.alarms?.active ?? 0;
  return (
    // A plain link into the page: the router's would look at the whole of it for each of a thousand tiles.
    <a ref={element} href={`#${keep(`/machines/${id}`)}`} className={`tile t-${state}${stale ? " stale" : ""}${shown !== null && state !== shown ? " faded" : ""}`}>
      <span className="tile-name">{nameOf(twin, id)}</span>
      <span className="tile-state"><Shape of={state} />{said("state", state)} <span className="faint">{age(executionSince(twin), moment)}</span></span>
      <span className="tile-oee">
        <span className="meter" aria-hidden="true"><span style={{ width: `${isNumber(oee) ? Math.min(100, oee * 100) : 0}%` }} /></span>
        {t("machine.oee")} {percent(oee)}
      </span>
      {(stale || alarms > 0) && <span className="tile-note">{stale && <><Shape of="stale" />{t("quality.stale")} </>}{alarms > 0 && <><Shape of="high" />{alarms}</>}</span>}
    </a>
  );
});
Tile.displayName = "Tile";

const isLeaf = (place: Place): boolean => place.machines.length === 0 && place.places.length === 0;

const AreaHead = ({ place, keep }: { place: Place; keep: Keep }): ReactElement => {
  const twin = useListed("location", place.id);
  const here = air(twin);
  const wip = twin?.kpis?.wip;
  const oee = twin?.kpis?.oee;
  return (
    <header>
      <h3>{place.name || t("plant.unplaced")}</h3>
      {here && <Link to={keep("/air")} className="chip">{t("nav.air")}: <State area="air" word={here.category} /></Link>}
      {isNumber(wip) && place.places.length === 0 && <span className="chip">{wip === 1 ? t("plant.wip_one") : t("plant.wip_of", { count: number(wip) })}</span>}
      {isNumber(oee) && <span className="chip">{t("machine.oee")} {percent(oee)}</span>}
      {twin?.state?.quality === "stale" && <span className="chip"><State area="quality" word="stale" /></span>}
    </header>
  );
};

const Area = memo(({ place, shown, keep, dense }: { place: Place; shown: Execution | null; keep: Keep; dense: boolean }): ReactElement => (
  <section className={`area${isLeaf(place) ? " leaf" : ""}${place.places.length > 0 ? " group" : ""}`} aria-label={place.name || t("plant.unplaced")}>
    <AreaHead place={place} keep={keep} />
    {place.machines.length > 0 && <div className={`tiles${dense ? " dense" : ""}`}>{place.machines.map((id, index) => <Tile key={id} id={id} place={index} shown={shown} keep={keep} />)}</div>}
    {place.places.length > 0 && <div className="areas">{place.places.map((inner) => <Area key={inner.id} place={inner} shown={shown} keep={keep} dense={dense} />)}</div>}
  </section>
));
Area.displayName = "Area";

const Floor = ({ shown }: { shown: Execution | null }): ReactElement => {
  const machines = useLayout("machine");
  const locations = useLayout("location");
  const keep = useKeepAt();
  const model = usePlantQuery().data?.model;
  const places = useMemo(() => floor(model, machines.told, locations.told), [model, machines.told, locations.told]);
  const ready = machines.ready && locations.ready;
  const dense = Object.keys(machines.told).length > ROOMY;
  return (
    <section aria-labelledby="floor" data-ready={ready && places.length > 0}>
      <h2 id="floor">{t("plant.floor")}</h2>
      {places.length === 0 ? <Empty>{ready ? t("plant.no_twins") : t("common.loading")}</Empty> : (
        <>
          <div className="areas leaves">{places.filter(isLeaf).map((place) => <Area key={place.id} place={place} shown={shown} keep={keep} dense={dense} />)}</div>
          <div className="areas">{places.filter((place) => !isLeaf(place)).map((place) => <Area key={place.id} place={place} shown={shown} keep={keep} dense={dense} />)}</div>
        </>
      )}
    </section>
  );
};

const Head = ({ shown, onShow }: { shown: Execution | null; onShow: (state: Execution | null) => void }): ReactElement => {
  const machines = useTwins("machine");
  const locations = useTwins("location");
  return (
    <>
      <Needs machines={machines.told} locations={locations.told} ready={machines.ready && locations.ready} />
      <Figures machines={machines.told} locations={locations.told} shown={shown} onShow={onShow} />
    </>
  );
};

export const Plant = (): ReactElement => {
  const model = usePlantQuery().data?.model;
  const [shown, setShown] = useState<Execution | null>(null);
  const show = useCallback((state: Execution | null) => setShown(state), []);
  return (
    <>
      <h1>{model?.site?.name ?? t("plant.title")}</h1>
      <Head shown={shown} onShow={show} />
      <Floor shown={shown} />
    </>
  );
};
