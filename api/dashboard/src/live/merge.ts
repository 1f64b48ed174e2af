// RFC 7396, without touching what was there: what did not change keeps its identity, so that nothing is drawn twice.
type Json = unknown;
type JsonObject = Record<string, Json>;

const isObject = (value: Json): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const merged = (target: Json, patch: Json): Json => {
  if (!isObject(patch)) return patch;
  const base: JsonObject = isObject(target) ? target : {};
  let result: JsonObject | null = isObject(target) ? null : {};
  for (const name of Object.keys(patch)) {
    const value = patch[name];
    if (value === null) {
      if (name in base) {
        result ??= { ...base };
        delete result[name];
      }
      continue;
    }
    const next = merged(base[name], value);
    if (next !== base[name]) {
      result ??= { ...base };
      result[name] = next;
    }
  }
  return result ?? base;
};
