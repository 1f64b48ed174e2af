// The plant model as text and what of it can be tried out. Pure.

/** The line that an error of the node names, if it names one. */
export const errorLine = (text: string): number | null => {
  const found = /\bline:? (\d+)/i.exec(text);
  return found ? Number(found[1]) : null;
};

/** The filters in a model's rules, wherever they stand, each by the name beside it. */
export const filtersOf = (model: unknown): { name: string; filter: string }[] => {
  const found: { name: string; filter: string }[] = [];
  const walk = (value: unknown, within: string) => {
    if (Array.isArray(value)) value.forEach((one) => walk(one, within));
    else if (typeof value === "object" && value !== null) {
      const told = value as Record<string, unknown>;
      const name = [told.name, told.id, told.text].find((one) => typeof one === "string") as string | undefined;
      for (const [key, inner] of Object.entries(told)) {
        if (/^(when|filter|condition|applies_to|match)$/.test(key) && typeof inner === "string") found.push({ name: name ?? `${within} ${found.length + 1}`, filter: inner });
        else walk(inner, key);
      }
    }
  };
  walk(model, "rule");
  return found.slice(0, 30);
};
