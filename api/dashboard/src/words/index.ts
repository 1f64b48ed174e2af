// The message catalogue: `t("live.reconnecting", {age: "12 s"})`.
import { en } from "./en";
import { more } from "./en_more";

const catalogue = { ...en, ...more };
export type Word = keyof typeof catalogue;

export const t = (word: Word, values: Record<string, string | number> = {}): string =>
  (catalogue[word] as string).replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));

/** A metric by the name people know it by, if it is one of those. */
export const metricName = (name: string): string => {
  const key = `metric.${name}`;
  return key in catalogue ? t(key as Word) : name;
};

/** A word that the node said, e.g. a state: from the catalogue if it is there, else readable as it is. */
export const said = (area: string, word: string | null | undefined): string => {
  if (!word) return t("common.absent");
  const key = `${area}.${word}`;
  return key in catalogue ? t(key as Word) : word.replaceAll("_", " ");
};
