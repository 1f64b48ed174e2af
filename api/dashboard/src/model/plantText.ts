// The plant model as text and what of it can be tried out. Pure.

/** The line that an error of the node names, if it names one. */
export const errorLine = (text: string): number | null => {
  const found = /\bline:? (\d+)/i.exec(text);
  return found ? Number(found[1]) : null;
};

const quoted = (text: string): string => JSON.stringify(text);

/** An alarm's condition as a filter of twins: its metrics are values there, and its class of twins is a part of it. */
export const conditionFilter = (condition: string, appliesTo: unknown): string => {
  const where = (typeof appliesTo === "object" && appliesTo !== null ? appliesTo : { kind: appliesTo }) as { kind?: unknown; where?: unknown; ids?: unknown };
  const parts = [
    ...(typeof where.kind === "string" ? [`kind == ${quoted(where.kind)}`] : []),
    ...(typeof where.where === "string" ? [`(${where.where})`] : []),
    ...(Array.isArray(where.ids) ? [`id in [${where.ids.map((id) => quoted(String(id))).join(", ")}]`] : []),
    `(${condition.replace(/(^|[^.\w])metrics\.(\w+)/g, "$1state.metrics.$2.value")})`,
  ];
  return parts.join(" && ");
};

/** The filters in a model's rules, wherever they stand, each by the name beside it. */
export const filtersOf = (model: unknown): { name: string; filter: string }[] => {
  const found: { name: string; filter: string }[] = [];
  const walk = (value: unknown, within: string) => {
    if (Array.isArray(value)) value.forEach((one) => walk(one, within));
    else if (typeof value === "object" && value !== null) {
      const told = value as Record<string, unknown>;
      const name = [told.name, told.id, told.text].find((one) => typeof one === "string") as string | undefined;
      const label = name ?? `${within} ${found.length + 1}`;
      if (typeof told.condition === "string") {
        found.push({ name: label, filter: conditionFilter(told.condition, told.applies_to) });
        return;
      }
      for (const [key, inner] of Object.entries(told)) {
        if (/^(when|filter|for)$/.test(key) && typeof inner === "string" && /[=<>.(]/.test(inner)) found.push({ name: label, filter: inner });
        else walk(inner, key);
      }
    }
  };
  walk(model, "rule");
  return found.slice(0, 30);
};
