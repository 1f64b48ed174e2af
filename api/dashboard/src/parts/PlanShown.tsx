// What a plant model would change.
import type { ReactElement } from "react";
import type { Plan } from "../api/shapes";
import { t } from "../words";

export const isEmptyPlan = (plan: Plan): boolean => plan.added.length + plan.changed.length + plan.removed.length + plan.settings.length === 0;

export const PlanShown = ({ plan }: { plan: Plan }): ReactElement => {
  const groups = [["added", plan.added], ["changed", plan.changed], ["removed", plan.removed]] as const;
  return (
    <div className="plan" role="status">
      {isEmptyPlan(plan) && <p>{t("plan.empty", { count: plan.unchanged })}</p>}
      {plan.settings.length > 0 && <><h3>{t("plan.settings")}</h3><ul>{plan.settings.map((setting) => <li key={setting} className="changed">{setting}</li>)}</ul></>}
      {groups.map(([name, items]) => items.length > 0 && (
        <div key={name}>
          <h3>{t(`plan.${name}`, { count: items.length })}</h3>
          <ul>{items.map((item) => <li key={item.twin} className={name}><strong>{item.twin}</strong>{item.what.length > 0 && <span className="faint"> {item.what.join("; ")}</span>}</li>)}</ul>
        </div>
      ))}
      {!isEmptyPlan(plan) && <p className="faint">{t("plan.unchanged", { count: plan.unchanged })}</p>}
    </div>
  );
};
